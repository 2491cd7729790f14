"""What the benchmark reads from the node's diagnostics."""

from __future__ import annotations

import os
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from benchmark.idle import processor_sec
from benchmark.node import Status, click_figures, frame_figures, ros_environment, stage_figures, status_of


def message(name: str, **values: str) -> DiagnosticArray:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    made = DiagnosticArray(status=[DiagnosticStatus(name=name, values=pairs)])
    made.header.stamp.sec, made.header.stamp.nanosec = 7, 500_000_000
    return made


def status(time_sec: float = 0.0, **values: object) -> Status:
    """Counts as ``encode=3``, milliseconds as ``encode_ms=60``."""
    named = {
        f"{name[:-3]} (ms)" if name.endswith("_ms") else f"{name} count": str(value)
        for name, value in values.items()
    }
    return Status(time_sec, named)


def test_only_the_periodic_report_is_read() -> None:
    assert status_of(message("sam: segmentation", state="active")) == Status(7.5, {"state": "active"})
    assert status_of(message("sam: prompt refused", reason="stale")) is None


def test_stages_are_medians_of_what_is_new_in_a_report() -> None:
    reports = [
        status(encode=1, encode_ms=900, decode=1, decode_ms=20),
        status(encode=2, encode_ms=60, decode=1, decode_ms=20),
        status(encode=3, encode_ms=70, decode=1, decode_ms=20),
        status(encode=3, encode_ms=70, decode=1, decode_ms=20, publish=1, publish_ms=4),
        status(encode=4, encode_ms=62, decode=1, decode_ms=20, publish=1, publish_ms=4),
    ]
    assert stage_figures(reports) == {"encode (ms)": 62.0, "publish (ms)": 4.0}
    assert stage_figures(reports[:1]) == {}


def test_frames_are_counted_between_two_reports() -> None:
    first, last = status(10.0, image=5, encode=3), status(15.0, image=155, encode=53)
    assert frame_figures(first, last, published=152) == {
        "frames published": 152.0,
        "taken": 150.0,
        "encoded": 50.0,
        "encoded/s": 10.0,
    }


def test_clicks() -> None:
    to_mask = [0.01 * n for n in range(1, 102)]
    figures = click_figures(to_mask, [0.05, 0.07, 0.06])
    assert round(figures["95 % within (ms)"], 6) == 960.0
    assert round(figures["to all outputs (ms)"], 6) == 60.0


def test_the_node_is_kept_apart_and_gets_room_in_shared_memory() -> None:
    environment = ros_environment(42)
    assert environment["ROS_DOMAIN_ID"] == "42"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds.xml")


def test_processor_time_is_that_of_the_whole_process() -> None:
    before, own = processor_sec(os.getpid()), time.process_time()
    while time.process_time() - own < 0.3:
        pass
    assert abs(processor_sec(os.getpid()) - before - (time.process_time() - own)) < 0.05
