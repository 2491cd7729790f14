"""One click to a mask on the host, on an encoded image: ``decode`` against ``SamPredictor.predict``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmark.contest import Contest, predict
from benchmark.floor import click_multiply_adds, floor_sec
from benchmark.machine import matrix_rate
from benchmark.mixture import mixed_prompts
from benchmark.quality import logits_difference
from benchmark.results import Result, spread
from benchmark.timing import Action, interleaved, peak_mb

THEIRS = "SamPredictor.predict"
KEPT = {"the best": True, "all three": False}  # best_only


def measure(contest: Contest, machine: Mapping[str, Any]) -> list[Result]:
    """One result for each precision and each number of masks that are kept of three."""
    (click,) = mixed_prompts(1, contest.image_rgb.shape[:2], contest.image_size)
    embeddings = contest.embeddings  # upstream's predictor has the image set from here on
    actions: dict[str, Action] = {THEIRS: partial(predict, contest.theirs, click, True)}
    for precision, ours in contest.ours.items():
        for kept, best_only in KEPT.items():
            actions[f"{precision} {kept}"] = partial(
                ours.decode, embeddings[precision], [click], True, best_only
            )
    timings = interleaved(actions, contest.options.effort, contest.options.device)
    rate = matrix_rate(machine, "float32")  # in which all precisions decode
    results = []
    for precision, ours in contest.ours.items():
        difference = logits_difference(ours, embeddings[precision], contest.theirs, [click])
        for kept in KEPT:
            timing = timings[f"{precision} {kept}"]
            figures = {"logits differ by": difference}
            if rate is not None and kept == "the best":
                floor = floor_sec(click_multiply_adds(contest.architecture), rate)
                figures["times the floor"] = spread(timing.seconds).median / floor
            case = contest.case(precision, masks=kept)
            peak = peak_mb(timing, timings[THEIRS])
            results.append(Result("click", case, timing.seconds, timings[THEIRS].seconds, figures, peak))
    return results
