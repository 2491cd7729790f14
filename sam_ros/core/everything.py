"""Segment everything: what is asked for, and where in the image; values, without a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_ros.core.grid import SizeHW
from sam_ros.core.objects import BoxXYXY
from sam_ros.errors import InvalidPromptError

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EverythingIn:
    """Asks for everything in a region, XYXY pixel edges; None is the whole image."""

    region: BoxXYXY | None


@dataclass(frozen=True)
class EverythingOptions:
    """What ``Predictor.everything`` looks for; names and meaning of ``SamAutomaticMaskGenerator``.

    See automatic_mask_generator.py of segment_anything. ``region``, ``min_area`` and ``skip_covered`` are of
    this project.

    Attributes:
        points_per_side: N: a grid of N x N points is asked for, three masks each.
        points_per_batch: how many points are asked for at a time.
        pred_iou_thresh: masks of a lower predicted IoU, or an equal one, are left out; 0 takes all.
        stability_score_thresh: masks of a lower stability score are left out; 0 takes all but empty ones.
        stability_score_offset: of the logits, for the stability score.
        box_nms_thresh: of two masks whose boxes have a larger IoU, the one with the lower predicted IoU is
            left out as a duplicate.
        min_mask_region_area: smaller holes in masks are filled and smaller islands removed, pixels; 0 leaves
            all.
        min_area: masks of fewer pixels are left out.
        region: XYXY pixel edges; the grid lies in it, and what lies in it by less than half is left out. None
            is the whole image.
        skip_covered: leave out points on small masks that were found already: less work, and now and then a
            part of such a mask is missed.

    Raises:
        InvalidPromptError: a value that means nothing.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    min_mask_region_area: int = 0
    min_area: int = 0
    region: BoxXYXY | None = None
    skip_covered: bool = False

    def __post_init__(self) -> None:
        for name in ("points_per_side", "points_per_batch"):
            if getattr(self, name) < 1:
                raise InvalidPromptError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.region is not None:
            x0, y0, x1, y1 = self.region
            if not all(map(math.isfinite, self.region)) or x1 <= x0 or y1 <= y0:
                raise InvalidPromptError(f"region must be XYXY with x0 < x1 and y0 < y1, got {self.region}")

    def points(self, size_hw: SizeHW) -> Points:
        """(N * N, 2) XY: the grid of points on an image (H, W), row by row, each in the middle of its cell.

        ``build_point_grid`` of segment_anything, laid over the part of the region that is in the image.

        Raises:
            InvalidPromptError: no part of it is.
        """
        x0, y0, x1, y1 = self._within(size_hw)
        middles = (np.arange(self.points_per_side) + 0.5) / self.points_per_side
        x, y = np.meshgrid(x0 + middles * (x1 - x0), y0 + middles * (y1 - y0))
        return np.stack([x.ravel(), y.ravel()], axis=1)

    def _within(self, size_hw: SizeHW) -> BoxXYXY:
        height, width = size_hw
        if self.region is None:
            return 0.0, 0.0, float(width), float(height)
        x0, y0, x1, y1 = self.region
        clipped = max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)
        if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
            raise InvalidPromptError(f"region {self.region} lies outside the image of {width} x {height}")
        return clipped


def coarse_first(points_per_side: int) -> npt.NDArray[np.int64]:
    """(N * N,) the points of a grid in an order in which a coarse grid of them comes first.

    Every eighth point of a row and column, then every fourth, every second, and the rest: large things are
    found by the first, and their points need not be asked for again.
    """
    index = np.arange(points_per_side)
    rank = sum((index % stride == 3 % stride).astype(int) for stride in (2, 4, 8))
    return np.argsort(-np.minimum.outer(rank, rank).ravel(), kind="stable")
