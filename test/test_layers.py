"""Parts of encoders: windows and their padding, sums in pieces, the neck."""

from __future__ import annotations

import pytest
import torch
from random_models import MINIATURE, random_sam

from sam_ros.fast.layers import Neck, add_in_pieces, join_windows, split_windows


def test_windows_hold_queries_keys_and_values_by_head() -> None:
    """One row of three positions in windows of 2: two windows, three of whose eight positions are real."""
    qkv = torch.arange(18.0).view(1, 1, 3, 6)  # channels: two heads of one each for q, k, v
    windows = split_windows(qkv, torch.full((6,), -1.0), window=2, num_heads=2)
    assert windows.shape == (3, 4, 2, 2, 1)
    queries, keys, values = windows[..., 0]
    assert queries.tolist() == [
        [[0, 6], [-1, -1]],  # first window, first head
        [[1, 7], [-1, -1]],
        [[12, -1], [-1, -1]],
        [[13, -1], [-1, -1]],
    ]
    assert keys[0].tolist() == [[2, 8], [-1, -1]]
    assert values[3].tolist() == [[17, -1], [-1, -1]]


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3), (1, 1)])
def test_windows_are_joined_to_the_image_they_were_split_from(height: int, width: int) -> None:
    qkv = torch.randn(1, height, width, 3 * 8)
    windows = split_windows(qkv, torch.zeros(24), window=2, num_heads=4)
    for index, part in enumerate(windows.flatten(2, 3)):
        joined = join_windows(part, height, width, window=2, num_heads=4)
        assert torch.equal(joined, qkv[..., 8 * index : 8 * index + 8])


@pytest.mark.parametrize("rows", [1, 2, 5, 9])
def test_a_sum_in_pieces_is_the_sum(rows: int) -> None:
    x = torch.randn(1, 5, 2, 3)
    expected = x + x.sin()
    assert torch.equal(add_in_pieces(torch.sin, x, rows), expected)


def test_the_neck_equals_upstreams() -> None:
    neck = random_sam(MINIATURE).image_encoder.neck
    x = torch.randn(1, 8, 8, 32)
    expected = neck(x.permute(0, 3, 1, 2))
    torch.testing.assert_close(Neck(neck, torch.float32)(x), expected, atol=1e-5, rtol=1e-5)
