"""SAM 2 and EdgeTAM: SAM's prompt encoder and decoder behind another image encoder, with a memory of frames.

Ravi et al., https://arxiv.org/abs/2408.00714; Zhou et al., https://arxiv.org/abs/2501.07256. The modules of
Hiera and of the memory are those of transformers, which is imported when such a model is built and never
earlier: everything else works without it.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling import PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

from sam_ros.core.architecture import (
    Architecture,
    HieraArchitecture,
    RepVitArchitecture,
    Sam2Architecture,
)
from sam_ros.core.efficientnet import DetailedMaskDecoder, Levels
from sam_ros.core.rep_vit import RepVit
from sam_ros.errors import SamRosError

NUM_STAGES = 4  # of both image encoders: the strides 4, 8, 16 and 32
LATENT_STRIDE = 64  # pixels of the input, in each direction, to one latent of EdgeTAM's memory
INSTALL = "pip install 'transformers>=5.24,<6'"


class Sam2(Sam):
    """A ``Sam`` whose ``memory`` finds its objects again on later frames.

    Attributes:
        memory: transformers' Sam2VideoModel or EdgeTamVideoModel, without what is ours.
    """

    def __init__(
        self,
        image_encoder: Sam2ImageEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: Sam2MaskDecoder,
        memory: nn.Module,
    ) -> None:
        super().__init__(image_encoder, prompt_encoder, mask_decoder)
        self.memory = memory

    def make_tables(self) -> None:
        """Compute what the memory holds beside its weights; files do not have it."""
        attention: Any = self.memory.memory_attention
        attention.rotary_emb = type(attention.rotary_emb)(attention.config)
        attention.position_ids = attention.precompute_positions(attention.config)
        if hasattr(attention, "position_ids_k"):
            attention.position_ids_k = attention.precompute_positions(attention.config, is_key=True)


class Sam2ImageEncoder(nn.Module):
    """Normalised pixels (B, 3, S, S) -> features (B, 4C, S/16, S/16), all float32, see ``Levels.packed``.

    Args:
        backbone: pixels -> the strides 4, 8, 16 and 32.
        inputs: channels of each of these.
        architecture: for the rest.
    """

    def __init__(self, backbone: nn.Module, inputs: list[int], architecture: Sam2Architecture) -> None:
        super().__init__()
        channels = architecture.prompt_embed_dim
        self.img_size = architecture.image_size  # segment_anything's name for it
        self.backbone = backbone
        self.neck = nn.ModuleList(nn.Conv2d(each, channels, 1) for each in reversed(inputs))
        self.eighth = nn.Conv2d(channels, channels // 4, 1)
        self.quarter = nn.Conv2d(channels, channels // 8, 1)
        self.no_memory = nn.Parameter(torch.zeros(1, 1, channels))

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        quarter, eighth, sixteenth, coarsest = self._strides(pixels)
        neck = self.neck
        coarse = F.interpolate(neck[0](coarsest), scale_factor=2.0, mode="nearest")
        embedding = neck[1](sixteenth) + coarse + self.no_memory.view(1, -1, 1, 1)
        return Levels(embedding, self.eighth(neck[2](eighth)), self.quarter(neck[3](quarter))).packed()

    def _strides(self, pixels: Tensor) -> list[Tensor]:
        """(B, inputs[i], S / stride, S / stride) of each stride."""
        strides = self.backbone(pixels)
        if isinstance(self.backbone, RepVit):
            return list(strides)
        return [x.permute(0, 3, 1, 2) for x in strides.intermediate_hidden_states]


class Sam2MaskDecoder(DetailedMaskDecoder):
    """SAM's mask decoder with a token that tells whether the object is there at all.

    It comes behind the others, so that these keep their places.

    Args:
        architecture: of the model.
    """

    def __init__(self, architecture: Sam2Architecture) -> None:
        channels = architecture.prompt_embed_dim
        super().__init__(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=channels, mlp_dim=architecture.decoder_mlp_dim, num_heads=8
            ),
            transformer_dim=channels,
        )
        hidden = architecture.iou_head_hidden_dim
        self.iou_prediction_head = MLP(channels, hidden, self.num_mask_tokens, 3, sigmoid_output=True)
        self.obj_score_token = nn.Embedding(1, channels)
        self.pred_obj_score_head = MLP(channels, channels, 1, 3)

    def output_tokens(self) -> Tensor:
        """(6, C): of the predicted IoU, of the four masks, and of whether the object is there."""
        return torch.cat([super().output_tokens(), self.obj_score_token.weight])


def build_sam2(architecture: Sam2Architecture) -> Sam2:
    """A randomly initialised ``Sam2`` in evaluation mode, on torch's default device.

    Raises:
        SamRosError: transformers is not installed.
        TypeError: no image encoder is known for this kind of architecture.
    """
    side = architecture.image_size // Architecture.STRIDE
    sam = Sam2(
        _image_encoder(architecture),
        PromptEncoder(
            embed_dim=architecture.prompt_embed_dim,
            image_embedding_size=(side, side),
            input_image_size=(architecture.image_size, architecture.image_size),
            mask_in_chans=16,
        ),
        Sam2MaskDecoder(architecture),
        _memory(architecture),
    )
    return sam.eval()


def _transformers() -> Any:
    """The package; who needs none of its models need not have it."""
    # We give it configurations and weights of our own: whatever it would fetch, it is not to.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
        from transformers import EdgeTamVideoModel, Sam2VideoModel  # noqa: F401 they are loaded when asked for
    except ImportError as error:
        raise SamRosError(
            f"SAM 2 and EdgeTAM need transformers, on Python 3.11 or later: {INSTALL} ({error})"
        ) from error
    return transformers


def _image_encoder(architecture: Sam2Architecture) -> Sam2ImageEncoder:
    if isinstance(architecture, HieraArchitecture):
        widths = _doubling(architecture.embed_dim)
        return Sam2ImageEncoder(_hiera(architecture), widths, architecture)
    if isinstance(architecture, RepVitArchitecture):
        rep_vit = RepVit(architecture.embed_dims, architecture.depths)
        return Sam2ImageEncoder(rep_vit, [*architecture.embed_dims], architecture)
    raise TypeError(f"no image encoder is known for {type(architecture).__name__}")


def _doubling(first: int) -> list[int]:
    """What every stage of Hiera has twice as much of as the one before."""
    return [first << stage for stage in range(NUM_STAGES)]


def _hiera(architecture: HieraArchitecture) -> nn.Module:
    transformers = _transformers()
    config = transformers.Sam2HieraDetConfig(
        hidden_size=architecture.embed_dim,
        num_attention_heads=architecture.num_heads,
        image_size=[architecture.image_size, architecture.image_size],
        window_positional_embedding_background_size=list(architecture.background_size),
        blocks_per_stage=list(architecture.depths),
        embed_dim_per_stage=_doubling(architecture.embed_dim),
        num_attention_heads_per_stage=_doubling(architecture.num_heads),
        window_size_per_stage=list(architecture.window_sizes),
        global_attention_blocks=list(architecture.global_attn_indexes),
    )
    return transformers.Sam2HieraDetModel(config)


def _memory(architecture: Sam2Architecture) -> nn.Module:
    """What a model of transformers has beside the image encoder, the prompt encoder and the mask decoder."""
    memory = _video_model(architecture)
    for ours in ("vision_encoder", "prompt_encoder", "mask_decoder", "shared_image_embedding"):
        delattr(memory, ours)
    delattr(memory, "no_memory_embedding")  # which the image encoder adds
    return memory


def _video_model(architecture: Sam2Architecture) -> nn.Module:
    transformers = _transformers()
    channels, side = architecture.prompt_embed_dim, architecture.image_size // Architecture.STRIDE
    sizes: dict[str, Any] = {
        "image_size": architecture.image_size,
        "vision_config": transformers.Sam2VisionConfig(
            fpn_hidden_size=channels, backbone_feature_sizes=[[4 * side] * 2, [2 * side] * 2, [side] * 2]
        ),
        "memory_attention_hidden_size": channels,
        "memory_attention_num_layers": architecture.memory_layers,
        "memory_attention_rope_feat_sizes": [side, side],
        "memory_encoder_hidden_size": channels,
        "mask_downsampler_embed_dim": channels,
        "memory_fuser_embed_dim": channels,
        "memory_fuser_intermediate_dim": 4 * channels,
    }
    if isinstance(architecture, RepVitArchitecture):
        latents = architecture.image_size // LATENT_STRIDE
        return transformers.EdgeTamVideoModel(
            transformers.EdgeTamVideoConfig(
                **sizes,
                memory_attention_mlp_hidden_size=architecture.memory_mlp_dim,
                memory_attention_rope_k_sizes=[latents, latents],
                perceiver_resampler_num_latents=latents**2,
                perceiver_resampler_num_latents_2d=latents**2,
                enable_temporal_pos_encoding_for_object_pointers=False,
                enable_occlusion_spatial_embedding=False,
            )
        )
    return transformers.Sam2VideoModel(
        transformers.Sam2VideoConfig(
            **sizes, memory_attention_feed_forward_hidden_size=architecture.memory_mlp_dim
        )
    )
