"""What makes an object hard to find: pieces, and holes or thin parts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.batches import filling
from training.pictures import Mask

ONE_PIECE = 0.95  # of the visible pixels


@dataclass(frozen=True)
class VisibleShape:
    """Of one visible mask.

    Attributes:
        largest_piece: share of the pixels that hang together in the largest piece.
        filling: share of the pixels of the tight box.
    """

    largest_piece: float
    filling: float


def shape_of(mask: Mask) -> VisibleShape:
    """The shape of a mask (H, W) that is not empty."""
    area = int(mask.sum())
    _, _, pieces, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = pieces[1:, cv2.CC_STAT_AREA].max()
    return VisibleShape(float(largest / area), filling(mask))
