"""How objects look: colours, features, and where in a frame something looks alike."""

from __future__ import annotations

import numpy as np
import pytest

from sam_ros.core.appearance import (
    AROUND,
    COLOURS,
    MOST_ODDS,
    Colours,
    apart_by,
    histogram,
    likeness,
    look,
    mixed,
    odds,
    palette,
    places,
    pooled_features,
)
from sam_ros.core.objects import Look
from sam_ros.masks import BoolMask

RED, GREEN, BLUE = 5 * 36, 5 * 6, 5
ROWS, COLUMNS = 72, 128


def square(x: int, y: int, side: int = 10, size: int = COLUMNS) -> BoolMask:
    mask = np.zeros((size, size), np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def test_the_palette_tells_colours_apart_and_not_their_shades() -> None:
    rgb = np.array([[[255, 0, 0], [250, 10, 10], [0, 255, 0], [0, 0, 255], [0, 0, 0]]], np.float32)
    np.testing.assert_array_equal(palette(rgb), [[RED, RED, GREEN, BLUE, 0]])


def test_a_histogram_sums_to_one_and_counts_what_is_nearly_the_same_in_part() -> None:
    shares = histogram(np.array([RED, RED, GREEN, BLUE], np.uint8))
    assert shares.shape == (COLOURS,) and shares.sum() == pytest.approx(1)
    assert shares[RED] == pytest.approx(2 * shares[GREEN]) and shares[RED - 36] == pytest.approx(
        shares[RED] / 3
    )
    assert not histogram(np.empty(0, np.uint8)).any()


def test_likeness_is_one_of_the_same_and_none_of_what_has_nothing_in_common() -> None:
    red, green = (histogram(np.array([colour], np.uint8)) for colour in (RED, GREEN))
    assert likeness(red, red) == pytest.approx(1) and likeness(red, green) == 0
    assert likeness(red, (red + green) / np.float32(2)) == pytest.approx(np.sqrt(0.5))


def test_a_look_is_that_of_the_mask_and_of_what_is_near_around_it() -> None:
    colours = np.full((ROWS, COLUMNS), BLUE, np.uint8)
    colours[20 - AROUND : 30 + AROUND, 40 - AROUND : 50 + AROUND] = GREEN
    colours[20:30, 40:50] = RED
    seen = look(colours, square(40, 20))
    assert seen is not None and seen.features is None
    np.testing.assert_allclose(seen.own, histogram(np.array([RED], np.uint8)))
    np.testing.assert_allclose(seen.around, histogram(np.array([GREEN], np.uint8)), atol=1e-6)
    assert look(colours, np.zeros((COLUMNS, COLUMNS), np.bool_)) is None


def test_another_object_beside_it_is_not_its_surroundings() -> None:
    colours = np.full((ROWS, COLUMNS), BLUE, np.uint8)
    colours[20:30, 50:60] = GREEN
    seen = look(colours, square(40, 20), others=square(50, 20))
    assert seen is not None
    np.testing.assert_allclose(seen.around, histogram(np.array([BLUE], np.uint8)), atol=1e-6)
    alone = look(colours, square(40, 20), others=np.ones((COLUMNS, COLUMNS), np.bool_))
    assert alone is not None and alone.around.sum() == pytest.approx(1)


def test_at_the_border_of_the_image_a_look_takes_what_is_there() -> None:
    colours = np.full((ROWS, COLUMNS), BLUE, np.uint8)
    colours[ROWS - 4 :, :4] = RED
    seen = look(colours, square(0, ROWS - 4, 12))
    assert seen is not None and likeness(seen.around, histogram(np.array([BLUE], np.uint8))) > 0.9


def test_features_are_means_over_the_object_and_over_what_is_around_it() -> None:
    features = np.zeros((3, 8, 8), np.float32)
    features[0], features[1, 2:4, 2:4] = 1, 4
    pooled = pooled_features(features, square(8, 8, 8, size=32))
    assert pooled is not None
    np.testing.assert_allclose(pooled, [[1, 4, 0], [1, 0, 0]], atol=1e-6)
    assert pooled_features(features, square(8, 8, 4, size=32)) is None, (
        "one place of the embedding says nothing"
    )


def looking(own: float, around: float = 1.0) -> Look:
    nothing = np.zeros(COLOURS, np.float32)
    return Look(nothing, nothing, np.array([[own, 0], [around, 0]], np.float32))


def test_features_are_measured_by_how_far_those_around_are() -> None:
    for scale in (1, 100):
        assert apart_by(looking(0.25 * scale), looking(0, scale)) == pytest.approx(0.25)
    assert apart_by(looking(0.25), Look(np.zeros(1, np.float32), np.zeros(1, np.float32))) is None


def test_a_look_changes_by_a_share_of_what_is_seen_now() -> None:
    red, green = (histogram(np.array([colour], np.uint8)) for colour in (RED, GREEN))
    blend = mixed(Look(red, green), Look(green, red, looking(3).features), 0.25)
    np.testing.assert_allclose(blend.own, 0.75 * red + 0.25 * green)
    np.testing.assert_allclose(blend.around, 0.75 * green + 0.25 * red)
    assert blend.features is not None and blend.features[0, 0] == 3
    later = mixed(blend, Look(red, green, looking(7).features), 0.25)
    assert later.features is not None and later.features[0, 0] == 4
    assert mixed(later, Look(red, green), 0.25).features is later.features


def test_odds_are_for_what_is_mostly_the_objects_and_against_what_is_mostly_others() -> None:
    colours = np.full((9, 18), GREEN, np.uint8)
    colours[:, :9] = RED
    red, green = (histogram(np.array([colour], np.uint8)) for colour in (RED, GREEN))
    against = odds(colours, red, green)
    assert against[4, 2] == MOST_ODDS and against[4, 15] == -MOST_ODDS


def scene(*corners: tuple[int, int]) -> Colours:
    """Red squares in a blue frame with a large red region, which is none."""
    colours = np.full((ROWS, COLUMNS), BLUE, np.uint8)
    colours[:, 90:] = RED
    for x, y in corners:
        colours[y : y + 10, x : x + 10] = RED
    return colours


def test_places_are_where_something_of_this_size_looks_like_it() -> None:
    red = histogram(np.array([RED], np.uint8))
    found = places(scene((20, 10), (50, 40)), red, (10, 10))
    near = [xy for xy, _ in found if xy[0] < 80]
    np.testing.assert_allclose(sorted(near), [(25, 15), (55, 45)], atol=2)
    assert all(score > 0 for _, score in found)


def test_where_others_are_it_is_not() -> None:
    red, taken = histogram(np.array([RED], np.uint8)), np.zeros((ROWS, COLUMNS), np.bool_)
    taken[40:50, 50:60] = True
    found = [xy for xy, _ in places(scene((20, 10), (50, 40)), red, (10, 10), taken) if xy[0] < 80]
    np.testing.assert_allclose(found, [(25, 15)], atol=2)
