"""Photographs with object masks, in folders that the user names, and which of them are never trained on.

A set is a folder with an ``index.csv`` of the columns image and masks, both relative to it; several mask
files are joined by semicolons. Masks are label maps as PNG, 0 for what is not labelled. A folder that is
named may hold such sets at any depth.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pictures import Bytes, Picture, picture_of_masks
from training.textures import Rng

HELD_OUT_EVERY = 10  # of a set's photographs, by name
EVALUATION_SUFFIX = "_evaluate"  # sets named so are never trained on
SHARED_NAMES = ("bsds", "coco")  # sets that begin so show the same photograph under the same name
SAME_PHOTOGRAPHS = {  # under other names; found by comparing small grey copies of all of them
    ("ecssd", "0014"): ("bsds", "140055"),
    ("ecssd", "0017"): ("bsds", "147021"),
    ("ecssd", "0032"): ("bsds", "189011"),
    ("ecssd", "0035"): ("bsds", "198023"),
    ("ecssd", "0097"): ("bsds", "24063"),
    ("ecssd", "0104"): ("bsds", "35008"),
    ("ecssd", "0115"): ("bsds", "61060"),
    ("ecssd", "0127"): ("bsds", "94079"),
    ("microcontrollers", "IMG_20181228_101826_jpg"): ("microcontrollers", "IMG_20181228_101826"),
}
SERIES = ("food_plates",)  # sets in which neighbours by name show the same thing once more
ALTERNATIVES = ("bsds500",)  # in these sets each label map is one person's view of the whole picture
LARGEST_SHARES = {  # of all photographs shown
    "clothing_coparsing": 0.10,
    "food_plates": 0.04,
    "microcontrollers": 0.04,
    "mandarins": 0.03,
    "fruits_nuts": 0.03,
}


@dataclass(frozen=True)
class Photograph:
    """One picture and its mask files."""

    image: Path
    masks: tuple[Path, ...]

    def read(self) -> Bytes:
        """(H, W, 3) uint8 RGB.

        Raises:
            FileNotFoundError: it is not there or no picture.
        """
        image = cv2.imread(str(self.image), cv2.IMREAD_COLOR)
        if image is None:
            raise FileNotFoundError(f"{self.image} is missing or no picture")
        return np.asarray(image[..., ::-1], np.uint8)

    def read_masks(self, paths: Sequence[Path] | None = None) -> NDArray[np.uint16]:
        """(L, H, W) label maps, of all or of some of its mask files.

        Raises:
            FileNotFoundError: one is not there or no picture.
        """
        layers = []
        for path in self.masks if paths is None else paths:
            layer = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if layer is None:
                raise FileNotFoundError(f"{path} is missing or no picture")
            layers.append(layer.astype(np.uint16))
        return np.stack(layers)


@dataclass(frozen=True)
class PhotoSet:
    """Photographs of one kind.

    Attributes:
        name: of the folder.
        photographs: in the order of their names.
    """

    name: str
    photographs: tuple[Photograph, ...]

    @property
    def has_alternatives(self) -> bool:
        """Whether each mask file says again what is in the whole picture, differently."""
        return self.name.startswith(ALTERNATIVES)

    def picture(self, index: int, rng: Rng) -> Picture:
        """A photograph with its objects; of alternatives, those of one."""
        photograph = self.photographs[index]
        paths = photograph.masks
        if self.has_alternatives:
            paths = (paths[int(rng.integers(len(paths)))],)
        return picture_of_masks(photograph.read(), photograph.read_masks(paths))


def read_sets(folders: Sequence[Path]) -> list[PhotoSet]:
    """All sets below some folders, in the order of their names.

    Raises:
        FileNotFoundError: there is none below one of the folders.
    """
    sets = []
    for folder in folders:
        indexes = sorted(folder.rglob("index.csv"))
        if not indexes:
            raise FileNotFoundError(f"{folder} holds no set of photographs: no index.csv below it")
        sets += [_read_set(index) for index in indexes]
    return sorted(sets, key=lambda each: each.name)


def _read_set(index: Path) -> PhotoSet:
    folder = index.parent
    with index.open(newline="") as file:
        rows = list(csv.DictReader(file))
    photographs = [
        Photograph(folder / row["image"], tuple(folder / path for path in row["masks"].split(";")))
        for row in rows
    ]
    return PhotoSet(folder.name, tuple(sorted(photographs, key=lambda each: each.image.name)))


def held_out(sets: Sequence[PhotoSet]) -> list[PhotoSet]:
    """What is measured on: every tenth photograph of each set, and all of a set that is for evaluation."""
    return [PhotoSet(each.name, _held_out_of(each)) for each in sets]


def _held_out_of(photo_set: PhotoSet) -> tuple[Photograph, ...]:
    every = 1 if photo_set.name.endswith(EVALUATION_SUFFIX) else HELD_OUT_EVERY
    return photo_set.photographs[::every]


def trained_on(sets: Sequence[PhotoSet]) -> list[PhotoSet]:
    """What may be trained on: no photograph that any set holds out, and of a series none beside such a one.

    Sets with nothing left are gone.
    """
    kept_back = {_identity(each.name, photo) for each in sets for photo in _kept_back_of(each)}
    left = [
        PhotoSet(each.name, tuple(p for p in each.photographs if _identity(each.name, p) not in kept_back))
        for each in sets
    ]
    return [each for each in left if each.photographs]


def _kept_back_of(photo_set: PhotoSet) -> tuple[Photograph, ...]:
    if photo_set.name not in SERIES:
        return _held_out_of(photo_set)
    near = {HELD_OUT_EVERY - 1, 0, 1}  # the one before, the held-out one, and the one after
    return tuple(p for index, p in enumerate(photo_set.photographs) if index % HELD_OUT_EVERY in near)


def _identity(set_name: str, photograph: Photograph) -> tuple[str, str]:
    """Equal for the same photograph in different sets."""
    collection = next((prefix for prefix in SHARED_NAMES if set_name.startswith(prefix)), set_name)
    own = (collection, photograph.image.stem)
    return SAME_PHOTOGRAPHS.get(own, own)


def shares(sets: Sequence[PhotoSet]) -> NDArray[np.float64]:
    """(sets,) how often each is shown: as the root of its size, at most its part of ``LARGEST_SHARES``."""
    wanted = np.sqrt([len(each.photographs) for each in sets])
    most = np.array([LARGEST_SHARES.get(each.name, 1.0) for each in sets])
    result = wanted / wanted.sum()
    capped = np.minimum(result, most)
    free = capped < most
    if not free.any():
        return np.asarray(capped / capped.sum())
    capped[free] *= (1 - capped[~free].sum()) / capped[free].sum()
    return np.asarray(capped)


class PhotoSampler:
    """Photographs by set, then by picture, so that a large set does not rule."""

    def __init__(self, sets: Sequence[PhotoSet]) -> None:
        self.sets = list(sets)
        self.shares = shares(self.sets)

    def sample(self, rng: Rng) -> Picture:
        """A photograph and its objects."""
        chosen = self.sets[int(rng.choice(len(self.sets), p=self.shares))]
        return chosen.picture(int(rng.integers(len(chosen.photographs))), rng)
