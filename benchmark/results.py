"""What was measured, its statistics, and the file that keeps it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SIGNIFICANT_DIGITS = 6  # of what is written: no clock is better


@dataclass(frozen=True)
class Result:
    """One comparison, both sides measured in one run.

    Attributes:
        part: of the benchmark, such as encode.
        case: what was measured, by the names of the table's first columns.
        ours_sec: seconds of each repetition of this project's way.
        theirs_sec: of the other way; empty where there is none.
        figures: whatever else is told of the case, by the names of the table's last columns.
        peak_mb: the most memory that the process, or the GPU, held meanwhile; None where unknown.
    """

    part: str
    case: dict[str, str]
    ours_sec: tuple[float, ...] = ()
    theirs_sec: tuple[float, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    peak_mb: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster than the other way, by the medians; None without both."""
        if not self.ours_sec or not self.theirs_sec:
            return None
        return spread(self.theirs_sec).median / spread(self.ours_sec).median

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two results measurements of the same case.

        The node chooses its precision itself, so it does not identify the case.
        """
        chosen = ("precision",) if self.part == "node" else ()
        return self.part, *sorted(item for item in self.case.items() if item[0] not in chosen)


@dataclass(frozen=True)
class Report:
    """One machine, named by its facts in the order to print, and the results measured on it."""

    machine: dict[str, Any]
    results: tuple[Result, ...]


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles around it."""

    median: float
    lower: float
    upper: float

    @property
    def interquartile_range(self) -> float:
        """How far the middle half reaches."""
        return self.upper - self.lower


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; between two values by linear interpolation."""
    lower, median, upper = np.percentile(values, (25, 50, 75))
    return Spread(float(median), float(lower), float(upper))


def select(results: Iterable[Result], part: str, **case: str) -> list[Result]:
    """The results of a part whose case has at least these values."""
    return [r for r in results if r.part == part and case.items() <= r.case.items()]


def merged(old: Sequence[Result], new: Sequence[Result]) -> tuple[Result, ...]:
    """The old results, those that were measured anew replaced, and the rest of the new ones behind."""
    by_key = {result.key: result for result in (*old, *new)}
    return tuple(by_key.values())


def save(report: Report, path: Path) -> None:
    """Write a report as JSON, every repetition included."""
    content = {"machine": report.machine, "results": [asdict(result) for result in report.results]}
    path.write_text(json.dumps(_rounded(content), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Report:
    """Read what ``save`` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Report(content["machine"], tuple(_result(values) for values in content["results"]))


def _result(values: Mapping[str, Any]) -> Result:
    seconds = {name: tuple(values[name]) for name in ("ours_sec", "theirs_sec")}
    return Result(**{**values, **seconds})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value, SIGNIFICANT_DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value


def rounded(value: float, digits: int) -> float:
    """To so many significant digits."""
    return value if not math.isfinite(value) or value == 0 else float(f"{value:.{digits}g}")
