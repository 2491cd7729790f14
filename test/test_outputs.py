"""The node's outputs: the table of topics, what each message shows, and who gets it with which QoS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from node_rig import pixels_of
from processes import RosSession, ros_session
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from sam_ros.core.frames import Frame
from sam_ros.core.objects import Point, SegmentedObject
from sam_ros.core.overlay import draw_overlay
from sam_ros.core.segmenter import Outputs
from sam_ros.masks import Masks
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.outputs import (
    CANDIDATE_OUTPUTS,
    EVERYTHING_OUTPUTS,
    FRAME_OUTPUTS,
    Answer,
    Output,
    OutputPublishers,
    draw_candidates,
    image_output,
)

H, W = 6, 8
STAMP_NS = 12_000_000_034
SERIALIZED = b"an image"
IMAGE_RGB = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3)
ROWS = {row.topic: row for row in (*FRAME_OUTPUTS, *CANDIDATE_OUTPUTS)}


def masks(*rectangles: tuple[int, int, int, int], scores: tuple[float, ...]) -> Masks:
    """Masks that are rectangles (x0, y0, x1, y1)."""
    made = np.zeros((len(rectangles), H, W), bool)
    for mask, (x0, y0, x1, y1) in zip(made, rectangles, strict=True):
        mask[y0:y1, x0:x1] = True
    values = np.array(scores, np.float32)
    return Masks(made, values, values, np.zeros((len(made), 4, 4), np.float32))


LEFT, MIDDLE = (0, 0, 4, 6), (2, 2, 6, 4)
THREE = masks((0, 0, 1, 1), (1, 0, 2, 1), (0, 5, 8, 6), scores=(0.9, 0.8, 0.7))


def segmented(id: str, created: int) -> SegmentedObject:
    return SegmentedObject(id, "cup", created, 1, (H, W), points=(Point(3, 3, 1),))


def read_image(serialized: bytes) -> npt.NDArray[np.uint8]:
    assert serialized == SERIALIZED
    return IMAGE_RGB


def answer(*found: Masks, candidates: Masks | None = None) -> Answer:
    objects = tuple((segmented(f"_{index + 1}", index), one) for index, one in enumerate(found))
    frame = Frame(1, STAMP_NS, "camera", SERIALIZED)
    return Answer(Outputs(frame, (H, W), objects, candidates), read_image)


def made(topic: str, of: Answer) -> Any:
    """The message of a row, whose header is checked."""
    return converted(ROWS[topic], of)


def converted(row: Output, of: Answer) -> Any:
    msg = row.new_converter()(of)
    assert (stamp_to_ns(msg.header), msg.header.frame_id) == (STAMP_NS, "camera")
    return msg


def test_the_topics_are_those_of_the_design() -> None:
    assert {topic: row.message_type for topic, row in ROWS.items()} == {
        "~/mask": Image,
        "~/labels": Image,
        "~/segments": Detection2DArray,
        "~/candidates": Image,
        "~/overlay": Image,
    }
    for row in ROWS.values():
        assert (row.qos.reliability, row.qos.durability, row.qos.depth) == (
            ReliabilityPolicy.RELIABLE,
            DurabilityPolicy.VOLATILE,
            2,
        )


def test_everything_is_kept_for_late_subscribers() -> None:
    assert {row.topic: row.message_type for row in EVERYTHING_OUTPUTS} == {
        "~/everything/labels": Image,
        "~/everything/segments": Detection2DArray,
        "~/everything/overlay": Image,
    }
    for row in EVERYTHING_OUTPUTS:
        assert (row.qos.reliability, row.qos.durability, row.qos.depth) == (
            ReliabilityPolicy.RELIABLE,
            DurabilityPolicy.TRANSIENT_LOCAL,
            1,
        )
        assert row.for_late_subscribers == (row.topic != "~/everything/overlay")


@pytest.mark.parametrize("boxes", [(LEFT, MIDDLE), (MIDDLE, LEFT)])
def test_of_everything_the_smaller_lies_on_the_larger_whatever_the_scores(
    boxes: Sequence[tuple[int, int, int, int]],
) -> None:
    found = answer(*(masks(box, scores=(score,)) for box, score in zip(boxes, (0.9, 0.5), strict=True)))
    labels = converted(EVERYTHING_OUTPUTS[0], found)
    left, middle = 1 + boxes.index(LEFT), 1 + boxes.index(MIDDLE)
    expected = np.zeros((H, W), np.uint16)
    expected[:, :4] = left
    expected[2:4, 2:6] = middle
    assert labels.encoding == "16UC1"
    np.testing.assert_array_equal(pixels_of(labels), expected)
    segments = converted(EVERYTHING_OUTPUTS[1], found)
    results = [[(r.hypothesis.class_id, r.hypothesis.score) for r in d.results] for d in segments.detections]
    areas = {LEFT: 4 * H, MIDDLE: 8}
    assert results == [
        [("cup", pytest.approx(0.9)), ("area", areas[boxes[0]])],
        [("cup", 0.5), ("area", areas[boxes[1]])],
    ]


def test_the_mask_is_the_union_of_the_best_masks() -> None:
    msg = made("~/mask", answer(masks(LEFT, (0, 0, W, H), scores=(0.9, 0.1)), masks(MIDDLE, scores=(0.5,))))
    expected = np.zeros((H, W), np.uint8)
    expected[:, :4] = expected[2:4, 2:6] = 255
    assert msg.encoding == "mono8"
    np.testing.assert_array_equal(pixels_of(msg), expected)


@pytest.mark.parametrize(("scores", "overlap"), [((0.9, 0.5), 1), ((0.5, 0.9), 2)])
def test_overlapping_labels_go_to_the_higher_score(scores: tuple[float, float], overlap: int) -> None:
    first, second = (masks(box, scores=(score,)) for box, score in zip((LEFT, MIDDLE), scores, strict=True))
    msg = made("~/labels", answer(first, second))
    expected = np.zeros((H, W), np.uint16)
    expected[2:4, 2:6] = 2
    expected[:, :4] = 1
    expected[2:4, 2:4] = overlap
    assert msg.encoding == "16UC1"
    np.testing.assert_array_equal(pixels_of(msg), expected)


def test_segments_are_in_the_order_of_the_objects() -> None:
    msg = made("~/segments", answer(masks(LEFT, scores=(0.25,)), masks(MIDDLE, scores=(0.75,))))
    assert [detected.id for detected in msg.detections] == ["_1", "_2"]
    assert [detected.results[0].hypothesis.score for detected in msg.detections] == [0.25, 0.75]


def test_the_overlay_is_drawn_on_the_frames_image() -> None:
    given = answer(masks(LEFT, scores=(0.9,)))
    msg = made("~/overlay", given)
    assert msg.encoding == "rgb8"
    np.testing.assert_array_equal(pixels_of(msg), draw_overlay(IMAGE_RGB, given.objects, 1))


def test_candidates_are_channels_in_their_order() -> None:
    msg = made("~/candidates", answer(candidates=THREE))
    assert msg.encoding == "8UC3"
    np.testing.assert_array_equal(pixels_of(msg), np.moveaxis(THREE.masks, 0, -1) * np.uint8(255))


def test_drawing_candidates_sets_every_pixel() -> None:
    image = np.full((H, W, 3), 77, np.uint8)
    draw_candidates(THREE, image)
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], THREE.masks[channel] * 255)


def test_an_answer_without_candidates_says_so() -> None:
    with pytest.raises(ValueError, match="no candidates"):
        made("~/candidates", answer())


def test_without_objects_all_outputs_are_empty() -> None:
    assert not pixels_of(made("~/mask", answer())).any()
    assert not pixels_of(made("~/labels", answer())).any()
    assert made("~/segments", answer()).detections == []
    np.testing.assert_array_equal(pixels_of(made("~/overlay", answer())), IMAGE_RGB)


def test_two_publishers_of_a_row_do_not_share_their_image() -> None:
    one, other = ROWS["~/mask"].new_converter(), ROWS["~/mask"].new_converter()
    first = one(answer(masks(LEFT, scores=(0.9,))))
    other(answer())
    assert pixels_of(first).any()


# Over DDS.


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


@pytest.fixture
def node(ros: RosSession) -> Iterator[LifecycleNode]:
    """A node that may publish."""
    node = LifecycleNode("sam", context=ros.node.context)
    node.trigger_configure()
    yield node
    node.destroy_node()


def test_only_what_somebody_subscribed_to_is_made(ros: RosSession, node: LifecycleNode) -> None:
    drawn: list[str] = []

    def row(name: str) -> Output:
        def draw(_: Answer, image: npt.NDArray[np.uint8]) -> None:
            drawn.append(name)
            image.fill(9)

        return image_output(f"~/{name}", "mono8", draw)

    rows = [row("wanted"), row("unwanted")]
    publishers = OutputPublishers(node, rows)
    publishers.open()
    node.trigger_activate()
    assert not publishers.are_wanted
    received: list[Image] = []
    ros.node.create_subscription(Image, "/sam/wanted", received.append, 10)
    ros.wait_until(lambda: publishers.are_wanted, "the subscription")
    publishers.publish(answer())
    ros.wait_until(lambda: bool(received), "the message")
    assert drawn == ["wanted"] and (pixels_of(received[0]) == 9).all()
    publishers.close()
    assert not publishers.are_wanted
    ros.wait_until(lambda: not ros.node.count_publishers("/sam/wanted"), "the topic to go")


def test_a_row_brings_its_own_qos(ros: RosSession, node: LifecycleNode) -> None:
    """What is transient local reaches those that subscribe later."""
    latched = QoSProfile(
        depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
    )
    publishers = OutputPublishers(
        node, [image_output("~/latched", "mono8", lambda _, image: image.fill(9), latched)]
    )
    publishers.open()
    node.trigger_activate()
    early: list[Image] = []
    ros.node.create_subscription(Image, "/sam/latched", early.append, latched)
    ros.wait_until(lambda: publishers.are_wanted, "the first subscription")
    publishers.publish(answer())
    ros.wait_until(lambda: bool(early), "the message")
    late: list[Image] = []
    ros.node.create_subscription(Image, "/sam/latched", late.append, latched)
    ros.wait_until(lambda: bool(late), "the message that was published before")
    assert (pixels_of(late[0]) == 9).all()


def test_a_node_that_is_not_active_publishes_nothing(ros: RosSession, node: LifecycleNode) -> None:
    publishers = OutputPublishers(node, [image_output("~/mask", "mono8", lambda _, image: image.fill(9))])
    publishers.open()
    received: list[Image] = []
    ros.node.create_subscription(Image, "/sam/mask", received.append, 10)
    ros.wait_until(lambda: publishers.are_wanted, "the subscription")
    publishers.publish(answer())
    node.trigger_activate()
    publishers.publish(answer(masks(LEFT, scores=(0.9,))))
    ros.wait_until(lambda: bool(received), "the message after the activation")
    assert len(received) == 1


def test_an_override_of_one_topic_leaves_the_others_as_they_are(ros: RosSession) -> None:
    override = ["--ros-args", "-p", "qos_overrides./sam/first.publisher.reliability:=best_effort"]
    node = LifecycleNode("sam", context=ros.node.context, cli_args=override)
    rows = [
        image_output(f"~/{name}", "mono8", lambda _, image: image.fill(9)) for name in ("first", "second")
    ]
    OutputPublishers(node, rows).open()
    found = [
        node.get_publishers_info_by_topic(f"/sam/{name}")[0].qos_profile.reliability
        for name in ("first", "second")
    ]
    assert found == [ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE]
    node.destroy_node()
