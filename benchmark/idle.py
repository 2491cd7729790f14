"""What the node costs while nobody has clicked: processor and memory, for each way to encode."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from benchmark.contest import Options, Weights
from benchmark.images import HD, SIZES_HW, photograph
from benchmark.messages import filled_image
from benchmark.node import OUTPUTS, SETTLE_SEC, Rig, running_rig
from benchmark.results import Result

ENCODES = ("always", "with_objects", "on_prompt")
SUBSCRIBERS: dict[str, dict[str, Any]] = {"none": {}, ", ".join(OUTPUTS): OUTPUTS}
WATCH_SEC = {False: 30.0, True: 4.0}  # by whether it has to be quick


def measure(model_type: str, weights: Weights, options: Options) -> list[Result]:
    """A result for each way to encode, without subscribers and with those that a robot has."""
    return [
        _measure(model_type, weights, options, encode, subscribers)
        for encode in ENCODES
        for subscribers in SUBSCRIBERS
    ]


def _measure(model_type: str, weights: Weights, options: Options, encode: str, subscribers: str) -> Result:
    parameters = {
        "model_type": model_type,
        "checkpoint": str(weights.path),
        "device": str(options.device),
        "encode": encode,
    }
    image = filled_image(photograph(SIZES_HW[HD]), "rgb8")
    with running_rig(parameters, image, SUBSCRIBERS[subscribers]) as rig:
        rig.wait_until_ready("image")
        rig.spin(SETTLE_SEC)
        figures = _watch(rig, WATCH_SEC[options.quick])
        figures["memory (MB)"] = float(rig.statuses[-1][0].values["memory (MB)"])
    case = {"model": model_type, "encode": encode, "subscribers": subscribers}
    return Result("idle", case, figures=figures)


def _watch(rig: Rig, seconds: float) -> dict[str, float]:
    """Processor time of the node in percent of one core, images that it takes and sets that come."""
    before, images, sets = processor_sec(rig.process_id), rig.num_published, rig.num_received
    start = time.perf_counter()
    rig.spin(seconds)
    watched_sec = time.perf_counter() - start
    return {
        "of a core (%)": 100 * (processor_sec(rig.process_id) - before) / watched_sec,
        "images published/s": (rig.num_published - images) / watched_sec,
        "sets received/s": (rig.num_received - sets) / watched_sec,
    }


def processor_sec(process_id: int) -> float:
    """How long a process has been computing, all threads together, in user and system mode."""
    text = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii")
    user, system = text.rpartition(")")[2].split()[11:13]  # the name before may hold anything
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
