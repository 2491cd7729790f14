"""The least time that an image encoder and a decoder can take, from their multiply-adds."""

from __future__ import annotations

import math

from sam_ros.model import Architecture

PATCH = Architecture.PATCH_SIZE
DECODER_HEADS = 8  # segment_anything/build_sam.py
CLICK_TOKENS = 7  # predicted IoU, four masks, the point and its padding


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


def click_multiply_adds(architecture: Architecture) -> int:
    """Of one click on an encoded image to the low-res logits of one mask, the image's side of it.

    What depends on the image alone is done before, and the tokens are projected instead of the image (see
    sam_ros/decoder.py). The tokens' own layers, a twentieth of it, are left out.
    """
    side, channels = architecture.image_size // PATCH, architecture.prompt_embed_dim
    positions = side * side
    first_layer = positions * CLICK_TOKENS * 3 * (channels // 2)  # scores and values, scores
    by_head = positions * CLICK_TOKENS * DECODER_HEADS * channels  # tokens with image, in full width
    layers = first_layer + by_head * (1 + 4 + 2)  # first layer, second, final attention
    upscaling = positions * channels * channels + 4 * positions * channels // 4 * channels // 2
    mask = 16 * positions * channels // 8
    return layers + upscaling + mask


def floor_sec(multiply_adds: int, flops: float) -> float:
    """Seconds that matrix products alone would take at a rate of floating-point operations per second."""
    return 2 * multiply_adds / flops
