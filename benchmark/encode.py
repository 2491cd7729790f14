"""Image to embedding: ``Predictor.encode`` against ``SamPredictor.set_image`` in float32."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmark.contest import Contest
from benchmark.floor import encoder_multiply_adds, floor_sec
from benchmark.images import held_out_scenes, photographs
from benchmark.machine import matrix_rate
from benchmark.mixture import KINDS, mixed_prompts
from benchmark.quality import agreement, logits_difference
from benchmark.results import Result, spread
from benchmark.timing import interleaved, peak_figures, peak_mb
from sam_ros.core.architecture import Sam2Architecture

THEIRS = "SamPredictor.set_image"
SCENES = {False: 24, True: 4}  # by whether it has to be quick


def measure(contest: Contest, machine: Mapping[str, Any]) -> list[Result]:
    """One result for each precision."""
    actions = {THEIRS: partial(contest.theirs.set_image, contest.image_rgb)}
    actions |= {name: partial(ours.encode, contest.image_rgb) for name, ours in contest.ours.items()}
    timings = interleaved(actions, contest.options.effort, contest.options.device)
    return [
        Result(
            "encode",
            contest.case(precision, weights="trained" if contest.weights.trained else "random"),
            timings[precision].seconds,
            timings[THEIRS].seconds,
            {
                **_speed(contest, precision, spread(timings[precision].seconds).median, machine),
                **_quality(contest, precision),
                **peak_figures(timings[precision], timings[THEIRS]),
            },
            peak_mb(timings[precision], timings[THEIRS]),
        )
        for precision in contest.ours
    ]


def _speed(contest: Contest, precision: str, seconds: float, machine: Mapping[str, Any]) -> dict[str, float]:
    frames = {"frames/s": 1 / seconds}
    rate = matrix_rate(machine, precision)
    if rate is None or isinstance(contest.architecture, Sam2Architecture):  # whose products are not counted
        return frames
    floor = floor_sec(encoder_multiply_adds(contest.architecture), rate)
    return frames | {"times the floor": seconds / floor}


def _quality(contest: Contest, precision: str) -> dict[str, float]:
    """Differences from upstream in float32; with trained weights also how far masks agree with float32's."""
    embedding = contest.embeddings[precision]
    theirs = contest.theirs.get_image_embedding()  # SAM 2's finer levels are apart
    prompts = mixed_prompts(len(KINDS), contest.image_rgb.shape[:2], contest.image_size)
    ours = contest.ours[precision]
    return {
        "embedding differs by": float(
            (embedding.features[:, : theirs.shape[1]].float() - theirs).abs().max()
        ),
        "logits differ by": logits_difference(ours, embedding, contest.theirs, prompts),
        **_mask_agreement(contest, precision),
    }


def _mask_agreement(contest: Contest, precision: str) -> dict[str, float]:
    if precision == "float32" or "float32" not in contest.ours or not contest.weights.trained:
        return {}
    reference, other = contest.ours["float32"], contest.ours[precision]
    scenes = held_out_scenes(SCENES[contest.options.quick])
    sources = {"scenes": scenes, "photographs": photographs()}
    found = {name: agreement(reference, other, images) for name, images in sources.items()}
    return {
        **{f"mask IoU, {name}": one.chosen for name, one in found.items()},
        **{f"same mask, {name}": one.same for name, one in found.items()},
    }
