"""Many mixed prompts on an encoded image: one ``decode`` against a loop of ``SamPredictor.predict``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from segment_anything import SamPredictor

from benchmark.contest import Contest, predict
from benchmark.mixture import mixed_prompts
from benchmark.quality import logits_difference
from benchmark.results import Result
from benchmark.timing import Action, Timing, interleaved, peak_figures, peak_mb
from sam_ros.prompt import Prompt

THEIRS = "loop of SamPredictor.predict"
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LOOPED = {False: 32, True: 8}  # prompts that the loop runs over, by whether it has to be quick


def measure(contest: Contest, machine: Mapping[str, Any]) -> list[Result]:  # noqa: ARG001 as of every part
    """One result for each number of prompts and each precision."""
    return [result for count in COUNTS for result in _measure(contest, count)]


def _measure(contest: Contest, count: int) -> list[Result]:
    """The loop runs over the first prompts only, and is counted as often as they go into all of them."""
    prompts = mixed_prompts(count, contest.image_rgb.shape[:2], contest.image_size)
    looped = prompts[: LOOPED[contest.options.quick]]
    multimask = [prompt.is_single_point for prompt in prompts]
    embeddings = contest.embeddings  # upstream's predictor has the image set from here on
    actions: dict[str, Action] = {THEIRS: partial(_loop, contest.theirs, looped)}
    for precision, ours in contest.ours.items():
        actions[precision] = partial(ours.decode, embeddings[precision], prompts, multimask, True)
    timings = interleaved(actions, contest.options.effort, contest.options.device)
    results = []
    for precision, ours in contest.ours.items():
        difference = logits_difference(ours, embeddings[precision], contest.theirs, looped)
        figures = {"prompts in the loop": float(len(looped)), "logits differ by": difference}
        results.append(
            _result(contest.case(precision, prompts=str(count)), timings[precision], timings[THEIRS], figures)
        )
    return results


def _loop(theirs: SamPredictor, prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        predict(theirs, prompt, prompt.is_single_point)


def _result(case: dict[str, str], ours: Timing, loop: Timing, figures: dict[str, float]) -> Result:
    share = int(case["prompts"]) / figures["prompts in the loop"]
    return Result(
        "prompts",
        case,
        ours.seconds,
        tuple(share * seconds for seconds in loop.seconds),
        {**figures, **peak_figures(ours, loop)},
        peak_mb(ours, loop),
    )
