"""RepViT and the neck behind it: the fast path against the plain modules."""

from __future__ import annotations

import pytest
import torch
from random_models import MINIATURE_REP_VIT, fast_and_plain
from upstream_sam2 import needs_transformers

from sam_ros.core.rep_vit import RepVit, SqueezeExcite, TokenMixer

pytestmark = needs_transformers


def test_the_fast_path_equals_the_plain_modules() -> None:
    fast, plain = fast_and_plain(MINIATURE_REP_VIT, torch.float32)
    torch.testing.assert_close(fast, plain, atol=5e-5, rtol=1e-4)
    assert fast.shape == plain.shape and fast.is_contiguous()
    assert plain.std() > 0.1  # else equality would prove nothing


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_returns_float32_near_the_plain_modules(dtype: torch.dtype) -> None:
    fast, plain = fast_and_plain(MINIATURE_REP_VIT, dtype)
    assert fast.dtype == torch.float32
    assert 0 < (fast - plain).abs().mean() < 0.05 * plain.abs().mean()


def test_every_stage_but_the_first_halves_the_image() -> None:
    strides = RepVit((8, 16, 24, 32), (1, 1, 1, 1)).eval()(torch.zeros(1, 3, 64, 64))
    assert [tuple(x.shape) for x in strides] == [(1, 8, 16, 16), (1, 16, 8, 8), (1, 24, 4, 4), (1, 32, 2, 2)]


def test_a_token_mixer_adds_three_branches() -> None:
    mixer = TokenMixer(1).eval()
    mixer.conv.c.weight.data.fill_(1.0)  # sums of 3 x 3
    mixer.conv1.c.weight.data.fill_(10.0)
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = [[10.0 + 10 + 1, 10 + 20 + 2], [10 + 30 + 3, 10 + 40 + 4]]
    torch.testing.assert_close(mixer(image)[0, 0], torch.tensor(expected), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("channels", "fewer"), [(8, 8), (48, 16), (96, 24), (192, 48)])
def test_squeeze_and_excitation_has_a_multiple_of_eight_channels(channels: int, fewer: int) -> None:
    assert SqueezeExcite(channels).fc1.out_channels == fewer
