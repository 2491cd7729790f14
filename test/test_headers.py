"""Headers: stamps in nanoseconds and back, and copies that share nothing."""

from __future__ import annotations

import pytest
from messages import header

from sam_ros.errors import SamRosError
from sam_ros.node.headers import copied, header_of, stamp_to_ns


def test_stamps_are_nanoseconds() -> None:
    assert stamp_to_ns(header(sec=0, nanosec=0)) == 0
    assert stamp_to_ns(header(sec=2**31 - 1, nanosec=999_999_999)) == 2_147_483_647_999_999_999
    assert stamp_to_ns(header(sec=-1, nanosec=1)) == -999_999_999


@pytest.mark.parametrize("nanosec", [1_000_000_000, 2**31, 2**32 - 1])
def test_a_stamp_of_a_second_or_more_of_nanoseconds_is_refused(nanosec: int) -> None:
    with pytest.raises(SamRosError, match=f"nanosec must be below 1000000000, got {nanosec}") as caught:
        stamp_to_ns(header(sec=1, nanosec=nanosec))
    assert caught.value.kind == "invalid header"


@pytest.mark.parametrize("stamp_ns", [0, 1, 12_000_000_034, 2_147_483_647_999_999_999, -999_999_999])
def test_a_header_of_a_stamp_has_that_stamp(stamp_ns: int) -> None:
    made = header_of(stamp_ns, "camera")
    assert stamp_to_ns(made) == stamp_ns and made.frame_id == "camera"


def test_a_copy_is_equal_and_shares_nothing() -> None:
    given = header()
    copy = copied(given)
    assert copy == given and copy is not given and copy.stamp is not given.stamp
    copy.stamp.sec, copy.frame_id = 99, "changed"
    assert given == header()
