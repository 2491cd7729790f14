"""sam_tiny beside GrabCut and flood fill, on photographs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from segment_anything import SamPredictor
from tqdm import tqdm

from training.answers import KINDS, Scores, ask, deepest, joined, prompted, score
from training.baselines import TOLERANCES, flood_fill, grab_cut
from training.batches import sample_click
from training.photographs import Photograph
from training.pictures import Mask

RANDOM_CLICKS = 5  # on each object, beside the click in its middle
RANDOM_KIND = "click anywhere"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Compared:
    """One object of a photograph, and what each method made of it.

    Attributes:
        photograph: file name.
        name: of the object.
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) bool.
        click: (2,) XY pixels.
        box: (4,) XYXY half-open pixel edges.
        masks: (H, W) bool of sam_tiny's "click" and "box", and of "GrabCut".
        scores: of sam_tiny for each way of prompting, one answer each, but several of clicks anywhere.
        grab_cut_iou: of GrabCut from the box.
        flood_fill_iou: (T,) of a flood fill from the click with each of ``TOLERANCES``.
        seconds: of "sam_tiny" (encode, and decode of one box), "GrabCut" and "flood fill".
    """

    photograph: str
    name: str
    image: NDArray[np.uint8]
    truth: Mask
    click: NDArray[np.float32]
    box: NDArray[np.float32]
    masks: dict[str, Mask]
    scores: dict[str, Scores]
    grab_cut_iou: float
    flood_fill_iou: NDArray[np.float64]
    seconds: dict[str, float]

    def iou(self, kind: str) -> float:
        """Mean IoU of sam_tiny's chosen masks for one way of prompting."""
        return self.scores[kind].means()["iou"]


def compare_all(predictor: SamPredictor, taken: Sequence[Photograph]) -> list[Compared]:
    """Every object of every photograph."""
    return [
        compared
        for photograph in tqdm(taken, unit="photograph")
        for compared in compare(predictor, photograph)
    ]


def compare(predictor: SamPredictor, photograph: Photograph) -> list[Compared]:
    """The objects of one photograph."""
    _, encode_seconds = _timed(predictor.set_image, photograph.image)
    return [_compare(predictor, photograph, index, encode_seconds) for index in range(len(photograph.names))]


def _compare(predictor: SamPredictor, photograph: Photograph, index: int, encode_seconds: float) -> Compared:
    """One object of the photograph that was set."""
    image, truth = photograph.image, photograph.masks[index]
    one = prompted(image, truth[None], [deepest(truth)])
    click, box = one.points[0, 0].numpy(), one.boxes[0].numpy()
    answers = {kind: ask(predictor, one, kind) for kind in KINDS}
    scores = {kind: score(answer, one.masks) for kind, answer in answers.items()}
    masks = {kind: answers[kind].chosen_masks()[0].numpy() for kind in ("click", "box")}
    _, decode_seconds = _timed(ask, predictor, one, "box")
    masks["GrabCut"], grab_cut_seconds = _timed(grab_cut, image, box)
    fills, fill_seconds = _timed(_flood_fills, image, click)
    return Compared(
        photograph=photograph.file,
        name=photograph.names[index],
        image=image,
        truth=truth,
        click=click,
        box=box,
        masks=masks,
        scores={**scores, RANDOM_KIND: _random_clicks(predictor, image, truth)},
        grab_cut_iou=mask_iou(masks["GrabCut"], truth),
        flood_fill_iou=np.array([mask_iou(fill, truth) for fill in fills]),
        seconds={
            "sam_tiny": encode_seconds + decode_seconds,
            "GrabCut": grab_cut_seconds,
            "flood fill": fill_seconds / len(TOLERANCES),
        },
    )


def _random_clicks(predictor: SamPredictor, image: NDArray[np.uint8], truth: Mask) -> Scores:
    """Scores of ``RANDOM_CLICKS`` clicks on one object, each for itself, from a fixed seed."""
    rng = np.random.default_rng(0)
    clicks = [sample_click(rng, truth) for _ in range(RANDOM_CLICKS)]
    objects = prompted(image, np.repeat(truth[None], RANDOM_CLICKS, 0), clicks)
    return score(ask(predictor, objects, "click"), objects.masks)


def _flood_fills(image: NDArray[np.uint8], click_xy: NDArray[np.float32]) -> list[Mask]:
    return [flood_fill(image, click_xy, tolerance) for tolerance in TOLERANCES]


def mask_iou(mask: Mask, truth: Mask) -> float:
    """IoU of two masks (H, W), of which the truth is not empty."""
    return float((mask & truth).sum() / (mask | truth).sum())


def best_tolerance(compared: Sequence[Compared]) -> int:
    """Index of the one of ``TOLERANCES`` that is best on average over these very objects.

    Nobody can choose it so well without knowing the outlines: the flood fill gets the benefit of the doubt.
    """
    return int(np.mean([one.flood_fill_iou for one in compared], 0).argmax())


def _timed(function: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """What the function returns, and the seconds that it took."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def pooled(compared: Sequence[Compared]) -> dict[str, Scores]:
    """The scores of all objects, by way of prompting."""
    kinds = (KINDS[0], RANDOM_KIND, *KINDS[1:])
    return {kind: joined([one.scores[kind] for one in compared]) for kind in kinds}
