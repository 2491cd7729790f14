"""Hiera and the neck behind it: the fast path against the plain modules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_models import MINIATURE_HIERA, fast_and_plain, random_sam
from upstream_sam2 import needs_transformers

from sam_ros.core.architecture import HieraArchitecture
from sam_ros.fast import hiera
from sam_ros.fast.hiera import hiera_layers

pytestmark = needs_transformers

WHOLE_WINDOWS = replace(MINIATURE_HIERA, window_sizes=(8, 4, 8, 4), num_heads=2)
"""Nothing is padded; several heads everywhere."""

ARCHITECTURES = [MINIATURE_HIERA, WHOLE_WINDOWS]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_fast_path_equals_the_plain_modules(architecture: HieraArchitecture) -> None:
    fast, plain = fast_and_plain(architecture, torch.float32)
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-5)
    assert fast.shape == plain.shape and fast.is_contiguous()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("at_once", [1, 100, 1000])
def test_strips_of_any_height_make_the_same(
    monkeypatch: pytest.MonkeyPatch, at_once: int, architecture: HieraArchitecture
) -> None:
    for name in ("HIDDEN_AT_ONCE", "POSITIONS_AT_ONCE"):
        monkeypatch.setattr(hiera, name, at_once)
    fast, plain = fast_and_plain(architecture, torch.float32)
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-5)


def test_the_attention_of_a_gpu_equals_that_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on the CPU, where it is as exact, if slower."""
    monkeypatch.setattr(hiera, "_attention_in_windows", hiera._attention)
    fast, plain = fast_and_plain(MINIATURE_HIERA, torch.float32)
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("queries", [5, 256])
def test_reduced_precision_returns_float32_near_the_plain_modules(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, queries: int
) -> None:
    monkeypatch.setattr(hiera, "QUERIES_AT_ONCE", queries)
    fast, plain = fast_and_plain(MINIATURE_HIERA, dtype)
    assert fast.dtype == torch.float32
    assert 0 < (fast - plain).abs().mean() < 0.03 * plain.abs().mean()


def test_every_level_shows_what_is_in_the_image() -> None:
    """Else equality would prove nothing: another image has other features of each kind."""
    layers = hiera_layers(random_sam(MINIATURE_HIERA).image_encoder, torch.float32)
    features = []
    for seed in range(2):
        torch.manual_seed(seed)
        x = torch.randn(1, 3, 128, 128)
        with torch.inference_mode():
            for layer in layers:
                x = layer(x)
        features.append(x)
    difference = (features[0] - features[1]).abs()[0]  # (4C, h, w): embedding, eighth, quarter twice
    assert all(part.mean() > 0.01 for part in torch.split(difference, 128))
