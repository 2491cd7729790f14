"""Show one picture in many ways: another part of it, mirrored, in another light, as another camera would."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pictures import Bytes, Picture
from training.scenes import SIDES
from training.textures import Rng

SMALLEST_CROP = 0.6  # of the longest side of a scene
SMALLEST_VIEW = 0.4  # of the sides of a photograph
WHOLE_SHARE = 0.4  # of the photographs are shown whole, unless a run says otherwise
GREY_SHARE = 0.06  # of the pictures are without colour
EXCHANGED_SHARES = (0.5, 0.05)  # have their colours exchanged: of scenes, of photographs
UPSIDE_DOWN_SHARES = (0.5, 0.03)
BLURRED_SHARE = 0.15
NOISY_SHARE = 0.2
DARK_SHARE = 0.08
COMPRESSED_SHARE = 0.2


def augmented(rng: Rng, picture: Picture, image_size: int, whole_share: float = WHOLE_SHARE) -> Picture:
    """A random part of a picture, resized to a longest side of ``image_size``, as a camera would show it.

    Of photographs so many are shown whole.
    """
    window = _view(rng, picture, whole_share) if picture.is_photograph else _crop(rng, picture)
    rows, columns = window
    part = replace(picture, image=picture.image[window], layers=picture.layers[:, rows, columns])
    part = _turned(rng, resized(part, image_size))
    return replace(part, image=as_a_camera(rng, _recoloured(rng, part.image, picture.is_photograph)))


def _crop(rng: Rng, picture: Picture) -> tuple[slice, slice]:
    """Rows and columns of a scene, of one of the aspect ratios ``SIDES``."""
    height, width = picture.image.shape[:2]
    sides = np.array(SIDES[rng.integers(len(SIDES))])
    rows, columns = np.round(sides * min(height, width) * rng.uniform(SMALLEST_CROP, 1)).astype(int)
    return _placed(rng, height, int(rows)), _placed(rng, width, int(columns))


def _view(rng: Rng, picture: Picture, whole_share: float) -> tuple[slice, slice]:
    """Rows and columns of a photograph: all of it, or a part that is a little wider or higher."""
    height, width = picture.image.shape[:2]
    if rng.random() < whole_share:
        return slice(0, height), slice(0, width)
    scale = rng.uniform(SMALLEST_VIEW, 1)
    stretch = np.exp(rng.normal(0, 0.15))
    rows, columns = (
        int(side * min(1.0, scale * by)) for side, by in ((height, stretch), (width, 1 / stretch))
    )
    return _placed(rng, height, rows), _placed(rng, width, columns)


def _placed(rng: Rng, length: int, part: int) -> slice:
    """``part`` of ``length`` positions, anywhere."""
    start = int(rng.integers(length - part + 1))
    return slice(start, start + part)


def resized(picture: Picture, image_size: int) -> Picture:
    """The picture with its longest side of ``image_size`` pixels."""
    height, width = picture.image.shape[:2]
    scale = image_size / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(picture.image, size, interpolation=method), np.uint8)
    nearest = cv2.INTER_NEAREST_EXACT
    layers = [
        cv2.resize(np.ascontiguousarray(layer), size, interpolation=nearest) for layer in picture.layers
    ]
    return replace(picture, image=image, layers=np.stack(layers).astype(np.uint16))


def _turned(rng: Rng, picture: Picture) -> Picture:
    """Mirrored and, photographs rarely, upside down, so that light comes from everywhere."""
    across = -1 if rng.random() < 0.5 else 1
    down = -1 if rng.random() < UPSIDE_DOWN_SHARES[picture.is_photograph] else 1
    image = np.ascontiguousarray(picture.image[::down, ::across])
    return replace(picture, image=image, layers=np.ascontiguousarray(picture.layers[:, ::down, ::across]))


def _recoloured(rng: Rng, image: Bytes, is_photograph: bool) -> Bytes:
    """(H, W, 3) uint8 with channels exchanged or without colour, and another brightness and contrast."""
    if rng.random() < GREY_SHARE:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    elif rng.random() < EXCHANGED_SHARES[is_photograph]:
        image = image[..., rng.permutation(3)]
    levels = np.arange(256, dtype=np.float32)
    gain = np.exp(rng.normal(0, 0.08 if is_photograph else 0.15, 3)) * np.exp(rng.normal(0, 0.12))
    curve = (levels[:, None] - 128) * gain + 128 + rng.normal(0, 12)
    return _by_table(image, curve)


def _by_table(image: Bytes, curve: NDArray[np.float32]) -> Bytes:
    """The image with its levels replaced by those of a curve (256, 3)."""
    table = np.clip(curve, 0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(np.ascontiguousarray(image), table), np.uint8)


def as_a_camera(rng: Rng, image: Bytes) -> Bytes:
    """(H, W, 3) uint8 as cameras make it: now and then dark, out of focus, noisy, compressed."""
    is_dark = rng.random() < DARK_SHARE
    if is_dark:
        curve = 255 * (np.arange(256, dtype=np.float32) / 255) ** rng.uniform(1, 1.6) * rng.uniform(0.15, 0.5)
        image = _by_table(image, np.repeat(curve[:, None], 3, 1))
    if rng.random() < BLURRED_SHARE:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2)), np.uint8)
    if is_dark or rng.random() < NOISY_SHARE:
        image = _noisy(rng, image)
    if rng.random() < COMPRESSED_SHARE:
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image


def _noisy(rng: Rng, image: Bytes) -> Bytes:
    """The image with noise of the sensor, some of it of brightness alone."""
    strength = rng.uniform(1, 10)
    colours = 1 if rng.random() < 0.5 else 3
    noise = rng.standard_normal((*image.shape[:2], colours), np.float32) * np.float32(strength)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
