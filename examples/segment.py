"""Segment what is clicked on, and save a picture of it: the whole way of a client, to copy from.

Needs a camera and the node, for example these, each in a terminal:

    ros2 run sam_ros camera --ros-args -p source:=photograph:coffee
    ros2 run sam_ros sam_node
    python3 examples/segment.py 365 285 --output spoon.png

It prints every object of the answer and ends. Another camera: ``--ros-args -r image:=/camera/image_raw``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from cv_bridge import CvBridge
from geometry_msgs.msg import Point, PointStamped
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

CLICK_AGAIN_SEC = 2.0
IMAGES_KEPT = 90
COLOUR_BGR = np.array([233, 180, 86])
BRIDGE = CvBridge()


class Client(Node):
    """Clicks on an image until a set of answers has an object there; ``answer`` is that set.

    Image, mask and segments belong together where their stamps are equal.
    """

    def __init__(self, x: float, y: float) -> None:
        super().__init__("segment_client")
        self.answer: tuple[Image, Image, Detection2DArray] | None = None
        self._pixel = Point(x=x, y=y)
        self._clicked_at = float("-inf")
        self._parts: dict[tuple[int, int], dict[str, Any]] = {}  # by stamp
        self._clicks = self.create_publisher(PointStamped, "sam/point", 1)
        # Cameras publish best effort; an answer comes once, and reliably.
        self.create_subscription(Image, "image", self._take_image, qos_profile_sensor_data)
        self.create_subscription(Image, "sam/mask", lambda msg: self._take("mask", msg), 10)
        self.create_subscription(Detection2DArray, "sam/segments", self._take_segments, 10)

    def _take_image(self, image: Image) -> None:
        self._take("image", image)
        now = time.monotonic()
        if self._clicks.get_subscription_count() and now - self._clicked_at > CLICK_AGAIN_SEC:
            self._clicked_at = now
            # The image's own header: the node answers on this very frame, however far the camera has moved.
            self._clicks.publish(PointStamped(header=image.header, point=self._pixel))

    def _take_segments(self, segments: Detection2DArray) -> None:
        if any(self._is_hit(detection.bbox) for detection in segments.detections):
            self._take("segments", segments)

    def _is_hit(self, bbox: Any) -> bool:
        center = bbox.center.position
        return (
            abs(center.x - self._pixel.x) <= bbox.size_x / 2
            and abs(center.y - self._pixel.y) <= bbox.size_y / 2
        )

    def _take(self, name: str, msg: Any) -> None:
        """Keep one part of a set; the set is whole once all three have come, in whatever order."""
        stamp = msg.header.stamp.sec, msg.header.stamp.nanosec
        parts = self._parts.setdefault(stamp, {})
        parts[name] = msg
        if len(parts) == 3:
            self.answer = parts["image"], parts["mask"], parts["segments"]
        while len(self._parts) > IMAGES_KEPT:
            del self._parts[next(iter(self._parts))]


def drawn(image: Image, mask: Image) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8 BGR: the image, half of the mask's colour on it where the mask is."""
    picture = BRIDGE.imgmsg_to_cv2(image, "bgr8").copy()
    inside = BRIDGE.imgmsg_to_cv2(mask, "mono8") > 0
    picture[inside] = (picture[inside] + COLOUR_BGR) / 2
    return picture


def told(segments: Detection2DArray) -> list[str]:
    """A line for each object: its id, class, predicted IoU and box."""
    lines = []
    for detection in segments.detections:
        best, bbox = detection.results[0].hypothesis, detection.bbox
        left, top = bbox.center.position.x - bbox.size_x / 2, bbox.center.position.y - bbox.size_y / 2
        name = f"{best.class_id} {detection.id}".strip()
        lines.append(
            f"{name}: IoU {best.score:.2f}, {bbox.size_x:.0f} x {bbox.size_y:.0f} pixels at "
            f"({left:.0f}, {top:.0f})"
        )
    return lines


def wait_for_answer(client: Client, timeout_sec: float) -> None:
    """Spin until the answer is there or the time has passed."""
    deadline = time.monotonic() + timeout_sec
    while client.answer is None and time.monotonic() < deadline:
        rclpy.spin_once(client, timeout_sec=0.1)


def main(argv: Sequence[str]) -> int:
    """Click, wait, print, save; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("x", type=float, help="pixel to click on")
    parser.add_argument("y", type=float)
    parser.add_argument("--output", type=Path, default=Path("segment.png"))
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds")
    arguments = parser.parse_args(remove_ros_args(argv)[1:])
    rclpy.init(args=argv)
    client = Client(arguments.x, arguments.y)
    wait_for_answer(client, arguments.timeout)
    client.destroy_node()
    rclpy.try_shutdown()
    if client.answer is None:
        print("no mask came: do the camera and sam_node run? The node says what it refuses", file=sys.stderr)
        return 1
    image, mask, segments = client.answer
    print("\n".join(told(segments)))
    if not cv2.imwrite(str(arguments.output), drawn(image, mask)):
        print(f"{arguments.output} cannot be written", file=sys.stderr)
        return 1
    print(f"saved {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
