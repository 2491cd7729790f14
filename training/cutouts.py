"""Photographed things cut out of their pictures, pasted into others: whole objects with exact masks.

They are those of Debian's package tuxpaint-stamps-default (GPL-2), or any folder of PNG files with opacity
that is sorted alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pictures import Bytes, Object, Picture
from training.textures import Rng

FOLDERS = ("animals", "food", "household", "hobbies", "medical", "military", "plants", "sports", "vehicles")
HELD_OUT_FOLDERS = ("space", "town")  # never pasted: following is measured on what they hold
DRAWN = frozenset(  # files and folders of all these that are no photographs, or show what is measured on
    (
        "arrow.png",
        "bee.png",
        "camera_35mm.png",
        "cartoon",
        "echidna.png",
        "flags",
        "fly.png",
        "hedgehog.png",
        "inukshuk-outline.png",
        "mug.png",
        "pizza.png",
        "plastic",
        "rugby_goal_posts.png",
        "sedan_police.png",
        "sedan_police_mirror.png",
        "tooth.png",
        "toys",
        "walnut_shelled.png",
    )
)
LARGEST_SIDE = 320  # pixels; larger ones are kept smaller
SMALLEST_SIDE = 48
SIDES = (0.08, 0.7)  # of the longest side of the picture
MOST = 3  # in one picture
TURNED_SHARE = 0.3  # of them lie anyhow, the others nearly upright
UPRIGHT = 20.0  # degrees


class Cutouts:
    """All cut-outs below a folder, each read when it is first wanted.

    Raises:
        FileNotFoundError: there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(path for path in folder.rglob("*.png") if is_photographed(path, folder))
        if not self.paths:
            raise FileNotFoundError(
                f"{folder} holds no cut-outs: no PNG file in folders {', '.join(FOLDERS)}"
            )
        self._kept: dict[int, Bytes | None] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Bytes | None:
        """(H, W, 4) uint8 RGB and opacity; None where a file has no transparency or is too small."""
        if index not in self._kept:
            self._kept[index] = _read(self.paths[index])
        return self._kept[index]

    def sample(self, rng: Rng) -> Bytes:
        """Any of them."""
        while True:
            cutout = self[int(rng.integers(len(self)))]
            if cutout is not None:
                return cutout


def is_photographed(path: Path, root: Path, folders: Sequence[str] = FOLDERS) -> bool:
    """Whether a file below ``root`` is, by its name and folders, a photographed thing of some folders."""
    parts = set(path.relative_to(root).parts)
    return bool(parts & set(folders)) and not parts & DRAWN


def held_out_cutouts(folder: Path) -> list[Path]:
    """Files of photographed things below a folder that are never pasted, in order; none where it is missing.

    Road signs count as photographed: they are as flat and plain where they stand.
    """
    files = sorted(folder.rglob("*.png"))
    return [
        path
        for path in files
        if is_photographed(path, folder, HELD_OUT_FOLDERS) and not is_photographed(path, folder)
    ]


def _read(path: Path) -> Bytes | None:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        return None
    x, y, width, height = cv2.boundingRect((pixels[..., 3] > 127).astype(np.uint8))
    if max(width, height) < SMALLEST_SIDE:
        return None
    pixels = cv2.cvtColor(pixels[y : y + height, x : x + width], cv2.COLOR_BGRA2RGBA)
    scale = min(1.0, LARGEST_SIDE / max(width, height))
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def pasted(rng: Rng, picture: Picture, cutouts: Cutouts) -> Picture:
    """The picture with some cut-outs in front; what they hide is no longer visible of the other objects."""
    image, layers = picture.image.copy(), picture.layers.copy()
    front = np.zeros(image.shape[:2], np.uint16)
    count = int(rng.integers(1, MOST + 1))
    for label in range(1, count + 1):
        colours, opacity = _placed(rng, cutouts.sample(rng), (image.shape[0], image.shape[1]))
        image = (opacity[..., None] * colours + (1 - opacity[..., None]) * image + 0.5).astype(np.uint8)
        hides = opacity > 0.5
        layers[:, hides] = 0
        front[hides] = label
    numbers = np.arange(count + 1)
    objects = tuple(Object(len(layers), numbers == label) for label in range(1, count + 1))
    return replace(
        picture, image=image, layers=np.stack([*layers, front]), objects=(*picture.objects, *objects)
    )


def _placed(
    rng: Rng, cutout: Bytes, size_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, W, 3) colours and (H, W) opacity of a cut-out somewhere in a picture, in another light."""
    height, width = cutout.shape[:2]
    largest = max(size_hw)
    scale = largest * np.exp(rng.uniform(*np.log(SIDES))) / max(height, width)
    spread = 180.0 if rng.random() < TURNED_SHARE else UPRIGHT
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-spread, spread), scale)
    matrix[:, 2] += (rng.uniform(0, size_hw[1]) - width / 2, rng.uniform(0, size_hw[0]) - height / 2)
    if rng.random() < 0.5:
        cutout = np.ascontiguousarray(cutout[:, ::-1])
    if scale < 1:  # else it would be sampled too coarsely
        cutout = np.asarray(cv2.GaussianBlur(cutout, (0, 0), 0.5 / scale), np.uint8)
    moved = cv2.warpAffine(cutout, matrix, size_hw[::-1], flags=cv2.INTER_LINEAR).astype(np.float32)
    gain = np.exp(rng.normal(0, 0.08, 3)) * np.exp(rng.normal(0, 0.2))
    colours = np.clip(moved[..., :3] * gain + rng.normal(0, 8), 0, 255)
    return colours.astype(np.float32), moved[..., 3] / np.float32(255)
