"""Small holes and islands, against upstream's remove_small_regions on the whole image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from segment_anything.utils.amg import remove_small_regions

from sam_ros.fast.full_size import Cutout, cut_out
from sam_ros.fast.small_regions import without_small_regions


def cleaned(mask: npt.NDArray[np.bool_], least_area: int) -> tuple[Cutout, Cutout]:
    """Before and after."""
    before = cut_out(mask, 0, 0, np.float32(0.5))
    assert before is not None
    return before, without_small_regions(before, least_area, mask.shape)


def upstream(mask: npt.NDArray[np.bool_], least_area: int) -> npt.NDArray[np.bool_]:
    for mode in ("holes", "islands"):
        mask, _ = remove_small_regions(mask, least_area, mode)
    return mask


@pytest.mark.parametrize("least_area", [2, 6, 25, 400])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_upstream_does(least_area: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), bool)
    y, x = rng.integers(0, 15, 2)
    mask[y : y + 22, x : x + 30] = rng.uniform(size=(22, 30)) < 0.7
    _, after = cleaned(mask, least_area)
    np.testing.assert_array_equal(after.on(mask.shape), upstream(mask, least_area))
    assert after.stability_score == np.float32(0.5)


@pytest.mark.parametrize("place", [(0, 0), (0, 30), (25, 0), (25, 30)])
def test_a_bay_at_the_image_border_is_a_hole_and_one_inside_is_none(place: tuple[int, int]) -> None:
    mask = np.zeros((40, 50), bool)
    y, x = place
    mask[y : y + 15, x : x + 20] = True
    mask[y : y + 2, x + 5 : x + 8] = False
    mask[y + 13 : y + 15, x + 5 : x + 8] = False
    _, after = cleaned(mask, 10)
    np.testing.assert_array_equal(after.on(mask.shape), upstream(mask, 10))


def test_what_has_nothing_small_stays_the_same() -> None:
    mask = np.zeros((40, 50), bool)
    mask[3:20, 4:30] = True
    mask[8:15, 10:20] = False
    before, after = cleaned(mask, 10)
    assert after is before
