"""Transforms at a stamp, from a buffer that knows some, and by tf2_ros where that is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from processes import ros_session

from sam_ros.errors import InvalidParameterError
from sam_ros.tools.transforms import Transforms, open_transforms

HAS_TF2 = importlib.util.find_spec("tf2_ros") is not None


class Known:
    """In place of a tf2_ros.Buffer: knows one transform, at one stamp."""

    def can_transform(self, target: str, source: str, time: Any) -> bool:
        return (target, source, time.nanoseconds) == ("base", "lens", 3_000_000_005)

    def lookup_transform(self, target: str, source: str, time: Any) -> TransformStamped:
        assert self.can_transform(target, source, time)
        made = TransformStamped()
        made.transform.translation.y = 2.0
        made.transform.rotation.x = made.transform.rotation.w = np.sqrt(0.5)  # y becomes z
        return made


def test_a_pose_is_that_of_the_very_stamp() -> None:
    transforms = Transforms(Known(), None)
    pose = transforms.pose("base", "lens", Time(sec=3, nanosec=5))
    assert pose is not None
    np.testing.assert_allclose(pose.rotation @ [0, 1, 0] + pose.translation, [0, 2, 1], atol=1e-12)


@pytest.mark.parametrize("stamp", [Time(sec=3, nanosec=6), Time()])
def test_at_another_stamp_there_is_none(stamp: Time) -> None:
    assert Transforms(Known(), None).pose("base", "lens", stamp) is None


@pytest.mark.skipif(HAS_TF2, reason="tf2_ros is installed")
def test_without_tf2_ros_the_error_says_what_to_install(tmp_path: Path) -> None:
    with ros_session(tmp_path) as session, pytest.raises(InvalidParameterError, match="apt install"):
        open_transforms(session.node)


@pytest.mark.skipif(not HAS_TF2, reason="needs tf2_ros")
def test_tf2_ros_knows_what_was_broadcast(tmp_path: Path) -> None:
    with ros_session(tmp_path) as session:
        transforms = open_transforms(session.node)
        broadcaster = importlib.import_module("tf2_ros").StaticTransformBroadcaster(session.node)
        sent = Known().lookup_transform("base", "lens", _Nanoseconds(3_000_000_005))
        sent.header.frame_id, sent.child_frame_id = "base", "lens"
        broadcaster.sendTransform(sent)
        stamp = Time(sec=3, nanosec=5)
        session.wait_until(lambda: transforms.pose("base", "lens", stamp) is not None, "the transform")
        pose = transforms.pose("base", "lens", stamp)
        assert pose is not None
        np.testing.assert_allclose(pose.translation, [0, 2, 0])


class _Nanoseconds:
    def __init__(self, nanoseconds: int) -> None:
        self.nanoseconds = nanoseconds
