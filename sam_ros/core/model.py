"""Build SAM from its architecture: segment_anything's classes behind whichever image encoder it names."""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

from sam_ros.core.architecture import (
    Architecture,
    EfficientNetArchitecture,
    Sam2Architecture,
    TinyVitArchitecture,
    VitArchitecture,
)
from sam_ros.core.efficientnet import DetailedMaskDecoder, EfficientNetEncoder
from sam_ros.core.sam2 import build_sam2
from sam_ros.core.tiny_vit import TinyVit

PIXEL_MEAN = [123.675, 116.28, 103.53]  # RGB, as in segment_anything/build_sam.py
PIXEL_STD = [58.395, 57.12, 57.375]


def build_sam(architecture: Architecture) -> Sam:
    """A randomly initialised ``Sam`` in evaluation mode, on torch's default device.

    Follows ``_build_sam`` in segment_anything/build_sam.py, whose sizes are fixed.

    Raises:
        TypeError: no image encoder is known for this kind of architecture.
        SamRosError: the model needs a package that is not installed.
    """
    if isinstance(architecture, Sam2Architecture):
        return build_sam2(architecture)
    embedding_size = architecture.image_size // Architecture.STRIDE
    sam = Sam(
        image_encoder=_image_encoder(architecture),
        prompt_encoder=PromptEncoder(
            embed_dim=architecture.prompt_embed_dim,
            image_embedding_size=(embedding_size, embedding_size),
            input_image_size=(architecture.image_size, architecture.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=_mask_decoder(architecture),
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
    )
    return sam.eval()


def _image_encoder(architecture: Architecture) -> nn.Module:
    """Pixels (1, 3, S, S) -> what the decoder takes of an image; it tells S as ``img_size``."""
    if isinstance(architecture, VitArchitecture):
        return _vit(architecture)
    if isinstance(architecture, TinyVitArchitecture):
        return TinyVit(architecture)
    if isinstance(architecture, EfficientNetArchitecture):
        return EfficientNetEncoder(architecture)
    raise TypeError(f"no image encoder is known for {type(architecture).__name__}")


def _vit(architecture: VitArchitecture) -> ImageEncoderViT:
    return ImageEncoderViT(
        depth=architecture.encoder_depth,
        embed_dim=architecture.encoder_embed_dim,
        img_size=architecture.image_size,
        mlp_ratio=4,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=architecture.encoder_num_heads,
        patch_size=Architecture.STRIDE,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=architecture.encoder_global_attn_indexes,
        window_size=architecture.window_size,
        out_chans=architecture.prompt_embed_dim,
    )


def _mask_decoder(architecture: Architecture) -> MaskDecoder:
    is_detailed = isinstance(architecture, EfficientNetArchitecture)
    return (DetailedMaskDecoder if is_detailed else MaskDecoder)(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(
            depth=2,
            embedding_dim=architecture.prompt_embed_dim,
            mlp_dim=architecture.decoder_mlp_dim,
            num_heads=8,
        ),
        transformer_dim=architecture.prompt_embed_dim,
        iou_head_depth=3,
        iou_head_hidden_dim=architecture.iou_head_hidden_dim,
    )
