"""Masks and stability scores of both kinds of device against segment_anything's own functions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.utils.amg import calculate_stability_score
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from sam_ros.core.grid import Grid, padded_grid, squashed_grid
from sam_ros.fast.postprocess import CpuPostprocessor, GpuPostprocessor, upscale, upscale_on_cpu

SIDE = 64  # of low-res logits
SIZES_HW = [(720, 1280), (480, 640), (641, 333), (256, 256), (100, 97), (1, 300), (300, 1), (90, 7)]
THRESHOLD = 0.25
POSTPROCESSORS = [CpuPostprocessor, GpuPostprocessor]  # the latter's arithmetic can be tried on a CPU


def smooth_logits(count: int) -> Tensor:
    """(count, SIDE, SIDE) logits of a few blobs."""
    coarse = torch.randn(1, count, 6, 6, generator=torch.Generator().manual_seed(1)) * 8
    return F.interpolate(coarse, (SIDE, SIDE), mode="bicubic")[0]


def upstream_logits(logits: Tensor, original_hw: tuple[int, int]) -> Tensor:
    """(M, H, W), as ``Sam`` enlarges them."""
    sam: Any = SimpleNamespace(image_encoder=SimpleNamespace(img_size=4 * SIDE))
    input_hw = ResizeLongestSide.get_preprocess_shape(*original_hw, 4 * SIDE)
    return Sam.postprocess_masks(sam, logits[None], input_hw, original_hw)[0]


@pytest.mark.parametrize("kind", POSTPROCESSORS)
@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_answers_are_upstreams(kind: Any, size_hw: tuple[int, int]) -> None:
    logits = smooth_logits(5)
    grid = padded_grid(size_hw, 4 * SIDE)
    answers = kind(THRESHOLD)([logits[:3], logits[3:4], logits[4:]], grid)
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
    grid = padded_grid((100, 200), 4 * SIDE)
    first, second = (kind(0.0)([given], grid)[0][0] for given in (logits, other))
    np.testing.assert_array_equal(first, second)
    assert 0 < first.mean() < 1


@pytest.mark.parametrize(
    ("grid", "prompt_hw"),
    [
        (padded_grid((480, 640), 2 * SIDE, prompt_size=4 * SIDE), (192, 256)),  # encoded at half the size
        (padded_grid((333, 100), 2 * SIDE, prompt_size=4 * SIDE), (256, 77)),
        (squashed_grid((480, 640), 4 * SIDE), (256, 256)),
        (squashed_grid((90, 7), 4 * SIDE), (256, 256)),
    ],
    ids=["encoded smaller", "tall and encoded smaller", "squashed", "tall and squashed"],
)
def test_other_grids_are_enlarged_by_their_prompts_square(grid: Grid, prompt_hw: tuple[int, int]) -> None:
    logits, (height, width) = smooth_logits(2), prompt_hw
    square = F.interpolate(logits[None], (4 * SIDE, 4 * SIDE), mode="bilinear", align_corners=False)
    expected = F.interpolate(
        square[..., :height, :width], grid.original_hw, mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(upscale(logits, grid), expected[0], atol=1e-4, rtol=0)
    on_cpu = np.stack([upscale_on_cpu(low_res, grid) for low_res in logits.numpy()])
    np.testing.assert_allclose(on_cpu, expected[0].numpy(), atol=1e-3, rtol=0)
