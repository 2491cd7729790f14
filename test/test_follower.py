"""Motion between frames, against motions that are known; and what is asked of the model after it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sam_ros.core.follower import (
    LOOKS,
    MOST_POINTS,
    STILL,
    WHOLE_KEPT,
    Follower,
    View,
    covered_hw,
    enough_tracks,
    find_motion,
    found_again,
    in_cells,
    make_view,
    moved_objects,
    points_inside,
    prompt_to_follow,
    track,
)
from sam_ros.core.objects import SegmentedObject, Target, Tracks
from sam_ros.masks import MASK_PROMPT_LOGIT, logits_from_mask

IMAGE_SIZE = 512
SIZE_HW = (360, 640)
ONE = np.ones(100, np.int64)
Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]


def textured(size_hw: tuple[int, int] = SIZE_HW, seed: int = 0) -> Image:
    """An image (H, W, 3) of blurred noise, that can be tracked everywhere."""
    noise = np.random.default_rng(seed).uniform(0, 255, (*size_hw, 3))
    blurred = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(128 + 6 * (blurred - 128), 0, 255).astype(np.uint8)


def ellipse(
    centre: tuple[int, int], axes: tuple[int, int] = (60, 40), size_hw: tuple[int, int] = SIZE_HW
) -> Mask:
    mask = cv2.ellipse(np.zeros(size_hw, np.uint8), centre, axes, 0, 0, 360, 1, cv2.FILLED)
    return np.asarray(mask, np.bool_)


def similarity(angle_deg: float, scale: float, shift: tuple[float, float]) -> npt.NDArray[np.float64]:
    """(2, 3): around the middle of the image."""
    matrix = cv2.getRotationMatrix2D((SIZE_HW[1] / 2, SIZE_HW[0] / 2), angle_deg, scale)
    matrix[:, 2] += shift
    return np.asarray(matrix)


def warped(picture: npt.NDArray[np.uint8], motion: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    size = picture.shape[1::-1]
    border = cv2.BORDER_REFLECT if picture.ndim == 3 else cv2.BORDER_CONSTANT
    return np.asarray(cv2.warpAffine(picture, motion, size, borderMode=border), np.uint8)


def low_res(mask: Mask) -> npt.NDArray[np.float32]:
    return logits_from_mask(mask, mask.shape, IMAGE_SIZE)


def iou(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Of what is positive in two logits."""
    return float(((one > 0) & (other > 0)).sum() / ((one > 0) | (other > 0)).sum())


def moved_logits(
    logits: list[npt.NDArray[np.float32]], before: View, after: View
) -> list[npt.NDArray[np.float32]]:
    """The logits of objects after ``moved_objects``; all are found."""
    objects = [SegmentedObject("", "", 0, 0, before.size_hw, low_res_logits=one) for one in logits]
    moved = moved_objects(objects, before, after, IMAGE_SIZE)
    return [np.asarray(one.low_res_logits) for one in moved if one is not None]


def target(sequence: int, size_hw: tuple[int, int] = SIZE_HW) -> Target:
    return Target(sequence, size_hw, IMAGE_SIZE)


def seen(mask: Mask, sequence: int, created: int = 0) -> SegmentedObject:
    """An object that was decoded on a frame."""
    return SegmentedObject(
        f"_{created}",
        "",
        created,
        sequence,
        mask.shape,
        low_res_logits=low_res(mask),
        logits_sequence=sequence,
    )


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


@pytest.mark.parametrize(("gain", "offset"), [(0.6, 0), (1.3, 0), (1, 40)])
def test_objects_are_tracked_though_the_exposure_changes(gain: float, offset: float) -> None:
    image = textured()
    brighter = np.clip(gain * warped(image, similarity(0, 1, (7, -4))) + offset, 0, 255).astype(np.uint8)
    still, after = make_view(image), make_view(brighter)
    (tracked,) = moved_objects([seen(ellipse((250, 170)), 1)], still, still, IMAGE_SIZE)
    assert tracked is not None
    (moved,) = moved_objects([tracked], still, after, IMAGE_SIZE)
    assert moved is not None
    assert iou(np.asarray(moved.low_res_logits), low_res(ellipse((257, 166)))) > 0.93


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
def test_images_of_any_shape(size_hw: tuple[int, int]) -> None:
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
    view, logits = View(np.full((144, 256), 90, np.uint8), SIZE_HW), low_res(ellipse((300, 200)))
    (moved,) = moved_logits([logits], view, view)
    np.testing.assert_allclose(moved, logits, atol=1e-4)


