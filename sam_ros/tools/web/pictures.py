"""What travels to the page: a JPEG of the image, PNGs of labels and candidates, and their envelope."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# Labels are large areas of few values: the fastest level is within a few kB of the best one.
PNG_FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1)
BYTE = 256


def envelope(header: Mapping[str, Any], *parts: bytes) -> bytes:
    """One binary message: the header's length (4 bytes, little-endian), the header as JSON, the parts.

    The header is sent with ``parts``, the length of each.

    Raises:
        ValueError: a number of the header is not finite, which no browser reads.
    """
    values = {**header, "parts": [len(part) for part in parts]}
    text = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
    return b"".join((struct.pack("<I", len(text)), text, *parts))


def jpeg(image_rgb: npt.NDArray[np.uint8], longest_side: int, quality: int) -> bytes:
    """A JPEG of an (H, W, 3) RGB image, made smaller where a side is longer than ``longest_side`` pixels.

    Args:
        image_rgb: (H, W, 3) uint8; not changed.
        longest_side: in pixels.
        quality: 1 to 100.
    """
    smaller = _within(image_rgb, longest_side)
    bgr = cv2.cvtColor(smaller, cv2.COLOR_RGB2BGR)
    return _encoded(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))


def labels_png(labels: npt.NDArray[np.uint16]) -> bytes:
    """A PNG of an (H, W) label image from which a browser reads exact values.

    Browsers show 16 bits as 8. Labels up to 255 are a grey PNG; above, red is the low byte and green the high
    one.
    """
    if int(labels.max(initial=0)) < BYTE:
        return _encoded(".png", labels.astype(np.uint8), PNG_FAST)
    low, high = (labels % BYTE).astype(np.uint8), (labels // BYTE).astype(np.uint8)
    return _encoded(".png", cv2.merge([np.zeros_like(low), high, low]), PNG_FAST)  # BGR


def candidates_png(candidates: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of (H, W, 3) masks, 0 or 255: red is the best, green the second, blue the third."""
    return _encoded(".png", cv2.cvtColor(candidates, cv2.COLOR_RGB2BGR), PNG_FAST)


def areas(labels: npt.NDArray[np.uint16], num_objects: int) -> list[int]:
    """How many pixels of an (H, W) label image each of the labels 1 to ``num_objects`` has."""
    counts = np.bincount(labels.ravel(), minlength=num_objects + 1)
    return [int(count) for count in counts[1 : num_objects + 1]]


def _within(image: npt.NDArray[np.uint8], longest_side: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return image
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _encoded(suffix: str, pixels: npt.NDArray[Any], settings: tuple[int, int]) -> bytes:
    success, data = cv2.imencode(suffix, pixels, settings)
    if not success:
        raise ValueError(f"OpenCV cannot write {suffix} of an image of shape {pixels.shape}")
    return bytes(data)
