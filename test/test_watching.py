"""Why no images come, in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import ros_session
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from sam_ros.node.watching import Offer, offers_on, topics_with_publishers, why_no_images

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
KEPT = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
OTHERS = {"/camera/image_raw": [IMAGE], "/depth": [IMAGE], "/scan": ["sensor_msgs/msg/LaserScan"]}


@pytest.mark.parametrize(
    ("offers", "wanted", "expected"),
    [
        ([], BEST_EFFORT, ["nothing publishes on /image", "/camera/image_raw, /depth", "remap image"]),
        (
            [Offer("/camera", COMPRESSED, RELIABLE)],
            BEST_EFFORT,
            ["/camera publishes sensor_msgs/msg/CompressedImage", "set image_transport:=compressed"],
        ),
        (
            [Offer("/camera", IMAGE, BEST_EFFORT)],
            RELIABLE,
            ["/camera offers best_effort, volatile, the node asks for reliable, volatile", "qos_overrides"],
        ),
        (
            [Offer("/camera", IMAGE, RELIABLE)],
            KEPT,
            ["offers reliable, volatile, the node asks for reliable, transient_local", "image_durability"],
        ),
        (
            [Offer("/camera", IMAGE, RELIABLE)],
            BEST_EFFORT,
            ["no image comes on /image, though /camera would", "FASTDDS_BUILTIN_TRANSPORTS=UDPv4"],
        ),
    ],
    ids=["no publisher", "another type", "another reliability", "another durability", "it should work"],
)
def test_the_cause_is_told(offers: list[Offer], wanted: QoSProfile, expected: list[str]) -> None:
    said = why_no_images("/image", IMAGE, wanted, offers, OTHERS)
    assert all(part in said for part in expected), said


def test_without_any_other_topic_of_images_that_is_said() -> None:
    assert "no other topic of that type" in why_no_images(
        "/image", IMAGE, BEST_EFFORT, [], {"/image": [IMAGE]}
    )


def test_of_many_topics_some_are_shown() -> None:
    topics = {f"/camera{i}": [IMAGE] for i in range(8)}
    assert "/camera4 and 3 more" in why_no_images("/image", IMAGE, BEST_EFFORT, [], topics)


def test_the_graph_tells_what_publishers_offer(tmp_path: Path) -> None:
    with ros_session(tmp_path) as ros:
        ros.node.create_publisher(Image, "/image", KEPT)
        ros.node.create_publisher(CompressedImage, "/other", 1)
        ros.node.create_subscription(Image, "/nobody", lambda _: None, 1)
        ros.wait_until(lambda: bool(offers_on(ros.node, "/image")), "the publisher")
        (offer,) = offers_on(ros.node, "/image")
        assert (offer.node_name, offer.message_type) == ("/tester", IMAGE)
        assert offer.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
        topics = topics_with_publishers(ros.node)
        assert topics["/image"] == [IMAGE] and topics["/other"] == [COMPRESSED] and "/nobody" not in topics
