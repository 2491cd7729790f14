"""Motion between frames, against motions that are known."""

from __future__ import annotations

import numpy as np
import pytest
from moving_pictures import (
    GRID,
    IMAGE_SIZE,
    SIZE_HW,
    Logits,
    ellipse,
    iou,
    low_res,
    similarity,
    textured,
    warped,
)

from sam_ros.core.grid import padded_grid
from sam_ros.core.motion import (
    MOST_POINTS,
    STILL,
    TrackedMask,
    View,
    enough_tracks,
    find_motion,
    in_cells,
    make_view,
    moved_masks,
    points_inside,
    track,
)
from sam_ros.core.objects import Tracks
from sam_ros.masks import MASK_PROMPT_LOGIT

ONE = np.ones(100, np.int64)


def moved_logits(logits: list[Logits], before: View, after: View) -> list[Logits]:
    """The logits of masks in another frame."""
    grid = padded_grid(before.size_hw, IMAGE_SIZE)
    moved = moved_masks([TrackedMask(each) for each in logits], before, after, grid)
    return [mask.low_res_logits for mask in moved]


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((360, 640), (144, 256)), ((720, 1280), (144, 256)), ((640, 480), (256, 192)), ((9, 12), (192, 256))],
)
def test_a_view_is_small_grey_and_of_the_images_shape(
    size_hw: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = np.zeros((*size_hw, 3), np.uint8)
    image[..., 1] = 200
    view = make_view(image)
    assert view.grey.shape == expected and view.size_hw == size_hw
    assert (view.grey == 128).all()


def test_in_a_view_what_is_dark_is_dark_and_what_is_bright_is_bright() -> None:
    image = np.full((*SIZE_HW, 3), 128, np.uint8)
    image[100:140, 100:140], image[200:240, 400:440] = 0, 255
    grey = make_view(image).grey
    assert grey[48, 48] == 0 and grey[88, 168] == 255 and 110 < grey[0, 0] < 140


def test_an_extremely_elongated_image_has_a_view() -> None:
    assert make_view(np.zeros((1, 600, 3), np.uint8)).grey.shape == (1, 256)


@pytest.mark.parametrize("shift", [(7.0, -4.0), (31.0, 18.0), (0.0, 0.0)])
@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (6, 1.0), (0, 1.08), (-5, 0.94)])
def test_logits_move_turn_and_grow_with_the_object(
    angle: float, scale: float, shift: tuple[float, float]
) -> None:
    motion = similarity(angle, scale, shift)
    image, mask = textured(), ellipse((250, 170))
    (moved,) = moved_logits([low_res(mask)], make_view(image), make_view(warped(image, motion)))
    expected = low_res(warped(mask.astype(np.uint8), motion).astype(bool))
    assert iou(moved, expected) > 0.93


def test_where_nothing_moves_logits_stay() -> None:
    image, logits = make_view(textured()), low_res(ellipse((300, 200)))
    (moved,) = moved_logits([logits], image, image)
    np.testing.assert_allclose(moved, logits, atol=0.05)


