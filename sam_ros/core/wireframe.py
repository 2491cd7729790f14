"""Boxes in space drawn into the image of the camera that saw them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.box3d import Box3D
from sam_ros.core.pinhole import Pinhole

# Pairs of a box's corners, as Box3D numbers them, that an edge joins: they differ in one bit.
EDGES = tuple((low, low | 1 << axis) for axis in range(3) for low in range(8) if not low & 1 << axis)
STEPS = 16  # of an edge, which a distorted camera sees as a curve
SUBPIXEL_BITS = 4
FAR_PX = 20_000  # OpenCV draws no further


def draw_box(image: npt.NDArray[np.uint8], box: Box3D, camera: Pinhole, colour: tuple[int, int, int]) -> None:
    """Draw a box's edges into an (H, W, 3) image; the box is in the camera's frame.

    What is behind the camera is left out.
    """
    ways = np.linspace(0, 1, STEPS)[:, None]
    for start, end in EDGES:
        points = (1 - ways) * box.corners[start] + ways * box.corners[end]  # (STEPS, 3)
        pixels = camera.project(points)
        if np.isfinite(pixels).all() and np.abs(pixels).max() < FAR_PX:
            line = np.round(pixels * 2**SUBPIXEL_BITS).astype(np.int32)
            cv2.polylines(image, [line], False, colour, 2, cv2.LINE_AA, SUBPIXEL_BITS)
