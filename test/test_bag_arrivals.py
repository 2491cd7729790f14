"""A bag's images, numbered or left out as the node would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from node_rig import SECOND, header
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from sam_ros.tools.bag.arrivals import Arrivals, Arrived, with_next_stamps
from sam_ros.tools.bag.source import BagError, Recorded


def recorded(stamp_ns: int, frame_id: str = "camera") -> Recorded:
    return Recorded(stamp_ns + 5, bytes(serialize_message(Image(header=header(stamp_ns, frame_id)))))


def arrived(*messages: Recorded) -> list[Arrived]:
    return list(with_next_stamps(map(Arrivals().take, messages)))


def summary(some: list[Arrived]) -> list[tuple[int | None, str, int | None]]:
    """Number, problem and next stamp of each."""
    return [
        (
            one.frame.sequence if one.frame else None,
            one.problem.kind if one.problem else "",
            one.next_stamp_ns,
        )
        for one in some
    ]


def test_images_in_order_are_numbered_and_know_the_next_stamp() -> None:
    some = arrived(*(recorded(stamp_ns) for stamp_ns in (100, 200, 300)))
    assert summary(some) == [(1, "", 200), (2, "", 300), (3, "", None)]
    assert [one.position for one in some] == [0, 1, 2]
    assert [one.frame.stamp_ns for one in some if one.frame] == [100, 200, 300]
    assert some[0].frame is not None and some[0].frame.data == some[0].recorded.data


def test_late_and_repeated_images_are_left_out() -> None:
    some = arrived(*(recorded(stamp_ns) for stamp_ns in (100, 200, 150, 200, 300)))
    assert summary(some) == [
        (1, "", 200),
        (2, "", 300),
        (None, "out of order", 300),
        (3, "stamp not later", 300),
        (4, "", None),
    ]


def test_a_second_camera_is_left_out() -> None:
    names = ("left", "right", "left", "right", "left")
    some = arrived(*(recorded(100 + i, name) for i, name in enumerate(names)))
    assert [one.problem.kind if one.problem else "" for one in some] == ["", "", "", "other camera", ""]


def test_a_camera_without_stamps_is_gone_by_when_its_images_were_recorded() -> None:
    cameras = zip(("left", "right", "left", "right", "right"), (1, 2, 2, 3, 4), strict=True)
    some = arrived(*(replace(recorded(0, name), time_ns=sec * SECOND) for name, sec in cameras))
    assert [one.problem.kind if one.problem else "" for one in some] == ["", "", "", "other camera", ""]


def test_stamps_that_jump_back_begin_anew() -> None:
    some = arrived(*(recorded(stamp_ns) for stamp_ns in (10 * SECOND, 11 * SECOND, SECOND, 2 * SECOND)))
    assert [one.begins_anew for one in some] == [False, False, True, False]
    assert [one.lap for one in some] == [0, 0, 1, 1]
    assert [one.frame.sequence for one in some if one.frame] == [1, 2, 3, 4]
    assert some[1].next_stamp_ns == SECOND


def test_laps_are_counted_with_what_is_left_out_between_them() -> None:
    some = arrived(
        recorded(10 * SECOND),
        recorded(5 * SECOND),
        recorded(4 * SECOND),
        Recorded(1, b"\x00"),
        *(recorded(SECOND + stamp_ns) for stamp_ns in (100, 200, 300)),
    )
    assert [one.lap for one in some] == [0, 1, 1, 1, 2, 2, 2]
    assert [one.begins_anew for one in some] == [False, True, False, False, True, False, False]


def test_a_message_without_a_header_is_left_out() -> None:
    some = arrived(Recorded(1, b"\x00"), recorded(100))
    assert summary(some) == [(None, "malformed message", 100), (1, "", None)]


def test_a_camera_that_leaves_all_stamps_at_zero_is_followed() -> None:
    assert [kind for _, kind, _ in summary(arrived(recorded(0), recorded(0)))] == ["", ""]


def test_the_last_image_before_the_bag_is_damaged_comes_too() -> None:
    def messages() -> Iterator[Recorded]:
        yield recorded(100)
        yield recorded(200)
        raise BagError("damaged")

    some = with_next_stamps(map(Arrivals().take, messages()))
    assert summary([next(some), next(some)]) == [(1, "", 200), (2, "", None)]
    with pytest.raises(BagError):
        next(some)
