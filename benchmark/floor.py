"""The least time an image encoder can take, from its multiply-adds."""

from __future__ import annotations

import math

from sam_ros.model import Architecture

PATCH = Architecture.PATCH_SIZE


def encoder_multiply_adds(architecture: Architecture) -> int:
    """Of one image, as ``ImageEncoderViT`` computes it, padding of windows included."""
    side = architecture.image_size // PATCH
    tokens, dim = side * side, architecture.encoder_embed_dim
    patches = tokens * PATCH * PATCH * 3 * dim
    neck = tokens * (dim * architecture.prompt_embed_dim + 9 * architecture.prompt_embed_dim**2)
    num_global = len(architecture.encoder_global_attn_indexes)
    num_windowed = architecture.encoder_depth - num_global
    windows = math.ceil(side / architecture.window_size) ** 2
    blocks = num_global * _block(tokens, dim, side, 1)
    blocks += num_windowed * _block(tokens, dim, architecture.window_size, windows)
    return patches + blocks + neck


def _block(tokens: int, dim: int, attended_side: int, windows: int) -> int:
    """One transformer block whose attention goes over so many windows of that side."""
    attended = windows * attended_side**2  # padding of windows included
    projections = attended * 4 * dim * dim
    attention = attended * 2 * attended_side**2 * dim
    relative_position = attended * 2 * attended_side * dim
    mlp = tokens * 8 * dim * dim
    return projections + attention + relative_position + mlp


def floor_sec(architecture: Architecture, flops: float) -> float:
    """Seconds that the matrix products alone would take at a rate of floating-point operations per second."""
    return 2 * encoder_multiply_adds(architecture) / flops
