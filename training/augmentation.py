"""Show one scene in many ways: another part of it, turned, mirrored, in other colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.scenes import SIDES, Scene
from training.textures import Rng

SMALLEST_CROP = 0.6  # of the longest side
GREY_SHARE = 0.08  # of the pictures are without colour


def augmented(rng: Rng, scene: Scene, image_size: int) -> Scene:
    """A random crop of one of the aspect ratios ``SIDES``, its longest side resized to ``image_size``."""
    sides = np.array(SIDES[rng.integers(len(SIDES))])
    height, width = np.round(sides * image_size).astype(int).tolist()
    rows, columns = np.round(sides * min(scene.labels.shape) * rng.uniform(SMALLEST_CROP, 1)).astype(int)
    top = int(rng.integers(scene.labels.shape[0] - rows + 1))
    left = int(rng.integers(scene.labels.shape[1] - columns + 1))
    window = np.s_[top : top + rows, left : left + columns]
    image, labels = scene.image[window], scene.labels[window]
    shrinks = rows > height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)
    small = cv2.resize(labels.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    image, labels = _turned(rng, image, small.astype(np.int32))
    return Scene(_recoloured(rng, image), labels, scene.parents)


def _turned(
    rng: Rng, image: NDArray[np.uint8], labels: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Mirrored and upside down, so that light comes from everywhere."""
    across, down = (1 - 2 * rng.integers(2, size=2)).tolist()
    return np.ascontiguousarray(image[::down, ::across]), np.ascontiguousarray(labels[::down, ::across])


def _recoloured(rng: Rng, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with channels exchanged or without colour, and another brightness and contrast."""
    if rng.random() < GREY_SHARE:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    elif rng.random() < 0.5:
        image = image[..., rng.permutation(3)]
    levels = np.arange(256, dtype=np.float32)
    gain = np.exp(rng.normal(0, 0.15, 3)) * np.exp(rng.normal(0, 0.1))
    curve = (levels[:, None] - 128) * gain + 128 + rng.normal(0, 12)
    table = np.clip(curve, 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    return np.asarray(cv2.LUT(np.ascontiguousarray(image), table), np.uint8)
