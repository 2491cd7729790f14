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
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray

from sam_ros.core.grid import padded_grid
from sam_ros.core.objects import Box, MaskPrompt, Point, ProgramPrompts, Target
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.inputs import (
    CAMERAS,
    PROMPT_INPUTS,
    TRIGGER_INPUTS,
    PromptTopics,
    TriggerInput,
    header_of_serialized,
    subscribe_to_camera,
)
from sam_ros.node.waiting import PromptRequest

SAME = (0, 0)  # prompts are given on the image itself
TARGET = Target(sequence=1, grid=padded_grid((48, 64), 64))
ROWS = {row.topic: row for row in PROMPT_INPUTS}
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
    "~/prompts": detected(),
}


def test_the_topics_are_those_of_the_design() -> None:
    assert {topic: row.message_type for topic, row in ROWS.items()} == {
        "~/point": PointStamped,
        "~/point_background": PointStamped,
        "~/click": PointMsg,
        "~/box": RegionOfInterest,
        "~/mask_prompt": Image,
        "~/prompts": Detection2DArray,
    }
    assert [row.name for row in TRIGGER_INPUTS] == ["~/clear", "~/undo"]


def test_only_programs_send_best_effort_and_cannot_be_undone() -> None:
    for topic, row in ROWS.items():
        of_program = topic == "~/prompts"
        expected = ReliabilityPolicy.BEST_EFFORT if of_program else ReliabilityPolicy.RELIABLE
        assert (row.qos.reliability, row.qos.depth) == (expected, 10), topic
        assert row.request("/sam/x", MESSAGES[topic], SAME).undoable != of_program, topic


@pytest.mark.parametrize("topic", ROWS)
def test_a_request_is_for_the_frame_of_the_messages_header(topic: str) -> None:
    request = ROWS[topic].request("/robot/sam/x", MESSAGES[topic], SAME)
    assert request.topic == "/robot/sam/x"
    has_header = topic not in ("~/click", "~/box")
    assert (request.stamp_ns, request.frame_id) == ((STAMP_NS, "camera") if has_header else (0, ""))


@pytest.mark.parametrize(
    ("topic", "update"),
    [
        ("~/point", Point(10, 20, 1)),
        ("~/point_background", Point(10, 20, 0)),
        ("~/click", Point(10, 20, 1)),
        ("~/box", Box((1, 2, 4, 6))),
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


def test_a_serialized_image_is_read_as_its_camera_sends_it() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    serialized = serialize_message(image_msg("rgb8", 2, 2, pixels.tobytes()))
    np.testing.assert_array_equal(CAMERAS["raw"].read(serialized, MAX_PIXELS), pixels)
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

    topics = PromptTopics(node, taken.append, serve, lambda: (24, 32))
    assert not ros.node.count_subscribers("/sam/box")
    topics.open()
    publishers = {
        topic: ros.node.create_publisher(row.message_type, topic.replace("~", "/sam"), 10)
        for topic, row in ROWS.items()
    }
    ros.wait_until(lambda: all(p.get_subscription_count() for p in publishers.values()), "the topics")
    publishers["~/box"].publish(MESSAGES["~/box"])
    ros.wait_until(lambda: bool(taken), "the prompt")
    assert taken[0].topic == "/sam/box" and taken[0].convert(TARGET) == Box((2, 4, 8, 12))
    for row in TRIGGER_INPUTS:
        response = called(ros, row.name.replace("~", "/sam"))
        assert (response.success, response.message) == (False, f"{row.name} was called")
    assert served == ["~/clear", "~/undo"]
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
