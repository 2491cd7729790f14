"""The parts of an image's features, and the order of cells in finer levels."""

from __future__ import annotations

import torch
from random_models import DETAILED, MINIATURE, random_sam

from sam_ros.core.efficientnet import Levels
from sam_ros.fast.details import Details, details_of, embedding_of, with_level

PLAIN, DETAILED_DECODER = random_sam(MINIATURE).mask_decoder, random_sam(DETAILED).mask_decoder


def test_features_without_finer_levels_are_the_embedding() -> None:
    features = torch.randn(1, 32, 8, 8)
    assert torch.equal(embedding_of(PLAIN, features), features)
    assert details_of(PLAIN, features) == Details(None, None)
    assert details_of(PLAIN, features).tensors() == ()


def test_packed_features_hold_the_embedding_and_both_levels() -> None:
    levels = Levels(torch.randn(1, 32, 4, 4), torch.randn(1, 8, 8, 8), torch.randn(1, 4, 16, 16))
    assert torch.equal(embedding_of(DETAILED_DECODER, levels.packed()), levels.embedding)
    details = details_of(DETAILED_DECODER, levels.packed())
    eighth, quarter = details.tensors()
    assert eighth.shape == (16, 4, 8) and quarter.shape == (64, 4, 4)
    assert Details(*details.tensors()) == details


def test_levels_are_in_the_order_of_upscaled_cells() -> None:
    """An embedding of one row and two columns; the numbers are rows and columns of the finer levels."""
    eighth = torch.tensor([[0.0, 1, 2, 3], [10, 11, 12, 13]])
    quarter = torch.arange(4.0)[:, None] * 10 + torch.arange(8.0)
    details = Details.of(Levels(torch.zeros(1, 1, 1, 2), eighth[None, None], quarter[None, None]))
    assert details.eighth is not None and details.quarter is not None
    assert details.eighth[..., 0].tolist() == [[0, 1, 10, 11], [2, 3, 12, 13]]
    assert details.quarter[..., 0].tolist() == [
        [0, 1, 10, 11],  # the first cell's own cells
        [2, 3, 12, 13],
        [20, 21, 30, 31],
        [22, 23, 32, 33],
        [4, 5, 14, 15],
        [6, 7, 16, 17],
        [24, 25, 34, 35],
        [26, 27, 36, 37],
    ]


def test_a_level_is_added_at_some_positions_and_an_absent_one_nowhere() -> None:
    upscaled, level = torch.ones(2, 4, 3), torch.arange(60.0).view(5, 4, 3)
    assert torch.equal(with_level(upscaled.clone(), level, slice(1, 3)), 1 + level[1:3])
    assert torch.equal(with_level(upscaled.clone(), None, slice(1, 3)), upscaled)
