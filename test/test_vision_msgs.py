"""The vision_msgs in use are upstream's, or cannot be told from upstream's on the wire."""

import inspect
from pathlib import Path

import pytest
import vision_msgs.msg
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion, Vector3
from processes import ros_session
from rclpy.serialization import deserialize_message, serialize_message
from vision_msgs.msg import (
    BoundingBox2D,
    BoundingBox3D,
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

# Computed by rosidl_generator_type_description 4.6.6 from the .msg files of ros-perception/vision_msgs at
# release 4.1.1 (branch ros2, commit e77fa2d97d69abaaa546592892d2d5d16cec9977), which is what Jazzy ships.
UPSTREAM_TYPE_HASHES = {
    "BoundingBox2D": "RIHS01_008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "BoundingBox3D": "RIHS01_bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "Detection2D": "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "Detection3D": "RIHS01_ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "Detection3DArray": "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "ObjectHypothesis": "RIHS01_51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "ObjectHypothesisWithPose": "RIHS01_41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "Point2D": "RIHS01_eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    "Pose2D": "RIHS01_b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
}


POSE = Pose(position=Point(x=1.0, y=2.0, z=3.0), orientation=Quaternion(x=0.0, y=0.6, z=0.0, w=0.8))


def hypothesis() -> ObjectHypothesisWithPose:
    pose = PoseWithCovariance(pose=POSE, covariance=[float(value) for value in range(36)])
    return ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="cup", score=0.75), pose=pose)


def detections() -> Detection2DArray:
    """A message in which every field that upstream has holds a value of its own."""
    cup = hypothesis()
    bowl = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="bowl", score=0.25))
    center = Pose2D(position=Point2D(x=320.5, y=240.25), theta=0.125)
    first = Detection2D(
        results=[cup, bowl], bbox=BoundingBox2D(center=center, size_x=64.0, size_y=48.5), id="a"
    )
    first.header.frame_id = "inner"
    message = Detection2DArray(detections=[first, Detection2D(id="b")])
    message.header.frame_id = "camera"
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 34
    return message


def detections_3d() -> Detection3DArray:
    """The same of what is in space."""
    box = BoundingBox3D(center=POSE, size=Vector3(x=0.25, y=0.5, z=0.75))
    first = Detection3D(results=[hypothesis()], bbox=box, id="a")
    first.header.frame_id = "inner"
    message = Detection3DArray(detections=[first, Detection3D(id="b")])
    message.header.frame_id = "base"
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 34
    return message


@pytest.mark.parametrize("name", UPSTREAM_TYPE_HASHES)
def test_type_hash_is_upstreams(name: str, tmp_path: Path) -> None:
    with ros_session(tmp_path) as session:
        session.node.create_publisher(getattr(vision_msgs.msg, name), "topic", 1)
        (endpoint,) = session.node.get_publishers_info_by_topic("topic")
        assert endpoint.topic_type == f"vision_msgs/msg/{name}"
        assert str(endpoint.topic_type_hash) == UPSTREAM_TYPE_HASHES[name]


def test_every_message_that_standalone_declares_is_held_to_upstream() -> None:
    if Path(vision_msgs.__file__).with_name("msg").joinpath("_vision_info.py").exists():
        pytest.skip("upstream's vision_msgs is installed: it has more messages than sam_ros uses")
    declared = {name for name, _ in inspect.getmembers(vision_msgs.msg, inspect.isclass)}
    assert declared == set(UPSTREAM_TYPE_HASHES)


@pytest.mark.parametrize("message", [detections(), detections_3d()], ids=["2D", "3D"])
def test_serialization_keeps_every_field(message: Detection2DArray | Detection3DArray) -> None:
    assert deserialize_message(serialize_message(message), type(message)) == message


@pytest.mark.parametrize("message", [detections(), detections_3d()], ids=["2D", "3D"])
def test_a_published_message_arrives_with_every_field(
    tmp_path: Path, message: Detection2DArray | Detection3DArray
) -> None:
    received: list[Detection2DArray | Detection3DArray] = []
    with ros_session(tmp_path) as session:
        session.node.create_subscription(type(message), "detections", received.append, 1)
        publisher = session.node.create_publisher(type(message), "detections", 1)
        session.wait_until(lambda: publisher.get_subscription_count() == 1, "the subscription")
        publisher.publish(message)
        session.wait_until(lambda: len(received) == 1, "the detections")
    assert received == [message]
