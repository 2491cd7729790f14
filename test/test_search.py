"""Where an object that was lost may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from moving_pictures import GRID, SIZE_HW

from sam_ros.core.appearance import Colours, look
from sam_ros.core.objects import SegmentedObject, Target, Tracking
from sam_ros.core.search import placed_again
from sam_ros.masks import BoolMask, tight_box_xyxy

ROWS, COLUMNS = GRID.covered_hw()
RED, BLUE = 5 * 36, 5
NOTHING = np.zeros((GRID.low_res_size, GRID.low_res_size), np.bool_)


def squares(*corners: tuple[int, int]) -> BoolMask:
    mask = NOTHING.copy()
    for x, y in corners:
        mask[y : y + 10, x : x + 10] = True
    return mask


def red_at(*corners: tuple[int, int]) -> Colours:
    return np.where(squares(*corners)[:ROWS], RED, BLUE).astype(np.uint8)


def lost_at(x: int, y: int, drift_xy: tuple[float, float] = (0, 0), searches: int = 0) -> SegmentedObject:
    """A red square that was last seen whole on frame 1."""
    mask = squares((x, y))
    seen = look(red_at((x, y)), mask)
    tracking = Tracking(look=seen, is_lost=True, drift_xy=drift_xy, searches=searches)
    logits = np.where(mask, 6, -6).astype(np.float32)
    one = SegmentedObject("", "", 0, 0, SIZE_HW, low_res_logits=logits, logits_sequence=1)
    return replace(one, tracking=tracking)


def corner(one: SegmentedObject | None) -> tuple[int, ...]:
    box = None if one is None else tight_box_xyxy(np.asarray(one.low_res_logits) > 0)
    return () if box is None else box[:2]


def searched(
    one: SegmentedObject, here: Colours, there: Colours | None = None, taken: BoolMask = NOTHING
) -> tuple[int, ...]:
    """The corner of where it is searched for; empty where it is not."""
    found = placed_again(one, here, there, taken, Target(4, GRID))
    assert found is None or found.is_lost, "until the model confirms it"
    return corner(found)


def test_it_may_be_where_something_looks_like_it() -> None:
    np.testing.assert_allclose(searched(lost_at(20, 20), red_at((90, 40))), (90, 40), atol=1)


def test_where_nothing_looks_like_it_it_is_not_asked_for() -> None:
    assert searched(lost_at(20, 20), red_at()) == ()


def test_what_looked_like_it_before_is_not_it() -> None:
    before = red_at((20, 20), (60, 50))
    assert searched(lost_at(20, 20), red_at((60, 50)), before) == ()
    np.testing.assert_allclose(
        searched(lost_at(20, 20), red_at((60, 50), (90, 10)), before), (90, 10), atol=1
    )


def test_where_others_are_it_is_not() -> None:
    here, taken = red_at((60, 50), (90, 10)), squares((60, 50))
    np.testing.assert_allclose(searched(lost_at(20, 20), here, taken=taken), (90, 10), atol=1)


def test_it_is_first_searched_for_where_it_was_going_and_then_elsewhere() -> None:
    here = red_at((50, 20), (100, 20))
    slow, fast = lost_at(20, 20, drift_xy=(9, 0)), lost_at(20, 20, drift_xy=(27, 0))
    np.testing.assert_allclose(searched(slow, here), (50, 20), atol=1)
    np.testing.assert_allclose(searched(fast, here), (100, 20), atol=1)
    again = lost_at(20, 20, drift_xy=(9, 0), searches=1)
    np.testing.assert_allclose(searched(again, here), (100, 20), atol=1)
