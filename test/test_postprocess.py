"""Masks and stability scores of both kinds of device against segment_anything's own functions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.amg import calculate_stability_score
from torch import Tensor

from sam_ros.core.grid import padded_grid
from sam_ros.fast.postprocess import CpuPostprocessor, GpuPostprocessor

SIDE = 64  # of low-res logits
SIZES_HW = [(720, 1280), (480, 640), (641, 333), (256, 256), (100, 97), (1, 300), (300, 1), (90, 7)]
THRESHOLD = 0.25
POSTPROCESSORS = [CpuPostprocessor, GpuPostprocessor]  # the latter's arithmetic can be tried on a CPU


def smooth_logits(count: int) -> Tensor:
    """(count, SIDE, SIDE) logits of a few blobs."""
    coarse = torch.randn(1, count, 6, 6, generator=torch.Generator().manual_seed(1)) * 8
    return torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")[0]


def upstream_logits(logits: Tensor, original_hw: tuple[int, int]) -> Tensor:
    """(M, H, W), as ``Sam`` enlarges them."""
    sam: Any = SimpleNamespace(image_encoder=SimpleNamespace(img_size=4 * SIDE))
    input_hw = padded_grid(original_hw, 4 * SIDE).input_hw
    return Sam.postprocess_masks(sam, logits[None], input_hw, original_hw)[0]


@pytest.mark.parametrize("kind", POSTPROCESSORS)
@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_answers_are_upstreams(kind: Any, size_hw: tuple[int, int]) -> None:
    logits = smooth_logits(5)
    answers = kind(THRESHOLD)([logits[:3], logits[3:4], logits[4:]], padded_grid(size_hw, 4 * SIDE))
    assert [len(masks) for masks, _, _ in answers] == [3, 1, 1]
    masks, stability, low_res = (np.concatenate(column) for column in zip(*answers, strict=True))
    assert masks.shape == (5, *size_hw) and masks.dtype == bool
    np.testing.assert_array_equal(low_res, logits.numpy())
    expected = upstream_logits(logits, size_hw)
    unclear = (expected - THRESHOLD).abs() < 1e-4  # rounding may decide these
    assert unclear.float().mean() < 1e-3
    np.testing.assert_array_equal(masks | unclear.numpy(), (expected > THRESHOLD).numpy() | unclear.numpy())
    wanted = calculate_stability_score(expected, THRESHOLD, 1.0).nan_to_num(0.0)
    np.testing.assert_allclose(stability, wanted.numpy(), atol=2e-3, rtol=0)
    assert stability.dtype == np.float32


@pytest.mark.parametrize("kind", POSTPROCESSORS)
def test_an_empty_mask_is_not_stable(kind: Any) -> None:
    ((masks, stability, _),) = kind(0.0)([torch.full((2, SIDE, SIDE), -5.0)], padded_grid((50, 50), 4 * SIDE))
    assert not masks.any()
    np.testing.assert_array_equal(stability, [0, 0])


@pytest.mark.parametrize("kind", POSTPROCESSORS)
def test_what_lies_in_the_padding_does_not_show(kind: Any) -> None:
    """Below and beside the image logits may be anything; of a wide image the lower half is padding."""
    logits = smooth_logits(1)
    other = logits.clone()
    other[:, SIDE // 2 + 1 :] = 100
    first, second = (kind(0.0)([some], padded_grid((100, 200), 4 * SIDE))[0][0] for some in (logits, other))
    np.testing.assert_array_equal(first, second)
    assert 0 < first.mean() < 1
