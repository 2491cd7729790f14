"""Turn pictures into training batches: images, target masks, clicks and boxes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from training.augmentation import WHOLE_SHARE, augmented
from training.cutouts import Cutouts, pasted
from training.photo_sets import PhotoSampler
from training.pictures import Mask, Picture, picture_of_scene
from training.pool import ScenePool
from training.textures import Rng

PASTED_SHARE = 0.25  # of the pictures get cut-outs
SMALLEST_AREA = 100  # visible pixels of the model's input; smaller objects are not learned from
SLIVER_AREA = 400  # smaller ones are not learned from if they fill little of their box: others hide the rest
SLIVER_FILLING = 0.45
TARGET_STRIDE = 2  # target masks are area-averaged to half the image size
EXACT_BOXES = 0.4  # share of them
LARGEST_JITTER = 0.1  # of the sides of the others


@dataclass(frozen=True)
class Batch:
    """B pictures with P prompted objects each; S is the model's input size, pixels are the model's.

    Attributes:
        images: (B, 3, S, S) uint8 RGB, zero in the padding at the right and the bottom.
        valid: (B, 1, S, S) bool, False in the padding.
        targets: (B, P, S/2, S/2) uint8, covered share of each cell times 255.
        points: (B, P, 2) float32 XY pixels, a click on each object.
        boxes: (B, P, 4) float32 XYXY half-open pixel edges, a box around each object.
        is_box: (B, P) bool, whether the object is first prompted by its box (else by its click).
    """

    images: torch.Tensor
    valid: torch.Tensor
    targets: torch.Tensor
    points: torch.Tensor
    boxes: torch.Tensor
    is_box: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Mixture:
    """Where pictures come from.

    Attributes:
        scenes: generated ones.
        photographs: None for none.
        scene_share: of the pictures are scenes, where there are photographs.
        cutouts: pasted into some of them; None for none.
        whole_share: of the photographs are shown whole.
    """

    scenes: ScenePool
    photographs: PhotoSampler | None = None
    scene_share: float = 0.2
    cutouts: Cutouts | None = None
    whole_share: float = WHOLE_SHARE

    def sample(self, rng: Rng) -> Picture:
        """A picture and its objects."""
        picture = self._plain(rng)
        if self.cutouts is None or rng.random() >= PASTED_SHARE:
            return picture
        return pasted(rng, picture, self.cutouts)

    def _plain(self, rng: Rng) -> Picture:
        if self.photographs is None or rng.random() < self.scene_share:
            return picture_of_scene(self.scenes[int(rng.integers(len(self.scenes)))])
        return self.photographs.sample(rng)


class PictureBatches(Dataset[Batch]):
    """The batch of every training step, a function of the step and the seed alone.

    Args:
        mixture: where pictures come from.
        pictures, prompts: how many pictures in a batch, and how many objects of each.
        image_size: S.
        seed: of everything random.
    """

    def __init__(self, mixture: Mixture, pictures: int, prompts: int, image_size: int, seed: int) -> None:
        self.mixture, self.pictures, self.prompts = mixture, pictures, prompts
        self.image_size, self.seed = image_size, seed

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        samples = [self._sample(rng) for _ in range(self.pictures)]
        return Batch(*(torch.from_numpy(np.stack(column)) for column in zip(*samples, strict=True)))

    def _sample(self, rng: Rng) -> tuple[NDArray[np.generic], ...]:
        while True:
            picture = self.mixture.sample(rng)
            picture = augmented(rng, picture, self.image_size, self.mixture.whole_share)
            if masks := _choose(rng, picture, self.prompts):
                return _sample(rng, picture, masks, self.image_size)


def _sample(
    rng: Rng, picture: Picture, masks: list[Mask], image_size: int
) -> tuple[NDArray[np.generic], ...]:
    """The fields of ``Batch`` for one picture and its prompted objects, without their leading axis."""
    points = np.stack([sample_click(rng, mask) for mask in masks])
    boxes = np.stack([jittered(rng, tight_box(mask)) for mask in masks])
    is_box = rng.random(len(masks)) < 0.5
    image, valid = _padded_image(picture.image, image_size)
    targets = np.stack([_pooled(mask, image_size) for mask in masks])
    return image, valid, targets, points, boxes, is_box


def target_labels(areas: NDArray[np.int64], smallest_area: float) -> NDArray[np.int64]:
    """Labels of the objects of which at least so many pixels are visible, by ``Scene.areas``."""
    large = areas >= smallest_area
    large[0] = False
    return np.flatnonzero(large)


def _choose(rng: Rng, picture: Picture, count: int) -> list[Mask]:
    """``count`` objects (H, W), none twice before each was taken once; none at all where none is visible.

    Larger ones come first more often: where there are many, most are small.
    """
    areas = picture.areas()
    labels = np.flatnonzero(areas >= SMALLEST_AREA)
    if not len(labels):
        return []
    weights = areas[labels] ** 0.25
    chosen: list[Mask] = []
    for label in rng.choice(labels, len(labels), replace=False, p=weights / weights.sum()):
        mask = picture.mask(int(label))
        if areas[label] >= SLIVER_AREA or filling(mask) >= SLIVER_FILLING:
            chosen.append(mask)
        if len(chosen) == count:
            break
    return [chosen[index % len(chosen)] for index in range(count)] if chosen else []


def sample_click(rng: Rng, mask: Mask) -> NDArray[np.float32]:
    """(2,) XY: half the time any pixel of the mask (H, W), half the time one weighted by depth inside it."""
    rows, columns = np.nonzero(mask)
    if rng.random() < 0.5:
        chosen = int(rng.integers(len(rows)))
    else:
        depth = _depth(mask)[rows, columns]
        chosen = int(rng.choice(len(rows), p=depth / depth.sum(dtype=np.float64)))
    return np.array([columns[chosen], rows[chosen]], np.float32)


def click_density(mask: Mask) -> NDArray[np.float64]:
    """(H, W) how likely ``sample_click`` chooses each pixel of a mask."""
    depth = _depth(mask)
    return 0.5 * mask / np.count_nonzero(mask) + 0.5 * depth / depth.sum(dtype=np.float64)


def _depth(mask: Mask) -> NDArray[np.float32]:
    """(H, W) distance from what is outside of a mask, the edge of the image included; zero there."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1], np.float32)


