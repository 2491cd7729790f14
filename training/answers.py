"""Prompt a ``SamPredictor`` for objects whose masks are known, and score its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from torch import Tensor

from training.batches import tight_box
from training.pictures import Mask

KINDS = ("click", "3 clicks", "box", "box, three masks")
"""Ways of prompting. Three clicks are the first and two where the mask was wrong."""


@dataclass(frozen=True)
class Prompted:
    """The N objects asked for in one image of size (H, W), and how they are prompted.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, what is visible of each.
        points: (N, 1, 2) float32 XY pixels, one click each.
        boxes: (N, 4) float32 XYXY half-open pixel edges, tight.
    """

    image: NDArray[np.uint8]
    masks: Tensor
    points: Tensor
    boxes: Tensor


def prompted(image: NDArray[np.uint8], masks: Mask, clicks: Sequence[NDArray[np.float32]]) -> Prompted:
    """Objects (N, H, W) clicked at N points XY or boxed tightly."""
    points = torch.from_numpy(np.stack(clicks))[:, None]  # (N, 1, 2)
    boxes = torch.from_numpy(np.stack([tight_box(mask) for mask in masks]))  # (N, 4)
    return Prompted(image, torch.from_numpy(masks), points, boxes)


@dataclass(frozen=True)
class Answer:
    """Answers to N prompts: (N, C, H, W) bool masks, (N, C) predicted IoU, (N, C, h, w) logits."""

    masks: Tensor
    predicted_iou: Tensor
    low_res_logits: Tensor

    def chosen(self) -> Tensor:
        """(N,) index of the mask with the highest predicted IoU."""
        return self.predicted_iou.argmax(1)

    def chosen_masks(self) -> Tensor:
        """(N, H, W) bool masks with the highest predicted IoU."""
        return self.masks[torch.arange(len(self.masks)), self.chosen()]


def ask(predictor: SamPredictor, objects: Prompted, kind: str) -> Answer:
    """The model's answer to one of ``KINDS`` of prompting all objects of the image that was set."""
    if kind.startswith("box"):
        boxes = predictor.transform.apply_boxes_torch(objects.boxes, predictor.original_size)
        return Answer(*predictor.predict_torch(None, None, boxes, multimask_output=kind != "box"))
    *_, answer = refined(predictor, objects, {"click": 1, "3 clicks": 3}[kind])
    return answer


def refined(predictor: SamPredictor, objects: Prompted, clicks: int) -> Iterator[Answer]:
    """The model's answer after the first click, the second, ..., each but the first where it was wrong."""
    points, labels = objects.points, torch.ones(objects.points.shape[:2])
    answer = _click(predictor, points, labels, None)
    yield answer
    for _ in range(clicks - 1):
        points, labels = _corrected(points, labels, answer.chosen_masks(), objects.masks)
        logits = answer.low_res_logits[torch.arange(len(points)), answer.chosen()][:, None]  # (N, 1, h, w)
        answer = _click(predictor, points, labels, logits)
        yield answer


def _click(predictor: SamPredictor, points: Tensor, labels: Tensor, logits: Tensor | None) -> Answer:
    """Three masks for one click (N, 1, 2); one for several, which are less ambiguous."""
    scaled = predictor.transform.apply_coords_torch(points, predictor.original_size)
    multimask_output = points.shape[1] == 1
    return Answer(*predictor.predict_torch(scaled, labels, None, logits, multimask_output))


def _corrected(points: Tensor, labels: Tensor, masks: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Points (N, K + 1, 2) and labels (N, K + 1), one correction of masks (N, H, W) added."""
    pairs = [correction(*pair) for pair in zip(masks.numpy(), truth.numpy(), strict=True)]
    clicks = torch.from_numpy(np.stack([click for click, _ in pairs]))
    added = torch.tensor([float(inside) for _, inside in pairs])
    return torch.cat([points, clicks[:, None]], 1), torch.cat([labels, added[:, None]], 1)


def correction(mask: Mask, truth: Mask) -> tuple[NDArray[np.float32], bool]:
    """XY where a mask (H, W) is most deeply wrong, and whether that belongs to the object.

    Where nothing is wrong, the object is clicked once more.
    """
    wrong = mask != truth
    click = deepest(wrong if wrong.any() else truth)
    return click, bool(truth[int(click[1]), int(click[0])])


def deepest(region: Mask) -> NDArray[np.float32]:
    """(2,) XY of the pixel furthest from the border of a region (H, W)."""
    depth = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return np.array([column, row], np.float32)


def iou(masks: Tensor, truth: Tensor) -> Tensor:
    """(N, C) IoU of masks (N, C, H, W) with the truth (N, H, W), both bool; 1 where both are empty."""
    intersection = (masks & truth[:, None]).sum((-2, -1))
    union = (masks | truth[:, None]).sum((-2, -1))
    return torch.where(union == 0, 1.0, intersection / union.clamp(min=1))


@dataclass(frozen=True)
class Scores:
    """How good N answers are, each field (N,) float32.

    Attributes:
        iou: of the mask that was chosen by predicted IoU.
        best_iou: of the best of the masks that were offered.
        predicted_iou: what the model expected of the chosen mask.
    """

    iou: Tensor
    best_iou: Tensor
    predicted_iou: Tensor

    def means(self) -> dict[str, float]:
        """Mean IoU of the chosen and of the best mask, and the mean absolute error of predicted IoU."""
        error = (self.predicted_iou - self.iou).abs()
        values = {"iou": self.iou, "best_iou": self.best_iou, "predicted_iou_error": error}
        return {name: value.mean().item() for name, value in values.items()}


def score(answer: Answer, truth: Tensor) -> Scores:
    """Compare an answer to N prompts with the truth (N, H, W) bool."""
    true, each = iou(answer.masks, truth), (torch.arange(len(truth)), answer.chosen())
    return Scores(true[each], true.max(1).values, answer.predicted_iou[each])


def joined(scores: Sequence[Scores]) -> Scores:
    """All of them in a row."""
    return Scores(*(torch.cat([getattr(part, field.name) for part in scores]) for field in fields(Scores)))
