"""Non-maximum suppression of boxes, one after the other, best first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BoxXYXY = tuple[float, float, float, float]
Floats = npt.NDArray[np.float32]


class Suppression:
    """Remembers boxes, and tells of the next one whether it is a duplicate of one of them.

    As ``torchvision.ops.nms`` on the boxes of segment_anything's ``batched_mask_to_box``, which go from the
    first pixel of a mask to its last, so that one pixel has no area. Here boxes are given as everywhere, by
    half-open pixel edges.

    Args:
        thresh: boxes with a larger IoU are duplicates.
    """

    def __init__(self, thresh: float) -> None:
        self._thresh = thresh
        self._boxes = np.empty((0, 4), np.float32)

    def add(self, box_xyxy: BoxXYXY) -> bool:
        """Remember a box, unless it is a duplicate; false if it is."""
        box = _first_to_last(box_xyxy)
        shared = self._shared(box)
        if self._is_duplicate(shared, _area(box)):
            return False
        self._boxes = np.concatenate([self._boxes, box[None]])
        return True

    def is_certain(self, inner_xyxy: BoxXYXY, outer_xyxy: BoxXYXY) -> bool:
        """Whether any box that contains the inner one and lies in the outer one would be a duplicate.

        The IoU grows with what is shared and falls with the area of the box.
        """
        shared = self._shared(_first_to_last(inner_xyxy))
        return self._is_duplicate(shared, _area(_first_to_last(outer_xyxy)))

    def _shared(self, box: Floats) -> Floats:
        """(K,): the area that a box has in common with each one that is remembered."""
        low = np.maximum(self._boxes[:, :2], box[:2])
        sides = np.clip(np.minimum(self._boxes[:, 2:], box[2:]) - low, 0, None)
        shared: Floats = sides[:, 0] * sides[:, 1]
        return shared

    def _is_duplicate(self, shared: Floats, area: Floats) -> bool:
        with np.errstate(invalid="ignore"):  # 0/0 of boxes without area is no duplicate, as in torchvision
            iou = shared / (_area(self._boxes) + area - shared)
        return bool((iou > self._thresh).any())


def _first_to_last(box_xyxy: BoxXYXY) -> Floats:
    """(4,): from the first pixel to the last one."""
    x0, y0, x1, y1 = box_xyxy
    return np.array([x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)], np.float32)


def _area(boxes: Floats) -> Floats:
    """(...,) of boxes (..., 4)."""
    area: Floats = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return area
