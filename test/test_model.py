"""The models: keys and shapes equal upstream's."""

from __future__ import annotations

import pytest
import torch
from random_models import MINIATURE, MINIATURE_TINY_VIT, official_architecture
from segment_anything import sam_model_registry

from sam_ros.core.architecture import Architecture
from sam_ros.core.model import build_sam


def shapes(sam: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in sam.state_dict().items()}


@pytest.mark.parametrize("model_type", ["vit_b", "vit_l", "vit_h"])
def test_official_models_are_upstreams(model_type: str) -> None:
    with torch.device("meta"):
        ours, upstream = build_sam(official_architecture(model_type)), sam_model_registry[model_type]()
    assert shapes(ours) == shapes(upstream)
    assert str(ours) == str(upstream)  # every layer with its settings, eps and strides included
    assert ours.mask_threshold == upstream.mask_threshold
    assert ours.image_encoder.img_size == upstream.image_encoder.img_size == 1024
    windows = [[block.window_size for block in sam.image_encoder.blocks] for sam in (ours, upstream)]
    assert windows[0] == windows[1]
    assert not ours.training


def test_pixels_are_normalised_as_upstreams() -> None:
    ours, upstream = build_sam(MINIATURE), sam_model_registry["vit_b"]
    with torch.device("meta"):
        expected = upstream()
    assert ours.pixel_mean.shape == expected.pixel_mean.shape == (3, 1, 1)
    torch.testing.assert_close(ours.pixel_mean.flatten(), torch.tensor([123.675, 116.28, 103.53]))
    torch.testing.assert_close(ours.pixel_std.flatten(), torch.tensor([58.395, 57.12, 57.375]))


def test_every_size_of_a_small_model_follows_its_architecture() -> None:
    sam = build_sam(MINIATURE)
    assert len(sam.image_encoder.blocks) == 2
    assert [block.window_size for block in sam.image_encoder.blocks] == [3, 0]
    named = shapes(sam)
    assert named["image_encoder.pos_embed"] == (1, 8, 8, 32)
    assert named["image_encoder.blocks.0.attn.rel_pos_h"] == (2 * 3 - 1, 16)
    assert named["image_encoder.blocks.1.attn.rel_pos_h"] == (2 * 8 - 1, 16)
    assert named["image_encoder.neck.0.weight"] == (32, 32, 1, 1)
    assert named["prompt_encoder.no_mask_embed.weight"] == (1, 32)
    assert named["mask_decoder.transformer.layers.0.mlp.lin1.weight"] == (32, 32)
    assert named["mask_decoder.iou_prediction_head.layers.0.weight"] == (16, 32)
    assert sam.prompt_encoder.image_embedding_size == (8, 8)
    assert sam.prompt_encoder.input_image_size == (128, 128)
    assert not sam.training


def test_a_tiny_vit_has_the_sizes_of_its_architecture() -> None:
    sam = build_sam(MINIATURE_TINY_VIT)
    named = shapes(sam)
    assert named["image_encoder.patch_embed.seq.2.c.weight"] == (8, 4, 3, 3)
    assert named["image_encoder.layers.1.blocks.0.attn.attention_biases"] == (2, 3 * 3)
    assert named["image_encoder.layers.2.downsample.conv3.c.weight"] == (32, 32, 1, 1)
    assert named["image_encoder.neck.0.weight"] == (32, 32, 1, 1)
    assert sam.image_encoder.img_size == 128
    assert sam.image_encoder(torch.zeros(1, 3, 128, 128)).shape == (1, 32, 8, 8)
    assert not sam.training


def test_an_architecture_without_an_encoder_is_refused() -> None:
    with pytest.raises(TypeError, match="no image encoder is known for Architecture"):
        build_sam(Architecture())
