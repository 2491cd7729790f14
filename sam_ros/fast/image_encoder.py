"""The fast path of an image encoder, whichever kind it is."""

from __future__ import annotations

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from sam_ros.core.efficientnet import EfficientNetEncoder
from sam_ros.core.rep_vit import RepVit
from sam_ros.core.sam2 import Sam2ImageEncoder
from sam_ros.core.tiny_vit import TinyVit
from sam_ros.fast.efficientnet import efficientnet_layers
from sam_ros.fast.hiera import hiera_layers
from sam_ros.fast.layers import Step
from sam_ros.fast.rep_vit import rep_vit_layers
from sam_ros.fast.tiny_vit import tiny_vit_layers
from sam_ros.fast.vit import vit_layers


def encoder_layers(encoder: nn.Module, dtype: torch.dtype, compile: bool = False) -> list[Step]:
    """The encoder as a list of steps, so that an encode can be cancelled between blocks.

    The first takes (1, 3, S, S) float32 normalised pixels, the last returns (1, C, S/16, S/16) float32, with
    finer levels (1, 4C, S/16, S/16).

    Args:
        encoder: holds the weights, on their device.
        dtype: of the matrix products; sums of the residual stream and norms stay float32.
        compile: compile the blocks with torch.compile.

    Raises:
        TypeError: there is no fast path for this kind of encoder.
    """
    if isinstance(encoder, ImageEncoderViT):
        return [*vit_layers(encoder, dtype, compile)]
    if isinstance(encoder, TinyVit):
        return [*tiny_vit_layers(encoder, dtype, compile)]
    if isinstance(encoder, EfficientNetEncoder):
        return efficientnet_layers(encoder, dtype, compile)
    if isinstance(encoder, Sam2ImageEncoder):
        layers = rep_vit_layers if isinstance(encoder.backbone, RepVit) else hiera_layers
        return layers(encoder, dtype, compile)
    raise TypeError(f"there is no fast path for {type(encoder).__name__}")
