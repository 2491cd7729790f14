"""Image to the encoder's input, against PIL in ``ResizeLongestSide`` and ``Sam.preprocess``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from segment_anything import SamPredictor

from benchmark.contest import Contest
from benchmark.images import SIZES_HW, ImageRGB, photograph
from benchmark.results import Result
from benchmark.timing import Action, interleaved, peak_mb
from sam_ros.predictor import Predictor

THEIRS = "ResizeLongestSide, Sam.preprocess"


def measure(contest: Contest, machine: Mapping[str, Any]) -> list[Result]:  # noqa: ARG001 as of every part
    """One result for each size of image and each precision."""
    return [result for size in SIZES_HW for result in _measure(contest, size)]


def _measure(contest: Contest, size: str) -> list[Result]:
    image_rgb = photograph(SIZES_HW[size])
    actions: dict[str, Action] = {THEIRS: partial(preprocessed_by_upstream, contest.theirs, image_rgb)}
    actions |= {name: partial(preprocessed, ours, image_rgb) for name, ours in contest.ours.items()}
    timings = interleaved(actions, contest.options.effort, contest.options.device)
    expected = preprocessed_by_upstream(contest.theirs, image_rgb)
    return [
        Result(
            "preprocess",
            contest.case(precision, image=size, input=str(contest.image_size)),
            timings[precision].seconds,
            timings[THEIRS].seconds,
            _difference(preprocessed(ours, image_rgb), expected, contest.theirs.model.pixel_std),
            peak_mb(timings[precision], timings[THEIRS]),
        )
        for precision, ours in contest.ours.items()
    ]


def preprocessed(predictor: Predictor, image_rgb: ImageRGB) -> torch.Tensor:
    """(1, 3, S, S): what this project's encoder gets of an image (H, W, 3) uint8."""
    grid = predictor.grid((image_rgb.shape[0], image_rgb.shape[1]))
    with torch.inference_mode():
        return predictor._preprocess(image_rgb, grid)


def preprocessed_by_upstream(theirs: SamPredictor, image_rgb: ImageRGB) -> torch.Tensor:
    """(1, 3, S, S) float32: the steps of ``SamPredictor.set_image`` before the encoder."""
    resized = torch.as_tensor(theirs.transform.apply_image(image_rgb), device=theirs.device)
    made: torch.Tensor = theirs.model.preprocess(resized.permute(2, 0, 1).contiguous()[None])
    return made


def _difference(ours: torch.Tensor, expected: torch.Tensor, pixel_std: torch.Tensor) -> dict[str, float]:
    """How many values are not the same bits, and the largest difference in levels of 0 to 255."""
    levels = (ours.float() - expected).abs() * pixel_std
    return {
        "values that differ": float((ours.float() != expected).sum()),
        "by levels": float(levels.max()),
    }
