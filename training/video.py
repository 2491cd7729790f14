"""Generate short videos: a camera moves over a scene in which shapes of another scene move by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.pictures import Mask
from training.scenes import Scene, generate_scene

Floats = NDArray[np.float32]
Rng = np.random.Generator

SHAPES = 2  # that move by themselves
SHAPE_AREA = (0.01, 0.12)  # of the scene they are cut from
SHAPE_SEEDS_APART = 100_000  # between a video's scene and the scene that its shapes are cut from

Affine = NDArray[np.float64]
"""(2, 3): takes XY pixels of a frame to pixels of what is shown in it."""


@dataclass(frozen=True)
class Shape:
    """An object cut out of a scene: (H, W, 3) uint8 RGB and (H, W) bool."""

    image: NDArray[np.uint8]
    mask: Mask

    def centre(self) -> NDArray[np.float64]:
        """(2,) mean XY of its pixels."""
        rows, columns = np.nonzero(self.mask)
        return np.array([columns.mean(), rows.mean()])


def generate_video(seed: int, image_size: int, frames: int) -> Iterator[Scene]:
    """The frames of a video, each a scene with exact masks; all is decided by the seed and the arguments."""
    rng = np.random.default_rng(seed)
    scene = generate_scene(seed, image_size)
    shapes = cut_shapes(generate_scene(seed + SHAPE_SEEDS_APART, image_size))
    height, width = scene.labels.shape
    views = camera_path(rng, (height, width), frames)
    paths = [shape_path(rng, shape, (height, width), frames) for shape in shapes]
    for frame in range(frames):
        yield render(scene, views[frame], shapes, [path[frame] for path in paths])


def cut_shapes(scene: Scene) -> list[Shape]:
    """The ``SHAPES`` largest wholes of a scene, not counting those that fill much of it."""
    smallest, largest = (share * scene.labels.size for share in SHAPE_AREA)
    areas = scene.areas()
    labels = [
        label
        for label in range(1, len(areas))
        if not scene.parents[label] and smallest <= areas[label] <= largest
    ]
    labels.sort(key=lambda label: -areas[label])
    return [Shape(scene.image, scene.mask(label)) for label in labels[:SHAPES]]


def camera_path(rng: Rng, size_hw: tuple[int, int], frames: int) -> list[Affine]:
    """A slow pan, zoom and roll over a scene (H, W), never seeing all of it."""
    middle = np.array(size_hw[::-1]) / 2
    angle, scale = _course(rng, frames, 0.0, 0.15), _course(rng, frames, 0.72, 0.08)
    x, y = (_course(rng, frames, value, 0.1 * value) for value in middle)
    return [affine(angle[i], scale[i], (x[i], y[i]), middle) for i in range(frames)]


def shape_path(rng: Rng, shape: Shape, size_hw: tuple[int, int], frames: int) -> list[Affine]:
    """A way of a shape through frames (H, W), turning and growing a little."""
    height, width = size_hw
    angle, scale = _course(rng, frames, rng.uniform(-3, 3), 0.6), _course(rng, frames, 0.85, 0.15)
    x = _course(rng, frames, rng.uniform(0.25, 0.75) * width, 0.25 * width)
    y = _course(rng, frames, rng.uniform(0.25, 0.75) * height, 0.25 * height)
    return [affine(angle[i], scale[i], shape.centre(), (x[i], y[i])) for i in range(frames)]


def _course(rng: Rng, frames: int, middle: float, reach: float) -> NDArray[np.float64]:
    """(frames,) half a wave around ``middle`` from a random phase, never further from it than ``reach``."""
    phase = rng.uniform(0, 2 * np.pi)
    return middle + reach * np.sin(phase + np.linspace(0, np.pi, frames))


def affine(angle: float, scale: float, source_xy: ArrayLike, frame_xy: ArrayLike) -> Affine:
    """Turn by ``angle`` (radians), magnify by 1 / ``scale``, and show ``source_xy`` at ``frame_xy``."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turned = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([turned, np.asarray(source_xy) - turned @ np.asarray(frame_xy)])


def render(scene: Scene, view: Affine, shapes: Sequence[Shape], places: Sequence[Affine]) -> Scene:
    """One frame, as large as the scene, with every shape in its place and a new label for each."""
    numbers = _warped(scene.labels.astype(np.float32), view, cv2.INTER_NEAREST, cv2.BORDER_REFLECT)
    labels = numbers.astype(np.int32)
    image = _warped(scene.image.astype(np.float32), view, cv2.INTER_LINEAR, cv2.BORDER_REFLECT)
    parents = list(scene.parents)
    size_hw = labels.shape
    for shape, place in zip(shapes, places, strict=True):
        opacity = _warped(
            shape.mask.astype(np.float32), place, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, size_hw
        )
        colours = _warped(
            shape.image.astype(np.float32), place, cv2.INTER_LINEAR, cv2.BORDER_REFLECT, size_hw
        )
        image += opacity[..., None] * (colours - image)
        labels[opacity >= 0.5] = len(parents)
        parents.append(0)
    return Scene(np.rint(image).astype(np.uint8), labels, tuple(parents))


def _warped(
    picture: Floats, matrix: Affine, interpolation: int, border: int, size_hw: tuple[int, ...] | None = None
) -> Floats:
    """(H, W) or (H, W, 3) float32: what a frame shows of a picture, by default at the picture's size."""
    height, width = size_hw or picture.shape[:2]
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=border), np.float32
    )
