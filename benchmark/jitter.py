"""How late a publisher of 500 Hz is beside the running node, by the number of threads the node may use."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.contest import Options, Weights
from benchmark.images import HD, SIZES_HW, photograph
from benchmark.messages import filled_image
from benchmark.node import ANSWER_SEC, SETTLE_SEC, Rig, frame_figures, running_rig
from benchmark.results import Result

THREADS = (0, 1, 2)
SECONDS = {False: 30.0, True: 3.0}  # by whether it has to be quick
PERCENTILES = {"median (ms)": 50, "99 % within (ms)": 99, "99.9 % within (ms)": 99.9, "worst (ms)": 100}
START_SEC = 60.0  # of the publisher's process, beside its time


def measure(weights: Weights, options: Options) -> list[Result]:
    """One result for the machine alone, and one for each number of threads."""
    seconds = SECONDS[options.quick]
    beside = [_beside_the_node(threads, weights, options) for threads in THREADS]  # these choose a domain
    with Metronome(seconds) as metronome:
        delays = metronome.delays_sec()
    return [Result("jitter", {"node": "none", "threads": ""}, figures=delay_figures(delays)), *beside]


def _beside_the_node(threads: int, weights: Weights, options: Options) -> Result:
    """While the node follows one object through images of 720p at 30 Hz."""
    parameters = {
        "checkpoint": str(weights.path),
        "device": str(options.device),
        "threads": str(threads),
        "follow": "true",
    }
    image = filled_image(photograph(SIZES_HW[HD]), "rgb8")
    with running_rig(parameters, image) as rig:
        rig.wait_until_ready()
        rig.click()
        rig.spin(SETTLE_SEC)
        figures = _measure(rig, SECONDS[options.quick])
    return Result("jitter", {"node": "following, 720p at 30 Hz", "threads": str(threads)}, figures=figures)


def _measure(rig: Rig, seconds: float) -> dict[str, float]:
    before = len(rig.statuses) - 1
    with Metronome(seconds) as metronome:
        rig.wait(metronome.has_ended, "the publisher", seconds + START_SEC)
        delays = metronome.delays_sec()
    seen = len(rig.statuses)
    rig.wait(lambda: len(rig.statuses) > seen, "diagnostics", ANSWER_SEC)
    (first, published_first), (last, published_last) = rig.statuses[before], rig.statuses[-1]
    frames = frame_figures(first, last, published_last - published_first)
    return {**delay_figures(delays), "encoded/s": frames["encoded/s"]}


class Metronome:
    """The publisher's process, for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> Metronome:
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name) / "delays.json"
        arguments = ("--seconds", str(self._seconds), "--output", str(self._output))
        self._process = subprocess.Popen([sys.executable, "-m", "benchmark.metronome", *arguments])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def has_ended(self) -> bool:
        """Whether all was published."""
        return self._process.poll() is not None

    def delays_sec(self) -> list[float]:
        """How late each message was, once it has ended."""
        self._process.wait(self._seconds + START_SEC)
        return [float(delay) for delay in json.loads(self._output.read_text(encoding="utf-8"))]


def delay_figures(delays: Sequence[float]) -> dict[str, float]:
    """Percentiles of delays in seconds, as milliseconds."""
    return {name: 1000 * float(np.percentile(delays, share)) for name, share in PERCENTILES.items()}
