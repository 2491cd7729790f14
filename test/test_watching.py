"""Why no images come, in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import ros_session
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from sam_ros.node.watching import CameraWatch, Offer, offers_on, topics_with_publishers, why_no_images

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


def image(encoding: str = "bgr8") -> bytes:
    msg = Image(height=3, width=5, step=15, encoding=encoding)
    return bytes(serialize_message(msg))


class Clock:
    """Seconds that go on only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Notes:
    """Keeps what would be said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)

    def warn(self, kind: str, text: str) -> None:
        self.said.append(f"{kind}: {text}")


def test_a_first_image_that_is_malformed_is_described_as_that(tmp_path: Path) -> None:
    clock, notes = Clock(), Notes()
    with ros_session(tmp_path) as ros:
        subscription = ros.node.create_subscription(Image, "/image", lambda _: None, 1)
        watch = CameraWatch(ros.node, subscription, notes, clock)
        watch.saw(image()[:20])
        clock.now += 2.0
        watch.look()
    assert "images come on /image: 20 bytes are no Image" in notes.said[-1]


@pytest.mark.parametrize(
    ("num_images", "expected"),
    [(46, "images come on /image: 5 x 3, bgr8, 22.5 Hz"), (1, "images come on /image: 5 x 3, bgr8")],
    ids=["a camera", "a still"],
)
def test_what_comes_is_told_once_with_size_encoding_and_rate(
    tmp_path: Path, num_images: int, expected: str
) -> None:
    clock, notes = Clock(), Notes()
    with ros_session(tmp_path) as ros:
        subscription = ros.node.create_subscription(Image, "/image", lambda _: None, 1)
        watch = CameraWatch(ros.node, subscription, notes, clock)
        watch.look()
        watch.saw(image())
        watch.look()
        assert notes.said == ["active, waiting for images on /image (sensor_msgs/msg/Image)"]
        for _ in range(num_images - 1):
            watch.saw(image("mono8"))  # the first one is described
        clock.now += 2.0
        watch.look()
        watch.saw(image())
        watch.look()
        assert notes.said[1:] == [expected]


def test_a_camera_that_stops_is_told_once_and_so_is_its_return(tmp_path: Path) -> None:
    clock, notes = Clock(), Notes()
    with ros_session(tmp_path) as ros:
        subscription = ros.node.create_subscription(Image, "/image", lambda _: None, 1)
        watch = CameraWatch(ros.node, subscription, notes, clock)
        for _ in range(5):
            watch.saw(image())
            clock.now += 2.0
        watch.look()
        clock.now += 3.9  # 5.9 s of silence, within three of its periods
        watch.look()
        del notes.said[:2]
        assert not notes.said
        clock.now += 0.2
        for _ in range(3):
            watch.look()
            clock.now += 10.0
        (stopped,) = notes.said
        assert stopped.startswith("no images: no image for 6.1 s: nothing publishes on /image")
        watch.saw(image())
        watch.look()
        assert notes.said[1:] == ["images come again on /image, after 36.1 s without any"]


def test_a_still_image_is_no_camera_that_stopped(tmp_path: Path) -> None:
    clock, notes = Clock(), Notes()
    with ros_session(tmp_path) as ros:
        subscription = ros.node.create_subscription(Image, "/image", lambda _: None, 1)
        watch = CameraWatch(ros.node, subscription, notes, clock)
        watch.saw(image())
        clock.now += 1000.0
        watch.look()
        assert len(notes.said) == 2 and notes.said[1].startswith("images come on /image")
