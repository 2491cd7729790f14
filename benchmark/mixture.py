"""Prompts of every kind, mixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_ros.core.grid import logits_from_mask, padded_grid
from sam_ros.prompt import BACKGROUND, FOREGROUND, Prompt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """What a prompt consists of: so many clicks, only the first in the foreground, perhaps a box, a mask."""

    clicks: int = 0
    box: bool = False
    mask: bool = False


KINDS = (
    Kind(clicks=1),
    Kind(box=True),
    Kind(clicks=2),
    Kind(clicks=1, box=True),
    Kind(clicks=3),
    Kind(mask=True),
    Kind(clicks=1, mask=True),
    Kind(box=True, mask=True),
)


def mixed_prompts(count: int, size_hw: tuple[int, ...], image_size: int, seed: int = 0) -> list[Prompt]:
    """So many prompts on an image, cycling through KINDS.

    Args:
        count: how many.
        size_hw: (H, W) of the image.
        image_size: S, the model's input size.
        seed: of where they are.
    """
    rng = np.random.default_rng(seed)
    size = (size_hw[0], size_hw[1])
    return [_prompt(KINDS[i % len(KINDS)], _box(rng, size), size, image_size) for i in range(count)]


def _prompt(kind: Kind, box: Floats, size_hw: tuple[int, int], image_size: int) -> Prompt:
    return Prompt(
        point_coords=_points(box, kind.clicks) if kind.clicks else None,
        point_labels=np.array([FOREGROUND] + [BACKGROUND] * (kind.clicks - 1)) if kind.clicks else None,
        box=box if kind.box else None,
        low_res_logits=_logits(box, size_hw, image_size) if kind.mask else None,
    )


def _box(rng: np.random.Generator, size_hw: tuple[int, int]) -> Floats:
    """(4,) XYXY: a fifth to a half of the image on each side, inside it."""
    size = rng.uniform(0.2, 0.5, 2) * size_hw[::-1]
    corner = rng.uniform(0, 1, 2) * (size_hw[::-1] - size)
    return np.concatenate([corner, corner + size])


def _points(box: Floats, count: int) -> Floats:
    """(count, 2) XY: the box's centre, and points from there towards a corner."""
    centre, corner = (box[:2] + box[2:]) / 2, box[2:]
    return np.stack([centre + (corner - centre) * share for share in np.linspace(0, 0.9, count)])


def _logits(box: Floats, size_hw: tuple[int, int], image_size: int) -> npt.NDArray[np.float32]:
    """(S/4, S/4) of the ellipse in the box."""
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    (x, y), (half_w, half_h) = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    ellipse = ((columns - x) / half_w) ** 2 + ((rows - y) / half_h) ** 2 <= 1
    return logits_from_mask(ellipse, padded_grid(size_hw, image_size))
