"""How much memory something takes while it runs, on the host or on a GPU."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")  # 5 written to it resets the peak, see proc(5)


@dataclass(frozen=True)
class Peak:
    """The most that was held while something ran, in MB, and how much of it was not held before."""

    total_mb: float
    added_mb: float


def peak_memory(action: Callable[[], object], device: torch.device) -> Peak | None:
    """Run it once and say how much memory it took; on a GPU that of torch, else that of this process.

    None where the kernel does not let the process reset its peak.
    """
    return _peak_on_gpu(action, device) if device.type == "cuda" else _peak_on_host(action)


def _peak_on_gpu(action: Callable[[], object], device: torch.device) -> Peak:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    action()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return Peak(peak / 1e6, (peak - before) / 1e6)


def _peak_on_host(action: Callable[[], object]) -> Peak | None:
    _return_free_memory()
    try:
        RESET.write_text("5")
    except OSError:
        action()
        return None
    before = host_mb("VmRSS")
    action()
    peak = host_mb("VmHWM")
    return Peak(peak, max(0.0, peak - before))


def _return_free_memory() -> None:
    """What glibc keeps of freed memory would hide what the action needs."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def host_mb(field: str) -> float:
    """A size that /proc/self/status tells in kB, in MB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(encoding="ascii", errors="replace"), re.M)
    return int(found[1]) * 1024 / 1e6 if found else 0.0
