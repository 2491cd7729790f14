"""Masks cut out at the size of the image, against those that are enlarged as a whole."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from sam_ros.core.grid import Grid, padded_grid, squashed_grid
from sam_ros.fast import full_size
from sam_ros.fast.full_size import FullSize, cut_out, interpolation
from sam_ros.fast.postprocess import CpuPostprocessor
from sam_ros.masks import tight_box_xyxy

GRIDS = {
    "larger than the square": padded_grid((240, 320), 64),
    "smaller": padded_grid((20, 15), 64),
    "as large": padded_grid((64, 64), 64),
    "wide": padded_grid((9, 301), 64),
    "squashed": squashed_grid((50, 90), 64),
}


def blob(x: float, y: float, radius: float) -> npt.NDArray[np.float32]:
    """(16, 16) logits of a disc, with a rim that is not even."""
    rows, columns = np.mgrid[:16, :16]
    noise = np.random.default_rng(0).normal(0, 0.5, (16, 16))
    return (4 * (radius - np.hypot(columns - x, rows - y)) + noise).astype(np.float32)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))
@pytest.mark.parametrize("largest_share", [0.0, 1.0], ids=["as a whole", "by matrices"])
@pytest.mark.parametrize("logits", [blob(3, 2, 1.5), blob(6, 4, 5), blob(0, 0, 2), blob(8, 8, 30)])
def test_a_cutout_is_the_mask_where_it_is(
    grid: Grid,
    largest_share: float,
    logits: npt.NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(full_size, "LARGEST_SHARE", largest_share)
    ((masks, stability, _),) = CpuPostprocessor(0.0)([torch.from_numpy(logits[None])], grid)
    cutout = FullSize(grid, 0.0, 1.0).cutout(logits)
    if not masks.any():
        assert cutout is None
        return
    assert cutout is not None
    np.testing.assert_array_equal(cutout.on(grid.original_hw), masks[0])
    assert cutout.box_xyxy == tight_box_xyxy(masks[0])
    assert cutout.area == masks.sum()
    assert cutout.stability_score == stability[0]


def test_an_empty_mask_has_no_cutout() -> None:
    made = FullSize(GRIDS["as large"], 0.0, 1.0)
    assert made.cutout(np.full((16, 16), -0.5, np.float32)) is None
    assert made.cutout(np.full((16, 16), -5.0, np.float32)) is None
    assert cut_out(np.zeros((3, 4), bool), 1, 2, np.float32(1)) is None


def test_how_much_of_a_mask_lies_in_a_region() -> None:
    mask = np.zeros((10, 10), bool)
    mask[2:6, 3:9] = True
    cutout = cut_out(mask, 0, 0, np.float32(1))
    assert cutout is not None and cutout.box_xyxy == (3, 2, 9, 6)
    assert cutout.area_within((0, 0, 10, 10)) == cutout.area == 24
    assert cutout.area_within((4, 3, 6, 20)) == 6
    assert cutout.area_within((0, 0, 3, 10)) == 0


@pytest.mark.parametrize(("count", "length"), [(7, 28), (28, 11), (5, 5), (1, 4), (4, 1)])
def test_interpolation_is_that_of_torch_and_opencv(count: int, length: int) -> None:
    samples = np.random.default_rng(0).normal(size=count).astype(np.float32)
    ours = interpolation(count, length) @ samples
    by_torch = F.interpolate(
        torch.from_numpy(samples)[None, None], length, mode="linear", align_corners=False
    )
    np.testing.assert_allclose(ours, by_torch[0, 0], atol=1e-6)
    np.testing.assert_allclose(ours, cv2.resize(samples[None], (length, 1))[0], atol=1e-6)
