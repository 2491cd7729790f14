"""The choice of the fast path: each kind of encoder is given its own, an unknown one is refused."""

from __future__ import annotations

import pytest
import torch
from random_models import (
    DETAILED,
    MINIATURE,
    MINIATURE_HIERA,
    MINIATURE_REP_VIT,
    MINIATURE_TINY_VIT,
    random_sam,
)
from torch import nn
from upstream_sam2 import needs_transformers

from sam_ros.core.architecture import KINDS, Architecture, Sam2Architecture
from sam_ros.fast.image_encoder import encoder_layers

OF_EACH_KIND: dict[Architecture, str] = {
    MINIATURE: "vit",
    MINIATURE_TINY_VIT: "tiny_vit",
    DETAILED: "efficientnet",
    MINIATURE_HIERA: "hiera",
    MINIATURE_REP_VIT: "rep_vit",
}


def test_every_kind_of_architecture_is_here() -> None:
    assert {type(architecture) for architecture in OF_EACH_KIND} == set(KINDS.values())


@pytest.mark.parametrize(
    ("architecture", "module"),
    [
        pytest.param(*one, marks=[needs_transformers] if isinstance(one[0], Sam2Architecture) else [])
        for one in OF_EACH_KIND.items()
    ],
)
def test_an_encoder_is_computed_by_its_own_fast_path(architecture: Architecture, module: str) -> None:
    layers = encoder_layers(random_sam(architecture).image_encoder, torch.float32)
    assert any(type(layer).__module__ == f"sam_ros.fast.{module}" for layer in layers)


def test_an_encoder_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="no fast path for Identity"):
        encoder_layers(nn.Identity(), torch.float32)
