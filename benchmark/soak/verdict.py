"""What a recording says: figures, the bounds that they have to keep, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.soak.record import Recording, Sample

BLOCKS = 20  # of samples, whose means are nearly independent of each other where the samples are not
T_95 = 2.101  # Student's t, 95 % on both sides, for BLOCKS - 2 degrees of freedom
PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True)
class Slope:
    """How something grows: per minute, with the half-width of its 95 % confidence interval."""

    per_minute: float
    half_width: float

    @property
    def least(self) -> float:
        """The lower end of the interval."""
        return self.per_minute - self.half_width

    def __str__(self) -> str:
        return f"{self.per_minute:+.2f} ± {self.half_width:.2f}"


@dataclass(frozen=True)
class Bounds:
    """What a soak has to keep.

    Attributes:
        settle_sets: so many sets at the beginning are left out of slopes: the node keeps views of 512 frames.
        settle_share: of the whole time, the most that is left out.
        growth_mb_per_minute: the lower end of the slope's interval may not exceed it.
        threads, descriptors: how many more there may be at the end than once it had settled.
        latency_sec: of the 99th percentile.
        sets_per_sec: at least.
        unanswered: share of the clicks that may have no answer.
    """

    settle_sets: int = 600
    settle_share: float = 0.5
    growth_mb_per_minute: float = 0.5
    threads: int = 4
    descriptors: int = 8
    latency_sec: float = 3.0
    sets_per_sec: float = 1.0
    unanswered: float = 0.02


@dataclass(frozen=True)
class Finding:
    """One figure beside its bound."""

    what: str
    figure: str
    bound: str
    is_kept: bool


def slope(times_sec: Sequence[float], values: Sequence[float]) -> Slope:
    """The straight line through the means of blocks.

    Raises:
        ValueError: there are fewer values than blocks.
    """
    if len(values) < BLOCKS:
        raise ValueError(f"a slope needs at least {BLOCKS} values, got {len(values)}")
    minutes = np.array([block.mean() for block in np.array_split(np.asarray(times_sec), BLOCKS)]) / 60
    means = np.array([block.mean() for block in np.array_split(np.asarray(values), BLOCKS)])
    from_middle = minutes - minutes.mean()
    per_minute = float(from_middle @ means / (from_middle @ from_middle))
    rest = means - means.mean() - per_minute * from_middle
    error = np.sqrt((rest @ rest) / (BLOCKS - 2) / (from_middle @ from_middle))
    return Slope(per_minute, float(T_95 * error))


def settled(recording: Recording, bounds: Bounds) -> list[Sample]:
    """The samples after the beginning, in which buffers fill up."""
    samples = recording.samples
    most = int(bounds.settle_share * len(samples))
    filled = [i for i, sample in enumerate(samples) if sample.sets - samples[0].sets >= bounds.settle_sets]
    return samples[min([most, *filled]) :]


def latencies_ms(recording: Recording) -> dict[int, float]:
    """Percentiles of the time from a click to the first set that shows it."""
    seconds = [answer.latency_sec for answer in recording.answers]
    return {one: 1000 * float(np.percentile(seconds, one)) for one in PERCENTILES} if seconds else {}


def judge(recording: Recording, bounds: Bounds) -> list[Finding]:
    """All figures beside their bounds."""
    samples = settled(recording, bounds)
    if len(samples) < BLOCKS:
        ended = Finding("samples after it settled", str(len(samples)), f"at least {BLOCKS}", False)
        return [ended, *_behaviour(recording)]
    return [
        *_growth(samples, bounds),
        *_service(recording, samples, bounds),
        *_behaviour(recording),
    ]


def _growth(samples: Sequence[Sample], bounds: Bounds) -> list[Finding]:
    times = [sample.time_sec for sample in samples]
    resident = slope(times, [sample.resident_mb for sample in samples])
    allocated = slope(times, [sample.anonymous_mb for sample in samples])
    limit = bounds.growth_mb_per_minute
    threads = samples[-1].threads - samples[0].threads
    descriptors = samples[-1].descriptors - samples[0].descriptors
    return [
        Finding("resident memory (MB/min)", str(resident), f"not above {limit:g}", resident.least <= limit),
        Finding("of it allocated (MB/min)", str(allocated), f"not above {limit:g}", allocated.least <= limit),
        Finding("threads more", str(threads), f"at most {bounds.threads}", threads <= bounds.threads),
        Finding(
            "descriptors more",
            str(descriptors),
            f"at most {bounds.descriptors}",
            descriptors <= bounds.descriptors,
        ),
    ]


def _service(recording: Recording, samples: Sequence[Sample], bounds: Bounds) -> list[Finding]:
    found = latencies_ms(recording)
    shown = ", ".join(f"{value:.0f}" for value in found.values()) or "none"
    in_time = bool(found) and found[99] <= 1000 * bounds.latency_sec
    per_sec = (samples[-1].sets - samples[0].sets) / (samples[-1].time_sec - samples[0].time_sec)
    clicks = len(recording.answers) + recording.refused + recording.unanswered
    unanswered = recording.unanswered / clicks if clicks else 1.0
    return [
        Finding(
            "click to the set that shows it, 50, 90, 99, 100 % (ms)",
            shown,
            f"99 % within {1000 * bounds.latency_sec:g}",
            in_time,
        ),
        Finding(
            "sets a second",
            f"{per_sec:.1f}",
            f"at least {bounds.sets_per_sec:g}",
            per_sec >= bounds.sets_per_sec,
        ),
        Finding(
            "clicks without an answer",
            f"{recording.unanswered} of {clicks}",
            f"at most {100 * bounds.unanswered:g} %",
            unanswered <= bounds.unanswered,
        ),
    ]


def _behaviour(recording: Recording) -> list[Finding]:
    return [
        Finding("sets out of order", str(recording.disordered), "none", recording.disordered == 0),
        Finding("failures reported", str(len(recording.failures)), "none", not recording.failures),
        Finding("exit code", str(recording.exit_code), "0", recording.exit_code == 0),
    ]
