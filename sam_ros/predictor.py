"""Encode an image once, decode many prompts on it: SAM without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam

from sam_ros.core.bank import Found, Memory, Recalled
from sam_ros.core.checkpoint import load_sam
from sam_ros.core.everything import EverythingOptions, Points
from sam_ros.core.grid import Grid, SizeHW
from sam_ros.core.objects import BoxXYXY
from sam_ros.core.prompt_tokens import PADDING_LABEL, batches_of_one_kind, tokens_of
from sam_ros.core.sam2 import Sam2
from sam_ros.errors import (
    DeviceError,
    DeviceMemoryError,
    EncodeCancelledError,
    EverythingCancelledError,
    InvalidImageError,
    InvalidPromptError,
    ModelOutputError,
    SamRosError,
)
from sam_ros.fast.conventions import conventions_of, is_stable
from sam_ros.fast.cuda_graph import Function, Graphed
from sam_ros.fast.decoder import Prepared
from sam_ros.fast.details import Details
from sam_ros.fast.everything import Answers, everything_in_steps, good_answers
from sam_ros.fast.folded import fastest_decoder
from sam_ros.fast.image_encoder import encoder_layers
from sam_ros.fast.memory import FIND_BATCH, Decoded, ObjectMemory, kinds
from sam_ros.fast.transfer import to_device, to_host
from sam_ros.fast.upscaling import Answer
from sam_ros.masks import Masks
from sam_ros.prompt import FOREGROUND, Prompt

# Prompts per pass through the decoder. A GPU is faster the more there are; each takes 60 MB at 1024 px.
# On a CPU the tokens of all prompts share a pass, but images are computed one prompt after another: more of
# them would not fit into its caches.
DECODE_BATCH = {"cuda": 32, "cpu": 16}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_INSTRUCTIONS = {  # any of which makes a precision fast; the last are of ARM
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}

SINGLE_MASK = 0  # its place among the four masks

CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, as pinned memory of the host also reports it


_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the image encoder made of one image; stays on the device.

    Attributes:
        features: (1, C, S/16, S/16) float32 tensor; (1, 4C, S/16, S/16) where the encoder has finer levels.
        grid: where the image lies in the model's input and low-res logits.
        prepared: what the decoder has computed of the image, once for all its prompts.
    """

    features: torch.Tensor
    grid: Grid
    prepared: Prepared


