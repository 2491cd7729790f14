"""Encode an image once, decode many prompts on it: SAM without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from sam_ros.checkpoint import load_sam
from sam_ros.errors import InvalidImageError, InvalidPromptError, ModelOutputError, SamRosError
from sam_ros.masks import Masks, resized_hw
from sam_ros.prompt import Prompt

DECODE_BATCH = 32  # prompts per pass through the decoder: bounds its memory, 10 MB a prompt for 1024 px
STABILITY_OFFSET = 1.0  # stability_score_offset of SamAutomaticMaskGenerator
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Rows of the table of sparse embeddings; -1, the padding token, comes first.
PADDING_LABEL, BOX_TOP_LEFT_LABEL, BOX_BOTTOM_RIGHT_LABEL = -1, 2, 3


class EncodeCancelledError(SamRosError):
    """``should_stop`` became true while an image was being encoded."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the image encoder made of one image; stays on the device.

    Attributes:
        features: (1, C, S/16, S/16) float32 tensor.
        original_hw: (H, W) of the image, in pixels.
        input_hw: (H, W) of the resized image inside the padded square.
    """

    features: torch.Tensor
    original_hw: tuple[int, int]
    input_hw: tuple[int, int]


def load_predictor(
    model_type: str = "sam_tiny",
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    precision: str = "float32",
    compile: bool = False,
) -> Predictor:
    """Load a model and its weights.

    Args:
        model_type: sam_tiny, vit_b, vit_l or vit_h.
        checkpoint: a file of one's own; None takes the shipped sam_tiny or the verified cache.
        device: auto (a GPU where there is one), cpu, cuda or cuda:N.
        precision: of the image encoder: auto (bfloat16 on a GPU that has it, else float32), float32,
            bfloat16 or float16. The decoder always computes in float32.
        compile: compile the encoder's blocks with torch.compile; the first image takes much longer.

    Raises:
        WeightsError: the weights are missing, damaged or of another model.
        SamRosError: the device or precision is unknown or not available.
    """
    chosen_device = _choose_device(device)
    chosen_precision = _choose_precision(precision, chosen_device)
    sam = load_sam(model_type, checkpoint).to(chosen_device)
    return Predictor(sam, model_type=model_type, precision=chosen_precision, compile=compile)


def _choose_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SamRosError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}") from error
    if chosen.type not in ("cpu", "cuda"):
        raise SamRosError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise SamRosError(f"device {device!r} is not there: torch sees {count} CUDA devices")
    return chosen


def _choose_precision(precision: str, device: torch.device) -> str:
    if precision == "auto":
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if precision not in PRECISIONS:
        raise SamRosError(f"precision must be auto, {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


class Predictor:
    """A loaded SAM: ``encode`` is dear, ``decode`` is cheap. Safe to use from several threads at once."""

    def __init__(
        self, sam: Sam, *, model_type: str, precision: str = "float32", compile: bool = False
    ) -> None:
        self.model_type = model_type
        self.precision = precision
        self._sam = sam
        self._encoder_layers = _layers(sam, compile)
        self._transform = ResizeLongestSide(self.image_size)
        with torch.inference_mode():
            self._image_pe = sam.prompt_encoder.get_dense_pe()  # (1, C, S/16, S/16)
            self._label_embeddings = _label_embeddings(sam)  # (5, C)

    @property
    def device(self) -> torch.device:
        """Where the model is and where embeddings stay."""
        device: torch.device = self._sam.device
        return device

    @property
    def image_size(self) -> int:
        """S: images are resized to this longest side and padded to a square of it."""
        return int(self._sam.image_encoder.img_size)

    def memory_mb(self) -> dict[str, float]:
        """Memory that torch holds on a GPU, now and at most, in MB; nothing on the CPU."""
        if self.device.type != "cuda":
            return {}
        now, peak = torch.cuda.memory_allocated(self.device), torch.cuda.max_memory_allocated(self.device)
        return {"memory": now / 1e6, "peak memory": peak / 1e6}

    def encode(
        self, image_rgb: npt.NDArray[np.uint8], should_stop: Callable[[], bool] = lambda: False
    ) -> Embedding:
        """Compute the embedding of an image.

        Args:
            image_rgb: (H, W, 3) uint8, RGB.
            should_stop: asked between the encoder's blocks.

        Raises:
            InvalidImageError: another shape or dtype, or so elongated that a side shrinks to nothing.
            EncodeCancelledError: ``should_stop`` returned true.
            ModelOutputError: the embedding is not finite.
        """
        _check_image(image_rgb, self.image_size)
        original_hw = (image_rgb.shape[0], image_rgb.shape[1])
        with torch.inference_mode(), self._autocast():
            x = self._preprocess(image_rgb)
            for layer in self._encoder_layers:
                if should_stop():
                    raise EncodeCancelledError("encoding was cancelled")
                x = layer(x)
            features = x.float()
            if not bool(torch.isfinite(features).all()):
                raise ModelOutputError(f"{self.model_type} in {self.precision}: the embedding is not finite")
        return Embedding(features, original_hw, resized_hw(original_hw, self.image_size))

    def decode(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompt],
        multimask_output: bool | Sequence[bool] = True,
        best_only: bool = False,
    ) -> list[Masks]:
        """Predict the masks of any number of prompts on one image; the order is the prompts'.

        Args:
            embedding: what ``encode`` returned.
            prompts: one for each object; decoded together where their token counts agree.
            multimask_output: three masks (whole, part, subpart) instead of one; for all or for each prompt.
            best_only: keep only the mask of the highest predicted IoU, and save the work for the others.

        Raises:
            InvalidPromptError: low_res_logits of another size than this model's.
            ValueError: ``multimask_output`` has another length than ``prompts``.
            ModelOutputError: an answer is not finite.
        """
        multimask = _one_flag_each(multimask_output, len(prompts))
        self._check_logits_size(prompts)
        answers: dict[int, Masks] = {}
        with torch.inference_mode():
            for indexes in _batches(prompts):
                logits, predicted_iou = self._decode_batch(embedding, [prompts[i] for i in indexes])
                for row, index in enumerate(indexes):
                    kept = slice(1, None) if multimask[index] else slice(0, 1)  # as MaskDecoder.forward
                    answers[index] = self._finish(
                        logits[row, kept], predicted_iou[row, kept], embedding, best_only
                    )
        return [answers[i] for i in range(len(prompts))]

    def _autocast(self) -> Any:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])

    def _preprocess(self, image_rgb: npt.NDArray[np.uint8]) -> torch.Tensor:
        """(1, 3, S, S) float32: resized, normalised, padded at the bottom and right with zeros."""
        resized = torch.as_tensor(self._transform.apply_image(image_rgb), device=self.device)
        padded: torch.Tensor = self._sam.preprocess(resized.permute(2, 0, 1))[None]
        return padded

    def _check_logits_size(self, prompts: Sequence[Prompt]) -> None:
        side = self.image_size // 4
        for index, prompt in enumerate(prompts):
            if prompt.low_res_logits is not None and prompt.low_res_logits.shape != (side, side):
                raise InvalidPromptError(
                    f"low_res_logits of prompt {index} must be ({side}, {side}) for {self.model_type}, "
                    f"got {prompt.low_res_logits.shape}"
                )

    def _decode_batch(
        self, embedding: Embedding, prompts: Sequence[Prompt]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 4, S/4, S/4) logits and (B, 4) predicted IoU of B prompts with equal token counts."""
        logits, predicted_iou = self._sam.mask_decoder.predict_masks(
            image_embeddings=embedding.features,
            image_pe=self._image_pe,
            sparse_prompt_embeddings=self._sparse_embeddings(embedding, prompts),
            dense_prompt_embeddings=self._dense_embeddings(prompts),
        )
        return logits, predicted_iou

    def _sparse_embeddings(self, embedding: Embedding, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B, T, C), as PromptEncoder._embed_points and _embed_boxes make them, for T equal tokens each."""
        coords, labels = _tokens(prompts, embedding)
        encoder = self._sam.prompt_encoder
        labels_on_device = torch.as_tensor(labels, device=self.device)
        positions = encoder.pe_layer.forward_with_coords(
            torch.as_tensor(coords, device=self.device) + 0.5, encoder.input_image_size
        )
        is_padding = (labels_on_device == PADDING_LABEL).unsqueeze(-1)
        return positions.masked_fill(is_padding, 0.0) + self._label_embeddings[labels_on_device + 1]

    def _dense_embeddings(self, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B, C, S/16, S/16): the embedded low-res logits, or the learned "no mask" where there are none."""
        encoder = self._sam.prompt_encoder
        no_mask = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = no_mask.expand(len(prompts), -1, *encoder.image_embedding_size)
        given = {i: p.low_res_logits for i, p in enumerate(prompts) if p.low_res_logits is not None}
        if not given:
            return dense
        logits = np.stack(list(given.values()))[:, None]  # (M, 1, S/4, S/4)
        dense = dense.clone()
        dense[list(given)] = encoder.mask_downscaling(torch.as_tensor(logits, device=self.device))
        return dense

    def _finish(
        self, logits: torch.Tensor, predicted_iou: torch.Tensor, embedding: Embedding, best_only: bool
    ) -> Masks:
        """From (C, S/4, S/4) logits and (C,) predicted IoU to host arrays, best first."""
        order = torch.argsort(predicted_iou, descending=True, stable=True)[: 1 if best_only else None]
        logits, predicted_iou = logits[order], predicted_iou[order]
        full_size = self._upscale(logits, embedding)
        answer = Masks(
            masks=(full_size > self._sam.mask_threshold).cpu().numpy(),
            predicted_iou=predicted_iou.cpu().numpy(),
            stability_score=_stability_score(full_size, self._sam.mask_threshold).cpu().numpy(),
            low_res_logits=logits.cpu().numpy(),
        )
        if not (np.isfinite(answer.predicted_iou).all() and np.isfinite(answer.low_res_logits).all()):
            raise ModelOutputError(f"{self.model_type} answered a prompt with values that are not finite")
        return answer

    def _upscale(self, logits: torch.Tensor, embedding: Embedding) -> torch.Tensor:
        """(C, S/4, S/4) -> (C, H, W) logits of the original image: Sam.postprocess_masks."""
        full_size: torch.Tensor = self._sam.postprocess_masks(
            logits[None], embedding.input_hw, embedding.original_hw
        )
        return full_size[0]


