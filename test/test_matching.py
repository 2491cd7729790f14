"""Matching by stamps: what belongs together, what is dropped, and why nothing matches."""

from __future__ import annotations

import pytest

from sam_ros.tools.matching import Match, Matcher

MS = 1_000_000
START = 1_000_000 * MS
TOPICS = {name: f"/{name}" for name in ("labels", "segments", "depth", "camera_info")}


def matcher(tolerance_ms: int = 50, kept: int = 30) -> Matcher:
    return Matcher(("labels", "segments"), ("depth",), ("camera_info",), ("image",), tolerance_ms * MS, kept)


def feed(one: Matcher, *arrivals: tuple[str, int]) -> list[Match]:
    """Add messages, each named by its stream and milliseconds; the matches that come of them."""
    found = (one.add(name, START + ms * MS, f"{name} {ms}") for name, ms in arrivals)
    return [match for match in found if match is not None]


def test_equal_stamps_match_whatever_comes_last() -> None:
    arrivals = [("camera_info", 0), ("depth", 0), ("labels", 0), ("segments", 0)]
    expected = {name: f"{name} 0" for name in TOPICS}
    for first in range(len(arrivals)):
        assert feed(matcher(), *arrivals[first:], *arrivals[:first]) == [expected]


def test_the_nearest_depth_is_taken_once_no_nearer_one_can_follow() -> None:
    one = matcher()
    assert feed(one, ("camera_info", 0), ("depth", 0), ("labels", 30), ("segments", 30)) == []
    (match,) = feed(one, ("depth", 33))
    assert match["depth"] == "depth 33"


def test_an_earlier_depth_is_taken_if_it_is_the_nearer() -> None:
    (match,) = feed(
        matcher(), ("camera_info", 0), ("depth", 0), ("depth", 33), ("labels", 10), ("segments", 10)
    )
    assert match["depth"] == "depth 0"


def test_beyond_the_tolerance_nothing_matches() -> None:
    one = matcher(tolerance_ms=5)
    assert feed(one, ("camera_info", 0), ("depth", 0), ("depth", 20), ("labels", 10), ("segments", 10)) == []
    assert one.matches == 0


def test_labels_and_segments_have_to_have_one_stamp() -> None:
    assert (
        feed(matcher(), ("camera_info", 0), ("depth", 0), ("depth", 9), ("labels", 0), ("segments", 1)) == []
    )


def test_of_calibrations_the_nearest_is_taken_however_far() -> None:
    arrivals = [
        ("camera_info", -90_000),
        ("camera_info", -80_000),
        ("depth", 0),
        ("labels", 0),
        ("segments", 0),
    ]
    (match,) = feed(matcher(), *arrivals)
    assert match["camera_info"] == "camera_info -80000"


def test_an_image_comes_along_if_it_is_there() -> None:
    needed = [("camera_info", 0), ("depth", 0), ("labels", 0), ("segments", 0)]
    assert "image" not in feed(matcher(), *needed)[0]
    assert feed(matcher(), ("image", 2), *needed)[0]["image"] == "image 2"
    assert "image" not in feed(matcher(), ("image", 90), *needed)[0]


def test_the_newest_wins_and_older_ones_are_dropped() -> None:
    one = matcher()
    late = [("labels", 0), ("segments", 0), ("labels", 100), ("segments", 100), ("depth", 0)]
    assert feed(one, *late, ("depth", 100)) == []  # no calibration yet
    (match,) = feed(one, ("camera_info", 0))
    assert match["labels"] == "labels 100"
    assert feed(one, ("depth", 101)) == []
    assert one.candidates() == []


def test_each_set_matches_once() -> None:
    one = matcher()
    arrivals = [
        (name, ms) for ms in range(0, 500, 100) for name in ("camera_info", "depth", "labels", "segments")
    ]
    assert [match["depth"] for match in feed(one, *arrivals)] == [f"depth {ms}" for ms in range(0, 500, 100)]
    assert one.matches == 5


def test_memory_is_bounded() -> None:
    one = matcher(kept=3)
    feed(one, *(("depth", ms) for ms in range(100)))
    assert feed(one, ("camera_info", 0), ("labels", 0), ("segments", 0)) == []  # long gone
    assert feed(one, ("labels", 97), ("segments", 97))[0]["depth"] == "depth 97"


def test_when_the_clock_is_set_back_all_begins_anew() -> None:
    one = matcher()
    feed(one, ("camera_info", 60_000), ("depth", 60_000), ("labels", 60_000), ("segments", 60_000))
    (match,) = feed(one, ("depth", 0), ("camera_info", 0), ("labels", 0), ("segments", 0))
    assert match["camera_info"] == "camera_info 0"


def why(one: Matcher, **publishers: int) -> str:
    return one.why_nothing(TOPICS, dict.fromkeys(TOPICS, 1) | publishers)


def test_a_topic_without_publisher_is_named() -> None:
    one = matcher()
    feed(one, ("labels", 0), ("segments", 0), ("camera_info", 0))
    assert why(one, depth=0) == "/depth has no publisher: is the name right?"
    assert why(one, depth=1).startswith("/depth has a publisher, but nothing comes: does its QoS fit")


def test_zero_stamps_are_named() -> None:
    one = matcher()
    feed(one, ("labels", 0), ("segments", 0), ("camera_info", 0))
    one.add("depth", 0, "no stamp")
    assert why(one) == "the stamps of /depth are 0: their publisher has to set them"


def test_how_far_stamps_are_apart_is_said() -> None:
    one = matcher()
    feed(one, ("camera_info", 0), ("depth", 0), ("labels", 1234), ("segments", 1234), ("depth", 2468))
    assert "the nearest stamp on /depth is 1.234 s" in why(one)
    assert "max_stamp_difference is 0.05 s" in why(one)


def test_masks_that_come_too_late_for_their_depth_are_told_apart() -> None:
    one = matcher(kept=3)
    feed(
        one,
        ("camera_info", 0),
        *(("depth", ms) for ms in range(0, 1000, 100)),
        ("labels", 100),
        ("segments", 100),
    )
    assert "messages_kept, which is 3" in why(one)


def test_masks_of_two_nodes_are_noticed() -> None:
    one = matcher()
    feed(one, ("camera_info", 0), ("depth", 0), ("labels", 1), ("segments", 2))
    assert "equal stamps come on /labels and /segments" in why(one)


def test_a_depth_that_is_only_ever_earlier_is_waited_for() -> None:
    one = matcher()
    feed(one, ("camera_info", 0), ("depth", 0), ("labels", 10), ("segments", 10))
    assert "has a camera stopped?" in why(one)


@pytest.mark.parametrize("stream", ["labels", "depth"])
def test_counts_are_kept(stream: str) -> None:
    one = matcher()
    feed(one, (stream, 0), (stream, 1))
    assert one.received[stream] == 2
    assert one.newest_ns[stream] == START + MS
