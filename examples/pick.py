"""Pick what is clicked on: a click, its mask, its box in space, and a pose for the gripper above it.

Needs sam_node and objects_3d beside a camera with depth, for example the rendered one; each in a terminal:

    ros2 run sam_ros camera --ros-args -p source:=scene:tabletop -p depth:=16UC1
    ros2 run sam_ros sam_node
    ros2 run sam_ros objects_3d --ros-args -r labels:=sam/labels -r segments:=sam/segments
    python3 examples/pick.py 470 160

It publishes the pose on ``grasp`` (geometry_msgs/PoseStamped), prints it, and ends.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import rclpy
from geometry_msgs.msg import Point, PointStamped, PoseStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo
from vision_msgs.msg import Detection2DArray, Detection3D, Detection3DArray

from sam_ros.core.box3d import Box3D
from sam_ros.tools.conversions_3d import box_from_msg, pose_msg

Vector = npt.NDArray[np.float64]

# Up in a camera's optical frame is -y, near enough to tell a thing's top from its sides. With target_frame
# set, objects_3d answers in a frame whose z is up: then give --up 0 0 1.
UP_IN_CAMERA = (0.0, -1.0, 0.0)
CLEARANCE_M = 0.10
CLICK_AGAIN_SEC = 2.0
TIMEOUT_SEC = 60.0


@dataclass(frozen=True)
class Grasp:
    """Where to bring a gripper with two fingers: it approaches along its z and closes along its x.

    Attributes:
        position: (3,) metres, above the thing.
        rotation: (3, 3), the gripper's axes as columns.
        opening_m: the width of the thing between the fingers.
    """

    position: Vector
    rotation: npt.NDArray[np.float64]
    opening_m: float


def grasp_from_above(box: Box3D, up: Vector, clearance_m: float) -> Grasp:
    """A pose over the face of a box that is uppermost, with the fingers across its shorter side."""
    along_up = box.rotation.T @ up  # of each axis of the box
    vertical = int(np.abs(along_up).argmax())
    upward = box.rotation[:, vertical] * np.sign(along_up[vertical])
    across = min((axis for axis in range(3) if axis != vertical), key=lambda axis: box.size[axis])
    closing = box.rotation[:, across]
    approach = -upward
    return Grasp(
        box.center + upward * (box.size[vertical] / 2 + clearance_m),
        np.stack([closing, np.cross(approach, closing), approach], axis=1),
        float(box.size[across]),
    )


class Picker(Node):
    """Clicks until the thing has a box in space; ``detection`` is it."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__("picker")
        self.detection: tuple[Detection3DArray, Detection3D] | None = None
        self.grasps = self.create_publisher(PoseStamped, "grasp", 1)
        self._pixel = Point(x=x, y=y)
        self._clicked_at = 0.0
        self._clicks = self.create_publisher(PointStamped, "sam/point", 1)
        self.create_subscription(CameraInfo, "camera_info", self._click, qos_profile_sensor_data)
        self.create_subscription(Detection2DArray, "sam/segments", self._take_segments, 10)
        self.create_subscription(Detection3DArray, "objects_3d/detections", self._take_detections, 10)
        self._id = ""

    def _click(self, camera_info: CameraInfo) -> None:
        """Click on the frame that a person would see now, and again while nothing comes of it."""
        now = time.monotonic()
        if not self._id and now - self._clicked_at > CLICK_AGAIN_SEC:
            self._clicked_at = now
            self._clicks.publish(PointStamped(header=camera_info.header, point=self._pixel))

    def _take_segments(self, segments: Detection2DArray) -> None:
        """The clicked object is the one whose box holds the click."""
        for segment in segments.detections:
            center = segment.bbox.center.position
            inside_x = abs(center.x - self._pixel.x) <= segment.bbox.size_x / 2
            if inside_x and abs(center.y - self._pixel.y) <= segment.bbox.size_y / 2:
                self._id = segment.id

    def _take_detections(self, message: Detection3DArray) -> None:
        for detection in message.detections:
            if detection.id == self._id:
                self.detection = message, detection


def pick(node: Picker, up: Vector, timeout_sec: float) -> PoseStamped | None:
    """Wait for the thing's box and publish a grasp; None if it does not come in time."""
    deadline = time.monotonic() + timeout_sec
    while node.detection is None:
        if time.monotonic() > deadline:
            return None
        rclpy.spin_once(node, timeout_sec=0.1)
    message, detection = node.detection
    box = box_from_msg(detection.bbox)
    grasp = grasp_from_above(box, up, CLEARANCE_M)
    pose = PoseStamped(header=message.header, pose=pose_msg(Box3D(grasp.position, grasp.rotation, box.size)))
    node.grasps.publish(pose)
    node.grasps.wait_for_all_acked(Duration(seconds=2.0))  # this process ends now
    sides = " x ".join(f"{100 * side:.1f}" for side in box.size)
    x, y, z = grasp.position
    print(f"picked {detection.id}: sides {sides} cm, opening {100 * grasp.opening_m:.1f} cm")
    print(f"grasp at ({x:.3f}, {y:.3f}, {z:.3f}) m in {message.header.frame_id!r}")
    return pose


def main(argv: Sequence[str] | None = None) -> int:
    """Click, wait, publish; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("x", type=float, help="pixel to click on")
    parser.add_argument("y", type=float)
    parser.add_argument("--up", type=float, nargs=3, default=UP_IN_CAMERA, help="in the frame of the boxes")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SEC, help="seconds")
    arguments = parser.parse_args(argv)
    rclpy.init()
    node = Picker(arguments.x, arguments.y)
    pose = pick(node, np.array(arguments.up), arguments.timeout)
    node.destroy_node()
    rclpy.try_shutdown()
    if pose is None:
        print(
            "no box in space came: do sam_node and objects_3d run, is there depth at this pixel?",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
