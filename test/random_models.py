"""Models with random weights, saved as files, so that tests load them through the real code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import Sam
from torch import nn

from sam_ros.core.architecture import Architecture, TinyVitArchitecture, VitArchitecture
from sam_ros.core.catalogue import MODELS
from sam_ros.core.checkpoint import save_state_dict
from sam_ros.core.model import build_sam

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
    norms = [module for module in sam.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        _see_a_picture(sam.image_encoder, norms)
    return sam


def _see_a_picture(encoder: Any, norms: list[nn.BatchNorm2d]) -> None:
    """Give batch norms random weights, and the statistics of what they then see.

    Without them a random encoder makes nearly the same of every picture.
    """
    for norm in norms:
        norm.weight.uniform_(0.5, 1.5)
        norm.momentum = None  # all of this picture, nothing of what the statistics begin with
    size = encoder.img_size
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
