"""How a family of models takes images and prompts, and what it makes of logits: SAM's way, and SAM 2's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from segment_anything.modeling import Sam
from torch import Tensor

from sam_ros.core.grid import Grid, SizeHW, padded_grid, squashed_grid
from sam_ros.core.sam2 import Sam2
from sam_ros.fast.postprocess import (
    CpuPostprocessor,
    GpuPostprocessor,
    HostAnswer,
    upscale,
    upscale_at_once,
    upscale_at_once_on_cpu,
    upscale_on_cpu,
)
from sam_ros.fast.preprocess import CpuPreprocessor, GpuPreprocessor, SquashingPreprocessor


@dataclass(frozen=True)
class Conventions:
    """What differs between families around the same encoders and decoders.

    Attributes:
        grid: where an image (H, W) lies in the model's input and low-res logits.
        preprocess: (H, W, 3) uint8 -> the encoder's input (1, 3, S, S).
        postprocess: low-res logits (M, S/4, S/4) of several prompts -> masks at the size of the image.
        pads_boxes: see ``tokens_of``.
        most_logit: low-res logits are returned clamped to +- this.
        falls_back: where the single mask is not stable, the best of the three stands for it:
            ``_dynamic_multimask_via_stability`` in sam2/modeling/sam/mask_decoder.py.
    """

    grid: Callable[[SizeHW], Grid]
    preprocess: Callable[[npt.NDArray[np.uint8], Grid], Tensor]
    postprocess: Callable[[Sequence[Tensor], Grid], list[HostAnswer]]
    pads_boxes: bool = False
    most_logit: float = float("inf")
    falls_back: bool = False


SAM2_MOST_LOGIT = 32.0  # in ``_predict`` of sam2/sam2_image_predictor.py
STABILITY_DELTA, LEAST_STABILITY = 0.05, 0.98  # in ``build_sam2`` of sam2/build_sam.py


def conventions_of(sam: Sam) -> Conventions:
    """Those of a model, on its device."""
    size = sam.image_encoder.img_size
    if isinstance(sam, Sam2):
        return Conventions(
            partial(squashed_grid, input_size=size),
            SquashingPreprocessor(sam.pixel_mean, sam.pixel_std),
            _postprocessor(sam, upscale_at_once_on_cpu, upscale_at_once),
            pads_boxes=True,
            most_logit=SAM2_MOST_LOGIT,
            falls_back=True,
        )
    preprocessor = GpuPreprocessor if sam.device.type == "cuda" else CpuPreprocessor
    return Conventions(
        partial(padded_grid, input_size=size, prompt_size=int(sam.prompt_encoder.input_image_size[0])),
        preprocessor(sam.pixel_mean, sam.pixel_std),
        _postprocessor(sam, upscale_on_cpu, upscale),
    )


def _postprocessor(
    sam: Sam,
    on_cpu: Callable[[npt.NDArray[np.float32], Grid], npt.NDArray[np.float32]],
    on_gpu: Callable[[Tensor, Grid], Tensor],
) -> Callable[[Sequence[Tensor], Grid], list[HostAnswer]]:
    if sam.device.type == "cuda":
        return GpuPostprocessor(sam.mask_threshold, on_gpu)
    return CpuPostprocessor(sam.mask_threshold, on_cpu)


def is_stable(low_res_logits: Tensor) -> Tensor:
    """() bool: whether a mask's (1, S/4, S/4) logits hardly depend on the threshold.

    ``_get_stability_scores`` in sam2/modeling/sam/mask_decoder.py.
    """
    high, low = ((low_res_logits > offset).sum() for offset in (STABILITY_DELTA, -STABILITY_DELTA))
    return (high / low >= LEAST_STABILITY) | (low == 0)