def test_an_object_whose_points_vanish_is_gone() -> None:
    still, other = make_view(textured(seed=1)), make_view(textured(seed=2))
    one = seen(ellipse((300, 200)), 1)
    (moved,) = moved_objects([one], still, other, IMAGE_SIZE)
    assert moved is not None, "of new points nobody knows whether they can be tracked"
    (tracked,) = moved_objects([one], still, still, IMAGE_SIZE)
    assert tracked is not None and tracked.tracks is not None
    assert moved_objects([tracked], still, other, IMAGE_SIZE) == [None]


def test_an_object_that_leaves_the_image_is_gone() -> None:
    image, mask = textured(), ellipse((600, 180), (30, 30))
    logits, step = low_res(mask), np.array([[1.0, 0, 30], [0, 1, 0]])
    for _ in range(4):
        view, image = make_view(image), warped(image, step)
        (logits,) = moved_logits([logits], view, make_view(image))
    rows, columns = covered_hw(SIZE_HW, IMAGE_SIZE)
    assert (logits[:rows, : columns - 6] <= 0).all()


def test_nothing_moves_into_the_padding() -> None:
    image, mask = textured(), ellipse((300, 340), (60, 40))
    down = np.array([[1.0, 0, 0], [0, 1, 15]])
    (moved,) = moved_logits([low_res(mask)], make_view(image), make_view(warped(image, down)))
    rows, _ = covered_hw(SIZE_HW, IMAGE_SIZE)
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


def test_an_object_does_not_explode_in_one_step() -> None:
    starts = np.random.default_rng(0).uniform(0, 20, (40, 2)).astype(np.float32)
    motion = find_motion(starts, starts * 4, ONE[: len(starts)])
    np.testing.assert_array_equal(motion[:, :2], np.eye(2))


def test_a_motion_of_pixels_as_one_of_cells() -> None:
    cell_xy = np.array([2.0, 1.5])
    motion = np.array([[0.9, -0.2, 3.0], [0.2, 0.9, -1.0]])
    cell = np.array([11.0, 7.0])
    expected = motion @ np.append((cell + 0.5) * cell_xy - 0.5, 1)
    x, y = in_cells(motion, cell_xy) @ np.append(cell, 1)
    np.testing.assert_allclose((np.array([x, y]) + 0.5) * cell_xy - 0.5, expected)


def panned(count: int, step: tuple[float, float]) -> list[Image]:
    """Frames in which everything moves by so many pixels each time."""
    image = textured((SIZE_HW[0] + 200, SIZE_HW[1] + 200))
    frames = []
    for i in range(count):
        x, y = (100 - round(i * one) for one in step)
        frames.append(image[y : y + SIZE_HW[0], x : x + SIZE_HW[1]])
    return frames


def follower_of(frames: list[Image]) -> Follower:
    follower = Follower()
    for sequence, frame in enumerate(frames, 1):
        follower.add(sequence, make_view(frame))
    return follower


@pytest.mark.parametrize(("start", "end"), [(1, 2), (1, 12), (12, 1), (5, 3)])
def test_objects_are_carried_over_any_number_of_frames_either_way(start: int, end: int) -> None:
    follower = follower_of(panned(12, (6, 3)))

    def place(sequence: int) -> Mask:
        return ellipse((250 + 6 * sequence, 160 + 3 * sequence))

    (carried,) = follower.carried([seen(place(start), start)], target(end))
    assert carried.logits_sequence == end and carried.low_res_logits is not None
    assert iou(carried.low_res_logits, low_res(place(end))) > 0.9


def test_what_is_of_this_frame_or_has_no_logits_is_not_carried() -> None:
    follower = follower_of(panned(2, (6, 3)))
    undecoded = SegmentedObject("a", "", 0, 1, SIZE_HW)
    assert follower.carried([seen(ellipse((300, 200)), 2), undecoded], target(2)) == []


def test_objects_of_several_frames_are_carried_together() -> None:
    follower = follower_of(panned(3, (6, 3)))
    objects = [seen(ellipse((250 + 6 * i, 160 + 3 * i)), i, created=i) for i in (1, 2)]
    carried = follower.carried(objects, target(3))
    expected = low_res(ellipse((268, 169)))
    assert [one.created for one in carried] == [1, 2]
    assert all(iou(one.low_res_logits, expected) > 0.9 for one in carried if one.low_res_logits is not None)


