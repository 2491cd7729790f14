"""A recording as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.soak.record import Recording, Sample
from benchmark.soak.verdict import BLOCKS, Bounds, settled, slope

SIZE_INCHES = (14.0, 8.4)
DPI = 80
RATE_WINDOW = 10  # samples over which sets are counted
GREY = "tab:gray"


def draw(recording: Recording, bounds: Bounds, path: Path) -> None:
    """Write a PNG: memory with its slope, threads and descriptors, latencies, sets a second."""
    figure = Figure(SIZE_INCHES, layout="constrained")
    memory, counts, latency, rate = figure.subplots(2, 2).flat
    _draw_memory(memory, recording, bounds)
    _draw_counts(counts, recording.samples)
    _draw_latency(latency, recording)
    _draw_rate(rate, recording.samples)
    for axes in (memory, counts, latency, rate):
        axes.set_xlabel("minutes")
    figure.suptitle(f"soak: {recording.facts.get('CPU', '')}, load {recording.facts.get('load average', '')}")
    figure.savefig(path, dpi=DPI)


def _minutes(samples: Sequence[Sample]) -> list[float]:
    return [sample.time_sec / 60 for sample in samples]


def _draw_memory(axes: Axes, recording: Recording, bounds: Bounds) -> None:
    samples, later = recording.samples, settled(recording, bounds)
    axes.plot(_minutes(samples), [one.resident_mb for one in samples], label="resident")
    axes.plot(_minutes(samples), [one.anonymous_mb for one in samples], color=GREY, label="of it allocated")
    if len(later) >= BLOCKS:
        values = [one.resident_mb for one in later]
        found = slope([one.time_sec for one in later], values)
        minutes = np.array(_minutes(later))
        line = np.mean(values) + found.per_minute * (minutes - minutes.mean())
        axes.plot(minutes, line, "k--", label=f"{found} MB/min (95 %)")
    if later:
        axes.axvline(later[0].time_sec / 60, color=GREY, linewidth=0.5)
    axes.set_ylabel("MB")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    axes.set_title("memory of the node")


def _draw_counts(axes: Axes, samples: Sequence[Sample]) -> None:
    axes.plot(_minutes(samples), [one.threads for one in samples], label="threads")
    axes.plot(_minutes(samples), [one.descriptors for one in samples], label="descriptors")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    axes.set_title("threads and open descriptors")


def _draw_latency(axes: Axes, recording: Recording) -> None:
    times = [answer.time_sec / 60 for answer in recording.answers]
    axes.plot(times, [1000 * answer.latency_sec for answer in recording.answers], ".", markersize=3)
    axes.set_yscale("log")
    axes.set_ylabel("ms")
    axes.set_title("click to the first set that shows it")


def _draw_rate(axes: Axes, samples: Sequence[Sample]) -> None:
    pairs = list(zip(samples, samples[RATE_WINDOW:], strict=False))
    rates = [(after.sets - before.sets) / (after.time_sec - before.time_sec) for before, after in pairs]
    axes.plot([after.time_sec / 60 for _, after in pairs], rates)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("1/s")
    axes.set_title("sets of outputs")
