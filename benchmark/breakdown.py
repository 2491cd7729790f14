"""Where the time of an encode, of prompts and of pre-processing goes: by kind of operator, on a CPU."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from benchmark.contest import Contest
from benchmark.mixture import KINDS, mixed_prompts
from benchmark.preprocess import preprocessed
from benchmark.results import Result
from benchmark.timing import Action

OPERATORS = {
    "matrix products": ("mm", "convolution"),
    "attention": ("scaled_dot_product",),
    "softmax, norm, activation": ("softmax", "layer_norm", "gelu", "relu"),
    "copies": ("copy_", "cat", "fill_", "constant_pad"),
}
"""Kinds of torch's operators, by parts of their names."""
OTHERS, OUTSIDE = "other operators", "outside torch"
SEVERAL = 10  # calls of what takes less than a second


def measure(contest: Contest, machine: Mapping[str, Any]) -> list[Result]:
    """One result for each precision and each thing to do; none on a GPU, where operators do not wait."""
    if machine["device type"] != "cpu":
        return []
    return [
        _result(contest.case(precision, what=what), action)
        for precision in contest.ours
        for what, action in _actions(contest, precision).items()
    ]


def _actions(contest: Contest, precision: str) -> dict[str, Action]:
    ours, embedding = contest.ours[precision], contest.embeddings[precision]
    prompts = mixed_prompts(len(KINDS), contest.image_rgb.shape[:2], contest.image_size)
    return {
        "encode": partial(ours.encode, contest.image_rgb),
        "pre-processing": partial(preprocessed, ours, contest.image_rgb),
        "one click": partial(ours.decode, embedding, prompts[:1], True, True),
        f"{len(KINDS)} mixed prompts": partial(ours.decode, embedding, prompts, True, True),
    }


def _result(case: dict[str, str], action: Action) -> Result:
    start = time.perf_counter()
    action()  # to warm up
    calls = 1 if time.perf_counter() - start > 1 else SEVERAL
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        for _ in range(calls):
            action()
        seconds = (time.perf_counter() - start) / calls
    return Result("breakdown", case, (seconds,), (), shares(found.key_averages(), 1000 * seconds, calls))


def shares(events: Iterable[FunctionEventAvg], total_ms: float, calls: int) -> dict[str, float]:
    """Milliseconds of one call, of ``calls`` that took ``total_ms`` each, by kind of operator."""
    spent = dict.fromkeys((*OPERATORS, OTHERS), 0.0)
    for event in events:
        spent[_kind(event.key or "")] += event.self_cpu_time_total / 1000 / calls
    named = {f"{kind} (ms)": ms for kind, ms in spent.items()}
    return {**named, f"{OUTSIDE} (ms)": max(0.0, total_ms - sum(spent.values()))}


def _kind(operator: str) -> str:
    for kind, parts in OPERATORS.items():
        if any(part in operator for part in parts):
            return kind
    return OTHERS