def load_predictor(
    model_type: str = "sam_tiny",
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    precision: str = "float32",
    compile: bool = False,
) -> Predictor:
    """Load a model and its weights.

    Args:
        model_type: one of the catalogue (sam_ros/core/catalogue.py): sam_tiny, vit_b, mobile_sam, ...
        checkpoint: a file of one's own; None takes the shipped sam_tiny or the verified cache.
        device: auto (a GPU where there is one), cpu, cuda or cuda:N.
        precision: of the image encoder: auto (bfloat16 where the device has instructions for it, else
            float32), float32, bfloat16 or float16. The decoder always computes in float32; on a GPU,
            TensorFloat-32 is therefore turned off for the convolutions of this process.
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
        return "bfloat16" if is_fast("bfloat16", device) else "float32"
    if precision not in PRECISIONS:
        raise SamRosError(f"precision must be auto, {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def is_fast(precision: str, device: torch.device) -> bool:
    """Whether matrix products of a precision are at least as fast as float32's, as far as torch can tell.

    A CPU without instructions for it emulates a reduced precision, many times slower; so do GPUs bfloat16.
    """
    if device.type == "cuda" and precision == "bfloat16":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or precision not in CPU_INSTRUCTIONS:
        return True
    # torch 2.10 cannot tell yet
    has: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(has.get(name) for name in CPU_INSTRUCTIONS[precision])


class Predictor:
    """A loaded SAM: ``encode`` is dear, ``decode`` is cheap. Safe to use from several threads at once."""

    def __init__(
        self, sam: Sam, *, model_type: str, precision: str = "float32", compile: bool = False
    ) -> None:
        self.model_type = model_type
        self.precision = precision
        self.device: torch.device = sam.device
        """Where the model is and where embeddings stay."""
        self.image_size = int(sam.image_encoder.img_size)
        """S: images are resized to this longest side and padded to a square of it."""
        self._prompt_encoder = sam.prompt_encoder
        self._mask_threshold = float(sam.mask_threshold)
        on_gpu = sam.device.type == "cuda"
        # A click does not wait for the image that is being encoded.
        self._encode_stream = _stream(sam.device, priority=0)
        self._decode_stream = _stream(sam.device, priority=-1)
        if on_gpu:  # its rounding of inputs to 10 bits would move float32's logits by more than 1e-3
            torch.backends.cudnn.allow_tf32 = False
        with torch.inference_mode():
            self._conventions = conventions_of(sam)
            self._preprocess = self._conventions.preprocess
            self._encoder_layers = encoder_layers(sam.image_encoder, PRECISIONS[precision], compile)
            self._decoder = fastest_decoder(sam)
            self._label_embeddings = _label_embeddings(sam)  # (5, C)
            self._memory = ObjectMemory(sam, PRECISIONS[precision]) if isinstance(sam, Sam2) else None
        self._compute: Function = Graphed(self._compute_embedding) if on_gpu else self._compute_embedding

    def memory_mb(self) -> dict[str, float]:
        """Memory of a GPU that torch keeps for this process, now and at most, in MB; nothing on the CPU."""
        if self.device.type != "cuda":
            return {}
        now, peak = torch.cuda.memory_reserved(self.device), torch.cuda.max_memory_reserved(self.device)
        return {"memory": now / 1e6, "peak memory": peak / 1e6}

    def grid(self, original_hw: SizeHW) -> Grid:
        """Where an image lies in this model's input, in the coordinates of its prompts and in low-res logits.

        Args:
            original_hw: (H, W) of the image.

        Raises:
            InvalidImageError: the image is empty, or so elongated that a side shrinks to nothing.
        """
        return self._conventions.grid(original_hw)

    def encode(
        self, image_rgb: npt.NDArray[np.uint8], should_stop: Callable[[], bool] = lambda: False
    ) -> Embedding:
        """Compute the embedding of an image.

        Args:
            image_rgb: (H, W, 3) uint8, RGB.
            should_stop: asked before, and on a CPU between the encoder's blocks; a GPU is given them all at
                once, but for the first images.

        Raises:
            InvalidImageError: another shape or dtype, or so elongated that a side shrinks to nothing.
            EncodeCancelledError: ``should_stop`` returned true.
            ModelOutputError: the embedding is not finite.
            DeviceMemoryError: the device has too little memory left.
            DeviceError: the device failed.
        """
        return self._within_memory(1, lambda _: self._encode(image_rgb, should_stop))

    def _encode(self, image_rgb: npt.NDArray[np.uint8], should_stop: Callable[[], bool]) -> Embedding:
        _check_image(image_rgb)
        grid = self.grid((image_rgb.shape[0], image_rgb.shape[1]))
        with torch.inference_mode(), torch.cuda.stream(self._encode_stream):
            if should_stop():
                raise EncodeCancelledError("encoding was cancelled")
            pixels = self._preprocess(image_rgb, grid)
            features, is_finite, *prepared = self._compute(pixels, should_stop=should_stop)
            if not bool(is_finite):  # on a GPU this waits until all is computed
                raise ModelOutputError(f"{self.model_type} in {self.precision}: the embedding is not finite")
        return Embedding(features, grid, tuple(prepared))

    def _compute_embedding(
        self, pixels: torch.Tensor, should_stop: Callable[[], bool] = lambda: False
    ) -> tuple[torch.Tensor, ...]:
        """Features of pixels (1, 3, S, S), whether all are finite, and what the decoder prepares of them."""
        features = pixels
        for layer in self._encoder_layers:
            if should_stop():
                raise EncodeCancelledError("encoding was cancelled")
            features = layer(features)
        return features, torch.isfinite(features).all(), *self._decoder.prepare(features)

    def features(self, embedding: Embedding) -> npt.NDArray[np.float32]:
        """(C, S/16, S/16) the features of an embedding, on the host; not to be written to."""
        channels = self._label_embeddings.shape[1]  # finer levels come behind them
        features: npt.NDArray[np.float32] = embedding.features[0, :channels].float().cpu().numpy()
        return features

    def decode(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompt],
        multimask_output: bool | Sequence[bool] = True,
        best_only: bool | Sequence[bool] = False,
    ) -> list[Masks]:
        """Predict the masks of any number of prompts on one image; the order is the prompts'.

        Args:
            embedding: what ``encode`` returned.
            prompts: one for each object; decoded together where their kinds agree.
            multimask_output: three masks (whole, part, subpart) instead of one; for all or for each prompt.
            best_only: keep only the mask of the highest predicted IoU, and save the work for the others, of
                which the predicted IoU is kept; for all or for each prompt.

        Raises:
            InvalidPromptError: low_res_logits of another size than this model's.
            ValueError: ``multimask_output`` or ``best_only`` has another length than ``prompts``.
            ModelOutputError: an answer is not finite.
            DeviceMemoryError: the device has too little memory left, even for half as many prompts at a time.
            DeviceError: the device failed.
        """
        multimask = _one_flag_each("multimask_output", multimask_output, len(prompts))
        only_best = _one_flag_each("best_only", best_only, len(prompts))
        self._check_logits_size(prompts, embedding.grid.low_res_size)
        flags = list(zip(multimask, only_best, strict=True))
        batches = self._batches(prompts, DECODE_BATCH[self.device.type])
        largest = max((len(indexes) for indexes in batches), default=1)
        return self._within_memory(largest, lambda most: self._decode(embedding, prompts, flags, most))

    def _decode(
        self, embedding: Embedding, prompts: Sequence[Prompt], flags: Sequence[tuple[bool, bool]], most: int
    ) -> list[Masks]:
        """``decode`` at most so many prompts at a time; ``flags`` as in ``_finish``."""
        answers: dict[int, Masks] = {}
        with torch.inference_mode(), torch.cuda.stream(self._decode_stream):
            for indexes in self._batches(prompts, most):
                answer = self._decode_batch(embedding, [prompts[i] for i in indexes])
                finished = self._finish(answer, [flags[i] for i in indexes], embedding.grid)
                answers.update(zip(indexes, finished, strict=True))
        return [answers[i] for i in range(len(prompts))]

    def _batches(self, prompts: Sequence[Prompt], most: int) -> Iterable[list[int]]:
        return batches_of_one_kind(prompts, most, pads_boxes=self._conventions.pads_boxes)

    def everything(
        self,
        embedding: Embedding,
        *,
        points_per_side: int = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        min_mask_region_area: int = 0,
        min_area: int = 0,
        region: BoxXYXY | None = None,
        skip_covered: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[Masks]:
        """Find everything on one image without a prompt, as ``SamAutomaticMaskGenerator`` does.

        Args:
            embedding: what ``encode`` returned.
            points_per_side, points_per_batch, pred_iou_thresh, stability_score_thresh: see
                ``EverythingOptions``.
            stability_score_offset, box_nms_thresh, min_mask_region_area: too.
            min_area, region, skip_covered: too; these are not of the generator.
            should_stop: asked after every batch.

        Returns:
            One mask each, in the order of the generator's answer: best first by predicted IoU, but for what
            ``min_mask_region_area`` changed, which comes last.

        Raises:
            InvalidPromptError: an option that means nothing, or a region outside of the image.
            EverythingCancelledError: ``should_stop`` returned true.
            ModelOutputError, DeviceMemoryError, DeviceError: as from ``decode``.
        """
        options = EverythingOptions(
            points_per_side,
            points_per_batch,
            pred_iou_thresh,
            stability_score_thresh,
            stability_score_offset,
            box_nms_thresh,
            min_mask_region_area,
            min_area,
            region,
            skip_covered,
        )
        for answer in self.everything_in_steps(embedding, options):
            if answer is not None:
                return answer
            if should_stop():
                break
        raise EverythingCancelledError("segmenting everything was cancelled")

    def everything_in_steps(
        self, embedding: Embedding, options: EverythingOptions
    ) -> Iterator[list[Masks] | None]:
        """``everything`` by the step, a batch of points at most: None after every one but the last.

        Raises:
            As ``everything``, but that it cannot be cancelled: who has no use for the answer asks no more.
        """

        def ask(points: Points, least_iou: float) -> Answers:
            most = DECODE_BATCH[self.device.type]
            return self._within_memory(most, lambda most: self._ask(embedding, points, least_iou, most))

        return everything_in_steps(ask, embedding.grid, self._mask_threshold, options)

    def _ask(self, embedding: Embedding, points: Points, least_iou: float, most: int) -> Answers:
        """The good masks of points (N, 2), decoded at most so many at a time; see ``Ask``."""
        clicks = [Prompt(point[None], np.array([FOREGROUND])) for point in points]
        with torch.inference_mode(), torch.cuda.stream(self._decode_stream):
            answers = [
                good_answers(self._decode_batch(embedding, clicks[first : first + most]), least_iou)
                for first in range(0, len(clicks), most)
            ]
        joined = Answers(*map(np.concatenate, zip(*answers, strict=True)))
        if not np.isfinite(joined.low_res_logits).all():
            raise ModelOutputError(f"{self.model_type} answered a point with values that are not finite")
        return joined

    def _within_memory(self, most: int, compute: Callable[[int], _Result]) -> _Result:
        """``compute(most)``; where that is too much for the device's memory, once more with half as many."""
        with suppress(DeviceMemoryError):
            return self._translate_errors(lambda: compute(most))
        # Only from here on nothing holds the failed attempt's tensors.
        self._translate_errors(torch.cuda.empty_cache)
        return self._translate_errors(lambda: compute(max(1, most // 2)))

    def _translate_errors(self, compute: Callable[[], _Result]) -> _Result:
        """What ``compute`` returns; torch's errors of the device become ours."""
        try:
            return compute()
        except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
            is_about_memory = isinstance(error, torch.OutOfMemoryError)
            if not is_about_memory and getattr(error, "error_code", None) != CUDA_OUT_OF_MEMORY:
                raise DeviceError(f"{self.device} failed: {error}") from error
            raise DeviceMemoryError(
                f"{self.model_type} needs more memory than {self.device} has left; free some, or choose a "
                f"smaller model: {error}"
            ) from error

    @property
    def has_memory(self) -> bool:
        """Whether objects can be found again by what is remembered of them, see ``find``."""
        return self._memory is not None

    def remember(self, embedding: Embedding, answers: Sequence[Masks], step: int) -> list[Memory]:
        """What to remember of objects that were prompted, in their order.

        Args:
            embedding: of the image that they were prompted on.
            answers: what ``decode`` returned; of each the first mask counts.
            step: number of the image among those that the objects are followed on.

        Raises:
            ValueError: this model has no memory, or another one answered.
            DeviceMemoryError, DeviceError: as ``decode``.
        """
        memory = self._own_memory()

        def compute(most: int) -> list[Memory]:
            batches = [answers[start : start + most] for start in range(0, len(answers), most)]
            return [one for batch in batches for one in memory.remembered(embedding.features, batch, step)]

        return self._within_memory(FIND_BATCH[self.device.type], self._on_decode_stream(compute))

    def find(self, embedding: Embedding, recalled: Sequence[Recalled], step: int) -> list[Found]:
        """Find objects on an image by what is recalled of each, in their order.

        Args:
            embedding: of the image.
            recalled: at least one prompt of each object.
            step: number of the image among those that the objects are followed on.

        Raises:
            ValueError: this model has no memory.
            ModelOutputError, DeviceMemoryError, DeviceError: as ``decode``.
        """
        memory, features = self._own_memory(), embedding.features
        details = Details(*embedding.prepared[-2:])

        def compute(most: int) -> list[Found]:
            found: dict[int, Found] = {}
            for indexes in kinds(recalled, most):
                some = [recalled[index] for index in indexes]
                answers = memory.found(features, details, some, step, partial(self._masks_of, embedding.grid))
                found.update(zip(indexes, answers, strict=True))
            return [found[index] for index in range(len(recalled))]

        return self._within_memory(FIND_BATCH[self.device.type], self._on_decode_stream(compute))

    def _own_memory(self) -> ObjectMemory:
        if self._memory is None:
            raise ValueError(f"{self.model_type} has no memory")
        return self._memory

    def _on_decode_stream(self, compute: Callable[[int], _Result]) -> Callable[[int], _Result]:
        def on_stream(most: int) -> _Result:
            with torch.inference_mode(), torch.cuda.stream(self._decode_stream):
                return compute(most)

        return on_stream

    def _masks_of(self, grid: Grid, decoded: Decoded) -> list[Masks]:
        (predicted_iou,) = to_host([decoded.predicted_iou[:, None]])
        finished = self._conventions.postprocess([one[None] for one in decoded.logits], grid)
        made = [
            Masks(masks, iou, stability, low_res)
            for (masks, stability, low_res), iou in zip(finished, predicted_iou, strict=True)
        ]
        self._check_finite(made)
        return made

    def _check_logits_size(self, prompts: Sequence[Prompt], side: int) -> None:
        for index, prompt in enumerate(prompts):
            if prompt.low_res_logits is not None and prompt.low_res_logits.shape != (side, side):
                raise InvalidPromptError(
                    f"low_res_logits of prompt {index} must be ({side}, {side}) for {self.model_type}, "
                    f"got {prompt.low_res_logits.shape}"
                )

    def _decode_batch(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Answer:
        """The decoder's answer to B prompts of one kind, see ``batches_of_one_kind``."""
        sparse = self._sparse_embeddings(prompts, embedding.grid)
        given = [prompt.low_res_logits for prompt in prompts if prompt.low_res_logits is not None]
        logits = to_device(np.stack(given), self.device) if given else None  # of all prompts or of none
        return self._decoder.decode(embedding.features, embedding.prepared, sparse, logits)

    def _sparse_embeddings(self, prompts: Sequence[Prompt], grid: Grid) -> torch.Tensor:
        """(B, T, C), as PromptEncoder._embed_points and _embed_boxes make them, for prompts of T tokens."""
        pads_boxes = self._conventions.pads_boxes
        coords, labels = tokens_of(prompts, grid.prompt_scale_xy, pads_boxes=pads_boxes)
        encoder = self._prompt_encoder
        labels_on_device = to_device(labels, self.device)
        positions = encoder.pe_layer.forward_with_coords(
            to_device(coords, self.device) + 0.5, encoder.input_image_size
        )
        is_padding = (labels_on_device == PADDING_LABEL).unsqueeze(-1)
        return positions.masked_fill(is_padding, 0.0) + self._label_embeddings[labels_on_device + 1]

    def _finish(self, answer: Answer, flags: Sequence[tuple[bool, bool]], grid: Grid) -> list[Masks]:
        """The wanted masks of every prompt of a batch, at the size of the image, on the host.

        ``flags`` tells of each prompt whether it wants three masks and whether the best of them is enough.
        """
        (predicted_iou,) = to_host([answer.predicted_iou])  # (B, 4)
        orders = [_order(iou, three) for iou, (three, _) in zip(predicted_iou, flags, strict=True)]
        made = self._fallen_back(answer, predicted_iou, orders) if self._conventions.falls_back else {}
        chosen = [
            order[:1] if only_best else order for order, (_, only_best) in zip(orders, flags, strict=True)
        ]
        uploaded = to_device(np.concatenate(chosen), self.device)
        wanted = torch.split(uploaded, [len(indexes) for indexes in chosen])
        logits = [
            made[row] if row in made else answer.low_res_logits(row, indexes)
            for row, indexes in enumerate(wanted)
        ]
        finished = [
            Masks(
                masks, iou[order[: len(masks)]], stability, self._clamped(low_res), iou[order[len(masks) :]]
            )
            for (masks, stability, low_res), iou, order in zip(
                self._conventions.postprocess(logits, grid), predicted_iou, orders, strict=True
            )
        ]
        self._check_finite(finished)
        if self._memory is not None:
            return self._with_tokens(finished, answer, chosen, [three for three, _ in flags])
        return finished

    def _with_tokens(
        self, answers: list[Masks], answer: Answer, chosen: list[npt.NDArray[np.int64]], three: list[bool]
    ) -> list[Masks]:
        """The answers of a batch with what is needed to remember them.

        A single mask is remembered by its own token, even where another one stands for it: ``forward`` in
        sam2/modeling/sam/mask_decoder.py.
        """
        tokens, scores = to_host([answer.tokens, self._own_memory().scores(answer)])  # (B, O, C), (B, 1)
        told = []
        for row, masks in enumerate(chosen):
            of_masks = tokens[row, 1 + (masks if three[row] else np.full(1, SINGLE_MASK))]  # (M, C)
            told.append(np.concatenate([of_masks, np.broadcast_to(scores[row], (len(of_masks), 1))], 1))
        return [replace(masks, memory_tokens=of_masks) for masks, of_masks in zip(answers, told, strict=True)]

    def _check_finite(self, answers: Sequence[Masks]) -> None:
        if not all(_is_finite(masks) for masks in answers):
            raise ModelOutputError(f"{self.model_type} answered a prompt with values that are not finite")

    def _fallen_back(
        self, answer: Answer, predicted_iou: npt.NDArray[np.float32], orders: list[npt.NDArray[np.int64]]
    ) -> dict[int, torch.Tensor]:
        """Let the best of the three stand for single masks that are not stable: changes their orders.

        Returns:
            The logits (1, S/4, S/4) of those that are, by row: they are made already.
        """
        rows = [row for row, order in enumerate(orders) if order[0] == SINGLE_MASK]
        if not rows:
            return {}
        single = torch.full((1,), SINGLE_MASK, device=self.device)
        logits = [answer.low_res_logits(row, single) for row in rows]
        (are_stable,) = to_host([torch.stack([is_stable(each) for each in logits])])
        for row, stays in zip(rows, are_stable, strict=True):
            if not stays:
                orders[row] = _order(predicted_iou[row], three=True)[:1]
        return {row: made for row, made, stays in zip(rows, logits, are_stable, strict=True) if stays}

    def _clamped(self, low_res_logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        most = self._conventions.most_logit
        return low_res_logits if np.isinf(most) else low_res_logits.clip(-most, most)


def _stream(device: torch.device, priority: int) -> torch.cuda.Stream | None:
    """A stream of a GPU, which serves lower numbers first; None, which changes nothing, on the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


def _order(predicted_iou: npt.NDArray[np.float32], three: bool) -> npt.NDArray[np.int64]:
    """Which of the four masks of a prompt answer it, given the predicted IoU (4,) of each; best first.

    As MaskDecoder.forward does: the first is the single-mask output, the other three are the multimask ones.
    """
    if not three:
        return np.full(1, SINGLE_MASK)
    return 1 + np.argsort(-predicted_iou[1:], kind="stable")


def _is_finite(masks: Masks) -> bool:
    values = (masks.predicted_iou, masks.other_predicted_iou, masks.low_res_logits)
    return all(bool(np.isfinite(array).all()) for array in values)


def _label_embeddings(sam: Sam) -> torch.Tensor:
    """(5, C): what PromptEncoder adds for padding, background, foreground, box corners; row = label + 1."""
    encoder = sam.prompt_encoder
    tables = [encoder.not_a_point_embed, *encoder.point_embeddings]
    return torch.cat([table.weight for table in tables])


def _check_image(image_rgb: npt.NDArray[np.uint8]) -> None:
    shape, dtype = getattr(image_rgb, "shape", None), getattr(image_rgb, "dtype", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
        raise InvalidImageError(f"image_rgb must be (H, W, 3) uint8, got {shape} {dtype}")


def _one_flag_each(name: str, flags: bool | Sequence[bool], count: int) -> list[bool]:
    if isinstance(flags, (bool, np.bool_)):
        return [bool(flags)] * count
    if len(flags) != count:
        raise ValueError(f"{name} has {len(flags)} values for {count} prompts")
    return [bool(flag) for flag in flags]
