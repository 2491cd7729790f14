"""What a soak recorded, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.results import rounded

SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class Sample:
    """The node's process at one moment.

    Attributes:
        time_sec: since the beginning.
        resident_mb: memory that it holds, in MB; the sum of the next two and of mapped files.
        anonymous_mb: of that, what it allocated.
        shared_mb: of that, memory shared with other processes, by which messages travel.
        threads: how many it has.
        descriptors: files, sockets and the like that it has open.
        sets: of outputs that had come until then.
    """

    time_sec: float
    resident_mb: float
    anonymous_mb: float
    shared_mb: float
    threads: int
    descriptors: int
    sets: int


@dataclass(frozen=True)
class Answer:
    """A click that was seen in a set: when it was made, and how long that took."""

    time_sec: float
    latency_sec: float


@dataclass
class Recording:
    """All that was seen of a node.

    Attributes:
        facts: of the machine and of this run, by the names that they are printed under.
        samples: of its process, in order.
        answers: to the clicks that were told apart by their ids.
        refused: of those clicks, how many were refused.
        unanswered: of those clicks, how many neither appeared in a set nor were refused in time.
        disordered: sets whose stamp was not later than that of the set before, jumps of the clock aside.
        visits: of clients that came and went.
        prompts: messages and calls of every kind, by where they went.
        drops, refusals: what the node reported last, by reason.
        failures: what the node reported as such.
        exit_code: of the node; None if it had to be killed.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0
    disordered: int = 0
    visits: int = 0
    prompts: dict[str, int] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    exit_code: int | None = None


def save(recording: Recording, path: Path) -> None:
    """Write it as JSON; samples and answers as one row each."""
    content = asdict(recording)
    for name, kind in (("samples", Sample), ("answers", Answer)):
        rows = [[_short(value) for value in one.values()] for one in content[name]]
        content[name] = {"columns": list(kind.__dataclass_fields__), "rows": rows}
    lines = [f" {json.dumps(name)}: {_text(value)}" for name, value in content.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def load(path: Path) -> Recording:
    """Read what ``save`` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["samples"] = [Sample(**row) for row in _named(content["samples"])]
    content["answers"] = [Answer(**row) for row in _named(content["answers"])]
    return Recording(**content)


def _named(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def _text(value: Any) -> str:
    """JSON with one row of a table in a line."""
    if not (isinstance(value, dict) and "rows" in value):
        return json.dumps(value, ensure_ascii=False)
    rows = ",\n  ".join(json.dumps(row) for row in value["rows"])
    return f'{{"columns": {json.dumps(value["columns"])}, "rows": [\n  {rows}\n ]}}'


def _short(value: float) -> float:
    return rounded(value, SIGNIFICANT_DIGITS) if isinstance(value, float) else value
