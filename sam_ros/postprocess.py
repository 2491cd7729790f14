"""Low-res logits to what people look at: logits and masks at the size of the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STABILITY_OFFSET = 1.0  # stability_score_offset of SamAutomaticMaskGenerator


def upscale(low_res_logits: Tensor, input_hw: tuple[int, int], original_hw: tuple[int, int]) -> Tensor:
    """(M, S/4, S/4) -> (M, H, W) logits, equal to those of ``Sam.postprocess_masks``.

    Args:
        low_res_logits: over the padded square.
        input_hw: size of the resized image inside the padded square, in its pixels.
        original_hw: (H, W) of the image.
    """
    # What lies in the padding is cut off before it is enlarged; one row and column more decide the edges.
    rows, columns = (min(low_res_logits.shape[-1], -(-length // 4) + 1) for length in input_hw)
    logits = low_res_logits[None, :, :rows, :columns]
    logits = F.interpolate(logits, (4 * rows, 4 * columns), mode="bilinear", align_corners=False)
    logits = logits[..., : input_hw[0], : input_hw[1]]
    return F.interpolate(logits, original_hw, mode="bilinear", align_corners=False)[0]


def stability_score(logits: Tensor, mask_threshold: float) -> Tensor:
    """(M, H, W) -> (M,) float32: calculate_stability_score in segment_anything/utils/amg.py, with 0/0 = 0."""
    high = _count_above(logits, mask_threshold + STABILITY_OFFSET)
    low = _count_above(logits, mask_threshold - STABILITY_OFFSET)
    return high / low.clamp(min=1)


def _count_above(logits: Tensor, threshold: float) -> Tensor:
    """(M,) float32 how many of (M, H, W) are higher: summing floats is several times faster than bools."""
    return torch.gt(logits, threshold, out=torch.empty_like(logits)).sum((-2, -1))
