"""The bridge for yolo_ros: its message, with stand-ins that have the fields of yolo_msgs, to the node's."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from geometry_msgs.msg import Point
from rclpy.serialization import serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

EXAMPLE = Path(__file__).parents[1] / "examples" / "yolo_bridge.py"


# As yolo_msgs 5 documents them: Vector2, Pose2D, BoundingBox2D, Detection, DetectionArray.
@dataclass
class Size:
    x: float = 0.0
    y: float = 0.0


@dataclass
class Center:
    position: Point
    theta: float = 0.0


@dataclass
class Box:
    center: Center
    size: Size


@dataclass
class YoloDetection:
    class_id: int
    class_name: str
    score: float
    id: str
    bbox: Box


@dataclass
class YoloDetectionArray:
    header: Header = field(default_factory=Header)
    detections: list[YoloDetection] = field(default_factory=list)


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("yolo_bridge", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cup(id: str = "4") -> YoloDetection:
    return YoloDetection(41, "cup", 0.75, id, Box(Center(Point(x=50.0, y=40.0)), Size(30.0, 20.0)))


def bridged(*detections: YoloDetection) -> Detection2DArray:
    msg = YoloDetectionArray(Header(frame_id="lens"), list(detections))
    msg.header.stamp.sec, msg.header.stamp.nanosec = 7, 8
    prompts = load_example().prompts_of(msg)
    assert isinstance(prompts, Detection2DArray)
    serialize_message(prompts)  # every field has the type that the message asks for
    return prompts


def test_stamp_id_class_score_and_box_are_passed_on() -> None:
    prompts = bridged(cup())
    assert (prompts.header.stamp.sec, prompts.header.stamp.nanosec, prompts.header.frame_id) == (7, 8, "lens")
    (one,) = prompts.detections
    assert one.id == "4"
    (result,) = one.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("cup", 0.75)
    center = one.bbox.center.position
    assert (center.x, center.y, one.bbox.size_x, one.bbox.size_y) == (50.0, 40.0, 30.0, 20.0)


def test_no_detections_are_an_empty_set() -> None:
    assert bridged().detections == []
