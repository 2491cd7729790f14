"""SAM 2's memory: finds objects on a frame by what is remembered of earlier ones, and remembers that frame.

As ``track_step`` of sam2/modeling/sam2_base.py and ``_run_single_frame_inference`` of transformers do it, but
for all objects of a frame together: every object has an image of its own, the frame's, conditioned on what is
recalled of it, which the mask decoder answers for.

Shapes: B objects, N = h * w positions of the embedding, C its channels, L positions of a remembered frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_ros.core.bank import POINTERS_RECALLED, Found, Memory, Recalled
from sam_ros.core.grid import Grid
from sam_ros.core.sam2 import Sam2
from sam_ros.fast.decoder import FastMaskDecoder
from sam_ros.fast.details import Details
from sam_ros.fast.postprocess import HostAnswer
from sam_ros.fast.transfer import to_device, to_host
from sam_ros.fast.upscaling import Answer
from sam_ros.masks import Masks

CHANNELS = 64  # of what is remembered
PADDING_TOKENS = 2  # SAM 2 asks with an empty point, and the prompt encoder adds another one
NO_OBJECT_LOGIT = -1024.0  # NO_OBJ_SCORE in sam2_base.py
SCALE, OFFSET = 20.0, -10.0  # of masks as the memory encoder takes them: sigmoid_scale_for_mem_enc and _bias_
TEMPERATURE = 10000.0  # of sines that tell positions


FIND_BATCH = {"cuda": 16, "cpu": 2}  # objects at a time; each takes 100 MB and more at 1024 px

Postprocess = Callable[[Sequence[Tensor], Grid], list[HostAnswer]]


class Decoded(NamedTuple):
    """What the decoder finds of B objects.

    Attributes:
        logits: (B, S/4, S/4) of the best of three masks; NO_OBJECT_LOGIT where the object is not there.
        predicted_iou: (B,) of it.
        scores: (B, 1) logits of being there: above 0 it is.
        tokens: (B, C) of the mask.
    """

    logits: Tensor
    predicted_iou: Tensor
    scores: Tensor
    tokens: Tensor


class ObjectMemory:
    """The parts of one model.

    Args:
        sam: the model.
        dtype: of the matrix products, float32 or reduced.
    """

    def __init__(self, sam: Sam2, dtype: torch.dtype) -> None:
        self._parts: Any = sam.memory
        self._dtype, self._device_type = dtype, sam.device.type
        self._decoder = FastMaskDecoder(sam)
        self._score_head = sam.mask_decoder.pred_obj_score_head
        self._image_size = int(sam.image_encoder.img_size)
        self._no_memory = sam.image_encoder.no_memory.view(1, -1, 1, 1)
        self._padding = sam.prompt_encoder.not_a_point_embed.weight.expand(PADDING_TOKENS, -1)
        side, channels = sam.prompt_encoder.image_embedding_size[0], self._padding.shape[1]
        self._image_positions = sine_positions(channels, side).to(sam.device)  # (N, C)
        latents = getattr(self._parts, "spatial_perceiver", None)
        self._positions = _remembered_positions(side, latents).to(sam.device)  # (L, 64)

    def remembered(self, features: Tensor, answers: Sequence[Masks], step: int) -> list[Memory]:
        """What to remember of objects that were prompted on a frame.

        Args:
            features: (1, C or more, h, w) of the frame.
            answers: of each the first mask counts.
            step: of the frame.
        """
        told = _stacked([answer.memory_tokens for answer in answers], features)  # (B, C + 1)
        tokens, scores = told[:, :-1], told[:, -1:]
        logits = _stacked([answer.low_res_logits for answer in answers], features)
        logits = logits.where(scores[..., None] > 0, NO_OBJECT_LOGIT)
        where = self.features(features, logits, scores, is_prompted=True)
        pointers = self.pointers(tokens, scores)
        # Clones: a view would keep all of the batch for as long as one of its objects lives.
        return [
            Memory(step, True, pointer.clone(), one.clone())
            for pointer, one in zip(pointers, where, strict=True)
        ]

    def found(
        self,
        features: Tensor,
        details: Details,
        recalled: Sequence[Recalled],
        step: int,
        finish: Callable[[Decoded], list[Masks]],
    ) -> list[Found]:
        """Find objects of one kind on a frame, and remember it.

        Args:
            features: (1, C or more, h, w) of the frame.
            details: of the frame.
            recalled: of each object, all of one kind.
            step: of the frame.
            finish: makes masks of what the decoder finds.
        """
        decoded = self.decoded(features, details, recalled)
        where = self.features(features, decoded.logits, decoded.scores, is_prompted=False)
        pointers = self.pointers(decoded.tokens, decoded.scores)
        (are_there,) = to_host([decoded.scores[:, 0] > 0])
        return [
            Found(masks, bool(is_there), Memory(step, False, pointer.clone(), one.clone()))
            for masks, is_there, pointer, one in zip(finish(decoded), are_there, pointers, where, strict=True)
        ]

    def decoded(self, features: Tensor, details: Details, recalled: Sequence[Recalled]) -> Decoded:
        """Find objects on a frame.

        Args:
            features: (1, C or more, h, w) of the frame, as its encoder makes them.
            details: of the frame.
            recalled: of each object, all of one kind.
        """
        images = self._conditioned(self._image(features), recalled)
        sparse = self._padding.expand(len(recalled), -1, -1)
        answer = self._decoder.answer_on(images, details, sparse)
        best = 1 + answer.predicted_iou[:, 1:].argmax(1)  # (B,)
        rows = torch.arange(len(best), device=best.device)
        logits = torch.cat([answer.low_res_logits(row, best[row : row + 1]) for row in range(len(best))])
        scores = self.scores(answer)
        logits = logits.where(scores[..., None] > 0, NO_OBJECT_LOGIT)
        return Decoded(logits, answer.predicted_iou[rows, best], scores, answer.tokens[rows, 1 + best])

    def scores(self, answer: Answer) -> Tensor:
        """(B, 1) logits of being there, of B prompts."""
        return self._score_head(answer.tokens[:, -1])

    def pointers(self, tokens: Tensor, scores: Tensor) -> Tensor:
        """(B, C) what is remembered of objects themselves, given their masks' tokens (B, C)."""
        is_there = (scores > 0).to(tokens.dtype)  # (B, 1)
        found = is_there * self._parts.object_pointer_proj(tokens)
        return found + (1 - is_there) * self._parts.no_object_pointer

    def features(self, features: Tensor, logits: Tensor, scores: Tensor, *, is_prompted: bool) -> Tensor:
        """(B, L, 64) what is remembered of where objects are on a frame; bfloat16, EdgeTAM's few in float32.

        Args:
            features: (1, C or more, h, w) of the frame.
            logits: (B, S/4, S/4) of their masks.
            scores: (B, 1), see ``Decoded``.
            is_prompted: masks that were asked for are remembered sharply.
        """
        size = (self._image_size, self._image_size)
        enlarged = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)
        masks = (enlarged > 0).float() if is_prompted else enlarged.sigmoid()
        image = self._image(features).expand(len(logits), -1, -1, -1)
        with self._reduced():
            remembered, positions = self._parts.memory_encoder(image, masks * SCALE + OFFSET)  # (B, 64, h, w)
            hidden = self._parts.occlusion_spatial_embedding_parameter
            if hidden is not None:
                is_there = (scores > 0).to(remembered.dtype)[..., None, None]
                remembered = remembered + (1 - is_there) * hidden[..., None, None]
            if hasattr(self._parts, "spatial_perceiver"):
                # Its views of expanded latents allow for one image at a time.
                perceived = [self._parts.spatial_perceiver(one[None], positions[:1]) for one in remembered]
                return torch.cat([latents for latents, _ in perceived]).float()
        return remembered.flatten(2).transpose(1, 2).to(torch.bfloat16)  # as upstream keeps so many

    def _image(self, features: Tensor) -> Tensor:
        """(1, C, h, w) the embedding without what it was given for prompts without a memory."""
        return features[:, : self._no_memory.shape[1]] - self._no_memory

    def _conditioned(self, image: Tensor, recalled: Sequence[Recalled]) -> Tensor:
        """(B, C, h, w): an image (1, C, h, w) conditioned on what is recalled of each object."""
        positions = image.flatten(2).permute(2, 0, 1)  # (N, 1, C)
        memories = [self._laid_out(one) for one in recalled]  # (L', 64) each, and their positions
        num_frames, num_pointers = recalled[0].kind
        more = {"num_spatial_memory_tokens": num_frames} if hasattr(self._parts, "spatial_perceiver") else {}
        with self._reduced():
            conditioned = self._parts.memory_attention(
                current_vision_features=positions.expand(-1, len(recalled), -1),
                current_vision_position_embeddings=self._image_positions[:, None],
                memory=torch.stack([memory for memory, _ in memories], 1),
                memory_posision_embeddings=torch.stack([where for _, where in memories], 1),  # their spelling
                num_object_pointer_tokens=num_pointers * (image.shape[1] // CHANNELS),
                **more,
            )  # (1, B, N, C)
        return conditioned[0].float().transpose(1, 2).unflatten(2, image.shape[2:])

    def _laid_out(self, recalled: Recalled) -> tuple[Tensor, Tensor]:
        """What is recalled of one object, (L', 64): frames, then pointers; and where and when it was."""
        ages = self._parts.memory_temporal_positional_encoding[:, 0, 0]  # (7, 64), of 0 frames ago the last
        memories = [features.float() for _, features in recalled.features]
        where = [self._positions + ages[frames_ago - 1] for frames_ago, _ in recalled.features]
        if recalled.pointers:
            pointers = torch.stack([pointer for _, pointer in recalled.pointers])  # (P, C)
            memories.append(pointers.reshape(-1, CHANNELS))
            where.append(self._when([frames_ago for frames_ago, _ in recalled.pointers], pointers))
        return torch.cat(memories), torch.cat(where)

    def _when(self, frames_ago: Sequence[int], pointers: Tensor) -> Tensor:
        """(P * C/64, 64): how long ago pointers (P, C) were."""
        channels = pointers.shape[1]
        if not self._parts.config.enable_temporal_pos_encoding_for_object_pointers:
            return pointers.new_zeros(len(pointers) * channels // CHANNELS, CHANNELS)
        ages = torch.tensor(frames_ago, dtype=torch.float32, device=pointers.device) / POINTERS_RECALLED
        projected = self._parts.temporal_positional_encoding_projection_layer(_sines(ages, channels))
        return projected.repeat_interleave(channels // CHANNELS, 0)

    def _reduced(self) -> torch.autocast:
        return torch.autocast(self._device_type, self._dtype, enabled=self._dtype != torch.float32)


def kinds(recalled: Sequence[Recalled], most: int) -> Iterator[list[int]]:
    """Indexes of objects of which as much is recalled, at most ``most`` at a time."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, one in enumerate(recalled):
        groups.setdefault(one.kind, []).append(index)
    for indexes in groups.values():
        for start in range(0, len(indexes), most):
            yield indexes[start : start + most]


def _stacked(arrays: Sequence[npt.NDArray[np.float32] | None], like: Tensor) -> Tensor:
    """The first of each array, (B, ...), on the device of another tensor."""
    first = [array[0] for array in arrays if array is not None]
    if len(first) < len(arrays):
        raise ValueError("an answer holds nothing to remember: another model gave it")
    return to_device(np.stack(first), like.device)


def _remembered_positions(side: int, perceiver: Any) -> Tensor:
    """(L, 64): where the positions of a remembered frame are; latents of all of the frame are nowhere."""
    if perceiver is None:
        return sine_positions(CHANNELS, side)
    latents_side = round(perceiver.num_latents_2d**0.5)
    everywhere = torch.zeros(perceiver.num_latents_1d, CHANNELS)
    return torch.cat([everywhere, sine_positions(CHANNELS, latents_side)])


def sine_positions(channels: int, side: int) -> Tensor:
    """(side * side, channels): PositionEmbeddingSine of sam2/modeling/position_encoding.py, normalised."""
    steps = torch.arange(1, side + 1, dtype=torch.float32) / (side + 1e-6) * 2 * torch.pi
    alternating = _alternating(steps, channels // 2)  # (side, channels / 2)
    rows = alternating[:, None].expand(-1, side, -1)
    columns = alternating[None].expand(side, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)


def _frequencies(channels: int) -> Tensor:
    """(channels,): pairs of the same, falling."""
    return TEMPERATURE ** (2 * torch.div(torch.arange(channels), 2, rounding_mode="floor") / channels)


def _alternating(x: Tensor, channels: int) -> Tensor:
    """(n, channels) of x (n,): sine and cosine in turn."""
    angles = x[:, None] / _frequencies(channels)
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1)


def _sines(x: Tensor, channels: int) -> Tensor:
    """(n, channels) of x (n,): all sines, then all cosines; get_1d_sine_pe of sam2/modeling/sam2_utils.py."""
    angles = x[:, None] / _frequencies(channels // 2).to(x.device)
    return torch.cat([angles.sin(), angles.cos()], 1)
