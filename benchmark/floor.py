"""The least time that an image encoder and a decoder can take, from their multiply-adds."""

from __future__ import annotations

import math

from sam_ros.core.architecture import (
    Architecture,
    EfficientNetArchitecture,
    TinyVitArchitecture,
    VitArchitecture,
)
from sam_ros.core.efficientnet import (
    LEVELS,
    NECK_EXPANSION,
    NECK_KERNEL,
    STEM_CHANNELS,
    StageSize,
    stage_sizes,
)
from sam_ros.core.tiny_vit import DOWNSAMPLE_STRIDES, EXPANSION

PATCH = Architecture.STRIDE
DECODER_HEADS = 8  # segment_anything/build_sam.py
CLICK_TOKENS = 7  # predicted IoU, four masks, the point and its padding


def encoder_multiply_adds(architecture: Architecture) -> int:
    """Of one image, as upstream's encoder computes it, padding of windows included.

    Raises:
        TypeError: they are not known for this kind of encoder.
    """
    if isinstance(architecture, VitArchitecture):
        return _vit(architecture)
    if isinstance(architecture, TinyVitArchitecture):
        return _tiny_vit(architecture)
    if isinstance(architecture, EfficientNetArchitecture):
        return _efficientnet(architecture)
    raise TypeError(f"multiply-adds are not known for {type(architecture).__name__}")


def _vit(architecture: VitArchitecture) -> int:
    side = architecture.image_size // PATCH
    tokens, dim = side * side, architecture.encoder_embed_dim
    patches = tokens * PATCH * PATCH * 3 * dim
    num_global = len(architecture.encoder_global_attn_indexes)
    num_windowed = architecture.encoder_depth - num_global
    windows = math.ceil(side / architecture.window_size) ** 2
    blocks = num_global * _block(tokens, dim, side, 1)
    blocks += num_windowed * _block(tokens, dim, architecture.window_size, windows)
    return patches + blocks + _neck(tokens, dim, architecture)


def _tiny_vit(architecture: TinyVitArchitecture) -> int:
    dims, side = architecture.embed_dims, architecture.image_size // 4
    total = (
        side**2 * 9 * dims[0] // 2 * (4 * 3 + dims[0])
    )  # two convolutions, the first on four times as many
    for stage, (dim, depth) in enumerate(zip(dims, architecture.depths, strict=True)):
        tokens = side * side
        convolved = 2 * EXPANSION * dim**2 + 9 * EXPANSION * dim  # of a position, in a block of convolutions
        attended = _windowed(side, dim, architecture.window_sizes[stage])
        total += depth * (tokens * convolved if stage == 0 else attended)
        if stage < len(DOWNSAMPLE_STRIDES):
            side //= DOWNSAMPLE_STRIDES[stage]
            total += tokens * dim * dims[stage + 1] + side**2 * dims[stage + 1] * (9 + dims[stage + 1])
    return total + _neck(side * side, dims[-1], architecture)


def _efficientnet(architecture: EfficientNetArchitecture) -> int:
    side, last = architecture.image_size // 2, STEM_CHANNELS
    total = side**2 * 9 * 3 * last
    sizes = stage_sizes(architecture)
    for size in sizes:
        total += _stage(side, last, size)
        side, last = side // size.stride, size.channels
    return total + _levels_neck(architecture, [sizes[index].channels for index in LEVELS])


def _stage(side: int, channels: int, size: StageSize) -> int:
    """Blocks that expand, filter and project; the first takes images of another side and other channels."""
    total = 0
    for _ in range(size.blocks):
        inner = channels * size.expansion
        expanded = side**2 * channels * inner if size.expansion > 1 else 0
        side //= size.stride if not total else 1
        total += expanded + side**2 * inner * (size.kernel**2 + size.channels)
        channels = size.channels
    return total


def _levels_neck(architecture: EfficientNetArchitecture, inputs: list[int]) -> int:
    quarter, eighth, sixteenth, coarsest = inputs
    side, dim = architecture.image_size // PATCH, architecture.prompt_embed_dim
    merged = 16 * quarter + 4 * eighth + sixteenth + dim
    block = dim * (NECK_KERNEL**2 + 2 * NECK_EXPANSION * dim)
    finer = 4 * eighth * dim // 4 + 16 * quarter * dim // 8
    coarse = (side // 2) ** 2 * coarsest * dim
    return coarse + side**2 * (merged * dim + architecture.neck_blocks * block + finer)


def _windowed(side: int, dim: int, window: int) -> int:
    """One block of TinyViT with attention: in windows, then a convolution of 3 x 3 and a perceptron."""
    attended = (math.ceil(side / window) * window) ** 2  # padding of windows included
    return attended * dim * (4 * dim + 2 * window**2) + side * side * dim * (2 * EXPANSION * dim + 9)


def _neck(tokens: int, dim: int, architecture: Architecture) -> int:
    return tokens * (dim * architecture.prompt_embed_dim + 9 * architecture.prompt_embed_dim**2)


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
