"""What people used before SAM: GrabCut from a box, flood fill from a click."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pictures import Mask

GRAB_CUT_ITERATIONS = 5
TOLERANCES = (8, 16, 24, 32, 48, 64, 96)
"""Tolerances of the flood fill to choose from, in grey levels of each channel."""


def grab_cut(image: NDArray[np.uint8], box_xyxy: NDArray[np.float32]) -> Mask:
    """(H, W) bool: foreground of an image (H, W, 3) inside a box of half-open pixel edges.

    OpenCV's implementation of Rother, Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004. A box around everything
    leaves it no background to learn from: then all is foreground.
    """
    left, top, right, bottom = (int(edge) for edge in box_xyxy)
    height, width = image.shape[:2]
    if right - left >= width and bottom - top >= height:
        return np.ones((height, width), np.bool_)
    labels = np.zeros((height, width), np.uint8)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))  # the colour models, for OpenCV's use
    cv2.setRNGSeed(0)  # the models start from a random clustering
    rectangle = (left, top, right - left, bottom - top)
    cv2.grabCut(image, labels, rectangle, background, foreground, GRAB_CUT_ITERATIONS, cv2.GC_INIT_WITH_RECT)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def flood_fill(image: NDArray[np.uint8], click_xy: NDArray[np.float32], tolerance: int) -> Mask:
    """(H, W) bool: pixels connected to the click, each channel at most ``tolerance`` away from it."""
    height, width = image.shape[:2]
    filled = np.zeros((height + 2, width + 2), np.uint8)  # OpenCV wants a border of one pixel
    seed = (int(click_xy[0]), int(click_xy[1]))
    flags = 8 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY  # 8 neighbours
    difference = (tolerance,) * 3
    cv2.floodFill(image.copy(), filled, seed, (0, 0, 0), difference, difference, flags)
    return filled[1:-1, 1:-1] > 0
