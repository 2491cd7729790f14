"""The machine that results were measured on: its names, versions, and how fast it multiplies matrices."""

from __future__ import annotations

import datetime
import os
import platform
import re
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from benchmark.results import spread
from benchmark.timing import Effort, interleaved, synchronize
from sam_ros.predictor import PRECISIONS

MATRIX_SIDES = (256, 512, 1024, 2048, 4096, 8192)
PRODUCT_SEC = 0.05  # a matrix is large enough once a product takes so long
MATRIX_EFFORT = Effort(3.0, 5, 100)
RATE_UNITS = {"cpu": ("GFLOP/s", 1e9), "cuda": ("TFLOP/s", 1e12)}
IDENTITY = ("CPU", "device", "torch threads", "torch")  # facts that results of one file have in common


def describe(
    device: torch.device, precisions: tuple[str, ...], settings: Mapping[str, str]
) -> dict[str, Any]:
    """All facts, by the names that they are printed under."""
    load = os.getloadavg()[0]
    _, scale = RATE_UNITS[device.type]
    rates = matrix_rates(device, tuple(dict.fromkeys(("float32", "bfloat16", *precisions))))
    return {
        "CPU": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory (GB)": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "device": device_name(device),
        "device type": device.type,
        "torch threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "load average before": round(load, 2),
        **settings,
        **{_rate_fact(precision, device.type): rate / scale for precision, rate in rates.items()},
    }


def matrix_rate(machine: Mapping[str, Any], precision: str) -> float | None:
    """The measured floating-point operations per second in a precision."""
    _, scale = RATE_UNITS[machine["device type"]]
    rate = machine.get(_rate_fact(precision, machine["device type"]))
    return None if rate is None else float(rate) * scale


def _rate_fact(precision: str, device_type: str) -> str:
    return f"matrix products in {precision} ({RATE_UNITS[device_type][0]})"


def same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether results of both may stand in one table."""
    return all(one.get(fact) == other.get(fact) for fact in IDENTITY)


def matrix_rates(device: torch.device, precisions: tuple[str, ...]) -> dict[str, float]:
    """Operations per second of square matrix products, as in a linear layer: medians, by precision."""
    with torch.inference_mode():
        factors = {name: _large_factor(PRECISIONS[name], device) for name in precisions}
        products = {name: partial(linear, factor, factor) for name, factor in factors.items()}
        timings = interleaved(products, MATRIX_EFFORT, device)
    return {
        name: 2 * len(factors[name]) ** 3 / spread(timing.seconds).median for name, timing in timings.items()
    }


def _large_factor(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """As large as PRODUCT_SEC allows: in a precision without hardware a CPU is a hundred times slower."""
    for side in MATRIX_SIDES:
        factor = (torch.randn(side, side, device=device) / side**0.5).to(dtype)
        linear(factor, factor)  # the first may have to prepare something
        synchronize(device)
        start = time.perf_counter()
        linear(factor, factor)
        synchronize(device)
        if time.perf_counter() - start > PRODUCT_SEC:
            break
    return factor


def pays(precision: str, machine: Mapping[str, Any]) -> bool:
    """Whether matrix products in a precision are faster than in float32."""
    rate, float32_rate = matrix_rate(machine, precision), matrix_rate(machine, "float32")
    return rate is not None and float32_rate is not None and rate > float32_rate


def cpu_name() -> str:
    """As the kernel tells it."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    return found[1].strip() if found else platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The GPU's name, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def file_name(machine: Mapping[str, Any]) -> str:
    """A name for the files of its results: that of the GPU, or that of the CPU and its threads."""
    is_gpu = machine["device type"] == "cuda"
    name = machine["device"] if is_gpu else f"{machine['CPU']} {machine['torch threads']} threads"
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
