"""A process seen from outside, by what the kernel tells of it."""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.soak.record import Sample

PROC = Path("/proc")


def look_at(pid: int, time_sec: float, sets: int) -> Sample | None:
    """How a process is by now; None if it has ended.

    Args:
        pid: of the process.
        time_sec: now.
        sets: of outputs that had come until now.
    """
    try:
        status = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
        descriptors = len(list((PROC / str(pid) / "fd").iterdir()))
    except OSError:
        return None
    values = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE)}
    if "VmRSS" not in values:
        return None  # it has ended, and nobody has asked for its exit code yet
    resident, anonymous, shared = (_mb(values[name]) for name in ("VmRSS", "RssAnon", "RssShmem"))
    return Sample(time_sec, resident, anonymous, shared, values["Threads"], descriptors, sets)


def _mb(kibibytes: int) -> float:
    return kibibytes * 1024 / 1e6
