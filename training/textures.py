"""Procedural and photographed patterns that cover the surfaces of generated scenes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rng = np.random.Generator

NOISE_SIZE = 640  # side of the tileable noise fields in pixels
NOISE_FIELDS = 24

# Close-ups without objects, bundled with scikit-image. Nothing that the evaluation shows may stand here.
TEXTURE_PHOTOGRAPHS = (
    "brick.png",
    "cell.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "retina.jpg",
)


def pattern(rng: Rng, height: int, width: int) -> Floats:
    """(height, width) float32 in [0, 1]: flat, gradient, noise, stripes, checks, speckle or a photograph."""
    kind = rng.choice(7, p=[0.15, 0.08, 0.27, 0.13, 0.07, 0.1, 0.2])
    if kind == 0:
        return np.zeros((height, width), np.float32)
    if kind == 1:
        return ramp(rng, height, width, 1.0)
    if kind == 2:
        return _noise(rng, height, width)
    if kind == 5:
        return (_noise(rng, height, width) > rng.uniform(0.55, 0.75)).astype(np.float32)
    if kind == 6:
        return _photographed(rng, height, width)
    waves = _stripes(rng, height, width)
    if kind == 4:
        waves = waves * _stripes(rng, height, width)
    return waves


def ramp(rng: Rng, height: int, width: int, slope: float) -> Floats:
    """(height, width) a plane of random direction, rising by ``slope`` across the longer side."""
    angle = rng.uniform(0, 2 * np.pi)
    scale = slope / max(height, width)
    rows = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle) * scale)
    return np.asarray(rows + np.arange(width, dtype=np.float32) * np.float32(np.cos(angle) * scale))


def _stripes(rng: Rng, height: int, width: int) -> Floats:
    """(height, width) smooth or hard waves of a period of 4 to 60 pixels, sometimes warped."""
    phase = ramp(rng, height, width, max(height, width) / float(np.exp(rng.uniform(1.4, 4.1))))
    if rng.random() < 0.4:
        phase = phase + _noise(rng, height, width)
    sharpness = rng.choice([1.0, 8.0])
    return np.clip(0.5 + 0.5 * sharpness * np.sin(2 * np.pi * phase, dtype=np.float32), 0, 1)


def _noise(rng: Rng, height: int, width: int) -> Floats:
    """(height, width) float32 in [0, 1]: a window of a noise field."""
    fields = _noise_fields()
    return _window(rng, fields[rng.integers(len(fields))], height, width)


def _photographed(rng: Rng, height: int, width: int) -> Floats:
    """(height, width) float32 in [0, 1]: a window of a photograph's brightness, turned by quarters."""
    photographs = _photographs()
    photograph = photographs[rng.integers(len(photographs))]
    return _window(rng, np.rot90(photograph, int(rng.integers(4))), height, width)


def _window(rng: Rng, field: Floats, height: int, width: int) -> Floats:
    """(height, width) of a larger field, one to two field pixels apart where it is large enough."""
    room = min(field.shape[0] / height, field.shape[1] / width)
    step = float(rng.uniform(min(0.5, room), min(2.0, room)))
    rows, columns = int(step * height), int(step * width)
    top = int(rng.integers(field.shape[0] - rows + 1))
    left = int(rng.integers(field.shape[1] - columns + 1))
    window = field[top : top + max(rows, 1), left : left + max(columns, 1)]
    return np.asarray(cv2.resize(window, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


@lru_cache(maxsize=1)
def _noise_fields() -> Floats:
    """(NOISE_FIELDS, NOISE_SIZE, NOISE_SIZE) in [0, 1]: spectra from white to 1/f^2.5, some stretched."""
    rng = np.random.default_rng(0)
    rows = np.fft.fftfreq(NOISE_SIZE)[:, None]
    columns = np.fft.rfftfreq(NOISE_SIZE)
    fields = []
    for exponent in np.linspace(0, 2.5, NOISE_FIELDS):
        stretch = rng.choice([1.0, 1.0, 0.2, 5.0])
        frequency = np.hypot(rows * stretch, columns / stretch) + 1 / NOISE_SIZE
        white = np.fft.rfft2(rng.normal(size=(NOISE_SIZE, NOISE_SIZE)))
        field = np.fft.irfft2(white * frequency**-exponent, s=(NOISE_SIZE, NOISE_SIZE))
        fields.append(np.clip(0.5 + 0.25 * (field - field.mean()) / field.std(), 0, 1))
    return np.stack(fields).astype(np.float32)


@lru_cache(maxsize=1)
def _photographs() -> tuple[Floats, ...]:
    """The brightness in [0, 1] of every texture photograph, its middle at one half."""
    return tuple(_brightness(name) for name in TEXTURE_PHOTOGRAPHS)


def _brightness(name: str) -> Floats:
    path = Path(skimage.data.__file__).with_name(name)
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32)
    return np.clip(0.5 + 0.25 * (grey - grey.mean()) / grey.std(), 0, 1).astype(np.float32)
