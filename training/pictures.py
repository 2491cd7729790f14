"""A picture and the objects in it, from wherever it comes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scenes import Scene

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Object:
    """An object of a picture: on which of its label maps, and which labels there are pixels of it.

    Attributes:
        layer: index of the label map.
        members: (labels,) bool, by label.
    """

    layer: int
    members: Mask


@dataclass(frozen=True)
class Picture:
    """A picture and what is in it. Objects may overlap, where they are on different label maps.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        layers: (L, H, W) uint16 label maps; 0 is nothing, or nothing that was labelled.
        objects: of all label maps.
        is_photograph: whether its colours are the world's.
    """

    image: Bytes
    layers: NDArray[np.uint16]
    objects: tuple[Object, ...]
    is_photograph: bool

    def mask(self, index: int) -> Mask:
        """(H, W) bool: the visible pixels of an object."""
        wanted = self.objects[index]
        return np.asarray(wanted.members[self.layers[wanted.layer]])

    def areas(self) -> NDArray[np.int64]:
        """(objects,) visible pixels of each."""
        largest = max((len(each.members) for each in self.objects), default=1)
        counts = [np.bincount(layer.ravel(), minlength=largest) for layer in self.layers]
        areas = [counts[each.layer][: len(each.members)] @ each.members for each in self.objects]
        return np.array(areas, np.int64)


def picture_of_scene(scene: Scene) -> Picture:
    """A generated scene: objects, and those that have parts with them."""
    count = len(scene.parents)
    members = np.eye(count, dtype=bool)
    for child in range(count - 1, 0, -1):  # a parent's number is always smaller
        members[scene.parents[child]] |= members[child]
    layers = scene.labels[None].astype(np.uint16)
    objects = tuple(Object(0, members[label]) for label in range(1, count))
    return Picture(scene.image, layers, objects, is_photograph=False)


def picture_of_masks(image: Bytes, layers: NDArray[np.uint16]) -> Picture:
    """A photograph (H, W, 3) and its label maps (L, H, W); every label but 0 is an object."""
    objects = []
    for index, layer in enumerate(layers):
        labels = np.flatnonzero(np.bincount(layer.ravel()))
        size = int(labels[-1]) + 1
        objects += [Object(index, np.arange(size) == label) for label in labels if label]
    return Picture(image, layers, tuple(objects), is_photograph=True)
