"""Transforms at a stamp, from a buffer that knows some, and by tf2_ros where that is installed."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from processes import ros_session

from sam_ros.errors import InvalidParameterError
from sam_ros.tools.transforms import RewindingBuffer, Transforms, open_transforms

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


def sent(stamp_sec: int, child: str = "lens", x: float = 0.0) -> TransformStamped:
    """A transform at a stamp."""
    made = TransformStamped(child_frame_id=child)
    made.header.frame_id, made.header.stamp.sec = "base", stamp_sec
    made.transform.translation.x, made.transform.rotation.w = x, 1.0
    return made


class Recording:
    """In place of a tf2_ros.Buffer: keeps what it takes until it is emptied."""

    def __init__(self) -> None:
        self.stamps_sec: list[int] = []
        self.static: list[str] = []

    def set_transform(self, transform: TransformStamped, _: str) -> None:
        self.stamps_sec.append(transform.header.stamp.sec)

    def set_transform_static(self, transform: TransformStamped, _: str) -> None:
        self.static.append(transform.child_frame_id)

    def clear(self) -> None:
        self.stamps_sec = []


def test_a_jump_back_empties_the_buffer_before_the_first_transform_of_the_new_loop() -> None:
    recording = Recording()
    buffer = RewindingBuffer(recording)
    buffer.set_transform_static(sent(0, "plate"), "")
    for stamp_sec in (100, 101, 99, 102):  # a little out of order is no jump
        buffer.set_transform(sent(stamp_sec), "")
    assert recording.stamps_sec == [100, 101, 99, 102]
    for stamp_sec in (10, 11):
        buffer.set_transform(sent(stamp_sec), "")
    assert recording.stamps_sec == [10, 11]
    assert recording.static == ["plate"]


def test_what_a_slower_frame_still_says_of_the_old_loop_does_not_stay() -> None:
    recording = Recording()
    buffer = RewindingBuffer(recording)
    for stamp_sec, child in [(100, "lens"), (100, "arm"), (10, "lens"), (101, "arm"), (11, "arm")]:
        buffer.set_transform(sent(stamp_sec, child), "")
    assert recording.stamps_sec == [11]
    buffer.set_transform(sent(12, "lens"), "")
    assert recording.stamps_sec == [11, 12]


@pytest.mark.skipif(not HAS_TF2, reason="needs tf2_ros")
def test_in_each_loop_of_a_bag_tf2_knows_the_transforms_of_that_loop(tmp_path: Path) -> None:
    with ros_session(tmp_path) as session:
        transforms = open_transforms(session.node)
        tf2_ros = importlib.import_module("tf2_ros")
        mount = sent(0, "mount")
        mount.header.frame_id = "lens"
        tf2_ros.StaticTransformBroadcaster(session.node).sendTransform(mount)
        broadcaster = tf2_ros.TransformBroadcaster(session.node)

        def is_known(stamp_sec: int, x: float) -> bool:
            broadcaster.sendTransform(sent(stamp_sec, x=x))
            pose = transforms.pose("base", "mount", Time(sec=stamp_sec))
            return pose is not None and pose.translation[0] == x

        for loop in (1.0, 2.0):
            for stamp_sec in (1000, 1005, 1020):  # longer than what tf2 keeps
                known = partial(is_known, stamp_sec, loop)
                session.wait_until(known, f"the transform at {stamp_sec} s in loop {loop}")


class _Nanoseconds:
    def __init__(self, nanoseconds: int) -> None:
        self.nanoseconds = nanoseconds