def _layers(sam: Sam, compile: bool) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """ImageEncoderViT.forward as a list of steps, so that an encode can be cancelled between blocks."""
    encoder = sam.image_encoder

    def embed_patches(x: torch.Tensor) -> torch.Tensor:
        patches: torch.Tensor = encoder.patch_embed(x) + encoder.pos_embed  # (1, S/16, S/16, D)
        return patches

    def neck(x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = encoder.neck(x.permute(0, 3, 1, 2))  # (1, C, S/16, S/16)
        return features

    if compile:
        for block in encoder.blocks:
            block.compile()
    return [embed_patches, *encoder.blocks, neck]


def _label_embeddings(sam: Sam) -> torch.Tensor:
    """(5, C): what PromptEncoder adds for padding, background, foreground, box corners; row = label + 1."""
    encoder = sam.prompt_encoder
    tables = [encoder.not_a_point_embed, *encoder.point_embeddings]
    return torch.cat([table.weight for table in tables])


def _check_image(image_rgb: npt.NDArray[np.uint8], image_size: int) -> None:
    shape, dtype = getattr(image_rgb, "shape", None), getattr(image_rgb, "dtype", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
        raise InvalidImageError(f"image_rgb must be (H, W, 3) uint8, got {shape} {dtype}")
    if 0 in shape or 0 in resized_hw(shape[:2], image_size):
        raise InvalidImageError(f"image_rgb of {shape[1]} x {shape[0]} pixels is empty or too elongated")


def _one_flag_each(multimask_output: bool | Sequence[bool], count: int) -> list[bool]:
    if isinstance(multimask_output, (bool, np.bool_)):
        return [bool(multimask_output)] * count
    if len(multimask_output) != count:
        raise ValueError(f"multimask_output has {len(multimask_output)} values for {count} prompts")
    return [bool(flag) for flag in multimask_output]


def _batches(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Indexes of prompts with equal token counts, at most DECODE_BATCH at a time.

    Padding to a common count would change the results: SAM attends to padding tokens.
    """
    groups: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(prompt.num_tokens, []).append(index)
    for indexes in groups.values():
        for start in range(0, len(indexes), DECODE_BATCH):
            yield indexes[start : start + DECODE_BATCH]


def _tokens(
    prompts: Sequence[Prompt], embedding: Embedding
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(B, T, 2) float32 coordinates in the model's input frame and (B, T) labels of B prompts."""
    scale = np.divide(embedding.input_hw[::-1], embedding.original_hw[::-1])  # x, y
    pairs = [_prompt_tokens(prompt, scale) for prompt in prompts]
    return np.stack([coords for coords, _ in pairs]), np.stack([labels for _, labels in pairs])


def _prompt_tokens(
    prompt: Prompt, scale: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(T, 2) and (T,): the points, then the box's corners or, without a box, the padding token."""
    coords, labels = [np.empty((0, 2))], [np.empty(0, np.int64)]
    if prompt.point_coords is not None and prompt.point_labels is not None:
        coords.append(prompt.point_coords * scale)
        labels.append(prompt.point_labels)
    if prompt.box is not None:
        coords.append(prompt.box.reshape(2, 2) * scale)
        labels.append(np.array([BOX_TOP_LEFT_LABEL, BOX_BOTTOM_RIGHT_LABEL]))
    elif prompt.num_points:
        coords.append(np.zeros((1, 2)))
        labels.append(np.array([PADDING_LABEL]))
    return np.concatenate(coords).astype(np.float32), np.concatenate(labels)


def _stability_score(full_size: torch.Tensor, mask_threshold: float) -> torch.Tensor:
    """(C, H, W) logits -> (C,) float32; calculate_stability_score in utils/amg.py, with 0/0 = 0."""
    high = (full_size > mask_threshold + STABILITY_OFFSET).sum(dim=(-2, -1))
    low = (full_size > mask_threshold - STABILITY_OFFSET).sum(dim=(-2, -1))
    return high / low.clamp(min=1)
