"""Encode an image once, decode many prompts on it: SAM without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam

from sam_ros.core.checkpoint import load_sam
from sam_ros.core.everything import EverythingOptions, Points
from sam_ros.core.grid import Grid, SizeHW, padded_grid
from sam_ros.core.objects import BoxXYXY
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
from sam_ros.fast.cuda_graph import Function, Graphed
from sam_ros.fast.decoder import Prepared
from sam_ros.fast.everything import Answers, everything_in_steps, good_answers
from sam_ros.fast.folded import fastest_decoder
from sam_ros.fast.image_encoder import encoder_layers
from sam_ros.fast.postprocess import CpuPostprocessor, GpuPostprocessor
from sam_ros.fast.preprocess import CpuPreprocessor, GpuPreprocessor
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

CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, as pinned memory of the host also reports it

# How PromptEncoder labels tokens that are not points, whose labels are 0 and 1.
PADDING_LABEL, BOX_TOP_LEFT_LABEL, BOX_BOTTOM_RIGHT_LABEL = -1, 2, 3


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
        self._prompt_size = int(sam.prompt_encoder.input_image_size[0])
        self._mask_threshold = float(sam.mask_threshold)
        on_gpu = sam.device.type == "cuda"
        # A click does not wait for the image that is being encoded.
        self._encode_stream = _stream(sam.device, priority=0)
        self._decode_stream = _stream(sam.device, priority=-1)
        if on_gpu:  # its rounding of inputs to 10 bits would move float32's logits by more than 1e-3
            torch.backends.cudnn.allow_tf32 = False
        with torch.inference_mode():
            preprocessor = GpuPreprocessor if on_gpu else CpuPreprocessor
            self._preprocess = preprocessor(sam.pixel_mean, sam.pixel_std)
            postprocessor = GpuPostprocessor if on_gpu else CpuPostprocessor
            self._postprocess = postprocessor(sam.mask_threshold)
            self._encoder_layers = encoder_layers(sam.image_encoder, PRECISIONS[precision], compile)
            self._decoder = fastest_decoder(sam)
            self._label_embeddings = _label_embeddings(sam)  # (5, C)
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
        return padded_grid(original_hw, self.image_size, self._prompt_size)

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
        batches = _batches(prompts, DECODE_BATCH[self.device.type])
        largest = max((len(indexes) for indexes in batches), default=1)
        return self._within_memory(largest, lambda most: self._decode(embedding, prompts, flags, most))

    def _decode(
        self, embedding: Embedding, prompts: Sequence[Prompt], flags: Sequence[tuple[bool, bool]], most: int
    ) -> list[Masks]:
        """``decode`` at most so many prompts at a time; ``flags`` as in ``_finish``."""
        answers: dict[int, Masks] = {}
        with torch.inference_mode(), torch.cuda.stream(self._decode_stream):
            for indexes in _batches(prompts, most):
                answer = self._decode_batch(embedding, [prompts[i] for i in indexes])
                finished = self._finish(answer, [flags[i] for i in indexes], embedding.grid)
                answers.update(zip(indexes, finished, strict=True))
        return [answers[i] for i in range(len(prompts))]

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

    def _check_logits_size(self, prompts: Sequence[Prompt], side: int) -> None:
        for index, prompt in enumerate(prompts):
            if prompt.low_res_logits is not None and prompt.low_res_logits.shape != (side, side):
                raise InvalidPromptError(
                    f"low_res_logits of prompt {index} must be ({side}, {side}) for {self.model_type}, "
                    f"got {prompt.low_res_logits.shape}"
                )

    def _decode_batch(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Answer:
        """The decoder's answer to B prompts of one kind, see ``_batches``."""
        sparse = self._sparse_embeddings(prompts, embedding.grid)
        given = [prompt.low_res_logits for prompt in prompts if prompt.low_res_logits is not None]
        logits = to_device(np.stack(given), self.device) if given else None  # of all prompts or of none
        return self._decoder.decode(embedding.features, embedding.prepared, sparse, logits)

    def _sparse_embeddings(self, prompts: Sequence[Prompt], grid: Grid) -> torch.Tensor:
        """(B, T, C), as PromptEncoder._embed_points and _embed_boxes make them, for prompts of T tokens."""
        coords, labels = _tokens(prompts, grid.prompt_scale_xy)
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
        chosen = [
            order[:1] if only_best else order for order, (_, only_best) in zip(orders, flags, strict=True)
        ]
        uploaded = to_device(np.concatenate(chosen), self.device)
        wanted = torch.split(uploaded, [len(indexes) for indexes in chosen])
        logits = [answer.low_res_logits(row, indexes) for row, indexes in enumerate(wanted)]
        finished = [
            Masks(masks, iou[order[: len(masks)]], stability, low_res, iou[order[len(masks) :]])
            for (masks, stability, low_res), iou, order in zip(
                self._postprocess(logits, grid), predicted_iou, orders, strict=True
            )
        ]
        if not all(_is_finite(masks) for masks in finished):
            raise ModelOutputError(f"{self.model_type} answered a prompt with values that are not finite")
        return finished


def _stream(device: torch.device, priority: int) -> torch.cuda.Stream | None:
    """A stream of a GPU, which serves lower numbers first; None, which changes nothing, on the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


def _order(predicted_iou: npt.NDArray[np.float32], three: bool) -> npt.NDArray[np.int64]:
    """Which of the four masks of a prompt answer it, given the predicted IoU (4,) of each; best first.

    As MaskDecoder.forward does: the first is the single-mask output, the other three are the multimask ones.
    """
    return 1 + np.argsort(-predicted_iou[1:], kind="stable") if three else np.zeros(1, np.int64)


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


def _batches(prompts: Sequence[Prompt], most: int) -> Iterator[list[int]]:
    """Indexes of prompts with equal token counts, with or without low-res logits, at most ``most`` at a time.

    Padding to a common count would change the results: SAM attends to padding tokens. Without logits the
    decoder sees the same image for all.
    """
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault((prompt.num_tokens, prompt.low_res_logits is None), []).append(index)
    for indexes in groups.values():
        for start in range(0, len(indexes), most):
            yield indexes[start : start + most]


def _tokens(
    prompts: Sequence[Prompt], scale_xy: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(B, T, 2) float32 coordinates in the square that prompts refer to and (B, T) labels of B prompts."""
    pairs = [_prompt_tokens(prompt, scale_xy) for prompt in prompts]
    return np.stack([coords for coords, _ in pairs]), np.stack([labels for _, labels in pairs])


def _prompt_tokens(
    prompt: Prompt, scale_xy: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(T, 2) and (T,): the points, then the box's corners or, without a box, the padding token."""
    coords, labels = [np.empty((0, 2))], [np.empty(0, np.int64)]
    if prompt.point_coords is not None and prompt.point_labels is not None:
        coords.append(prompt.point_coords * scale_xy)
        labels.append(prompt.point_labels)
    if prompt.box is not None:
        coords.append(prompt.box.reshape(2, 2) * scale_xy)
        labels.append(np.array([BOX_TOP_LEFT_LABEL, BOX_BOTTOM_RIGHT_LABEL]))
    elif prompt.num_points:
        coords.append(np.zeros((1, 2)))
        labels.append(np.array([PADDING_LABEL]))
    return np.concatenate(coords).astype(np.float32), np.concatenate(labels)