@pytest.mark.parametrize("size_hw", [(480, 640), (640, 480), (517, 333), (100, 90)])
def test_logits_move_in_images_of_any_shape(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    image = textured(size_hw)
    middle = (width // 2, height // 2)
    mask = ellipse(middle, (width // 6, height // 7), size_hw)
    motion = np.array([[1, 0, width / 20], [0, 1, -height / 30]])
    (moved,) = moved_logits([low_res(mask)], make_view(image), make_view(warped(image, motion)))
    assert iou(moved, low_res(warped(mask.astype(np.uint8), motion).astype(bool))) > 0.93


def test_objects_move_each_in_its_own_way() -> None:
    background, shape = textured(seed=1), textured(seed=2)
    masks = [ellipse((150, 180)), ellipse((480, 180))]
    moved_masks = [ellipse((170, 172)), ellipse((466, 196))]
    before, after = background.copy(), background.copy()
    for mask, moved, (x, y) in zip(masks, moved_masks, [(20, -8), (-14, 16)], strict=True):
        before[mask] = shape[mask]
        after[moved] = warped(shape, np.array([[1.0, 0, x], [0, 1, y]]))[moved]
    result = moved_logits([low_res(mask) for mask in masks], make_view(before), make_view(after))
    for logits, expected in zip(result, moved_masks, strict=True):
        assert iou(logits, low_res(expected)) > 0.9


def test_many_objects_at_once_get_fewer_points_but_all_move() -> None:
    image = textured()
    shift = np.array([[1.0, 0, 9], [0, 1, 5]])
    centres = [(60 + 27 * i, 60 + 30 * j) for i in range(18) for j in range(8)]
    masks = [ellipse(centre, (12, 12)) for centre in centres]
    moved = moved_logits([low_res(mask) for mask in masks], make_view(image), make_view(warped(image, shift)))
    expected = [low_res(ellipse((x + 9, y + 5), (12, 12))) for x, y in centres]
    assert min(iou(*pair) for pair in zip(moved, expected, strict=True)) > 0.7


def test_an_object_without_texture_stays() -> None:
    view, logits = make_view(np.full((*SIZE_HW, 3), 90, np.uint8)), low_res(ellipse((300, 200)))
    (moved,) = moved_logits([logits], view, view)
    np.testing.assert_allclose(moved, logits, atol=1e-4)


def test_an_object_that_leaves_the_image_is_gone() -> None:
    image, mask = textured(), ellipse((600, 180), (30, 30))
    logits, step = low_res(mask), np.array([[1.0, 0, 30], [0, 1, 0]])
    for _ in range(4):
        view, image = make_view(image), warped(image, step)
        (logits,) = moved_logits([logits], view, make_view(image))
    rows, columns = GRID.covered_hw()
    assert (logits[:rows, : columns - 6] <= 0).all()


def test_nothing_moves_into_the_padding() -> None:
    image, mask = textured(), ellipse((300, 340), (60, 40))
    down = np.array([[1.0, 0, 0], [0, 1, 15]])
    (moved,) = moved_logits([low_res(mask)], make_view(image), make_view(warped(image, down)))
    rows, _ = GRID.covered_hw()
    assert (moved[rows:] == -MASK_PROMPT_LOGIT).all() and (moved[:rows] > 0).any()


def test_empty_logits_stay_empty() -> None:
    view, empty = make_view(textured()), np.full((128, 128), -1, np.float32)
    moved = moved_logits([empty, low_res(ellipse((300, 200)))], view, view)
    assert (moved[0] < 0).all() and (moved[1] > 0).any()
    assert moved_logits([], view, view) == []


def test_points_are_spread_over_the_object() -> None:
    mask = np.zeros((72, 128), bool)
    mask[10:50, 20:90] = True
    points = points_inside(mask, np.array([2.0, 2.0]), MOST_POINTS)
    assert points.shape == (MOST_POINTS, 2)
    assert points.min(axis=0) == pytest.approx([40.5, 20.5], abs=8)
    assert points.max(axis=0) == pytest.approx([178.5, 98.5], abs=8)


def test_points_that_are_not_found_back_do_not_count() -> None:
    before, after = make_view(textured(seed=1)), make_view(textured(seed=1))
    after.grey[:, 128:] = make_view(textured(seed=2)).grey[:, 128:]
    x, y = np.meshgrid(np.arange(16, 240, 16), np.arange(16, 128, 16))
    points = np.column_stack([x.ravel(), y.ravel()]).astype(np.float32)
    ends, is_tracked = track(before, after, points)
    is_left = points[:, 0] < 112
    assert is_tracked[is_left].all() and is_tracked[~is_left & (points[:, 0] > 144)].mean() < 0.3
    np.testing.assert_allclose(ends[is_left], points[is_left], atol=0.1)


def test_the_motion_of_most_points_counts() -> None:
    starts = np.random.default_rng(0).uniform(0, 100, (60, 2)).astype(np.float32)
    ends = starts + np.array([5, -3], np.float32)
    ends[:20] += 40
    np.testing.assert_allclose(
        find_motion(starts, ends, ONE[: len(starts)]), [[1, 0, 5], [0, 1, -3]], atol=1e-3
    )


def test_few_points_tell_only_a_shift_and_none_tells_nothing() -> None:
    starts = np.array([[10, 10], [20, 10], [15, 30]], np.float32)
    ends = np.array([[12, 11], [22, 11], [17, 31]], np.float32)
    np.testing.assert_allclose(find_motion(starts, ends, ONE[: len(starts)]), [[1, 0, 2], [0, 1, 1]])
    np.testing.assert_array_equal(find_motion(starts[:0], ends[:0], ONE[:0]), STILL)


def test_a_motion_that_magnifies_too_much_counts_as_a_shift() -> None:
    starts = np.random.default_rng(0).uniform(0, 20, (40, 2)).astype(np.float32)
    motion = find_motion(starts, starts * 4, ONE[: len(starts)])
    np.testing.assert_array_equal(motion[:, :2], np.eye(2))


def test_a_motion_of_pixels_is_converted_to_one_of_cells() -> None:
    cell_xy = np.array([2.0, 1.5])
    motion = np.array([[0.9, -0.2, 3.0], [0.2, 0.9, -1.0]])
    cell = np.array([11.0, 7.0])
    expected = motion @ np.append((cell + 0.5) * cell_xy - 0.5, 1)
    x, y = in_cells(motion, cell_xy) @ np.append(cell, 1)
    np.testing.assert_allclose((np.array([x, y]) + 0.5) * cell_xy - 0.5, expected)


def test_few_tracks_are_topped_up_with_new_ones() -> None:
    mask, cell_xy = np.ones((72, 128), bool), np.array([2.0, 2.0])
    old = Tracks(np.full((30, 2), 9, np.float32), np.full(30, 5))
    more = enough_tracks(old, mask, cell_xy, MOST_POINTS)
    assert len(more.points) == MOST_POINTS
    np.testing.assert_array_equal(more.ages, [5] * 30 + [0] * 70)
    many = Tracks(np.full((80, 2), 9, np.float32), np.full(80, 5))
    np.testing.assert_array_equal(enough_tracks(many, mask, cell_xy, MOST_POINTS).points, many.points)


def test_points_tracked_for_long_count_more() -> None:
    starts = np.random.default_rng(0).uniform(0, 100, (40, 2)).astype(np.float32)
    ends = starts.copy()
    ends[:25] += 20
    weights = np.where(np.arange(40) < 25, 1, 3)
    np.testing.assert_allclose(find_motion(starts, ends, weights), STILL, atol=1e-3)
    np.testing.assert_allclose(find_motion(starts, ends, ONE[:40])[:, 2], [20, 20], atol=1e-3)
