"""From low-res logits to masks at the size of the image, and how stable each mask is.

``Sam.postprocess_masks`` and ``calculate_stability_score`` of segment_anything together. On the CPU OpenCV
enlarges, NumPy compares and counts, one mask after the other, in a fraction of the time that torch's
operators take. A GPU uses torch's operators, and all answers of a batch come to the host in one copy.

As upstream does it, logits are enlarged twice: to the square that prompts refer to, of which the padding is
cut off, and from there to the size of the image. What is cut off is not computed. SAM 2 has no padding, and
enlarges them once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_ros.core.grid import LOW_RES_STRIDE, Grid
from sam_ros.fast.transfer import to_host

STABILITY_OFFSET = 1.0  # stability_score_offset of SamAutomaticMaskGenerator

HostAnswer: TypeAlias = "tuple[npt.NDArray[Any], ...]"
"""(M, H, W) bool masks, (M,) float32 stability scores with 0/0 = 0, and (M, S/4, S/4) float32 logits."""

Enlarge: TypeAlias = "Callable[[Tensor, Grid], Tensor]"
EnlargeOnCpu: TypeAlias = "Callable[[npt.NDArray[np.float32], Grid], npt.NDArray[Any]]"


class CpuPostprocessor:
    """Finishes answers on the CPU.

    Args:
        mask_threshold: logits above it are foreground.
        enlarge: (S/4, S/4) logits to the size of the image, ``upscale_on_cpu`` unless given.
    """

    def __init__(self, mask_threshold: float, enlarge: EnlargeOnCpu | None = None) -> None:
        self._threshold = mask_threshold
        self._enlarge = enlarge or upscale_on_cpu

    def __call__(self, logits: Sequence[Tensor], grid: Grid) -> list[HostAnswer]:
        """Finish the wanted masks of several prompts on one image.

        Args:
            logits: (M, S/4, S/4) of each prompt, over the square that prompts refer to.
            grid: where the image lies in that square.
        """
        return [self._finished(of_prompt.numpy(), grid) for of_prompt in logits]

    def _finished(self, logits: npt.NDArray[np.float32], grid: Grid) -> HostAnswer:
        masks = np.empty((len(logits), *grid.original_hw), bool)
        stability = np.empty(len(logits), np.float32)
        for index, low_res in enumerate(logits):
            full_size = self._enlarge(low_res, grid)
            np.greater(full_size, self._threshold, out=masks[index])
            high, low = (
                int(np.count_nonzero(full_size > self._threshold + offset))
                for offset in (STABILITY_OFFSET, -STABILITY_OFFSET)
            )
            stability[index] = high / max(low, 1)
        return masks, stability, logits


class GpuPostprocessor:
    """Finishes answers on a GPU; see ``CpuPostprocessor``, ``upscale`` enlarges unless told otherwise."""

    def __init__(self, mask_threshold: float, enlarge: Enlarge | None = None) -> None:
        self._threshold = mask_threshold
        self._enlarge = enlarge or upscale

    def __call__(self, logits: Sequence[Tensor], grid: Grid) -> list[HostAnswer]:
        """As that of ``CpuPostprocessor``."""
        finished = [self._finished(of_prompt, grid) for of_prompt in logits]
        columns = to_host([torch.cat(column) for column in zip(*finished, strict=True)])
        ends = np.cumsum([len(of_prompt) for of_prompt in logits])[:-1]
        return list(zip(*(np.split(column, ends) for column in columns), strict=True))

    def _finished(self, logits: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        full_size = self._enlarge(logits, grid)
        high, low = (
            (full_size > self._threshold + offset).sum((-2, -1))
            for offset in (STABILITY_OFFSET, -STABILITY_OFFSET)
        )
        return full_size > self._threshold, high / low.clamp(min=1), logits


def upscale(low_res_logits: Tensor, grid: Grid) -> Tensor:
    """(M, S/4, S/4) -> (M, H, W) logits, equal to those of ``Sam.postprocess_masks``."""
    rows, columns = grid.covered_hw(beyond=1)
    height, width = grid.prompt_hw
    enlarged = (LOW_RES_STRIDE * rows, LOW_RES_STRIDE * columns)
    logits = low_res_logits[None, :, :rows, :columns]
    logits = F.interpolate(logits, enlarged, mode="bilinear", align_corners=False)[..., :height, :width]
    return F.interpolate(logits, grid.original_hw, mode="bilinear", align_corners=False)[0]


def upscale_on_cpu(low_res_logits: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[Any]:
    """(S/4, S/4) -> (H, W) logits, equal to those of ``upscale`` up to rounding."""
    rows, columns = grid.covered_hw(beyond=1)
    height, width = grid.prompt_hw
    enlarged_xy = (LOW_RES_STRIDE * columns, LOW_RES_STRIDE * rows)
    logits = cv2.resize(low_res_logits[:rows, :columns], enlarged_xy)[:height, :width]
    return cv2.resize(logits, grid.original_hw[::-1])


def upscale_at_once(low_res_logits: Tensor, grid: Grid) -> Tensor:
    """(M, S/4, S/4) -> (M, H, W) logits, as ``SAM2Transforms.postprocess_masks`` in sam2 makes them."""
    logits = low_res_logits[None]
    return F.interpolate(logits, grid.original_hw, mode="bilinear", align_corners=False)[0]


def upscale_at_once_on_cpu(low_res_logits: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[Any]:
    """(S/4, S/4) -> (H, W) logits, equal to those of ``upscale_at_once`` up to rounding."""
    return cv2.resize(low_res_logits, grid.original_hw[::-1])
