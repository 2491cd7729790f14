"""Take the time of several ways of doing the same, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmark.memory import Peak, peak_memory

SHORTEST_SEC = 0.02  # of one measurement: faster actions are repeated in it
SLOW_SEC = 1.0  # of the first call: more than enough for a measurement

Action = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How often to repeat: ``min_rounds`` in any case, then until the budget or ``max_rounds`` is spent."""

    budget_sec: float
    min_rounds: int
    max_rounds: int


FULL = Effort(20.0, 5, 100)
QUICK = Effort(2.0, 2, 10)


@dataclass(frozen=True)
class Timing:
    """Seconds of a call in each round, and the memory of the first call."""

    seconds: tuple[float, ...]
    peak: Peak | None


def interleaved(
    actions: Mapping[str, Action],
    effort: Effort,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time the actions in turns (A B A B ...), so that what slows the machine down slows all of them.

    Each is called once beforehand to warm up, with a look at its memory, and unless it is slow once more, to
    see how many calls make a measurement of SHORTEST_SEC.

    Args:
        actions: by name.
        effort: for all actions together.
        device: waited for before the clock is read, where it computes asynchronously.
        clock: in seconds; tests hand in their own.
    """
    begun = {name: _begin(action, device, clock) for name, action in actions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    start = clock()
    for count in range(effort.max_rounds):
        if count >= effort.min_rounds and clock() - start >= effort.budget_sec:
            break
        for name, action in actions.items():
            seconds[name].append(_time(action, begun[name][1], device, clock))
    return {name: Timing(tuple(seconds[name]), begun[name][0]) for name in actions}


def _begin(action: Action, device: torch.device, clock: Callable[[], float]) -> tuple[Peak | None, int]:
    """Warm up: the memory that it takes, and how many calls a measurement needs."""
    start = clock()
    peak = peak_memory(action, device)
    if clock() - start >= SLOW_SEC:
        return peak, 1
    seconds = _time(action, 1, device, clock)
    return peak, max(1, math.ceil(SHORTEST_SEC / max(seconds, 1e-7)))


def _time(action: Action, calls: int, device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of one call, on average over so many."""
    synchronize(device)
    start = clock()
    for _ in range(calls):
        action()
    synchronize(device)
    return (clock() - start) / calls


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_figures(ours: Timing, theirs: Timing | None = None) -> dict[str, float]:
    """What the first calls took beside what was held before, for the figures of a result."""
    figures = {} if ours.peak is None else {"memory added (MB)": ours.peak.added_mb}
    if theirs is not None and theirs.peak is not None:
        figures["by the other (MB)"] = theirs.peak.added_mb
    return figures


def peak_mb(*timings: Timing) -> float | None:
    """The most memory held during any of them."""
    return max((timing.peak.total_mb for timing in timings if timing.peak is not None), default=None)
