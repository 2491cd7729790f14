"""What the node says of itself: levels, messages and every value that the design names."""

from __future__ import annotations

from typing import Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from sam_ros.node.diagnostics import (
    STALE_SEC,
    USELESS_SEC,
    candidates_msg,
    error_msg,
    host_memory_mb,
    refusal_msg,
    status_msg,
)
from sam_ros.node.statistics import Refusal, Snapshot

NOW = Time(sec=12, nanosec=34)


def snapshot(**values: Any) -> Snapshot:
    nothing: dict[str, Any] = {
        "rates_hz": {},
        "last_sec": {},
        "age_sec": {},
        "totals": {},
        "drops": {},
        "refusals": {},
    }
    return Snapshot(**(nothing | values))


def only_status(msg: DiagnosticArray) -> DiagnosticStatus:
    assert msg.header.stamp == NOW
    (status,) = msg.status
    return status


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    keys = [value.key for value in status.values]
    assert len(set(keys)) == len(keys)
    return {value.key: value.value for value in status.values}


def test_an_active_node_with_images_is_ok() -> None:
    status = only_status(status_msg("robot/sam", NOW, "active", snapshot(age_sec={"image": 0.1}), {}))
    assert status.level == DiagnosticStatus.OK
    assert status.name == "robot/sam: segmentation"
    assert values_of(status) == {"state": "active"}


def test_an_active_node_without_images_is_stale() -> None:
    status = only_status(status_msg("sam", NOW, "active", snapshot(age_sec={"prompt": 0.1}), {}))
    assert (status.level, status.message) == (DiagnosticStatus.STALE, "no image has come yet")


def test_a_camera_that_stopped_makes_it_stale_until_it_comes_back() -> None:
    def judged(age_sec: float) -> DiagnosticStatus:
        return only_status(status_msg("sam", NOW, "active", snapshot(age_sec={"image": age_sec}), {}))

    assert judged(STALE_SEC).level == DiagnosticStatus.OK
    assert judged(7.26).level == DiagnosticStatus.STALE
    assert judged(7.26).message == "no image for 7.3 s"


@pytest.mark.parametrize(
    ("dropping_sec", "level"),
    [
        (0.0, DiagnosticStatus.OK),
        (USELESS_SEC, DiagnosticStatus.OK),
        (USELESS_SEC + 0.1, DiagnosticStatus.ERROR),
    ],
)
def test_dropping_all_images_for_long_is_an_error(dropping_sec: float, level: bytes) -> None:
    counted = snapshot(age_sec={"image": 0.1}, last_drop="unknown encoding", dropping_sec=dropping_sec)
    status = only_status(status_msg("sam", NOW, "active", counted, {}))
    assert status.level == level
    assert ("unknown encoding" in status.message) == (level == DiagnosticStatus.ERROR)


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "finalized"])
def test_a_node_that_is_not_active_is_not_stale(state: str) -> None:
    status = only_status(status_msg("sam", NOW, state, snapshot(age_sec={"image": 100.0}), {}))
    assert (status.level, status.message) == (DiagnosticStatus.OK, state)


def test_everything_that_is_counted_is_reported() -> None:
    counted = snapshot(
        rates_hz={"image": 29.97, "encode": 5.0},
        last_sec={"encode": 0.2346, "decode": 0.0125},
        age_sec={"image": 0.01, "encode": 0.155},
        totals={"image": 300, "encode": 50},
        drops={"short data": 2},
        refusals={"stale": 3},
    )
    values = values_of(only_status(status_msg("sam", NOW, "active", counted, {"model_type": "vit_b"})))
    assert values == {
        "state": "active",
        "model_type": "vit_b",
        "image rate (Hz)": "30.0",
        "encode rate (Hz)": "5.0",
        "encode (ms)": "234.6",
        "decode (ms)": "12.5",
        "image count": "300",
        "encode count": "50",
        "dropped: short data": "2",
        "refused: stale": "3",
        "embedding age (s)": "0.15",
    }


def test_a_refusal_reports_topic_stamp_id_and_reason() -> None:
    refusal = Refusal("/sam/prompts", 1_700_000_000_000_000_007, ("cup",), "second box", "one box, not two")
    status = only_status(refusal_msg("robot/sam", NOW, refusal))
    assert (status.level, status.name) == (DiagnosticStatus.WARN, "robot/sam: prompt refused")
    assert status.message == "one box, not two"
    assert values_of(status) == {
        "topic": "/sam/prompts",
        "stamp": "1700000000.000000007",
        "id": "cup",
        "kind": "second box",
        "reason": "one box, not two",
    }


def test_every_object_of_a_refusal_is_named() -> None:
    values = values_of(only_status(refusal_msg("sam", NOW, Refusal("", 0, ("a", "b", "c"), "stale", "old"))))
    assert {name: id for name, id in values.items() if name.startswith("id")} == {
        "id": "a",
        "id 2": "b",
        "id 3": "c",
    }


def test_a_refusal_without_stamp_and_id_reports_zero_and_an_empty_id() -> None:
    values = values_of(only_status(refusal_msg("sam", NOW, Refusal("/sam/click", 0, (), "stale", "old"))))
    assert (values["stamp"], values["id"]) == ("0.000000000", "")


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("stale", DiagnosticStatus.WARN),
        ("model output", DiagnosticStatus.ERROR),
        ("out of memory", DiagnosticStatus.ERROR),
        ("device", DiagnosticStatus.ERROR),
        ("error", DiagnosticStatus.ERROR),
    ],
)
def test_only_what_no_other_prompt_would_mend_is_an_error(kind: str, level: bytes) -> None:
    assert only_status(refusal_msg("sam", NOW, Refusal("/sam/click", 0, (), kind, "why"))).level == level


def test_a_failure_is_an_error_with_its_reason() -> None:
    status = only_status(error_msg("sam", NOW, "encoding failed: RuntimeError: no"))
    assert (status.level, status.name) == (DiagnosticStatus.ERROR, "sam: failure")
    assert status.message == values_of(status)["reason"] == "encoding failed: RuntimeError: no"


def test_reported_memory_is_that_of_this_process() -> None:
    memory = host_memory_mb()
    assert 1 < int(memory["memory (MB)"]) <= int(memory["peak memory (MB)"]) + 1


def test_candidates_are_told_with_their_object_and_their_frame() -> None:
    status = only_status(candidates_msg("sam", NOW, 7_000_000_008, "cup", [0.91, 0.5, -0.01]))
    assert (status.name, status.level) == ("sam: candidates", DiagnosticStatus.OK)
    expected = {"stamp": "7.000000008", "id": "cup", "IoU 1": "0.9100", "IoU 2": "0.5000", "IoU 3": "-0.0100"}
    assert values_of(status) == expected
