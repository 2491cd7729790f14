"""Pictures that move in known ways, for the tests of motion and following."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.grid import logits_from_mask, padded_grid

IMAGE_SIZE = 512
SIZE_HW = (360, 640)
GRID = padded_grid(SIZE_HW, IMAGE_SIZE)
Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


def textured(size_hw: tuple[int, int] = SIZE_HW, seed: int = 0) -> Image:
    """An image (H, W, 3) of blurred noise, that can be tracked everywhere."""
    noise = np.random.default_rng(seed).uniform(0, 255, (*size_hw, 3))
    blurred = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(128 + 6 * (blurred - 128), 0, 255).astype(np.uint8)


def ellipse(
    centre: tuple[int, int], axes: tuple[int, int] = (60, 40), size_hw: tuple[int, int] = SIZE_HW
) -> Mask:
    """(H, W) mask of a filled ellipse."""
    mask = cv2.ellipse(np.zeros(size_hw, np.uint8), centre, axes, 0, 0, 360, 1, cv2.FILLED)
    return np.asarray(mask, np.bool_)


def similarity(angle_deg: float, scale: float, shift: tuple[float, float]) -> npt.NDArray[np.float64]:
    """(2, 3): around the middle of the image."""
    matrix = cv2.getRotationMatrix2D((SIZE_HW[1] / 2, SIZE_HW[0] / 2), angle_deg, scale)
    matrix[:, 2] += shift
    return np.asarray(matrix)


def warped(picture: Image, motion: npt.NDArray[np.float64]) -> Image:
    """A picture or mask after a motion."""
    size = picture.shape[1::-1]
    border = cv2.BORDER_REFLECT if picture.ndim == 3 else cv2.BORDER_CONSTANT
    return np.asarray(cv2.warpAffine(picture, motion, size, borderMode=border), np.uint8)


def low_res(mask: Mask) -> Logits:
    """The logits (S/4, S/4) of a mask that covers its image."""
    return logits_from_mask(mask, padded_grid((mask.shape[0], mask.shape[1]), IMAGE_SIZE))


def iou(logits: Logits, other: Logits) -> float:
    """Of what is positive in two logits."""
    return float(((logits > 0) & (other > 0)).sum() / ((logits > 0) | (other > 0)).sum())
