"""The pictures that everything is measured on: photographs, and generated scenes never trained on."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

from training.pool import HELD_OUT_SEED
from training.scenes import generate_scene

ImageRGB = npt.NDArray[np.uint8]

SIZES_HW = {"640 x 480": (480, 640), "1280 x 720": (720, 1280), "1920 x 1080": (1080, 1920)}
HD = "1280 x 720"  # the size of the goals
PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "rocket")  # scikit-image brings them along


def photograph(size_hw: tuple[int, int], name: str = PHOTOGRAPHS[0]) -> ImageRGB:
    """(H, W, 3) uint8 RGB: a photograph stretched to a size."""
    original = getattr(skimage.data, name)()
    return np.asarray(cv2.resize(original, size_hw[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def photographs() -> Iterator[ImageRGB]:
    """Each photograph in its own size."""
    for name in PHOTOGRAPHS:
        yield np.asarray(getattr(skimage.data, name)(), np.uint8)


def held_out_scenes(count: int) -> Iterator[ImageRGB]:
    """The first generated scenes that no training has seen."""
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        yield generate_scene(seed).image