def tight_box(mask: Mask) -> NDArray[np.float32]:
    """(4,) XYXY half-open pixel edges around a mask (H, W)."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.array([x, y, x + width, y + height], np.float32)


def filling(mask: Mask) -> float:
    """Share of the pixels of its tight box that a mask (H, W) fills."""
    left, top, right, bottom = tight_box(mask)
    return float(np.count_nonzero(mask) / ((right - left) * (bottom - top)))


def jittered(rng: Rng, box: NDArray[np.float32]) -> NDArray[np.float32]:
    """A box as people and detectors draw it: exact, or moved by up to a tenth of its sides."""
    if rng.random() < EXACT_BOXES:
        return box
    sides = np.tile(box[2:] - box[:2], 2)
    moved = rng.normal(0, 0.05, 4).clip(-LARGEST_JITTER, LARGEST_JITTER)
    return np.asarray(box + moved * sides, np.float32)


def _padded_image(image: NDArray[np.uint8], image_size: int) -> tuple[NDArray[np.uint8], Mask]:
    height, width = image.shape[:2]
    padded = np.zeros((3, image_size, image_size), np.uint8)
    padded[:, :height, :width] = image.transpose(2, 0, 1)
    valid = np.zeros((1, image_size, image_size), bool)
    valid[:, :height, :width] = True
    return padded, valid


def _pooled(mask: Mask, image_size: int) -> NDArray[np.uint8]:
    """(S/2, S/2) uint8: the share of each cell that the mask (H, W) covers, times 255."""
    padded = np.zeros((image_size, image_size), np.uint8)
    padded[: mask.shape[0], : mask.shape[1]] = mask * np.uint8(255)
    side = image_size // TARGET_STRIDE
    return np.asarray(cv2.resize(padded, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
