"""Following: where objects are expected on another frame, and what the model's answers confirm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moving_pictures import (
    GRID,
    IMAGE_SIZE,
    SIZE_HW,
    Image,
    Logits,
    Mask,
    ellipse,
    iou,
    low_res,
    similarity,
    textured,
    warped,
)

from sam_ros.core import ownership
from sam_ros.core.follower import (
    LOOKS,
    WHOLE_KEPT,
    Follower,
    confirmed_object,
    moved_objects,
    prompt_to_follow,
)
from sam_ros.core.grid import padded_grid
from sam_ros.core.motion import MOST_POINTS, make_view
from sam_ros.core.objects import ObjectTable, Point, SegmentedObject, Target, Tracking, lost_at_once
from sam_ros.masks import Masks


def target(sequence: int, size_hw: tuple[int, int] = SIZE_HW) -> Target:
    return Target(sequence, padded_grid(size_hw, IMAGE_SIZE))


def seen(mask: Mask, sequence: int, created: int = 0) -> SegmentedObject:
    """An object that was last prompted on frame 0, and followed to a frame where the model gave it again."""
    return SegmentedObject(
        f"_{created}",
        "",
        created,
        0,
        (mask.shape[0], mask.shape[1]),
        low_res_logits=low_res(mask),
        logits_sequence=sequence,
        tracking=Tracking(must_be_confirmed=sequence != 0),
    )


def moved_on(follower: Follower, objects: list[SegmentedObject], there: Target) -> list[SegmentedObject]:
    """The objects where they are expected on a frame."""
    return [one for one, _ in follower.expected(objects, there)]


@pytest.mark.parametrize(("gain", "offset"), [(0.6, 0), (1.3, 0), (1, 40)])
def test_objects_are_tracked_though_the_exposure_changes(gain: float, offset: float) -> None:
    image = textured()
    brighter = np.clip(gain * warped(image, similarity(0, 1, (7, -4))) + offset, 0, 255).astype(np.uint8)
    still, after = make_view(image), make_view(brighter)
    (tracked,) = moved_objects([seen(ellipse((250, 170)), 1)], still, still, GRID)
    assert tracked is not None
    (moved,) = moved_objects([tracked], still, after, GRID)
    assert moved is not None
    assert iou(np.asarray(moved.low_res_logits), low_res(ellipse((257, 166)))) > 0.93


def test_an_object_whose_points_vanish_is_gone() -> None:
    still, other = make_view(textured(seed=1)), make_view(textured(seed=2))
    one = seen(ellipse((300, 200)), 1)
    (moved,) = moved_objects([one], still, other, GRID)
    assert moved is not None, "of new points nobody knows whether they can be tracked"
    (tracked,) = moved_objects([one], still, still, GRID)
    assert tracked is not None and tracked.tracking.tracks is not None
    assert moved_objects([tracked], still, other, GRID) == [None]


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

    (carried,) = moved_on(follower, [seen(place(start), start)], target(end))
    assert carried.logits_sequence == end and carried.low_res_logits is not None
    assert iou(carried.low_res_logits, low_res(place(end))) > 0.9


def test_what_is_of_this_frame_is_not_moved_and_what_has_no_logits_is_not_expected() -> None:
    follower = follower_of(panned(2, (6, 3)))
    undecoded = SegmentedObject("a", "", 0, 0, SIZE_HW)
    of_this_frame = seen(ellipse((300, 200)), 2)
    assert moved_on(follower, [of_this_frame, undecoded], target(2)) == [of_this_frame]


def test_an_object_that_was_prompted_on_this_frame_is_asked_for_by_its_prompt() -> None:
    prompted = replace(seen(ellipse((300, 200)), 1), sequence=2, points=(Point(300, 200, 1),))
    ((same, prompt),) = follower_of(panned(2, (6, 3))).expected([prompted], target(2))
    assert same is prompted and prompt.low_res_logits is None and prompt.point_coords is not None
    np.testing.assert_array_equal(prompt.point_coords, [[300, 200]])


def test_objects_of_several_frames_are_carried_together() -> None:
    follower = follower_of(panned(3, (6, 3)))
    objects = [seen(ellipse((250 + 6 * i, 160 + 3 * i)), i, created=i) for i in (1, 2)]
    carried = moved_on(follower, objects, target(3))
    expected = low_res(ellipse((268, 169)))
    assert [one.created for one in carried] == [1, 2]
    assert all(iou(one.low_res_logits, expected) > 0.9 for one in carried if one.low_res_logits is not None)


@pytest.mark.parametrize("forgotten", ["by age", "of another size"])
def test_objects_of_a_frame_that_is_forgotten_are_not_expected(forgotten: str) -> None:
    frames = panned(2, (6, 3))
    follower = follower_of(frames[:1])
    if forgotten == "by age":
        for sequence in range(3, 3 + 5):
            follower.add(sequence, make_view(frames[1]), views_kept=5)
    if forgotten == "of another size":
        follower.add(1, make_view(textured((200, 200))))
    follower.add(2, make_view(frames[1]))
    assert moved_on(follower, [seen(ellipse((300, 200)), 1)], target(2)) == []


def test_objects_of_before_following_began_are_assumed_not_to_have_moved() -> None:
    frames = panned(3, (6, 3))
    follower = follower_of(frames[:1])
    follower.clear(first=2)
    for sequence, frame in ((2, frames[1]), (3, frames[2])):
        follower.add(sequence, make_view(frame))
    one = seen(ellipse((300, 200)), 1)
    (carried,) = moved_on(follower, [one], target(3))
    assert carried.low_res_logits is one.low_res_logits and carried.logits_sequence == 3


def test_an_object_is_asked_for_by_its_logits_and_the_box_around_them() -> None:
    one = seen(ellipse((300, 200), (80, 50)), 1)
    prompt = prompt_to_follow(one, target(1))
    assert prompt is not None and prompt.box is not None and prompt.point_coords is None
    cell = 4 * SIZE_HW[1] / IMAGE_SIZE
    np.testing.assert_allclose(prompt.box, [220, 150, 380, 250], atol=cell)
    assert prompt.low_res_logits is not None
    np.testing.assert_array_equal(prompt.low_res_logits, one.low_res_logits)


def test_the_box_that_an_object_is_asked_for_by_stays_in_the_image() -> None:
    height, width = size_hw = (353, 637)
    prompt = prompt_to_follow(seen(np.ones(size_hw, bool), 1), target(1, size_hw))
    assert prompt is not None and prompt.box is not None
    np.testing.assert_allclose(prompt.box, [0, 0, width, height])


def test_an_object_with_an_empty_mask_is_not_asked_for() -> None:
    assert prompt_to_follow(seen(np.zeros(SIZE_HW, bool), 1), target(1)) is None
    assert prompt_to_follow(SegmentedObject("a", "", 0, 0, SIZE_HW), target(1)) is None


def test_of_a_mask_that_spills_over_only_what_is_near_the_expected_one_is_carried_on() -> None:
    carried = seen(ellipse((200, 180), (60, 60)), 1)
    spilled = low_res(ellipse((200, 180), (64, 64)) | ellipse((420, 180), (150, 20)))
    kept = confirmed_object(carried, spilled, target(2))
    assert kept is not None and kept.low_res_logits is not None and kept.logits_sequence == 2
    assert kept.low_res_logits.dtype == np.float32
    assert iou(kept.low_res_logits, low_res(ellipse((200, 180), (64, 64)))) > 0.9
    inside = low_res(ellipse((200, 180), (60, 60))) > 0
    np.testing.assert_array_equal(kept.low_res_logits[inside], spilled[inside])
    assert kept.low_res_logits[~inside].max() <= spilled[~inside].max()


def test_a_mask_may_grow_a_little_beyond_the_expected_one() -> None:
    grown = low_res(ellipse((200, 180), (66, 66)))
    kept = confirmed_object(seen(ellipse((200, 180), (60, 60)), 1), grown, target(2))
    assert kept is not None
    np.testing.assert_array_equal(kept.low_res_logits, grown)


def test_an_answer_that_is_empty_or_elsewhere_is_not_the_object() -> None:
    carried = seen(ellipse((200, 180), (60, 60)), 1)
    assert confirmed_object(carried, low_res(np.zeros(SIZE_HW, bool)), target(2)) is None
    assert confirmed_object(carried, low_res(ellipse((420, 180), (60, 60))), target(2)) is None


def answer(logits: Logits) -> Masks:
    """Of the model, with these low-res logits; the rest does not matter to the follower."""
    scores = np.ones(1, np.float32)
    return Masks(np.zeros((1, 1, 1), bool), scores, scores, logits[None])


def test_what_the_answers_do_not_confirm_is_lost_as_it_was_before_it_was_moved() -> None:
    follower = follower_of(panned(2, (6, 3)))
    objects = [seen(ellipse((250 + 80 * i, 160)), 1, created=i) for i in range(2)]
    expected = follower.expected(objects, target(2))
    there, elsewhere = ellipse((256, 163)), ellipse((100, 300))
    first, second = follower.confirmed(
        expected, [answer(low_res(there)), answer(low_res(elsewhere))], target(2)
    )
    assert (first.created, first.is_lost, first.logits_sequence) == (0, False, 2)
    assert (second.created, second.is_lost, second.logits_sequence) == (1, True, 1)
    np.testing.assert_array_equal(second.low_res_logits, objects[1].low_res_logits)


def confirmed_on(follower: Follower, one: SegmentedObject, sequence: int, mask: Mask) -> SegmentedObject:
    """An object once the model has answered on a frame with a mask (H, W)."""
    expected = follower.expected([one], target(sequence))
    (after,) = follower.confirmed(expected, [answer(low_res(mask))] * len(expected), target(sequence))
    return after


ELSEWHERE = ellipse((100, 300))


def prompted_on_first(size: tuple[int, int] = (40, 25)) -> SegmentedObject:
    return replace(seen(ellipse((250, 160), size), 1), sequence=1, tracking=Tracking())


def panned_to(sequence: int, size: tuple[int, int] = (40, 25)) -> Mask:
    """Where what was at the beginning of ``panned(_, (2, 1))`` is on a frame."""
    return ellipse((250 + 2 * (sequence - 1), 160 + sequence - 1), size)


def test_what_the_model_does_not_give_a_second_time_is_carried_by_its_points() -> None:
    follower, one = follower_of(panned(40, (2, 1))), prompted_on_first()
    for sequence in range(2, 33):
        one = confirmed_on(follower, one, sequence, ELSEWHERE)
        assert not one.is_lost and one.logits_sequence == sequence
    assert iou(np.asarray(one.low_res_logits), low_res(panned_to(32))) > 0.8


def test_what_is_carried_is_lost_with_its_points_and_looked_for_where_it_was_last() -> None:
    frames = panned(24, (2, 1))
    follower, one = follower_of(frames), prompted_on_first()
    for sequence in range(2, 22):
        one = confirmed_on(follower, one, sequence, ELSEWHERE)
    follower.add(22, make_view(textured(seed=9)))
    lost = confirmed_on(follower, one, 22, ELSEWHERE)
    assert lost.is_lost and lost_at_once(ObjectTable((one,)), ObjectTable((lost,))) == []
    ((expected, _),) = follower.expected([lost], target(23))
    assert iou(np.asarray(expected.low_res_logits), low_res(panned_to(23))) > 0.8
    assert confirmed_on(follower, lost, 23, ELSEWHERE).is_lost, "what was lost has to be confirmed"
    assert not confirmed_on(follower, lost, 23, panned_to(23)).is_lost


@pytest.mark.parametrize("given", [(40, 25), (20, 25)], ids=["whole", "half"])
def test_what_the_model_gave_again_once_is_lost_where_it_does_not(given: tuple[int, int]) -> None:
    follower = follower_of(panned(5, (2, 1)))
    one = confirmed_on(follower, prompted_on_first(), 2, panned_to(2, given))
    assert not one.is_lost
    assert confirmed_on(follower, one, 3, ELSEWHERE).is_lost


def test_what_slides_over_a_carried_object_is_not_shown_in_its_place() -> None:
    picture, cover = textured(seed=1), np.full((*SIZE_HW, 3), (200, 30, 30), np.uint8)
    cover[::8], cover[:, ::8] = 255, 255
    follower, one = Follower(), prompted_on_first()
    follower.add(1, make_view(picture))
    for sequence in range(2, 60):
        covered = picture.copy()
        covered[100:220, : 200 + 3 * sequence] = cover[100:220, : 200 + 3 * sequence]
        follower.add(sequence, make_view(covered))
        one = confirmed_on(follower, one, sequence, ELSEWHERE)
        if one.is_lost:
            break
    assert one.is_lost


@pytest.mark.parametrize("given", [ellipse((300, 160), (60, 60)), ellipse((250, 160), (160, 140))])
def test_a_mask_that_is_carried_instead_of_an_answer_has_a_lower_predicted_iou(
    given: Mask,
) -> None:
    truth = ellipse((250, 160), (60, 60))
    carried, scores = 0.5 * low_res(truth), np.full(1, 0.8, np.float32)
    shown = ownership.kept(Masks(given[None], scores, scores, low_res(given)[None]), carried, GRID)
    assert (shown.masks[0] & truth).sum() > 0.95 * (shown.masks[0] | truth).sum()
    assert shown.predicted_iou[0] == pytest.approx(0.8 * iou(carried, low_res(given)), abs=1e-5)
    assert shown.stability_score[0] > 0.9 and (shown.low_res_logits[0] == carried).all()


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
        carried = moved_on(follower, [one], target(sequence))
        visible = whole.copy()
        visible[:, : (*edges, 640, 640, 0)[sequence - 1]] = False
        again = confirmed_object(carried[0], low_res(visible), target(sequence)) if carried else None
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
        again = confirmed_object(
            seen(ellipse((300, 200)), sequence, sequence), low_res(ellipse((300, 200))), target(sequence)
        )
        assert again is not None
        objects.append(again.lost())
    found = [{one.created for one in moved_on(follower, objects, target(3 * LOOKS))} for _ in range(3)]
    assert [len(some) for some in found] == [LOOKS] * 3
    assert set.union(*found) == {one.created for one in objects}


def test_an_object_that_shrinks_for_good_counts_as_whole_after_a_while() -> None:
    one = seen(ellipse((200, 180), (60, 60)), 1)
    big, small = low_res(ellipse((200, 180), (60, 60))), low_res(ellipse((200, 180), (40, 40)))
    first = confirmed_object(one, big, target(2))
    assert first is not None
    found = first
    for sequence in range(3, 3 + WHOLE_KEPT + 1):
        carried = replace(found, low_res_logits=small)
        again = confirmed_object(carried, small, target(7 * sequence))
        assert again is not None
        found = again
        expected = big if sequence <= 2 + WHOLE_KEPT else small
        np.testing.assert_array_equal(found.lost().low_res_logits, expected)


def test_points_are_kept_while_they_move_with_the_object_and_lie_in_it() -> None:
    frames = panned(4, (6, 3))
    one = seen(ellipse((250, 160)), 1)
    for sequence in (2, 3, 4):
        before, after = make_view(frames[sequence - 2]), make_view(frames[sequence - 1])
        (moved,) = moved_objects([one], before, after, GRID)
        answer = low_res(ellipse((250 + 6 * (sequence - 1), 160 + 3 * (sequence - 1))))
        again = confirmed_object(moved, answer, target(sequence)) if moved is not None else None
        assert again is not None
        one = again
    assert one.tracking.tracks is not None and len(one.tracking.tracks.points) > 0.8 * MOST_POINTS
    assert (one.tracking.tracks.ages == 3).all(), "none had to be replaced"
    half = np.where(np.arange(128) < 55, low_res(ellipse((268, 169))), -8).astype(np.float32)
    kept = confirmed_object(one, half, target(4))
    assert (
        kept is not None
        and kept.tracking.tracks is not None
        and 10 < len(kept.tracking.tracks.points) < 0.9 * len(one.tracking.tracks.points)
    )
    assert (kept.tracking.tracks.points[:, 0] <= 55 * 2).all()


def test_points_that_something_else_took_along_are_dropped() -> None:
    background, cover = textured(seed=1), textured(seed=2)
    before, after = background.copy(), background.copy()
    before[:, 330:], after[:, 345:] = cover[:, 330:], cover[:, 330:-15]
    one = seen(ellipse((300, 180), (60, 40)), 1)
    (moved,) = moved_objects([one], make_view(before), make_view(after), GRID)
    assert moved is not None and moved.tracking.tracks is not None
    assert 40 < len(moved.tracking.tracks.points) < 85
    assert moved.tracking.tracks.points[:, 0].max() < 345 * 256 / 640
    assert moved.low_res_logits is not None and one.low_res_logits is not None
    assert iou(moved.low_res_logits, one.low_res_logits) > 0.95, "what was not covered stood still"
