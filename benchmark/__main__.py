"""Measure, print and keep: ``python -m benchmark`` from the root of the repository."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmark import (
    breakdown,
    click,
    encode,
    everything,
    following,
    lifting,
    preprocess,
    prompts,
    remembering,
)
from benchmark.contest import Options, find_weights, open_contest
from benchmark.goals import judge
from benchmark.images import HD, SIZES_HW, photograph
from benchmark.machine import describe, file_name, pays, same_machine
from benchmark.picture import draw
from benchmark.report import PARTS, goals_table, machine_table, markdown, part_table
from benchmark.results import Report, Result, load, merged, save
from benchmark.timing import FULL, QUICK
from sam_ros.core.catalogue import MODELS
from sam_ros.predictor import PRECISIONS

MODEL_PARTS = {
    "encode": encode,
    "click": click,
    "prompts": prompts,
    "everything": everything,
    "following": following,
    "remembering": remembering,
    "preprocess": preprocess,
    "breakdown": breakdown,
}
ROS_PARTS = (
    "messages",
    "node",
    "idle",
    "jitter",
)  # imported only if wanted: others need no ROS
RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Step:
    """Some results that were just measured."""

    part: str
    results: list[Result]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    available = [part for part in PARTS if part not in ROS_PARTS or find_spec("rclpy")]
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=available)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["sam_tiny", "vit_b"])
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), help="default: those that pay")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch on the CPU"
    )
    parser.add_argument("--compile", action="store_true", help="compile this project's image encoder")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that everything runs")
    parser.add_argument("--name", help="of the files of results; by default that of the GPU or CPU")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--add", action="store_true", help="keep what those files hold of other cases")
    parser.add_argument("--from", dest="source", type=Path, metavar="JSON", help="only write its tables anew")
    return parser.parse_args(argv)


def measured(arguments: argparse.Namespace, options: Options, machine: dict[str, object]) -> Iterator[Step]:
    """Measure part after part."""
    with tempfile.TemporaryDirectory() as folder:
        for model_type in arguments.models:
            yield from _measured_of_model(model_type, Path(folder), arguments.parts, options, machine)
        if "lifting" in arguments.parts:
            say("lifting")
            yield Step("lifting", lifting.measure(options))
        if "messages" in arguments.parts:
            say("messages")
            yield Step("messages", import_module("benchmark.messages").measure(options))
        if "node" in arguments.parts:
            for model_type in node_models(arguments.models, options.device):
                say(f"node, {model_type}")
                weights = find_weights(model_type, Path(folder))
                yield Step("node", import_module("benchmark.node").measure(model_type, weights, options))
        if "idle" in arguments.parts:
            say("idle, sam_tiny")
            weights = find_weights("sam_tiny", Path(folder))
            yield Step("idle", import_module("benchmark.idle").measure("sam_tiny", weights, options))
        if "jitter" in arguments.parts:
            say("jitter")
            weights = find_weights("sam_tiny", Path(folder))
            yield Step("jitter", import_module("benchmark.jitter").measure(weights, options))


def node_models(models: Sequence[str], device: torch.device) -> list[str]:
    """Which models the node is run with: on a CPU only the one that is fast enough for a camera."""
    return [model_type for model_type in models if model_type == "sam_tiny" or device.type == "cuda"]


def _measured_of_model(
    model_type: str, folder: Path, parts: Sequence[str], options: Options, machine: dict[str, object]
) -> Iterator[Step]:
    wanted = [part for part in MODEL_PARTS if part in parts]
    if not wanted:
        return
    say(f"loading {model_type}")
    options = replace(options, precisions=chosen_precisions(model_type, options.precisions, machine))
    contest = open_contest(model_type, find_weights(model_type, folder), options, photograph(SIZES_HW[HD]))
    for part in wanted:
        say(f"{part}, {model_type}")
        yield Step(part, MODEL_PARTS[part].measure(contest, machine))


def chosen_precisions(
    model_type: str, asked: Sequence[str], machine: Mapping[str, object]
) -> tuple[str, ...]:
    """What to measure a model in: what was asked for, else float32 and bfloat16.

    Where bfloat16 does not pay, an official model would take minutes for an image, so it has to be asked for.
    """
    if asked:
        return tuple(asked)
    with_bfloat16 = model_type == "sam_tiny" or pays("bfloat16", machine)
    return ("float32", "bfloat16") if with_bfloat16 else ("float32",)


def write(report: Report, path: Path) -> None:
    """Write a report under a path without suffix: its numbers, its tables, its picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save(report, path.with_name(path.name + ".json"))
    path.with_name(path.name + ".md").write_text(markdown(report, path.name), encoding="utf-8")
    draw(report, path.with_name(path.name + ".png"))


def kept(path: Path, machine: dict[str, object]) -> tuple[Result, ...]:
    """The results in a file, which must be of the same machine; none if there is no file."""
    if not path.exists():
        return ()
    report = load(path)
    if not same_machine(report.machine, machine):
        sys.exit(f"benchmark: {path} is of another machine or torch: give another --name")
    return report.results


def choose_device(name: str) -> torch.device:
    """Auto is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def say(text: str) -> None:
    """Print a line, at once."""
    print(f"benchmark: {text}", flush=True)


def run(arguments: argparse.Namespace) -> None:
    """Measure everything asked for; write after each part, so that little is lost by an interruption."""
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    options = Options(
        device,
        tuple(arguments.precisions or ()),
        arguments.compile,
        QUICK if arguments.quick else FULL,
        arguments.quick,
    )
    say("measuring matrix products")
    machine = describe(device, options.precisions, {"repetitions": "few" if arguments.quick else "full"})
    print(machine_table(Report(machine, ())), flush=True)
    name = arguments.name or file_name(machine) + ("_quick" if arguments.quick else "")
    path = arguments.output / name
    results = kept(path.with_name(name + ".json"), machine) if arguments.add else ()
    for step in measured(arguments, options, machine):
        print(f"\n{part_table(step.results, step.part)}\n", flush=True)
        results = merged(results, step.results)
        write(Report(machine, results), path)
    report = Report(machine, results)
    print(f"\n{machine_table(report)}\n\n{goals_table(judge(report))}\n")
    say(f"written to {path}.md, .png and .json")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or write the tables of results that were kept; the exit code."""
    arguments = parse(argv)
    if arguments.source is None:
        run(arguments)
    else:
        write(load(arguments.source), arguments.source.with_suffix(""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
