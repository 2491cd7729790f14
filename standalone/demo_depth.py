"""The demo in space: a rendered table with depth, masks of its things, boxes in metres around them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import cv2
import rclpy
from cv_bridge import CvBridge
from demo_client import ANSWER_SEC, START_SEC, DemoError, check_running, exit_code, program
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    Detection3DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

from sam_ros.core.overlay import PALETTE_RGB
from sam_ros.core.pinhole import Pinhole
from sam_ros.core.tabletop import THINGS, render, tilted_view
from sam_ros.core.wireframe import draw_box
from sam_ros.tools.camera import SCENE, SCENE_DISTANCE_M
from sam_ros.tools.conversions_3d import box_from_msg, pinhole_from_msg

T = TypeVar("T")
STREAMS: dict[str, Any] = {
    "image": Image,
    "camera_info": CameraInfo,
    "sam/mask": Image,
    "objects_3d/detections": Detection3DArray,
}
COLUMNS = "{:<8}{:<22}{:<22}{:>14}"
BRIDGE = CvBridge()


class DepthClient:
    """A node that prompts with boxes, as a detector would, and collects what comes of one frame."""

    def __init__(self, node: Node, check: Callable[[], None]) -> None:
        """Take the node to use, and a function that raises when a process has died."""
        self._check = check
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._frames: dict[tuple[int, int], dict[str, Any]] = {}
        self._prompts = node.create_publisher(Detection2DArray, "sam/prompts", 1)
        for name, kind in STREAMS.items():
            node.create_subscription(kind, name, self._taker(name), qos_profile_sensor_data)

    def answer(self) -> dict[str, Any]:
        """Prompt until all things have a box in space; return the messages of that frame.

        A frame may be lost, and the node may not be active yet: a detector would not stop either.
        """
        deadline = time.monotonic() + START_SEC + ANSWER_SEC
        while time.monotonic() < deadline:
            camera = self._wait(self._newest_camera, "the camera", START_SEC)
            self._prompts.publish(prompts(camera))
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                self._spin()
                if complete := self._complete():
                    return complete
        raise DemoError("no boxes in space came")

    def _newest_camera(self) -> CameraInfo | None:
        return next((got["camera_info"] for got in self._frames.values() if "camera_info" in got), None)

    def _complete(self) -> dict[str, Any] | None:
        for got in self._frames.values():
            if len(got) == len(STREAMS) and len(got["objects_3d/detections"].detections) == len(THINGS):
                return got
        return None

    def _taker(self, name: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
            self._frames.setdefault(stamp, {})[name] = message
            if len(self._frames) > 100:
                del self._frames[min(self._frames)]

        return take

    def _spin(self) -> None:
        self._check()
        self._executor.spin_once(timeout_sec=0.05)

    def _wait(self, probe: Callable[[], T | None], what: str, timeout_sec: float) -> T:
        deadline = time.monotonic() + timeout_sec
        while (found := probe()) is None:
            self._spin()
            if time.monotonic() > deadline:
                raise DemoError(f"waited {timeout_sec:.0f} s in vain for {what}")
        return found


def prompts(camera_info: CameraInfo) -> Detection2DArray:
    """Return a box around each thing, as a detector that knows them would find them, for the newest frame."""
    labels = render(tilted_view(pinhole_from_msg(camera_info, rectified=False), SCENE_DISTANCE_M)).labels
    made = Detection2DArray()
    for label, thing in enumerate(THINGS, 1):
        x, y, width, height = cv2.boundingRect((labels == label).view("uint8"))
        center = Pose2D(position=Point2D(x=x + width / 2, y=y + height / 2))
        hypothesis = ObjectHypothesis(class_id=thing.name, score=1.0)
        made.detections.append(
            Detection2D(
                id=thing.name,
                bbox=BoundingBox2D(center=center, size_x=float(width), size_y=float(height)),
                results=[ObjectHypothesisWithPose(hypothesis=hypothesis)],
            )
        )
    return made


def show(answer: dict[str, Any]) -> None:
    """Print a line for each thing: the sides found, the true ones, where it is."""
    print(COLUMNS.format("object", "sides (cm)", "true sides (cm)", "distance (m)"))
    true = {thing.name: thing.size for thing in THINGS}
    for detection in answer["objects_3d/detections"].detections:
        box = box_from_msg(detection.bbox)
        centroid = detection.results[0].pose.pose.position
        distance = (centroid.x**2 + centroid.y**2 + centroid.z**2) ** 0.5
        print(
            COLUMNS.format(
                detection.id,
                sides(box.size),
                sides(sorted(true[detection.id], reverse=True)),
                f"{distance:.3f}",
            )
        )
    print("Of a ball only the front is seen; its hidden back is not guessed.", flush=True)


def sides(size: Any) -> str:
    """Return sides of metres in centimetres."""
    return " x ".join(f"{100 * side:.1f}" for side in size)


def draw(answer: dict[str, Any], path: Path) -> None:
    """Write the picture with masks and boxes."""
    picture = BRIDGE.imgmsg_to_cv2(answer["image"], "rgb8").copy()
    mask = BRIDGE.imgmsg_to_cv2(answer["sam/mask"]) > 0
    picture[mask] = picture[mask] // 2 + 100
    camera: Pinhole = pinhole_from_msg(answer["camera_info"], rectified=False)
    for detection, colour in zip(answer["objects_3d/detections"].detections, PALETTE_RGB, strict=False):
        draw_box(picture, box_from_msg(detection.bbox), camera, colour)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise DemoError(f"cannot write {path}")


def run(folder: Path, parameters: list[str]) -> None:
    """Start camera, segmentation and objects_3d, prompt, and end them again."""
    with ExitStack() as stack:
        print("demo: starting a camera with depth, sam_node and objects_3d", flush=True)
        started = {
            "camera": program("camera", folder, f"source:={SCENE}", "depth:=16UC1", "rate:=5.0"),
            "sam_node": program("sam_node", folder, *parameters),
            "objects_3d": program(
                "objects_3d", folder, remappings=("labels:=sam/labels", "segments:=sam/segments")
            ),
        }
        processes = {name: stack.enter_context(one) for name, one in started.items()}
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.shutdown)
        client = DepthClient(rclpy.create_node("demo_client"), lambda: check_running(processes))
        answer = client.answer()
        show(answer)
        draw(answer, folder / "depth.png")


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="standalone/demo --depth", description=__doc__)
    parser.add_argument("--depth", action="store_true", help="this demo, not that on a photograph")
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), metavar="DIR", help="for pictures"
    )
    parser.add_argument(
        "-p", action="append", default=[], metavar="NAME:=VALUE", help="parameter of the node"
    )
    arguments = parser.parse_args()
    folder = arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    code = exit_code(lambda: run(folder, arguments.p), folder)
    if code == 0:
        print(f"demo: the picture is {folder / 'depth.png'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
