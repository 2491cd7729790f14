"""How far answers are from one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from segment_anything import SamPredictor

from benchmark.contest import predict
from benchmark.images import ImageRGB
from sam_ros.masks import Masks, tight_box_xyxy
from sam_ros.predictor import Embedding, Predictor
from sam_ros.prompt import FOREGROUND, Prompt

CLICKS_A_SIDE = 4  # clicks are on a grid

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Mean IoU of masks of two precisions.

    Attributes:
        chosen: of the masks that each would publish, the best by its own predicted IoU.
        same: of the reference's choice and the most similar of the other's: near-ties do not count here.
    """

    chosen: float
    same: float


def mask_iou(one: Mask, other: Mask) -> float:
    """IoU of two masks of equal shape; 1 if both are empty."""
    union = np.count_nonzero(one | other)
    return float(np.count_nonzero(one & other) / union) if union else 1.0


def largest_difference(ours: Floats, theirs: Floats) -> float:
    """Of each of our arrays (C, ...) from the most similar of theirs: near-ties may be in another order."""
    return max(min(float(np.abs(one - other).max()) for other in theirs) for one in ours)


def logits_difference(
    ours: Predictor, embedding: Embedding, theirs: SamPredictor, prompts: Sequence[Prompt]
) -> float:
    """The largest difference of low-res logits from upstream's, which has the image set."""
    multimask = [prompt.is_single_point for prompt in prompts]
    answers = ours.decode(embedding, prompts, multimask)
    return max(
        largest_difference(masks.low_res_logits, predict(theirs, prompt, flag)[2])
        for masks, prompt, flag in zip(answers, prompts, multimask, strict=True)
    )


def agreement(reference: Predictor, other: Predictor, images_rgb: Iterable[ImageRGB]) -> Agreement:
    """Of a precision with float32, the reference, from clicks and boxes on pictures."""
    pairs = [pair for image_rgb in images_rgb for pair in _answers(reference, other, image_rgb)]
    chosen = [mask_iou(wanted.masks[0], got.masks[0]) for wanted, got in pairs]
    same = [max(mask_iou(wanted.masks[0], mask) for mask in got.masks) for wanted, got in pairs]
    return Agreement(float(np.mean(chosen)), float(np.mean(same)))


def _answers(reference: Predictor, other: Predictor, image_rgb: ImageRGB) -> Iterator[tuple[Masks, Masks]]:
    """Both answers to clicks on a grid, and to boxes around the reference's answers."""
    embeddings = [predictor.encode(image_rgb) for predictor in (reference, other)]
    clicks = grid_clicks(image_rgb.shape[:2])
    wanted = reference.decode(embeddings[0], clicks)
    yield from zip(wanted, other.decode(embeddings[1], clicks), strict=True)
    boxes = [tight_box_xyxy(masks.masks[0]) for masks in wanted]
    prompts = [Prompt(box=np.array(box)) for box in boxes if box is not None]
    answers = [p.decode(e, prompts, False) for p, e in zip((reference, other), embeddings, strict=True)]
    yield from zip(*answers, strict=True)


def grid_clicks(size_hw: Sequence[int]) -> list[Prompt]:
    """CLICKS_A_SIDE squared clicks, evenly spread over an image."""
    shares = (np.arange(CLICKS_A_SIDE) + 0.5) / CLICKS_A_SIDE
    return [
        Prompt(np.array([[x * size_hw[1], y * size_hw[0]]]), np.array([FOREGROUND]))
        for y in shares
        for x in shares
    ]
