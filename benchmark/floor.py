"""The least time that an image encoder and a decoder can take, from their multiply-adds."""

from __future__ import annotations

import math

from sam_ros.core.model import Architecture

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

    What depends on the image alone is done before. Either the tokens are projected instead of the image
    (sam_ros/fast/decoder.py), or the image is not computed at all (sam_ros/fast/folded.py): whichever is
    less. The tokens' own layers, a tenth of it, are left out.
    """
    side, channels = architecture.image_size // PATCH, architecture.prompt_embed_dim
    by_head = CLICK_TOKENS * DECODER_HEADS  # products with all tokens, in all heads
    projected = CLICK_TOKENS * channels // 2  # products with all tokens, each head in its own channels
    layers = 3 * projected + by_head * channels * (1 + 4 + 2)  # first layer, second, final attention
    upscaling = channels * channels
    # Scores, values and overlaps with the embedding; with the weights of one layer, or both; upscaling.
    folded = 16 * projected + by_head * by_head * (4 + 4 + 4) + 2 * by_head * channels
    # Upscaled again, and weighted for one mask.
    finish = 4 * channels // 4 * channels // 2 + 16 * channels // 8
    return side * side * (min(layers + upscaling, folded) + finish)


def floor_sec(multiply_adds: int, flops: float) -> float:
    """Seconds that matrix products alone would take at a rate of floating-point operations per second."""
    return 2 * multiply_adds / flops
