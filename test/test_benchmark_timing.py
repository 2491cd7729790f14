"""How the benchmark takes times, by a clock that the actions themselves move on."""

from __future__ import annotations

import torch

from benchmark.memory import Peak, host_mb, peak_memory
from benchmark.timing import Effort, Timing, interleaved, peak_figures, peak_mb

CPU = torch.device("cpu")


class Clock:
    """Seconds that pass only where an action says so; keeps the order of the actions."""

    def __init__(self) -> None:
        self.now = 0.0
        self.called: list[str] = []

    def __call__(self) -> float:
        return self.now

    def action(self, name: str, seconds: float) -> None:
        self.called.append(name)
        self.now += seconds


def timed(effort: Effort, **seconds: float) -> tuple[Clock, dict[str, Timing]]:
    clock = Clock()
    actions = {name: lambda n=name, s=value: clock.action(n, s) for name, value in seconds.items()}
    return clock, interleaved(actions, effort, CPU, clock)


def test_sides_take_turns_after_a_warm_up() -> None:
    clock, timings = timed(Effort(0.0, 3, 10), a=0.5, b=0.25)
    assert "".join(clock.called) == "aabb" + "ababab"
    assert timings["a"].seconds == (0.5, 0.5, 0.5)
    assert timings["b"].seconds == (0.25, 0.25, 0.25)


def test_fast_actions_are_repeated_within_a_measurement() -> None:
    clock, timings = timed(Effort(0.0, 1, 10), fast=2**-8)
    assert len(clock.called) == 2 + 6  # 6 / 256 s is more than 0.02 s
    assert timings["fast"].seconds == (2**-8,)


def test_a_slow_action_is_called_only_once_beforehand() -> None:
    clock, timings = timed(Effort(0.0, 2, 10), slow=60.0)
    assert len(clock.called) == 1 + 2
    assert timings["slow"].seconds == (60.0, 60.0)


def test_rounds_end_with_the_budget_or_their_largest_number() -> None:
    assert len(timed(Effort(3.0, 1, 100), a=0.5, b=0.5)[1]["a"].seconds) == 3
    assert len(timed(Effort(3.0, 1, 2), a=0.5, b=0.5)[1]["a"].seconds) == 2
    assert len(timed(Effort(3.0, 5, 100), a=0.5, b=0.5)[1]["a"].seconds) == 5


def test_peak_memory_sees_what_an_action_takes() -> None:
    peak = peak_memory(lambda: bytearray(b"\1" * 100_000_000), CPU)
    assert peak is None or (100 <= peak.added_mb <= 250 and peak.total_mb >= peak.added_mb)
    assert host_mb("VmRSS") > 0


def test_figures_of_memory_tell_both_sides_where_known() -> None:
    ours, theirs, unknown = (Timing((1.0,), peak) for peak in (Peak(300.0, 20.0), Peak(400.0, 50.0), None))
    assert peak_figures(ours, theirs) == {"memory added (MB)": 20.0, "by the other (MB)": 50.0}
    assert peak_figures(unknown, unknown) == {}
    assert peak_mb(ours, theirs, unknown) == 400.0
    assert peak_mb(unknown) is None
