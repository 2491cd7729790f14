"""What the node says of itself on /diagnostics: pure functions from values to messages."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from sam_ros.node.statistics import ENCODE, Refusal, Snapshot

USELESS_SEC = 2.0  # unusable images over so long, and none that is usable between, are an error
STALE_SEC = 2.0  # without an image for so long, an active node is stale
# Kinds of refusals that no other prompt would mend.
REFUSAL_IS_AN_ERROR = ("model output", "out of memory", "device", "error")


def status_msg(
    name: str,
    stamp: Time,
    state: str,
    snapshot: Snapshot,
    facts: Mapping[str, str],
) -> DiagnosticArray:
    """The periodic report.

    Args:
        name: of the node.
        stamp: now.
        state: of the lifecycle: unconfigured, inactive, active.
        snapshot: what was counted.
        facts: further values: model, device, memory.
    """
    level, message = _judge(state, snapshot)
    values = {"state": state, **facts, **_figures(snapshot)}
    return _array(f"{name}: segmentation", stamp, level, message, values)


def refusal_msg(name: str, stamp: Time, refusal: Refusal) -> DiagnosticArray:
    """The immediate report of a refused prompt."""
    values = {
        "topic": refusal.topic,
        "stamp": _seconds(refusal.stamp_ns),
        "id": refusal.id,
        **{f"id {number}": id for number, id in enumerate(refusal.ids[1:], 2)},
        "kind": refusal.kind,
        "reason": refusal.reason,
    }
    level = DiagnosticStatus.ERROR if refusal.kind in REFUSAL_IS_AN_ERROR else DiagnosticStatus.WARN
    return _array(f"{name}: prompt refused", stamp, level, refusal.reason, values)


def candidates_msg(
    name: str, stamp: Time, frame_stamp_ns: int, id: str, scores: Sequence[float]
) -> DiagnosticArray:
    """What ``~/candidates`` has no room for: whose masks they are, the predicted IoU of each, their frame."""
    values = {"stamp": _seconds(frame_stamp_ns), "id": id}
    values |= {f"IoU {number}": f"{score:.4f}" for number, score in enumerate(scores, 1)}
    return _array(f"{name}: candidates", stamp, DiagnosticStatus.OK, "masks to choose from", values)


def error_msg(name: str, stamp: Time, reason: str) -> DiagnosticArray:
    """The immediate report of a failure that no input explains."""
    return _array(f"{name}: failure", stamp, DiagnosticStatus.ERROR, reason, {"reason": reason})


def host_memory_mb() -> dict[str, str]:
    """Resident memory of this process, now and at most, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    now_mb = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"memory (MB)": f"{now_mb:.0f}", "peak memory (MB)": f"{peak_mb:.0f}"}


def _seconds(stamp_ns: int) -> str:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return f"{seconds}.{nanoseconds:09d}"


def _judge(state: str, snapshot: Snapshot) -> tuple[bytes, str]:
    if state != "active":
        return DiagnosticStatus.OK, state
    if "image" not in snapshot.age_sec:
        return DiagnosticStatus.STALE, "no image has come yet"
    if snapshot.age_sec["image"] > STALE_SEC:
        return DiagnosticStatus.STALE, f"no image for {snapshot.age_sec['image']:.1f} s"
    if snapshot.dropping_sec > USELESS_SEC:
        return DiagnosticStatus.ERROR, f"images come, but none can be used: {snapshot.last_drop}"
    return DiagnosticStatus.OK, "segmenting"


def _figures(snapshot: Snapshot) -> dict[str, str]:
    figures = {f"{name} rate (Hz)": f"{rate:.1f}" for name, rate in snapshot.rates_hz.items()}
    figures |= {f"{name} (ms)": f"{1000 * sec:.1f}" for name, sec in snapshot.last_sec.items()}
    figures |= {f"{name} count": str(total) for name, total in snapshot.totals.items()}
    figures |= {f"dropped: {kind}": str(count) for kind, count in snapshot.drops.items()}
    figures |= {f"refused: {kind}": str(count) for kind, count in snapshot.refusals.items()}
    if ENCODE in snapshot.age_sec:
        figures["embedding age (s)"] = f"{snapshot.age_sec[ENCODE]:.2f}"
    return figures


def _array(name: str, stamp: Time, level: bytes, message: str, values: Mapping[str, str]) -> DiagnosticArray:
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id="")
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])