@pytest.mark.parametrize("forgotten", ["by age", "of another size"])
def test_from_a_frame_that_is_forgotten_nothing_is_carried(forgotten: str) -> None:
    frames = panned(2, (6, 3))
    follower = follower_of(frames[:1])
    if forgotten == "by age":
        for sequence in range(3, 3 + 5):
            follower.add(sequence, make_view(frames[1]), views_kept=5)
    if forgotten == "of another size":
        follower.add(1, make_view(textured((200, 200))))
    follower.add(2, make_view(frames[1]))
    assert follower.carried([seen(ellipse((300, 200)), 1)], target(2)) == []


def test_objects_of_before_following_began_are_taken_to_stay() -> None:
    frames = panned(3, (6, 3))
    follower = follower_of(frames[:1])
    follower.clear(first=2)
    for sequence, frame in ((2, frames[1]), (3, frames[2])):
        follower.add(sequence, make_view(frame))
    one = seen(ellipse((300, 200)), 1)
    (carried,) = follower.carried([one], target(3))
    assert carried.low_res_logits is one.low_res_logits and carried.logits_sequence == 3


def test_an_object_is_asked_for_by_its_logits_and_the_box_around_them() -> None:
    one = seen(ellipse((300, 200), (80, 50)), 1)
    prompt = prompt_to_follow(one, target(1))
    assert prompt is not None and prompt.box is not None and prompt.point_coords is None
    cell = 4 * SIZE_HW[1] / IMAGE_SIZE
    np.testing.assert_allclose(prompt.box, [220, 150, 380, 250], atol=cell)
    assert prompt.low_res_logits is not None
    np.testing.assert_array_equal(prompt.low_res_logits, one.low_res_logits)


def test_its_box_stays_in_the_image() -> None:
    height, width = size_hw = (353, 637)
    prompt = prompt_to_follow(seen(np.ones(size_hw, bool), 1), target(1, size_hw))
    assert prompt is not None and prompt.box is not None
    np.testing.assert_allclose(prompt.box, [0, 0, width, height])


def test_of_nothing_there_is_nothing_to_ask() -> None:
    assert prompt_to_follow(seen(np.zeros(SIZE_HW, bool), 1), target(1)) is None
    assert prompt_to_follow(SegmentedObject("a", "", 0, 1, SIZE_HW), target(1)) is None


def test_what_spills_over_is_not_carried_on() -> None:
    carried = seen(ellipse((200, 180), (60, 60)), 1)
    spilled = low_res(ellipse((200, 180), (64, 64)) | ellipse((420, 180), (150, 20)))
    kept = found_again(carried, spilled, target(2))
    assert kept is not None and kept.low_res_logits is not None and kept.logits_sequence == 2
    assert kept.low_res_logits.dtype == np.float32
    assert iou(kept.low_res_logits, low_res(ellipse((200, 180), (64, 64)))) > 0.9
    inside = low_res(ellipse((200, 180), (60, 60))) > 0
    np.testing.assert_array_equal(kept.low_res_logits[inside], spilled[inside])
    assert kept.low_res_logits[~inside].max() <= spilled[~inside].max()


def test_an_object_that_grows_a_little_grows() -> None:
    grown = low_res(ellipse((200, 180), (66, 66)))
    kept = found_again(seen(ellipse((200, 180), (60, 60)), 1), grown, target(2))
    assert kept is not None
    np.testing.assert_array_equal(kept.low_res_logits, grown)


def test_an_answer_that_is_empty_or_elsewhere_is_not_the_object() -> None:
    carried = seen(ellipse((200, 180), (60, 60)), 1)
    assert found_again(carried, low_res(np.zeros(SIZE_HW, bool)), target(2)) is None
    assert found_again(carried, low_res(ellipse((420, 180), (60, 60))), target(2)) is None


