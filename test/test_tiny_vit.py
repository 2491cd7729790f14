"""TinyViT: the plain module against MobileSAM's own, the fast path against the plain module."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import (
    MINIATURE_TINY_VIT,
    fast_and_plain,
    official_architecture,
    random_sam,
)
from test_predictor import assert_same, picture, prompts_for, upstream_answer
from upstream_mobile_sam import load_mobile_sam, needs_mobile_sam, save_random_mobile_sam

from sam_ros.core.architecture import TinyVitArchitecture
from sam_ros.core.model import build_sam
from sam_ros.core.tiny_vit import Attention
from sam_ros.errors import WeightsError
from sam_ros.fast import tiny_vit
from sam_ros.fast.tiny_vit import tiny_vit_layers
from sam_ros.predictor import Predictor, load_predictor

WHOLE_WINDOWS = replace(MINIATURE_TINY_VIT, window_sizes=(4, 4, 4, 8))
"""Nothing is padded; the last window is the whole image."""

WIDE_WINDOWS = replace(MINIATURE_TINY_VIT, window_sizes=(7, 7, 14, 7), image_size=80)
"""10 x 10 and 5 x 5 positions in windows of 7 and 14: more padding than positions."""

ARCHITECTURES = [MINIATURE_TINY_VIT, WHOLE_WINDOWS, WIDE_WINDOWS]

SIZES_HW = {"landscape": (480, 640), "portrait": (640, 360), "tiny": (7, 11)}


# The plain module and the whole predictor, against upstream.


@pytest.fixture(scope="module")
def random_mobile_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    save_random_mobile_sam(path)
    return path


@pytest.fixture(scope="module")
def ours(random_mobile_sam: Path) -> Predictor:
    return load_predictor("mobile_sam", random_mobile_sam)


@pytest.fixture(scope="module")
def upstream(random_mobile_sam: Path) -> Any:
    return load_mobile_sam(random_mobile_sam)


@needs_mobile_sam
def test_keys_shapes_and_types_are_those_of_the_official_file(upstream: Any) -> None:
    def described(sam: torch.nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
        return {name: (tensor.shape, tensor.dtype) for name, tensor in sam.state_dict().items()}

    with torch.device("meta"):
        assert described(build_sam(official_architecture("mobile_sam"))) == described(upstream.model)


@needs_mobile_sam
@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
def test_every_prompt_is_answered_as_upstream_does(
    ours: Predictor, upstream: Any, size_hw: tuple[int, int]
) -> None:
    upstream.set_image(picture(size_hw))
    embedding = ours.encode(picture(size_hw))
    torch.testing.assert_close(embedding.features, upstream.features, atol=1e-4, rtol=0)
    prompts = list(prompts_for(size_hw, 256).values())
    for prompt, answer in zip(prompts, ours.decode(embedding, prompts), strict=True):
        assert_same(answer, upstream_answer(upstream, prompt, True))


@needs_mobile_sam
def test_another_image_has_another_embedding(ours: Predictor) -> None:
    """Else parity would prove nothing."""
    first, second = (ours.encode(picture((480, 640), seed)).features for seed in (0, 1))
    assert (first - second).abs().max() > 0.1


def test_weights_of_a_vit_are_refused(tmp_path: Path) -> None:
    sam = random_sam(replace(MINIATURE_TINY_VIT, prompt_embed_dim=64))
    torch.save(sam.state_dict(), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="does not fit the model"):
        load_predictor("mobile_sam", tmp_path / "other.pt")


def test_biases_of_attention_depend_on_the_distance_alone() -> None:
    attention = Attention(dim=2, num_heads=1, window_size=2)
    attention.attention_biases.data = torch.tensor([[0.0, 1.0, 10.0, 11.0]])  # 0, a column, a row, both apart
    assert attention.bias().tolist() == [
        [[0.0, 1.0, 10.0, 11.0], [1.0, 0.0, 11.0, 10.0], [10.0, 11.0, 0.0, 1.0], [11.0, 10.0, 1.0, 0.0]]
    ]


# The fast path, against the plain module.


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_fast_path_equals_the_plain_module(architecture: TinyVitArchitecture) -> None:
    fast, plain = fast_and_plain(architecture, torch.float32)
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-5)
    assert fast.shape == plain.shape and fast.is_contiguous()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("at_once", [1, 100, 1000])
def test_strips_of_any_height_make_the_same(
    monkeypatch: pytest.MonkeyPatch, at_once: int, architecture: TinyVitArchitecture
) -> None:
    """Down to one row: where strips meet, convolutions see both."""
    for name in ("PIXELS_AT_ONCE", "HIDDEN_AT_ONCE", "POSITIONS_AT_ONCE"):
        monkeypatch.setattr(tiny_vit, name, at_once)
    fast, plain = fast_and_plain(architecture, torch.float32)
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_attention_of_a_gpu_equals_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, architecture: TinyVitArchitecture
) -> None:
    """Run on the CPU, where it is as exact, if slower."""
    monkeypatch.setattr(tiny_vit, "_plain_attention", tiny_vit._fused_attention)
    fast, plain = fast_and_plain(architecture, torch.float32)
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_returns_float32_near_the_plain_module(dtype: torch.dtype) -> None:
    fast, plain = fast_and_plain(MINIATURE_TINY_VIT, dtype)
    assert fast.dtype == torch.float32
    assert 0 < (fast - plain).abs().mean() < 0.03 * plain.abs().mean()


def test_padding_is_attended_to() -> None:
    """Else equality would not show that it is: with other padding the answer is another."""
    layers = tiny_vit_layers(random_sam(MINIATURE_TINY_VIT).image_encoder, torch.float32)
    block = next(layer for layer in layers if isinstance(layer, tiny_vit.FastTinyVitBlock))
    x = torch.randn(1, 16, 16, 16)
    with torch.inference_mode():
        attended = block(x.clone())
        block.attended.padding = torch.full_like(block.attended.padding, 3.0)
        assert (block(x.clone()) - attended).abs().max() > 1e-2
