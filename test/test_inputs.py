"""The node's inputs: the tables of topics and services, and what a message that comes on each asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Point as PointMsg
from geometry_msgs.msg import PointStamped
from messages import MAX_PIXELS, header, image_msg
from processes import RosSession, ros_session
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import String, UInt8
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray

from sam_ros.core.everything import EverythingIn
from sam_ros.core.grid import padded_grid
from sam_ros.core.objects import Box, MaskPrompt, Point, ProgramPrompt, ProgramPrompts, Target
from sam_ros.errors import InvalidImageError
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.images import CameraStream
from sam_ros.node.inputs import (
    CAMERAS,
    EDIT_INPUTS,
    PROMPT_INPUTS,
    TRIGGER_INPUTS,
    PromptTopics,
    TriggerInput,
    subscribe_to_camera,
)
from sam_ros.node.serialized import header_of_serialized
from sam_ros.node.waiting import PromptRequest

SAME = (0, 0)  # prompts are given on the image itself
TARGET = Target(sequence=1, grid=padded_grid((48, 64), 64))
ROWS = {row.topic: row for row in PROMPT_INPUTS}
EDITS = {row.topic: row for row in EDIT_INPUTS}
TYPES = {row.topic: row.message_type for row in (*PROMPT_INPUTS, *EDIT_INPUTS)}
CUT_WITHIN_THE_HEADER = bytes([0, 1, 0, 0, 1, 0, 0, 0, 2, 0])  # CDR
STAMP_NS = stamp_to_ns(header())


def clicked() -> PointStamped:
    return PointStamped(header=header(), point=PointMsg(x=10.0, y=20.0))


def foreground_mask() -> Image:
    return image_msg("mono8", 64, 48, bytes([1]) * (64 * 48))


def detected() -> Detection2DArray:
    msg = Detection2DArray(header=header(), detections=[Detection2D(id="cup")])
    msg.detections[0].bbox.center.position.x = 10.0
    msg.detections[0].bbox.center.position.y = 20.0
    return msg


MESSAGES = {
    "~/point": clicked(),
    "~/point_background": clicked(),
    "~/click": PointMsg(x=10.0, y=20.0),
    "~/box": RegionOfInterest(x_offset=1, y_offset=2, width=3, height=4),
    "~/mask_prompt": foreground_mask(),
    "~/point_foreground": clicked(),
    "~/prompts": detected(),
    "~/prompt": detected().detections[0],
    "~/everything": RegionOfInterest(x_offset=1, y_offset=2, width=3, height=4),
}
SERVICES = ["~/clear", "~/undo", "~/segment_everything", "~/keep_everything"]
MESSAGES["~/prompt"].header = header()


def test_the_topics_are_those_of_the_design() -> None:
    assert {topic: row.message_type for topic, row in ROWS.items()} == {
        "~/point": PointStamped,
        "~/point_foreground": PointStamped,
        "~/point_background": PointStamped,
        "~/click": PointMsg,
        "~/box": RegionOfInterest,
        "~/mask_prompt": Image,
        "~/prompts": Detection2DArray,
        "~/prompt": Detection2D,
        "~/everything": RegionOfInterest,
    }
    assert {topic: row.message_type for topic, row in EDITS.items()} == {
        "~/choose": UInt8,
        "~/select": String,
        "~/remove": String,
    }
    assert [row.name for row in TRIGGER_INPUTS] == SERVICES


def test_only_a_programs_sets_are_best_effort_and_only_what_a_person_sends_can_be_undone() -> None:
    for topic, row in ROWS.items():
        is_set, of_program = topic == "~/prompts", topic in ("~/prompts", "~/prompt", "~/everything")
        expected = ReliabilityPolicy.BEST_EFFORT if is_set else ReliabilityPolicy.RELIABLE
        assert (row.qos.reliability, row.qos.depth) == (expected, 10), topic
        request = row.request("/sam/x", MESSAGES[topic], SAME)
        assert (request.undoable, request.is_complete_set) == (not of_program, is_set), topic


def test_one_detection_without_an_id_is_a_persons_click_or_box() -> None:
    click, box = Detection2D(header=header()), Detection2D(header=header())
    for msg in (click, box):
        msg.bbox.center.position.x, msg.bbox.center.position.y = 10.0, 20.0
    box.bbox.size_x, box.bbox.size_y = 4.0, 6.0
    requests = [ROWS["~/prompt"].request("/sam/prompt", msg, SAME) for msg in (click, box)]
    assert [request.convert(TARGET) for request in requests] == [Point(10, 20, 1), Box((8, 17, 12, 23))]
    assert all(request.undoable for request in requests)
    (named,) = [ROWS["~/prompt"].request("/sam/prompt", MESSAGES["~/prompt"], SAME)]
    assert named.convert(TARGET) == ProgramPrompt("cup", "", (Point(10, 20, 1),))


@pytest.mark.parametrize("transport", CAMERAS)
def test_an_image_message_that_is_cut_is_no_image(transport: str) -> None:
    whole = serialize_message(CAMERAS[transport].message_type(header=header()))
    for serialized in (CUT_WITHIN_THE_HEADER, whole[: len(whole) // 2], b""):
        with pytest.raises(InvalidImageError) as caught:
            CAMERAS[transport].read(serialized, MAX_PIXELS, CameraStream())
        assert caught.value.kind == "malformed message"


@pytest.mark.parametrize("topic", ROWS)
def test_a_request_is_for_the_frame_of_the_messages_header(topic: str) -> None:
    request = ROWS[topic].request("/robot/sam/x", MESSAGES[topic], SAME)
    assert request.topic == "/robot/sam/x"
    has_header = topic not in ("~/click", "~/box", "~/everything")
    assert (request.stamp_ns, request.frame_id) == ((STAMP_NS, "camera") if has_header else (0, ""))


@pytest.mark.parametrize(
    ("topic", "update"),
    [
        ("~/point", Point(10, 20, 1)),
        ("~/point_background", Point(10, 20, 0)),
        ("~/click", Point(10, 20, 1)),
        ("~/box", Box((1, 2, 4, 6))),
        ("~/everything", EverythingIn((1, 2, 4, 6))),
    ],
)
def test_a_click_or_box_is_converted_on_its_frame(topic: str, update: object) -> None:
    assert ROWS[topic].request("/sam/x", MESSAGES[topic], SAME).convert(TARGET) == update


def test_a_mask_prompt_and_detections_are_converted_on_their_frame() -> None:
    mask = ROWS["~/mask_prompt"].request("/sam/x", foreground_mask(), SAME).convert(TARGET)
    assert isinstance(mask, MaskPrompt) and (mask.low_res_logits[:12] > 0).all()
    program = ROWS["~/prompts"].request("/sam/x", detected(), SAME).convert(TARGET)
    assert isinstance(program, ProgramPrompts)
    assert [(prompt.id, prompt.points) for prompt in program.prompts] == [("cup", (Point(10, 20, 1),))]


def test_a_prompt_on_a_resized_image_is_rescaled() -> None:
    convert = ROWS["~/box"].request("/sam/x", MESSAGES["~/box"], (24, 32)).convert
    assert convert(TARGET) == Box((2, 4, 8, 12))


@pytest.mark.parametrize(
    ("msg", "kind"),
    [
        (foreground_mask(), None),
        (image_msg("mono8", 60, 48, bytes(128 * 48), step=128), None),  # padded rows
        (image_msg("rgb8", 64, 48, bytes(3)), "mask prompt encoding"),
        (image_msg("mono8", 64, 49, b""), "mask prompt size"),
        (image_msg("mono8", 2, 2, bytes(2 * 64 * 48 + 1)), "mask prompt size"),
    ],
    ids=["fits", "padded", "encoding", "pixels", "bytes"],
)
def test_a_mask_prompt_that_fits_no_image_has_a_problem_as_it_comes(msg: Image, kind: str | None) -> None:
    problem = ROWS["~/mask_prompt"].problem(msg, SAME, 64 * 48)
    assert (problem and problem.kind) == kind


def test_a_mask_prompt_may_be_as_large_as_the_image_that_prompts_are_given_on() -> None:
    assert ROWS["~/mask_prompt"].problem(foreground_mask(), (48, 64), 100) is None
    assert ROWS["~/mask_prompt"].problem(foreground_mask(), (48, 63), 100) is not None


def test_a_serialized_image_is_read_as_its_camera_sends_it() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    serialized = serialize_message(image_msg("rgb8", 2, 2, pixels.tobytes()))
    np.testing.assert_array_equal(CAMERAS["raw"].read(serialized, MAX_PIXELS, CameraStream()), pixels)
    assert header_of_serialized(serialized) == header()
    assert header_of_serialized(serialize_message(CompressedImage(header=header(), format="png"))) == header()


# Over DDS.


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


@pytest.fixture
def node(ros: RosSession) -> Iterator[LifecycleNode]:
    """A node that listens; the session spins both."""
    node = LifecycleNode("sam", context=ros.node.context)
    ros.spin_also(node)
    yield node
    node.destroy_node()


@pytest.mark.parametrize("transport", CAMERAS)
def test_images_come_serialized_from_the_cameras_topic(
    ros: RosSession, node: LifecycleNode, transport: str
) -> None:
    taken: list[bytes] = []
    subscribe_to_camera(node, CAMERAS[transport], taken.append)
    msg = CAMERAS[transport].message_type(header=header())
    topic = {"raw": "/image", "compressed": "/image/compressed"}[transport]
    publisher = ros.node.create_publisher(CAMERAS[transport].message_type, topic, 10)

    def arrived() -> bool:  # images are best effort, and some are lost
        publisher.publish(msg)
        return bool(taken)

    ros.wait_until(arrived, "an image")
    assert header_of_serialized(taken[0]) == header()


def test_every_topic_and_service_is_open_until_closed(ros: RosSession, node: LifecycleNode) -> None:
    taken: list[PromptRequest] = []
    served: list[str] = []

    def serve(row: TriggerInput) -> tuple[bool, str]:
        served.append(row.name)
        return False, f"{row.name} was called"

    edited: list[tuple[str, str, Any]] = []
    refused: list[tuple[str, str, str]] = []
    topics = PromptTopics(
        node,
        taken.append,
        lambda row, topic, msg: edited.append((row.topic, topic, msg.data)),
        lambda topic, kind, _reason, id: refused.append((topic, kind, id)),
        serve,
        lambda: (24, 32),
        lambda: MAX_PIXELS,
    )
    assert not ros.node.count_subscribers("/sam/box")
    topics.open()
    publishers = {
        topic: ros.node.create_publisher(message_type, topic.replace("~", "/sam"), 10)
        for topic, message_type in TYPES.items()
    }
    ros.wait_until(lambda: all(p.get_subscription_count() for p in publishers.values()), "the topics")
    publishers["~/box"].publish(MESSAGES["~/box"])
    ros.wait_until(lambda: bool(taken), "the prompt")
    assert taken[0].topic == "/sam/box" and taken[0].convert(TARGET) == Box((2, 4, 8, 12))
    publishers["~/mask_prompt"].publish(image_msg("rgb8", 2, 2, bytes(12)))
    ros.wait_until(lambda: len(taken) == 2, "the mask prompt")
    assert taken[1].problem is not None and taken[1].problem.kind == "mask prompt encoding"
    assert taken[1].stamp_ns == STAMP_NS
    publishers["~/select"].publish(String(data="cup"))
    ros.wait_until(lambda: bool(edited), "the edit")
    assert edited == [("~/select", "/sam/select", "cup")]
    publishers["~/point"].publish(CUT_WITHIN_THE_HEADER)
    ros.wait_until(lambda: bool(refused), "the refusal")
    assert refused == [("/sam/point", "malformed message", "")]
    bad_stamp = Detection2D(id="cup")
    bad_stamp.header.stamp.nanosec = 2_000_000_000
    publishers["~/prompt"].publish(bad_stamp)
    ros.wait_until(lambda: len(refused) == 2, "the refusal")
    assert refused[1][::2] == ("/sam/prompt", "cup")
    for row in TRIGGER_INPUTS:
        response = called(ros, row.name.replace("~", "/sam"))
        assert (response.success, response.message) == (False, f"{row.name} was called")
    assert served == SERVICES
    topics.close()
    ros.wait_until(
        lambda: not any(p.get_subscription_count() for p in publishers.values()), "the topics to go"
    )


def called(ros: RosSession, service: str) -> Any:
    client = ros.node.create_client(Trigger, service)
    ros.wait_until(client.service_is_ready, service)
    future = client.call_async(Trigger.Request())
    ros.wait_until(future.done, f"an answer of {service}")
    return future.result()
