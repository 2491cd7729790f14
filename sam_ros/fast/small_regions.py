"""Small holes and islands of one mask."""

from __future__ import annotations

from itertools import compress

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.fast.full_size import Cutout, cut_out
from sam_ros.masks import BoolMask

Sides = tuple[bool, bool, bool, bool]  # left, top, right, bottom

CONNECTIVITY = 8  # that of remove_small_regions in segment_anything's utils/amg.py


def without_small_regions(cutout: Cutout, least_area: int, size_hw: tuple[int, int]) -> Cutout:
    """A mask with holes of fewer pixels filled, and then islands of fewer pixels removed.

    ``remove_small_regions`` of segment_anything on the whole image. Of islands that are all smaller the
    largest stays.

    Args:
        cutout: the mask.
        least_area: pixels.
        size_hw: (H, W) of the image.

    Returns:
        The same cutout where nothing is that small.
    """
    x0, y0, x1, y1 = cutout.box_xyxy
    height, width = size_hw
    goes_on = (x0 > 0, y0 > 0, x1 < width, y1 < height)
    left, top, right, bottom = map(int, goes_on)
    mask = np.pad(cutout.mask, ((top, bottom), (left, right)))
    filled = _with_holes_filled(mask, least_area, goes_on)
    cleaned = _without_islands(filled, least_area)
    if cleaned is mask:
        return cutout
    return cut_out(cleaned, x0 - left, y0 - top, cutout.stability_score) or cutout


def _with_holes_filled(mask: BoolMask, least_area: int, goes_on: Sides) -> BoolMask:
    """What reaches a side where the image goes on is no hole: more of it is outside of the mask's box."""
    regions, areas = _regions(~mask)
    is_hole = areas < least_area
    is_hole[0] = False  # the mask
    edges = (regions[:, 0], regions[0], regions[:, -1], regions[-1])
    for edge in compress(edges, goes_on):
        is_hole[edge] = False
    return mask | is_hole[regions] if is_hole.any() else mask


def _without_islands(mask: BoolMask, least_area: int) -> BoolMask:
    regions, areas = _regions(mask)
    if not (areas[1:] < least_area).any():
        return mask
    stays = areas >= least_area
    stays[0] = False
    if not stays.any():
        stays[1 + np.argmax(areas[1:])] = True
    return stays[regions]


def _regions(mask: BoolMask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """(h, w) which connected region of a mask a pixel belongs to, 0 none, and (R + 1,) the regions' areas."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=CONNECTIVITY)
    return regions, stats[:, cv2.CC_STAT_AREA]
