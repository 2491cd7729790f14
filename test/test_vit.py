"""The fast ViT against ImageEncoderViT, whose weights it uses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_models import MINIATURE, TRAINABLE, fast_and_plain, random_sam

from sam_ros.core.architecture import Architecture
from sam_ros.fast import vit
from sam_ros.fast.vit import vit_layers

UNEVEN = replace(MINIATURE, window_size=7, encoder_num_heads=4, image_size=144)
"""9 x 9 tokens in windows of 7: more padding than tokens in three of the four; heads of 8 channels."""


@pytest.mark.parametrize("architecture", [MINIATURE, TRAINABLE, UNEVEN])
def test_it_equals_upstream(architecture: Architecture) -> None:
    ours, upstream = fast_and_plain(architecture, torch.float32)
    torch.testing.assert_close(ours, upstream, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("short_row", [0, 32])
@pytest.mark.parametrize(("queries", "biases"), [(1, 1), (20, 10_000), (4096, 1 << 30)])
def test_blocks_of_any_size_make_the_same(
    monkeypatch: pytest.MonkeyPatch, queries: int, biases: int, short_row: int
) -> None:
    """Whether positions are added or multiplied."""
    monkeypatch.setattr(vit, "SHORT_ROW", short_row)
    monkeypatch.setattr(vit, "QUERIES_AT_ONCE", queries)
    monkeypatch.setattr(vit, "BIASES_AT_ONCE", biases)
    ours, upstream = fast_and_plain(UNEVEN, torch.float32)
    torch.testing.assert_close(ours, upstream, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", [MINIATURE, TRAINABLE, UNEVEN])
def test_the_attention_of_a_gpu_equals_upstream(
    monkeypatch: pytest.MonkeyPatch, architecture: Architecture
) -> None:
    """Run on the CPU, where it is as exact, if slower."""
    monkeypatch.setattr(vit, "_blockwise_attention", vit._folded_attention)
    ours, upstream = fast_and_plain(architecture, torch.float32)
    torch.testing.assert_close(ours, upstream, atol=2e-5, rtol=1e-5)


def test_padding_is_attended_to() -> None:
    """Else equality would not show that it is: with the padding left out the answer is another."""
    sam = random_sam(MINIATURE)
    pixels = torch.randn(1, 3, MINIATURE.image_size, MINIATURE.image_size)
    layers = vit_layers(sam.image_encoder, torch.float32)
    with torch.inference_mode():
        x = layers[0](pixels)
        attended = layers[1](x.clone())
        layers[1].padding = torch.full_like(layers[1].padding, 3.0)  # type: ignore[attr-defined]
        assert (layers[1](x) - attended).abs().max() > 1e-2


@pytest.mark.parametrize("architecture", [MINIATURE, UNEVEN])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_returns_float32_near_upstream(
    dtype: torch.dtype, architecture: Architecture
) -> None:
    ours, upstream = fast_and_plain(architecture, dtype)
    assert ours.dtype == torch.float32
    assert 0 < (ours - upstream).abs().mean() < 0.02 * upstream.abs().mean()


def test_the_memory_layout_is_upstreams() -> None:
    ours, upstream = fast_and_plain(TRAINABLE, torch.float32)
    assert ours.shape == upstream.shape and ours.is_contiguous()
