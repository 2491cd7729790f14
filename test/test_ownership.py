"""Whose the pixels are: the object's, its surroundings', or another object's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moving_pictures import GRID, SIZE_HW, Logits

from sam_ros.core.appearance import Colours, histogram
from sam_ros.core.objects import Look, SegmentedObject, Target, Tracking, Tracks
from sam_ros.core.ownership import (
    FRESH,
    apart,
    is_alike,
    is_taken,
    kept,
    looks_like_it,
    looks_there,
    sharing,
    taken_from,
    uncovered,
    with_look,
    without_others,
)
from sam_ros.masks import BoolMask, Masks

ROWS, COLUMNS = GRID.covered_hw()
SIZE = GRID.low_res_size
TARGET = Target(2, GRID)
RED, GREEN, BLUE = 5 * 36, 5 * 6, 5


def only(*colours: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return histogram(np.array(colours, np.uint8))


RED_ON_BLUE = Look(only(RED), only(BLUE))


def cells(x: int, y: int, width: int = 10, height: int = 10) -> BoolMask:
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[y : y + height, x : x + width] = True
    return mask


def logits_of(mask: BoolMask) -> Logits:
    return np.where(mask, 6, -6).astype(np.float32)


def seen(
    mask: BoolMask, created: int = 0, seen_as: Look | None = RED_ON_BLUE, **known: object
) -> SegmentedObject:
    one = SegmentedObject("", "", created, 0, SIZE_HW, low_res_logits=logits_of(mask), logits_sequence=2)
    return replace(one, tracking=replace(Tracking(look=seen_as), **known))  # type: ignore[arg-type]


def coloured(*painted: tuple[BoolMask, int]) -> Colours:
    colours = np.full((ROWS, COLUMNS), BLUE, np.uint8)
    for mask, colour in painted:
        colours[mask[:ROWS]] = colour
    return colours


def area(one: SegmentedObject | None) -> int:
    return 0 if one is None else int((np.asarray(one.low_res_logits) > 0).sum())


def test_what_looks_like_its_surroundings_is_not_the_object() -> None:
    one = seen(cells(20, 20))
    assert looks_like_it(one, Look(only(RED), only(GREEN)), 100)
    assert not looks_like_it(one, Look(only(BLUE), only(BLUE)), 100)
    assert not looks_like_it(one, Look(only(RED, BLUE, BLUE), only(BLUE)), 100)


def test_an_object_that_looks_like_its_surroundings_is_not_lost_for_that() -> None:
    hardly = Look(only(RED, RED, BLUE), only(RED, BLUE))
    assert looks_like_it(seen(cells(20, 20), seen_as=hardly), Look(only(RED, BLUE), only(RED, BLUE)), 100)


def test_what_is_seen_whole_may_look_different_but_not_in_part_or_again() -> None:
    turned = Look(only(RED, RED, RED, GREEN, GREEN, GREEN, GREEN), only(BLUE))
    assert looks_like_it(seen(cells(20, 20), full_area=100), turned, 100)
    assert not looks_like_it(seen(cells(20, 20), full_area=100), turned, 40)
    assert not looks_like_it(seen(cells(20, 20), is_lost=True), turned, 100)


def test_features_tell_apart_what_has_the_same_colours() -> None:
    features = np.array([[0, 1], [1, 1]], np.float32)
    other = np.array([[0.7, 1], [1, 1]], np.float32)
    lost = seen(cells(20, 20), seen_as=replace(RED_ON_BLUE, features=features), is_lost=True)
    assert looks_like_it(lost, replace(RED_ON_BLUE, features=features), 100)
    assert not looks_like_it(lost, replace(RED_ON_BLUE, features=other), 100)


def test_a_few_cells_do_not_tell_that_an_object_is_lost_but_that_it_is_back() -> None:
    green, lost = Look(only(GREEN), only(BLUE)), seen(cells(20, 20), is_lost=True)
    assert looks_like_it(seen(cells(20, 20)), green, 4)
    assert looks_like_it(lost, RED_ON_BLUE, 4) and not looks_like_it(lost, green, 4)


def test_cells_of_the_colours_around_are_cut_off() -> None:
    one = seen(cells(20, 20))
    spilled = logits_of(cells(20, 20, width=20))
    cut = without_others(one, spilled, coloured((cells(20, 20), RED)))
    assert (cut > 0)[:, :29].sum() >= 90 and not (cut > 0)[:, 32:].any()
    assert without_others(seen(cells(20, 20), seen_as=None), spilled, coloured()) is spilled


def test_of_what_comes_out_again_the_cells_beside_may_be_its_own() -> None:
    part = seen(cells(20, 20, width=4))
    found = uncovered(part, coloured((cells(20, 20), RED)), reach=3)
    assert found is not None
    assert found[21:29, 24:27].all() and not found[:, 28:].any() and not found[:, 20:24].any()
    assert uncovered(part, coloured(), reach=3) is None


def test_how_an_object_looks_changes_slowly_and_not_while_it_looks_otherwise() -> None:
    one, nearly = seen(cells(20, 20)), Look(only(RED, RED, RED, GREEN), only(BLUE))
    assert with_look(one, None, nearly).tracking.look is nearly
    changed = with_look(one, RED_ON_BLUE, nearly).tracking.look
    assert changed is not None
    np.testing.assert_allclose(changed.own, only(RED) + FRESH * (nearly.own - only(RED)), rtol=1e-5)
    other = Look(only(GREEN), only(BLUE))
    assert with_look(one, RED_ON_BLUE, other).tracking.look is RED_ON_BLUE
    assert is_alike(RED_ON_BLUE, nearly) and not is_alike(RED_ON_BLUE, other) and is_alike(None, other)


def test_it_is_seen_from_its_place_whether_a_lost_object_may_be_there() -> None:
    one = seen(cells(20, 20), is_lost=True)
    assert looks_there(one, coloured((cells(20, 20), RED))) and not looks_there(one, coloured())


def test_pixels_that_two_want_are_that_ones_as_which_they_look() -> None:
    red = seen(cells(20, 20))
    green = seen(cells(26, 20), created=1, seen_as=Look(only(GREEN), only(BLUE)))
    colours = coloured((cells(20, 20), RED), (cells(26, 20), GREEN))
    found = apart([red, green], [red, green], colours, TARGET)
    assert [area(one) for one in found] == [60, 100]
    assert found[1] is green


def test_of_whom_little_is_left_is_lost() -> None:
    red = seen(cells(20, 20))
    green = seen(cells(22, 20), created=1, seen_as=Look(only(GREEN), only(BLUE)))
    assert apart([red, green], [red, green], coloured((cells(22, 20), GREEN)), TARGET) == [None, green]


def test_what_was_prompted_on_the_frame_keeps_its_mask_and_so_does_what_is_there_already() -> None:
    followed = seen(cells(20, 20), 0, Look(only(RED), only(BLUE)))
    prompted = replace(seen(cells(22, 20), 1, None), sequence=TARGET.sequence)
    colours = coloured((cells(20, 20) | cells(22, 20), RED))
    for pair in ([followed, prompted], [prompted, followed]):
        assert apart(pair, pair, colours, TARGET) == pair


@pytest.mark.parametrize("front", [0, 1])
def test_of_two_that_look_alike_the_pixels_are_whose_points_are_found_there(front: int) -> None:
    places = [cells(20, 20), cells(26, 20)]
    spread = [(2.0 * x + 1, 2.0 * y + 1) for x in range(20, 36) for y in range(20, 30)]
    pair = []
    for index, mask in enumerate(places):
        on_it = [(x, y) for x, y in spread if mask[int(y) // 2, int(x) // 2]]
        alone = [(x, y) for x, y in on_it if not places[1 - index][int(y) // 2, int(x) // 2]]
        points = np.array(on_it if index == front else alone, np.float32)
        pair.append(seen(mask, index, tracks=Tracks(points, np.ones(len(points), np.int64))))
    found = apart(pair, pair, coloured((places[0] | places[1], RED)), TARGET)
    assert area(found[front]) == 100 and area(found[1 - front]) == 60
    behind = found[1 - front]
    assert (
        behind is not None and behind.tracking.tracks is not None and len(behind.tracking.tracks.points) == 60
    )


def test_what_was_lost_does_not_take_pixels_from_what_is_in_sight() -> None:
    in_sight, again = seen(cells(20, 20)), seen(cells(22, 20), created=1)
    expected = [in_sight, replace(again, tracking=replace(again.tracking, is_lost=True))]
    found = apart([in_sight, again], expected, coloured((cells(20, 20, width=12), RED)), TARGET)
    assert found == [in_sight, None]


def test_a_part_and_its_whole_go_on_to_share_their_mask() -> None:
    whole, part = seen(cells(20, 20)), seen(cells(22, 22, 4, 4), created=1)
    assert sharing(part, [whole, part]) == {0} and sharing(whole, [seen(cells(60, 20), created=1)]) == set()
    part = replace(part, tracking=replace(part.tracking, shares=frozenset({0})))
    assert apart([whole, part], [whole, part], coloured((cells(20, 20), RED)), TARGET) == [whole, part]
    assert not taken_from(part, [whole]).any() and not is_taken(part, [whole])


def test_where_others_are_is_taken() -> None:
    one, other = seen(cells(20, 20)), seen(cells(24, 20), created=1)
    np.testing.assert_array_equal(taken_from(one, [one, other]), cells(24, 20))
    assert is_taken(one, [other]) and not is_taken(one, [seen(cells(26, 20), created=1)])


def test_an_answer_keeps_what_is_left_of_its_logits() -> None:
    logits, scores = logits_of(cells(20, 20)), np.ones(1, np.float32)
    masks = np.zeros((1, *SIZE_HW), np.bool_)
    masks[0, 100:150, 100:150] = True
    answer = Masks(masks, scores, scores, logits[None])
    left = kept(answer, logits_of(cells(20, 20, width=5)), GRID)
    assert left.masks[0, 100:150, 100:125].all() and not left.masks[0, :, 125:].any()
    assert answer.masks[0, 100:150, 100:150].all(), "the answer itself is not changed"
    assert kept(answer, logits.copy(), GRID) is answer
