"""Suppression, against torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import nms  # type: ignore[import-untyped]

from sam_ros.fast.suppression import Suppression


@pytest.mark.parametrize("thresh", [0.0, 0.3, 0.7, 1.0])
def test_it_keeps_what_torchvision_keeps(thresh: float) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 40, (200, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 30, (200, 2))], axis=1)  # half-open
    suppression = Suppression(thresh)
    kept = [index for index, box in enumerate(boxes) if suppression.add(tuple(box))]
    first_to_last = torch.from_numpy(boxes - [0, 0, 1, 1]).float()
    best_first = torch.arange(200, 0, -1).float()
    assert kept == nms(first_to_last, best_first, thresh).tolist()
    assert 1 < len(kept) < 200 or thresh == 1


def test_one_pixel_is_no_duplicate_as_upstream_has_it() -> None:
    suppression = Suppression(0.5)
    assert suppression.add((3, 3, 4, 4)) and suppression.add((3, 3, 4, 4))


def test_a_duplicate_is_certain_where_no_box_between_the_two_is_none() -> None:
    suppression = Suppression(0.7)
    assert not suppression.is_certain((1, 1, 99, 99), (0, 0, 101, 101))  # nothing is remembered
    assert suppression.add((0, 0, 101, 101))
    assert suppression.is_certain((2, 2, 99, 99), (0, 0, 101, 101))
    assert not suppression.is_certain((20, 20, 81, 81), (0, 0, 101, 101))
    assert not suppression.is_certain((50, 50, 50, 50), (0, 0, 101, 101))


def test_certainty_holds_for_every_box_between() -> None:
    rng = np.random.default_rng(1)
    suppression = Suppression(0.6)
    for low in rng.integers(0, 50, (40, 2)):
        suppression.add((*low, *(low + rng.integers(20, 50, 2))))
    certain = 0
    for _ in range(2000):
        low = rng.integers(0, 60, 2)
        high = low + rng.integers(15, 50, 2)
        inner = (*(low + rng.integers(0, 4, 2)), *(high - rng.integers(0, 4, 2)))
        outer = (*(low - rng.integers(0, 4, 2)), *(high + rng.integers(0, 4, 2)))
        if suppression.is_certain(inner, outer):
            certain += 1
            assert not suppression.add((*low, *high))
    assert certain > 20
