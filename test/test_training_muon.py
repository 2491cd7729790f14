"""Muon: its updates are orthogonal, its steps as large as AdamW's."""

from __future__ import annotations

import pytest
import torch

from training.muon import UPDATE_RMS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(12, 12), (8, 40), (40, 8)])
def test_an_update_becomes_about_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert singular.min() > 0.5 and singular.max() < 1.3


def test_directions_are_kept() -> None:
    matrix = torch.diag(torch.tensor([3.0, -2.0, 1.0]))
    signs = orthogonal(matrix).diag().sign()
    assert signs.tolist() == [1, -1, 1]


def test_a_step_is_as_large_as_adamws() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(16, 64))
    weight.grad = torch.randn(16, 64)
    Muon([weight], lr=0.5).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.5 * UPDATE_RMS, rel=0.25)


def test_weights_decay() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_a_quadratic_is_minimised() -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(6, 10), torch.nn.Parameter(torch.zeros(6, 10))
    optimizer = Muon([weight], lr=0.2)
    for _ in range(150):
        optimizer.param_groups[0]["lr"] *= 0.98
        weight.grad = weight.detach() - target
        optimizer.step()
    assert (weight - target).abs().mean() < 0.05 * target.abs().mean()
