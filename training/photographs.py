"""The photographs that sam_tiny is measured on, bundled with scikit-image, and their hand-drawn outlines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from training.pictures import Mask

EVALUATION_PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "motorcycle_left.png",
    "motorcycle_right.png",  # not measured on, but it shows what motorcycle_left.png shows
    "rocket.jpg",
)
"""Files of skimage/data that must never be trained on, neither whole nor in part."""

OUTLINES = Path(__file__).parent / "outlines"

Ring = list[tuple[float, float]]


@dataclass(frozen=True)
class Outline:
    """What a person calls one object, drawn as polygons.

    Attributes:
        name: what the object is.
        outer: rings of (x, y) in pixels of the photograph, its top left corner (0, 0); their insides add up.
        holes: rings whose insides do not belong to the object.
    """

    name: str
    outer: list[Ring]
    holes: list[Ring]

    def mask(self, size_hw: tuple[int, int]) -> Mask:
        """(H, W) bool: the pixels whose centres are inside."""
        inside = np.zeros(size_hw, bool)
        for ring in self.outer:
            inside |= _filled(size_hw, ring)
        for ring in self.holes:
            inside &= ~_filled(size_hw, ring)
        return inside


@dataclass(frozen=True)
class Photograph:
    """A photograph and the N objects drawn in it: (H, W, 3) uint8 RGB and (N, H, W) bool."""

    file: str
    image: NDArray[np.uint8]
    names: tuple[str, ...]
    masks: Mask


def photographs(folder: Path = OUTLINES) -> Iterator[Photograph]:
    """Every photograph that a folder has outlines of, in the order of their files' names."""
    for path in sorted(folder.glob("*.json")):
        file, outlines = load_outlines(path)
        image = load_photograph(file)
        size_hw = (image.shape[0], image.shape[1])
        masks = np.stack([outline.mask(size_hw) for outline in outlines])
        yield Photograph(file, image, tuple(outline.name for outline in outlines), masks)


def load_outlines(path: Path) -> tuple[str, list[Outline]]:
    """The photograph's file name, and what is drawn in it.

    Raises:
        ValueError: the photograph is not one of ``EVALUATION_PHOTOGRAPHS``.
    """
    content = json.loads(path.read_text())
    file = content["photograph"]
    if file not in EVALUATION_PHOTOGRAPHS:
        raise ValueError(f"{path}: photograph must be one of {EVALUATION_PHOTOGRAPHS}, got {file!r}")
    return file, [_outline(entry) for entry in content["objects"]]


def _outline(entry: dict[str, Any]) -> Outline:
    return Outline(entry["name"], entry["outer"], entry.get("holes", []))


def load_photograph(file: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, read from the installed package; grey photographs get three equal channels.

    Raises:
        FileNotFoundError: scikit-image does not bundle that file.
    """
    path = Path(skimage.__file__).parent / "data" / file
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise FileNotFoundError(f"file must be a picture that scikit-image bundles, got {path}")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _filled(size_hw: tuple[int, int], ring: Ring) -> Mask:
    """(H, W) bool: the pixels whose centres, at half coordinates, are inside a ring."""
    rows_columns = np.array(ring)[:, ::-1] - 0.5
    return np.asarray(polygon2mask(size_hw, rows_columns), bool)
