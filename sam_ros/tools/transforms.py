"""Where the camera is in another frame at a stamp, by tf2 where that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.time import Time

from sam_ros.core.lifting import Pose
from sam_ros.errors import InvalidParameterError
from sam_ros.tools.conversions_3d import pose_from_msg
from sam_ros.tools.matching import FLUSH_NS


@dataclass(frozen=True)
class Transforms:
    """What tf has told so far.

    Attributes:
        buffer: a tf2_ros.Buffer.
        listener: what fills it, kept alive.
    """

    buffer: Any
    listener: Any

    def pose(self, target_frame: str, source_frame: str, stamp: TimeMsg) -> Pose | None:
        """The source in the target frame at a stamp, never at another one; None while that is not known."""
        time = Time.from_msg(stamp)
        if not self.buffer.can_transform(target_frame, source_frame, time):
            return None
        return pose_from_msg(self.buffer.lookup_transform(target_frame, source_frame, time))


class RewindingBuffer:
    """Fills a tf2_ros.Buffer, and empties it when the stamps of a frame jump back, as where a bag loops.

    tf2 refuses what is much older than what it has: from the second loop on, that would be everything. The
    transforms themselves tell, not the camera's images, which come before or after the last ones of a loop.

    Args:
        buffer: what is filled. Its ``clear`` keeps static transforms, which are sent only once.
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self._newest_ns: dict[str, int] = {}  # by child frame

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Take a transform of /tf, as a TransformListener hands it on."""
        child, stamp = transform.child_frame_id, transform.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if stamp_ns < self._newest_ns.get(child, stamp_ns) - FLUSH_NS:
            self._buffer.clear()
            self._newest_ns.clear()
        self._newest_ns[child] = max(stamp_ns, self._newest_ns.get(child, stamp_ns))
        self._buffer.set_transform(transform, authority)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Take a transform of /tf_static."""
        self._buffer.set_transform_static(transform, authority)


OpenTransforms = Callable[[Node], Transforms]


def open_transforms(node: Node) -> Transforms:
    """Listen to tf on a node.

    Raises:
        InvalidParameterError: tf2_ros is not installed.
    """
    try:
        tf2_ros = importlib.import_module("tf2_ros")
    except ImportError as error:
        raise InvalidParameterError(
            "target_frame needs tf2_ros, which is not installed: sudo apt install "
            "ros-$ROS_DISTRO-tf2-ros-py, or leave target_frame empty for the camera's frame"
        ) from error
    buffer = tf2_ros.Buffer()
    return Transforms(buffer, tf2_ros.TransformListener(RewindingBuffer(buffer), node))
