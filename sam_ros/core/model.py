"""Build SAM from segment_anything's own classes: the official sizes and this project's small one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

from sam_ros.core.efficientnet import (
    ENCODER_KEY,
    DetailedMaskDecoder,
    EfficientNetArchitecture,
    EfficientNetEncoder,
)

PIXEL_MEAN = [123.675, 116.28, 103.53]  # RGB, as in segment_anything/build_sam.py
PIXEL_STD = [58.395, 57.12, 57.375]


@dataclass(frozen=True)
class Architecture:
    """Everything that decides the keys and shapes of a SAM state dict.

    The defaults are what the three official models share (segment_anything/build_sam.py); the patch is
    always 16 pixels and the low-res logits are always a quarter of ``image_size``.
    """

    encoder_embed_dim: int
    encoder_depth: int
    encoder_num_heads: int
    encoder_global_attn_indexes: tuple[int, ...]
    image_size: int = 1024
    window_size: int = 14
    prompt_embed_dim: int = 256
    decoder_mlp_dim: int = 2048
    iou_head_hidden_dim: int = 256

    PATCH_SIZE = 16

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold, for the metadata of a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Architecture:
        """The inverse of ``to_dict``.

        Raises:
            KeyError, TypeError: a key is missing or unknown.
        """
        indexes = tuple(values["encoder_global_attn_indexes"])
        return cls(**{**values, "encoder_global_attn_indexes": indexes})


OFFICIAL_ARCHITECTURES = {
    "vit_b": Architecture(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": Architecture(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": Architecture(1280, 32, 16, (7, 15, 23, 31)),
}


AnyArchitecture: TypeAlias = "Architecture | EfficientNetArchitecture"


def architecture_from_dict(values: dict[str, Any]) -> AnyArchitecture:
    """The inverse of ``to_dict``; without a kind of encoder it is a ViT's, as before there were others.

    Raises:
        KeyError, TypeError: a key is missing or unknown.
    """
    if values.get(ENCODER_KEY) == EfficientNetArchitecture.ENCODER:
        return EfficientNetArchitecture(**{name: it for name, it in values.items() if name != ENCODER_KEY})
    return Architecture.from_dict(values)


def build_sam(architecture: AnyArchitecture) -> Sam:
    """A randomly initialised ``Sam`` in evaluation mode, on torch's default device.

    Follows ``_build_sam`` in segment_anything/build_sam.py, whose sizes are fixed.
    """
    embedding_size = architecture.image_size // Architecture.PATCH_SIZE
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


def _image_encoder(architecture: AnyArchitecture) -> nn.Module:
    """Pixels (1, 3, S, S) -> what the decoder takes; it tells S as ``img_size``."""
    if isinstance(architecture, EfficientNetArchitecture):
        return EfficientNetEncoder(architecture)
    return ImageEncoderViT(
        depth=architecture.encoder_depth,
        embed_dim=architecture.encoder_embed_dim,
        img_size=architecture.image_size,
        mlp_ratio=4,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=architecture.encoder_num_heads,
        patch_size=Architecture.PATCH_SIZE,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=architecture.encoder_global_attn_indexes,
        window_size=architecture.window_size,
        out_chans=architecture.prompt_embed_dim,
    )


def _mask_decoder(architecture: AnyArchitecture) -> MaskDecoder:
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
