"""Soak the node: ``python -m benchmark.soak`` from the root of the repository; it ends by itself."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmark.machine import cpu_name
from benchmark.node import end, running_node
from benchmark.report import table
from benchmark.soak.plot import draw
from benchmark.soak.record import Recording, load, save
from benchmark.soak.soak import MAX_OBJECTS, Soak
from benchmark.soak.verdict import Bounds, Finding, judge, settled

RESULTS = Path(__file__).parents[1] / "results"
LOG_SHOWN = 3000  # characters of a node's log, where something was wrong


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of the node on the CPU; 0: torch's choice")
    parser.add_argument("--name", default="soak", help="of the files of results")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--growth", type=float, default=Bounds.growth_mb_per_minute, help="MB a minute")
    parser.add_argument("--latency", type=float, default=Bounds.latency_sec, help="99th percentile, seconds")
    parser.add_argument("--sets", type=float, default=Bounds.sets_per_sec, help="a second, at least")
    parser.add_argument("--unanswered", type=float, default=Bounds.unanswered, help="share of clicks")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="JSON", help="only judge and draw it anew"
    )
    arguments = parser.parse_args(argv)
    if arguments.minutes <= 0:
        parser.error("--minutes must be above 0")
    return arguments


def bounds_of(arguments: argparse.Namespace) -> Bounds:
    """What a soak has to keep."""
    return Bounds(
        growth_mb_per_minute=arguments.growth,
        latency_sec=arguments.latency,
        sets_per_sec=arguments.sets,
        unanswered=arguments.unanswered,
    )


def soak(arguments: argparse.Namespace) -> Recording:
    """Run the node and everything around it."""
    before = f"{os.getloadavg()[0]:.1f}"
    parameters = {"follow": "true", "threads": str(arguments.threads), "max_objects": str(MAX_OBJECTS)}
    with running_node(parameters) as running:
        room = Soak(running, arguments.seed)
        room.run(60 * arguments.minutes)
        end(running.process)
        recording = room.recording
        recording.exit_code = running.process.returncode
        if recording.exit_code != 0 or recording.failures:
            print(running.log.read_text(errors="replace")[-LOG_SHOWN:])
    recording.facts = facts(arguments, before)
    return recording


def facts(arguments: argparse.Namespace, load_before: str) -> dict[str, Any]:
    """Of the machine and the run."""
    return {
        "CPU": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "load average": f"{load_before} before, {os.getloadavg()[1]:.1f} at the end",
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "threads": arguments.threads,
    }


def summary(recording: Recording, bounds: Bounds, findings: Sequence[Finding]) -> str:
    """Facts, figures beside their bounds, and what was sent, dropped and refused."""
    samples, later = recording.samples, settled(recording, bounds)
    counts = {"sets before slopes begin": later[0].sets - samples[0].sets} if later else {}
    counts |= {"clients that came and went": recording.visits, "clicks refused": recording.refused}
    counts |= {f"sent: {what}": count for what, count in sorted(recording.prompts.items())}
    counts |= {f"dropped: {what}": count for what, count in sorted(recording.drops.items())}
    counts |= {f"refused: {what}": count for what, count in sorted(recording.refusals.items())}
    rows = [(one.what, one.figure, one.bound, "yes" if one.is_kept else "NO") for one in findings]
    return "\n\n".join(
        (
            table(("soak", ""), [(fact, str(value)) for fact, value in recording.facts.items()]),
            table(("figure", "measured", "bound", "kept"), rows),
            table(("count", ""), [(what, str(count)) for what, count in counts.items()]),
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Soak, judge, write; the exit code is 1 where a bound is not kept."""
    arguments = parse(argv)
    if arguments.source is None:
        recording, path = soak(arguments), arguments.output / arguments.name
        path.parent.mkdir(parents=True, exist_ok=True)
        save(recording, path.with_name(f"{path.name}.json"))
    else:
        recording, path = load(arguments.source), arguments.source.with_suffix("")
    bounds = bounds_of(arguments)
    findings = judge(recording, bounds)
    text = summary(recording, bounds, findings)
    print(text)
    picture = f"![Memory, threads, latencies and sets]({path.name}.png)"
    path.with_name(f"{path.name}.md").write_text(f"# {path.name}\n\n{text}\n\n{picture}\n", encoding="utf-8")
    draw(recording, bounds, path.with_name(f"{path.name}.png"))
    return 0 if all(finding.is_kept for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