def test_an_object_that_is_covered_is_found_again_where_it_was_last_seen_whole() -> None:
    background, cover = textured(seed=1), textured(seed=2)
    edges = [100, 130, 160, 190, 220, 250, 280, 310, 340, 370, 400, 430]
    frames = [background.copy() for _ in edges]
    for frame, edge in zip(frames, edges, strict=True):
        frame[:, :edge] = cover[:, -edge:]  # comes in from the left
    frames += [cover, cover, background]
    follower, whole = follower_of(frames), ellipse((300, 200))
    one, found_on = seen(whole, 1), []
    for sequence in range(2, len(frames) + 1):
        carried = follower.carried([one], target(sequence))
        visible = whole.copy()
        visible[:, : (*edges, 640, 640, 0)[sequence - 1]] = False
        again = found_again(carried[0], low_res(visible), target(sequence)) if carried else None
        assert not any(found.is_lost for found in carried)
        one = one.lost() if again is None else again
        if again is not None:
            found_on.append(sequence)
        if sequence == len(frames) - 1:
            assert one.is_lost and iou(np.asarray(one.low_res_logits), low_res(whole)) > 0.8
    assert found_on[-1] == len(frames) and not one.is_lost
    assert 12 not in found_on and 13 not in found_on and 14 not in found_on
    assert iou(np.asarray(one.low_res_logits), low_res(whole)) > 0.8


def test_objects_lost_on_many_frames_are_looked_for_in_turn() -> None:
    follower = follower_of([textured()] * (3 * LOOKS))
    objects = []
    for sequence in range(1, 3 * LOOKS):
        again = found_again(
            seen(ellipse((300, 200)), sequence, sequence), low_res(ellipse((300, 200))), target(sequence)
        )
        assert again is not None
        objects.append(again.lost())
    found = [{one.created for one in follower.carried(objects, target(3 * LOOKS))} for _ in range(3)]
    assert [len(some) for some in found] == [LOOKS] * 3
    assert set.union(*found) == {one.created for one in objects}


def test_one_that_shrinks_for_good_counts_as_whole_after_a_while() -> None:
    one = seen(ellipse((200, 180), (60, 60)), 1)
    big, small = low_res(ellipse((200, 180), (60, 60))), low_res(ellipse((200, 180), (40, 40)))
    first = found_again(one, big, target(2))
    assert first is not None
    found = first
    for sequence in range(3, 3 + WHOLE_KEPT + 1):
        carried = replace(found, low_res_logits=small)
        again = found_again(carried, small, target(7 * sequence))
        assert again is not None
        found = again
        expected = big if sequence <= 2 + WHOLE_KEPT else small
        np.testing.assert_array_equal(found.lost().low_res_logits, expected)


def test_points_are_kept_while_they_move_with_the_object_and_lie_in_it() -> None:
    frames = panned(4, (6, 3))
    one = seen(ellipse((250, 160)), 1)
    for sequence in (2, 3, 4):
        before, after = make_view(frames[sequence - 2]), make_view(frames[sequence - 1])
        (moved,) = moved_objects([one], before, after, IMAGE_SIZE)
        answer = low_res(ellipse((250 + 6 * (sequence - 1), 160 + 3 * (sequence - 1))))
        again = found_again(moved, answer, target(sequence)) if moved is not None else None
        assert again is not None
        one = again
    assert one.tracks is not None and len(one.tracks.points) > 0.8 * MOST_POINTS
    assert (one.tracks.ages == 3).all(), "none had to be replaced"
    half = np.where(np.arange(128) < 55, low_res(ellipse((268, 169))), -8).astype(np.float32)
    kept = found_again(one, half, target(4))
    assert (
        kept is not None
        and kept.tracks is not None
        and 10 < len(kept.tracks.points) < 0.9 * len(one.tracks.points)
    )
    assert (kept.tracks.points[:, 0] <= 55 * 2).all()


def test_points_that_something_else_took_along_are_dropped() -> None:
    background, cover = textured(seed=1), textured(seed=2)
    before, after = background.copy(), background.copy()
    before[:, 330:], after[:, 345:] = cover[:, 330:], cover[:, 330:-15]
    one = seen(ellipse((300, 180), (60, 40)), 1)
    (moved,) = moved_objects([one], make_view(before), make_view(after), IMAGE_SIZE)
    assert moved is not None and moved.tracks is not None
    assert 40 < len(moved.tracks.points) < 85
    assert moved.tracks.points[:, 0].max() < 345 * 256 / 640
    assert moved.low_res_logits is not None and one.low_res_logits is not None
    assert iou(moved.low_res_logits, one.low_res_logits) > 0.95, "what was not covered stood still"


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
