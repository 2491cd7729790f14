"""The choice of the fast path: each kind of encoder is given its own, an unknown one is refused."""

from __future__ import annotations

import pytest
import torch
from random_models import DETAILED, MINIATURE, MINIATURE_TINY_VIT, random_sam
from torch import nn

from sam_ros.core.architecture import KINDS, Architecture
from sam_ros.fast.efficientnet import FastStage
from sam_ros.fast.image_encoder import encoder_layers
from sam_ros.fast.tiny_vit import FastTinyVitBlock
from sam_ros.fast.vit import FastBlock

OF_EACH_KIND: dict[Architecture, type] = {
    MINIATURE: FastBlock,
    MINIATURE_TINY_VIT: FastTinyVitBlock,
    DETAILED: FastStage,
}


def test_every_kind_of_architecture_is_here() -> None:
    assert {type(architecture) for architecture in OF_EACH_KIND} == set(KINDS.values())


@pytest.mark.parametrize(("architecture", "block"), OF_EACH_KIND.items())
def test_an_encoder_is_computed_by_its_own_fast_path(architecture: Architecture, block: type) -> None:
    layers = encoder_layers(random_sam(architecture).image_encoder, torch.float32)
    assert any(isinstance(layer, block) for layer in layers)


def test_an_encoder_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="no fast path for Identity"):
        encoder_layers(nn.Identity(), torch.float32)
