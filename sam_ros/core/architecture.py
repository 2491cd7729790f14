"""What decides the keys and shapes of a SAM state dict: a plain value for each kind of image encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

ENCODER_KEY = "encoder"  # in ``to_dict``: which kind of image encoder


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the models with any kind of image encoder share.

    The defaults are those of the official models (segment_anything/build_sam.py). The embedding always has a
    side of ``image_size`` / 16, and the low-res logits one of ``image_size`` / 4.

    Attributes:
        image_size: S, side of the encoder's square input, pixels.
        prompt_embed_dim: C, channels of the embedding and of prompts.
        decoder_mlp_dim: hidden channels in the mask decoder's transformer.
        iou_head_hidden_dim: hidden channels of the head that predicts the IoU.
    """

    image_size: int = 1024
    prompt_embed_dim: int = 256
    decoder_mlp_dim: int = 2048
    iou_head_hidden_dim: int = 256

    ENCODER: ClassVar[str]
    """Names the kind of image encoder in ``to_dict``."""
    STRIDE: ClassVar[int] = 16
    """Input pixels to one position of the embedding, in each direction."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold, for the metadata of a checkpoint."""
        return {ENCODER_KEY: self.ENCODER, **asdict(self)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Architecture:
        """The inverse of ``to_dict``; without a kind of encoder it is a ViT's, as before there were others.

        Raises:
            TypeError: a key is missing or unknown.
            ValueError: there is no such kind of encoder.
        """
        sizes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in dict(values).items()
        }
        encoder = sizes.pop(ENCODER_KEY, VitArchitecture.ENCODER)
        if encoder not in KINDS:
            raise ValueError(f"unknown {ENCODER_KEY} {encoder!r}; known are {', '.join(KINDS)}")
        return KINDS[encoder](**sizes)


@dataclass(frozen=True)
class VitArchitecture(Architecture):
    """SAM's own image encoder, a plain ViT: segment_anything's ``ImageEncoderViT``.

    Attributes:
        encoder_embed_dim: channels.
        encoder_depth: number of blocks.
        encoder_num_heads: heads of attention.
        encoder_global_attn_indexes: the blocks that attend to the whole image.
        window_size: side of the windows that the other blocks attend to, positions.
    """

    encoder_embed_dim: int
    encoder_depth: int
    encoder_num_heads: int
    encoder_global_attn_indexes: tuple[int, ...]
    window_size: int = 14

    ENCODER = "vit"


@dataclass(frozen=True)
class TinyVitArchitecture(Architecture):
    """TinyViT (https://arxiv.org/abs/2207.10666), MobileSAM's image encoder; one value for each stage.

    Attributes:
        embed_dims: channels.
        depths: number of blocks; those of the first stage are convolutions.
        num_heads: heads of attention; the first stage has none, whatever it says.
        window_sizes: side of the windows of attention, positions; the first stage has none.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_sizes: tuple[int, ...]

    ENCODER = "tiny_vit"


@dataclass(frozen=True)
class EfficientNetArchitecture(Architecture):
    """EfficientNet-Lite (https://arxiv.org/abs/1905.11946) with finer levels of the image for the decoder.

    ``image_size`` is a multiple of 32, ``prompt_embed_dim`` of 8.

    Attributes:
        width, depth: of the backbone, times those of Lite0.
        neck_blocks: number of blocks at stride 16 behind the backbone.
    """

    width: float
    depth: float
    neck_blocks: int

    ENCODER = "efficientnet"


@dataclass(frozen=True, kw_only=True)
class Sam2Architecture(Architecture):
    """What SAM 2 (https://arxiv.org/abs/2408.00714) and EdgeTAM share: SAM's decoder, and a memory of frames.

    ``image_size`` is a multiple of 64, ``prompt_embed_dim`` of 64.

    Attributes:
        memory_layers: layers of the attention to the memory.
        memory_mlp_dim: hidden channels in them.
    """

    memory_layers: int = 4
    memory_mlp_dim: int = 2048


@dataclass(frozen=True)
class HieraArchitecture(Sam2Architecture):
    """Hiera (https://arxiv.org/abs/2306.00989), SAM 2's image encoder: sam2/modeling/backbones/hieradet.py.

    Attributes:
        embed_dim: channels of the first stage; every further one has twice as many.
        num_heads: heads of attention in the first stage; likewise.
        depths: number of blocks of each stage.
        global_attn_indexes: the blocks that attend to the whole image.
        background_size: positions for which positions are learned, scaled to the image.
        window_sizes: side of the windows of attention of each stage, positions.
    """

    embed_dim: int
    num_heads: int
    depths: tuple[int, ...]
    global_attn_indexes: tuple[int, ...]
    background_size: tuple[int, int] = (7, 7)
    window_sizes: tuple[int, ...] = (8, 4, 14, 7)

    ENCODER = "hiera"


@dataclass(frozen=True)
class RepVitArchitecture(Sam2Architecture):
    """RepViT (https://arxiv.org/abs/2307.09283), EdgeTAM's image encoder; one value for each stage.

    Attributes:
        embed_dims: channels.
        depths: number of blocks.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    memory_layers: int = field(default=2, kw_only=True)

    ENCODER = "rep_vit"


KINDS: dict[str, type[Architecture]] = {
    kind.ENCODER: kind
    for kind in (
        VitArchitecture,
        TinyVitArchitecture,
        EfficientNetArchitecture,
        HieraArchitecture,
        RepVitArchitecture,
    )
}
"""By what ``to_dict`` calls them."""
