"""The masks of one object, and pure functions between masks, boxes and label images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

MASK_PROMPT_LOGIT = 8.0
"""L: a mask image given as prompt becomes logits of +L inside and -L outside."""

BoolMask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Masks:
    """What the model answers to one prompt: C masks, best first by unclamped predicted IoU. Host arrays.

    Attributes:
        masks: (C, H, W) bool, original image.
        predicted_iou: (C,) float32, the model's own estimate, not clamped.
        stability_score: (C,) float32 in [0, 1], see ``calculate_stability_score`` in segment_anything's
            utils/amg.py, on logits of the original image's size with offset 1; 0/0 is 0.
        low_res_logits: (C, S/4, S/4) float32 over the padded square, image at its top left.
        other_predicted_iou: (K,) float32, of the masks that were left out because the best was enough, best
            first.
        memory_tokens: (C, T) float32, what a model with a memory needs to remember each of them; None where
            it has no memory.

    Raises:
        ValueError: the arrays do not agree in C.
    """

    masks: BoolMask
    predicted_iou: npt.NDArray[np.float32]
    stability_score: npt.NDArray[np.float32]
    low_res_logits: npt.NDArray[np.float32]
    other_predicted_iou: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    memory_tokens: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        counts = [len(a) for a in (self.masks, self.predicted_iou, self.stability_score, self.low_res_logits)]
        if self.masks.ndim != 3 or len(set(counts)) != 1 or counts[0] < 1:
            raise ValueError(f"Masks needs (C, H, W) masks and C >= 1 of everything, got counts {counts}")

    def only(self, index: int) -> Masks:
        """One of the masks; the predicted IoU of the others stays, best first."""
        chosen = slice(index, index + 1)
        others = np.concatenate([np.delete(self.predicted_iou, index), self.other_predicted_iou])
        return Masks(
            self.masks[chosen],
            self.predicted_iou[chosen],
            self.stability_score[chosen],
            self.low_res_logits[chosen],
            others,
            None if self.memory_tokens is None else self.memory_tokens[chosen],
        )


def tight_box_xyxy(mask: BoolMask) -> tuple[int, int, int, int] | None:
    """The smallest box around the true pixels of an (H, W) mask: XYXY half-open pixel edges.

    One pixel at column 3, row 5 gives (3, 5, 4, 6). None for an empty mask.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def draw_union(masks: Sequence[BoolMask], image: npt.NDArray[np.uint8]) -> None:
    """Make an (H, W) image 255 where any of the (H, W) masks is true and 0 elsewhere."""
    image.fill(0)
    for mask in masks:
        np.bitwise_or(image, mask.view(np.uint8), out=image)
    np.multiply(image, 255, out=image)


def draw_labels(masks: Sequence[BoolMask], scores: Sequence[float], image: npt.NDArray[np.uint16]) -> None:
    """Make an (H, W) image k where masks[k-1] is true and 0 elsewhere.

    Overlaps go to the higher score, ties to the earlier mask.
    """
    image.fill(0)
    worst_first = sorted(range(len(masks)), key=lambda i: (scores[i], -i))
    for index in worst_first:
        np.copyto(image, np.uint16(index + 1), where=masks[index])
