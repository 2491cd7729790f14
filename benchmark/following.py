"""Carrying objects to the next frame, against asking the model for them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmark.contest import Contest
from benchmark.images import ImageRGB
from benchmark.results import Result
from benchmark.timing import Action, interleaved, peak_mb
from sam_ros.core.follower import moved_objects, prompt_to_follow
from sam_ros.core.grid import Grid, logits_from_mask, padded_grid
from sam_ros.core.motion import View, make_view
from sam_ros.core.objects import LowResLogits, SegmentedObject, Target

COUNTS = (1, 8, 64)  # objects
ACROSS = 8  # places for objects in a row
RADIUS = 0.05  # of the image's height: of the round objects
SHIFT = (4, 9)  # pixels down and right, from one frame to the next
CARRIED = "carried"


def measure(contest: Contest, machine: Mapping[str, Any]) -> list[Result]:  # noqa: ARG001 as of every part
    """One result for each number of objects and each precision, which matters to the decoding only."""
    return [result for count in COUNTS for result in _measure(contest, count)]


def _measure(contest: Contest, count: int) -> list[Result]:
    height, width, _ = contest.image_rgb.shape
    target = Target(1, padded_grid((height, width), contest.image_size))
    before, after = make_view(contest.image_rgb), np.roll(contest.image_rgb, SHIFT, axis=(0, 1))
    objects = [
        SegmentedObject("", "", 0, 0, target.size_hw, low_res_logits=logits, logits_sequence=target.sequence)
        for logits in round_objects(count, target.grid)
    ]
    prompts = [prompt for prompt in (prompt_to_follow(one, target) for one in objects) if prompt is not None]
    actions: dict[str, Action] = {CARRIED: partial(carry, objects, before, after, target.grid)}
    for precision, ours in contest.ours.items():
        embedding = contest.embeddings[precision]
        actions[precision] = partial(ours.decode, embedding, prompts, False, True)
    timings = interleaved(actions, contest.options.effort, contest.options.device)
    return [
        Result(
            "following",
            contest.case(precision, objects=str(count)),
            timings[CARRIED].seconds,
            timings[precision].seconds,
            {},
            peak_mb(timings[CARRIED], timings[precision]),
        )
        for precision in contest.ours
    ]


def carry(
    objects: Sequence[SegmentedObject], before: View, image_rgb: ImageRGB, grid: Grid
) -> list[SegmentedObject | None]:
    """All that following adds to a frame, (H, W, 3) uint8, before the model is asked."""
    return moved_objects(objects, before, make_view(image_rgb), grid)


def round_objects(count: int, grid: Grid) -> list[LowResLogits]:
    """Logits (S/4, S/4) of so many discs, row by row in an image (H, W)."""
    height, width = grid.original_hw
    rows, columns = np.ogrid[:height, :width]
    made = []
    for index in range(count):
        y = (index // ACROSS % ACROSS + 0.5) * height / ACROSS
        x = (index % ACROSS + 0.5) * width / ACROSS
        disc = (columns - x) ** 2 + (rows - y) ** 2 <= (RADIUS * height) ** 2
        made.append(logits_from_mask(disc, grid))
    return made
