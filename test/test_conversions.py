"""Messages to core values and back, by tiny messages made by hand; what is refused, and how it is named."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import pytest
from geometry_msgs.msg import Point as PointMsg
from messages import header, image_msg
from sensor_msgs.msg import Image, RegionOfInterest
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from sam_ros.core.everything import EverythingIn
from sam_ros.core.grid import logits_from_mask, padded_grid
from sam_ros.core.objects import Point, ProgramPrompts, SegmentedObject, Target
from sam_ros.errors import InvalidPromptError
from sam_ros.masks import MASK_PROMPT_LOGIT, Masks
from sam_ros.node.conversions import (
    box_from_roi,
    everything_from_roi,
    mask_prompt_from_msg,
    point_from_msg,
    program_prompts_from_msg,
    segments_to_msg,
)
from sam_ros.node.images import image_to_msg
from sam_ros.node.outputs import draw_candidates

SAME = (0, 0)  # prompts are given on the image itself
TARGET = Target(sequence=1, grid=padded_grid((48, 64), 64))


# Points.


def point(x: float, y: float, z: float = 0.0) -> PointMsg:
    return PointMsg(x=x, y=y, z=z)


@pytest.mark.parametrize(
    ("xy", "clamped"),
    [
        ((0.0, 0.0), (0, 0)),
        ((10.25, 20.75), (10.25, 20.75)),
        ((63.0, 47.0), (63, 47)),
        ((64.0, 48.0), (63, 47)),  # x == width: how rqt_image_view rounds the last half pixel
        ((-1.0, -1.0), (0, 0)),
        ((-0.5, 47.5), (0, 47)),
    ],
)
def test_points_up_to_one_pixel_outside_are_clamped(
    xy: tuple[float, float], clamped: tuple[float, float]
) -> None:
    assert point_from_msg(point(*xy), 1, TARGET, SAME) == Point(*clamped, 1)


@pytest.mark.parametrize(
    ("x", "y", "z", "kind"),
    [
        (64.01, 10, 0, "point outside"),
        (10, 48.01, 0, "point outside"),
        (-1.01, 10, 0, "point outside"),
        (10, -1.01, 0, "point outside"),
        (1e300, 10, 0, "point outside"),
        (math.nan, 10, 0, "not finite"),
        (10, math.inf, 0, "not finite"),
        (-math.inf, 10, 0, "not finite"),
        (10, 10, 1e-9, "z not 0"),
        (10, 10, -5, "z not 0"),
        (10, 10, math.nan, "z not 0"),
        (10, 10, math.inf, "z not 0"),
    ],
)
def test_points_far_outside_not_finite_or_with_z_are_refused(x: float, y: float, z: float, kind: str) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        point_from_msg(point(float(x), float(y), float(z)), 1, TARGET, SAME)
    assert caught.value.kind == kind


@pytest.mark.parametrize("label", [0, 1])
def test_a_point_keeps_its_label_and_z_may_be_negative_zero(label: int) -> None:
    assert point_from_msg(point(3.0, 4.0, -0.0), label, TARGET, SAME) == Point(3, 4, label)


def test_points_given_on_a_smaller_image_keep_their_pixels_centres() -> None:
    """On half the size, pixel 0 covers pixels 0 and 1, whose middle is 0.5."""
    half = (24, 32)
    assert point_from_msg(point(0.0, 0.0), 1, TARGET, half) == Point(0.5, 0.5, 1)
    assert point_from_msg(point(15.5, 11.5), 1, TARGET, half) == Point(31.5, 23.5, 1)  # the centre
    assert point_from_msg(point(31.0, 23.0), 1, TARGET, half) == Point(62.5, 46.5, 1)
    assert point_from_msg(point(32.0, 24.0), 1, TARGET, half) == Point(62.5, 46.5, 1)  # clamped first
    with pytest.raises(InvalidPromptError, match="outside the image of 32 x 24"):
        point_from_msg(point(33.5, 10.0), 1, TARGET, half)


def test_points_given_on_a_larger_image_stay_inside() -> None:
    double = (96, 128)
    assert point_from_msg(point(0.5, 0.5), 1, TARGET, double) == Point(0, 0, 1)
    assert point_from_msg(point(0.0, 0.0), 1, TARGET, double) == Point(0, 0, 1)
    assert point_from_msg(point(127.0, 95.0), 1, TARGET, double) == Point(63, 47, 1)
    assert point_from_msg(point(63.5, 47.5), 1, TARGET, double) == Point(31.5, 23.5, 1)


def test_x_and_y_of_a_point_are_rescaled_each_by_its_own_factor() -> None:
    assert point_from_msg(point(31.5, 95.5), 1, TARGET, (192, 64)) == Point(31.5, 23.5, 1)


# Boxes and mask prompts.


def roi(x: int, y: int, width: int, height: int, do_rectify: bool = False) -> RegionOfInterest:
    return RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height, do_rectify=do_rectify)


@pytest.mark.parametrize(
    ("msg", "box_xyxy"),
    [
        (roi(1, 2, 3, 4), (1, 2, 4, 6)),
        (roi(0, 0, 64, 48), (0, 0, 64, 48)),
        (roi(63, 47, 1, 1), (63, 47, 64, 48)),
        (roi(60, 40, 100, 100), (60, 40, 64, 48)),
        (roi(0, 0, 2**32 - 1, 2**32 - 1), (0, 0, 64, 48)),
    ],
)
def test_a_region_is_a_box_of_half_open_edges_clipped_to_the_image(
    msg: RegionOfInterest, box_xyxy: tuple[float, ...]
) -> None:
    assert box_from_roi(msg, TARGET, SAME).box_xyxy == box_xyxy


@pytest.mark.parametrize(
    ("msg", "kind"),
    [
        (roi(1, 2, 0, 4), "empty box"),
        (roi(1, 2, 3, 0), "empty box"),
        (roi(0, 0, 0, 0), "empty box"),
        (roi(64, 0, 5, 5), "box outside"),
        (roi(0, 48, 5, 5), "box outside"),
        (roi(2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1), "box outside"),
        (roi(1, 2, 3, 4, do_rectify=True), "do_rectify"),
    ],
)
def test_regions_that_are_no_box_are_refused(msg: RegionOfInterest, kind: str) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        box_from_roi(msg, TARGET, SAME)
    assert caught.value.kind == kind


def test_a_region_of_no_size_is_the_whole_image() -> None:
    assert everything_from_roi(roi(0, 0, 0, 0), TARGET, SAME) == EverythingIn(None)
    assert everything_from_roi(roi(7, 9, 0, 0), TARGET, SAME) == EverythingIn(None)
    assert everything_from_roi(roi(1, 2, 3, 4), TARGET, (24, 32)) == EverythingIn((2, 4, 8, 12))
    for wrong, kind in (
        (roi(0, 0, 5, 0), "empty box"),
        (RegionOfInterest(do_rectify=True), "do_rectify"),
        (roi(64, 0, 5, 5), "box outside"),
    ):
        with pytest.raises(InvalidPromptError) as caught:
            everything_from_roi(wrong, TARGET, SAME)
        assert caught.value.kind == kind


def test_boxes_given_on_another_size_are_rescaled_by_their_edges() -> None:
    assert box_from_roi(roi(1, 2, 3, 4), TARGET, (24, 32)).box_xyxy == (2, 4, 8, 12)
    assert box_from_roi(roi(0, 0, 128, 96), TARGET, (96, 128)).box_xyxy == (0, 0, 64, 48)
    assert box_from_roi(roi(20, 20, 100, 100), TARGET, (24, 32)).box_xyxy == (40, 40, 64, 48)
    with pytest.raises(InvalidPromptError, match="outside the image of 32 x 24"):
        box_from_roi(roi(40, 2, 3, 4), TARGET, (24, 32))


def mask_msg(mask: npt.NDArray[np.uint8], encoding: str = "mono8", padding: int = 0) -> Image:
    padded = np.pad(mask, ((0, 0), (0, padding)), constant_values=255)
    return image_msg(encoding, mask.shape[1], mask.shape[0], padded.tobytes())


def half_mask(size_hw: tuple[int, int] = (48, 64)) -> npt.NDArray[np.uint8]:
    """Foreground, of whatever value, on the left half."""
    mask = np.zeros(size_hw, np.uint8)
    mask[:, : size_hw[1] // 2] = 1
    return mask


def test_a_mask_prompt_becomes_logits() -> None:
    logits = mask_prompt_from_msg(mask_msg(half_mask()), TARGET, SAME).low_res_logits
    assert logits.shape == (16, 16)
    np.testing.assert_allclose(logits[:12, :8], MASK_PROMPT_LOGIT)
    np.testing.assert_allclose(logits[:, 8:], -MASK_PROMPT_LOGIT)
    np.testing.assert_allclose(logits[12:], -MASK_PROMPT_LOGIT)


def test_padding_of_a_mask_prompts_rows_is_left_out() -> None:
    plain, padded = (
        mask_prompt_from_msg(mask_msg(half_mask(), padding=padding), TARGET, SAME).low_res_logits
        for padding in (0, 5)
    )
    np.testing.assert_array_equal(plain, padded)


def test_a_mask_prompt_must_have_the_size_of_the_prompted_image() -> None:
    half = half_mask((24, 32))
    logits = mask_prompt_from_msg(mask_msg(half), TARGET, (24, 32)).low_res_logits
    np.testing.assert_array_equal(logits, logits_from_mask(half, TARGET.grid))
    with pytest.raises(InvalidPromptError, match="32 x 24, got 64 x 48"):
        mask_prompt_from_msg(mask_msg(half_mask()), TARGET, (24, 32))


def test_a_channel_of_the_candidates_can_be_sent_back() -> None:
    masks = np.stack([half_mask() > 0, half_mask() == 0, np.ones((48, 64), bool)])
    candidates = np.empty((48, 64, 3), np.uint8)
    draw_candidates(answer(masks), candidates)
    msg = image_to_msg(candidates[..., 1], "mono8", header())
    logits = mask_prompt_from_msg(msg, TARGET, SAME).low_res_logits
    np.testing.assert_array_equal(logits, logits_from_mask(masks[1], TARGET.grid))


@pytest.mark.parametrize(
    ("msg", "kind"),
    [
        (image_msg("rgb8", 64, 48, bytes(64 * 48 * 3)), "mask prompt encoding"),
        (image_msg("16UC1", 64, 48, bytes(64 * 48 * 2)), "mask prompt encoding"),
        (image_msg("", 64, 48, bytes(64 * 48)), "mask prompt encoding"),
        (mask_msg(half_mask((64, 48))), "mask prompt size"),
        (mask_msg(half_mask((47, 64))), "mask prompt size"),
        (image_msg("mono8", 0, 0, b"", step=0), "mask prompt size"),
        (image_msg("mono8", 64, 48, bytes(64 * 48 - 1), step=64), "short data"),
        (image_msg("mono8", 64, 48, bytes(64 * 48), step=63), "wrong step"),
        (mask_msg(np.zeros((48, 64), np.uint8)), "empty mask prompt"),
        (mask_msg(np.zeros((48, 64), np.uint8), padding=3), "empty mask prompt"),
    ],
)
def test_mask_prompts_that_do_not_fit_are_refused(msg: Image, kind: str) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        mask_prompt_from_msg(msg, TARGET, SAME)
    assert caught.value.kind == kind


# Programs.


def detection(
    id: str,
    x: float,
    y: float,
    size: tuple[float, float] = (0.0, 0.0),
    classes: tuple[str, ...] = (),
    theta: float = 0.0,
) -> Detection2D:
    msg = Detection2D(id=id)
    msg.bbox.center.position.x, msg.bbox.center.position.y, msg.bbox.center.theta = float(x), float(y), theta
    msg.bbox.size_x, msg.bbox.size_y = (float(length) for length in size)
    for name in classes:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id = name
        msg.results.append(result)
    return msg


def read(*detections: Detection2D, prompt_hw: tuple[int, int] = SAME) -> ProgramPrompts:
    return program_prompts_from_msg(Detection2DArray(detections=detections), TARGET, prompt_hw)


def test_a_message_without_detections_is_an_empty_set_of_prompts() -> None:
    assert read() == ProgramPrompts((), ())


def test_detections_of_one_id_are_one_object() -> None:
    update = read(
        detection("a", 10, 20),
        detection("b", 30, 20, (4, 6), ("cup",)),
        detection("a", 5, 6, classes=("background",)),
        detection("a", 20, 20, (10, 10)),
    )
    assert update.refused == ()
    first, second = update.prompts
    assert (first.id, first.class_id, first.box_xyxy) == ("a", "", (15, 15, 25, 25))
    assert first.points == (Point(10, 20, 1), Point(5, 6, 0))
    assert (second.id, second.class_id, len(second.points)) == ("b", "cup", 0)
    assert second.box_xyxy == (28, 17, 32, 23)


def test_each_detection_without_an_id_is_an_object_of_its_own() -> None:
    update = read(detection("", 10, 20), detection("", 30, 20, (4, 6)))
    assert [prompt.id for prompt in update.prompts] == ["", ""]
    assert [len(prompt.points) for prompt in update.prompts] == [1, 0]


def test_the_first_class_that_is_not_background_names_the_object() -> None:
    update = read(
        detection("a", 10, 20, classes=("background",)),
        detection("a", 11, 20),
        detection("a", 12, 20, classes=("cup", "dog")),
        detection("a", 13, 20, classes=("cat",)),
    )
    (prompt,) = update.prompts
    assert prompt.class_id == "cup"
    assert [point.label for point in prompt.points] == [0, 1, 1, 1]


def test_only_the_first_result_says_what_is_background() -> None:
    (prompt,) = read(detection("a", 10, 20, classes=("cup", "background"))).prompts
    assert prompt.points == (Point(10, 20, 1),) and prompt.class_id == "cup"
    (prompt,) = read(detection("a", 10, 20, classes=("Background",))).prompts
    assert prompt.points == (Point(10, 20, 1),) and prompt.class_id == "Background"


@pytest.mark.parametrize(
    ("detections", "kind"),
    [
        ([detection("a", 10, 20, (5, 5)), detection("a", 30, 20, (5, 5))], "second box"),
        ([detection("a", 10, 20, (5, 5), ("background",))], "background box"),
        ([detection("a", 10, 20), detection("a", 10, 20, (5, 5), ("background",))], "background box"),
        ([detection("a", 10, 20, classes=("background",))] * 2, "only background"),
        ([detection("a", 10, 20, (5, 0))], "empty box"),
        ([detection("a", 10, 20, (0, 5))], "empty box"),
        ([detection("a", 10, 20, (-5, -5))], "empty box"),
        ([detection("a", 10, 20, (math.nan, 5))], "not finite"),
        ([detection("a", 10, 20, (math.inf, math.inf))], "not finite"),
        ([detection("a", math.nan, 20, (5, 5))], "not finite"),
        ([detection("a", 10, 20, (5, 5), theta=math.nan)], "not finite"),
        ([detection("a", 10, 20, (5, 5), theta=math.inf)], "not finite"),
        ([detection("a", math.nan, 20)], "not finite"),
        ([detection("a", 10, math.inf)], "not finite"),
        ([detection("a", 65.5, 20)], "point outside"),
        ([detection("a", 10, 20), detection("a", 10, 490)], "point outside"),
        ([detection("a", 100, 20, (5, 5))], "box outside"),
        ([detection("a", -2.5, 20, (5, 5))], "box outside"),
    ],
)
def test_a_bad_object_is_refused_and_the_others_stay(detections: list[Detection2D], kind: str) -> None:
    update = read(detection("before", 1, 1), *detections, detection("", 2, 2))
    assert [prompt.id for prompt in update.prompts] == ["before", ""]
    (refused,) = update.refused
    assert (refused.id, refused.kind) == ("a", kind)
    assert refused.reason


def test_background_points_refine_a_box() -> None:
    (prompt,) = read(detection("a", 1, 2, classes=("background",)), detection("a", 20, 20, (4, 4))).prompts
    assert prompt.points == (Point(1, 2, 0),) and prompt.box_xyxy == (18, 18, 22, 22)


@pytest.mark.parametrize(
    ("theta", "box_xyxy"),
    [
        (0.0, (22, 22, 38, 26)),
        (math.pi / 2, (28, 16, 32, 32)),
        (-math.pi / 2, (28, 16, 32, 32)),
        (math.pi, (22, 22, 38, 26)),
        (math.pi / 4, (30 - 20 / 8**0.5, 24 - 20 / 8**0.5, 30 + 20 / 8**0.5, 24 + 20 / 8**0.5)),
    ],
)
def test_a_rotated_box_becomes_the_box_around_it(theta: float, box_xyxy: tuple[float, ...]) -> None:
    (prompt,) = read(detection("a", 30, 24, (16, 4), theta=theta)).prompts
    np.testing.assert_allclose(np.array(prompt.box_xyxy), box_xyxy, atol=1e-9)


def test_the_box_around_a_rotated_one_is_the_box_around_its_corners() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        (w, h), theta = rng.uniform(1, 20, 2), float(rng.uniform(-10, 10))
        turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn.T + (30, 24)
        (prompt,) = read(detection("a", 30, 24, (w, h), theta=theta)).prompts
        expected = np.clip([*corners.min(axis=0), *corners.max(axis=0)], 0, [64, 48, 64, 48])
        np.testing.assert_allclose(np.array(prompt.box_xyxy), expected, atol=1e-9)


def test_huge_boxes_are_clipped_to_the_image() -> None:
    for size in (1e6, 1e300, 1.7e308):
        (prompt,) = read(detection("a", 30, 24, (size, size), theta=0.7)).prompts
        assert prompt.box_xyxy == (0, 0, 64, 48)


def test_a_programs_points_and_boxes_are_rescaled() -> None:
    update = read(detection("a", 0, 0), detection("b", 8, 6, (4, 4)), prompt_hw=(24, 32))
    assert update.prompts[0].points == (Point(0.5, 0.5, 1),)
    assert update.prompts[1].box_xyxy == (12, 8, 20, 16)


def test_ten_thousand_detections_are_read() -> None:
    update = read(*[detection(f"{i}", 10, 20, (5, 5)) for i in range(10_000)])
    assert len(update.prompts) == 10_000
    update = read(*[detection("one", 10, 20) for _ in range(10_000)])
    assert [len(prompt.points) for prompt in update.prompts] == [10_000]


def test_the_message_of_a_program_is_not_changed() -> None:
    msg = Detection2DArray(
        header=header(), detections=[detection("a", 64.0, 48.0), detection("b", 3, 3, (90, 9))]
    )
    before = deepcopy(msg)
    program_prompts_from_msg(msg, TARGET, SAME)
    assert msg == before


# Segments out.


def answer(masks: npt.NDArray[np.bool_], *predicted_iou: float) -> Masks:
    scores = np.array(predicted_iou or [0.5] * len(masks), np.float32)
    return Masks(masks, scores, scores, np.zeros((len(masks), 4, 4), np.float32))


def segmented(id: str, class_id: str = "", created: int = 0) -> SegmentedObject:
    return SegmentedObject(id, class_id, created, 1, (48, 64))


def test_segments_copy_the_header_for_every_detection() -> None:
    given = header()
    segments = segments_to_msg([(segmented("a"), answer(np.ones((1, 2, 2), bool)))], given)
    for copy in (segments.header, segments.detections[0].header):
        assert copy == given and copy is not given and copy.stamp is not given.stamp
        copy.stamp.sec, copy.frame_id = 99, "changed"
        assert given == header()


def test_segments_tell_ids_boxes_and_scores() -> None:
    masks = np.zeros((3, 48, 64), bool)
    masks[0, 10:12, 20:25] = True
    masks[1] = True
    msg = segments_to_msg(
        [
            (segmented("a", "cup"), answer(masks, 0.75, 0.5, 0.25)),
            (segmented("_1"), answer(masks[1:2], 0.875)),
        ],
        header(),
    )
    first, second = msg.detections
    assert msg.header == first.header == second.header == header()
    assert (first.id, second.id) == ("a", "_1")
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (22.5, 11)
    assert (first.bbox.size_x, first.bbox.size_y, first.bbox.center.theta) == (5, 2, 0)
    hypotheses = [result.hypothesis for result in first.results]
    assert [(h.class_id, h.score) for h in hypotheses] == [("cup", 0.75), ("cup", 0.5), ("cup", 0.25)]
    assert (second.bbox.center.position.x, second.bbox.center.position.y) == (32, 24)
    assert (second.bbox.size_x, second.bbox.size_y) == (64, 48)
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in second.results] == [("", 0.875)]


def test_the_bbox_of_a_single_pixel_has_size_one() -> None:
    mask = np.zeros((1, 48, 64), bool)
    mask[0, 5, 3] = True
    (detected,) = segments_to_msg([(segmented("a"), answer(mask))], header()).detections
    assert (detected.bbox.center.position.x, detected.bbox.center.position.y) == (3.5, 5.5)
    assert (detected.bbox.size_x, detected.bbox.size_y) == (1, 1)


def test_scores_are_clamped_and_stay_in_their_order() -> None:
    masks = np.ones((4, 2, 2), bool)
    (detected,) = segments_to_msg(
        [(segmented("a"), answer(masks, 1.25, 1.0, 0.5, -0.25))], header()
    ).detections
    assert [result.hypothesis.score for result in detected.results] == [1, 1, 0.5, 0]


def test_scores_of_masks_that_were_left_out_are_told() -> None:
    scores = np.array([0.75, 0.5, 0.25], np.float32)
    best = Masks(
        np.ones((1, 2, 2), bool), scores[:1], scores[:1], np.zeros((1, 4, 4), np.float32), scores[1:]
    )
    (detected,) = segments_to_msg([(segmented("a", "cup"), best)], header()).detections
    hypotheses = [result.hypothesis for result in detected.results]
    assert [(h.class_id, h.score) for h in hypotheses] == [("cup", 0.75), ("cup", 0.5), ("cup", 0.25)]


def test_a_published_bbox_is_read_back_as_the_same_edges() -> None:
    mask = np.zeros((1, 48, 64), bool)
    mask[0, 10:12, 20:25] = True
    segments = segments_to_msg([(segmented("a", "cup"), answer(mask))], header())
    (prompt,) = program_prompts_from_msg(segments, TARGET, SAME).prompts
    assert (prompt.id, prompt.class_id, prompt.box_xyxy) == ("a", "cup", (20, 10, 25, 12))


def test_without_objects_the_segments_are_empty() -> None:
    msg = segments_to_msg([], header())
    assert msg.header == header() and len(msg.detections) == 0
