"""The names of weights in the published files of SAM 2 and EdgeTAM, and what ``Sam2`` calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

# Applied to every name one after the other, where they match.
RENAMED: tuple[tuple[str, str], ...] = (
    # SAM's own parts, whose classes here are segment_anything's.
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.conv_s0\.", "image_encoder.quarter."),
    (r"^sam_mask_decoder\.conv_s1\.", "image_encoder.eighth."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"\1.lin1."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"\1.lin2."),
    # The image encoder: Hiera's class is transformers', RepViT's is ours.
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"image_encoder.neck.\1."),
    (r"^image_encoder\.trunk\.body\.stages_(\d+)\.", r"image_encoder.backbone.stages.\1."),
    (r"^image_encoder\.trunk\.body\.", "image_encoder.backbone."),
    (r"^image_encoder\.trunk\.", "image_encoder.backbone."),
    (r"^(image_encoder\.backbone\.patch_embed)\.proj\.", r"\1.projection."),
    (r"^(image_encoder\.backbone\.blocks\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^(image_encoder\.backbone\.blocks\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"^(image_encoder\.backbone\.blocks\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
    (r"^no_mem_embed$", "image_encoder.no_memory"),
    # The memory, whose classes are transformers'.
    (r"^no_mem_pos_enc$", "memory.no_memory_positional_encoding"),
    (r"^maskmem_tpos_enc$", "memory.memory_temporal_positional_encoding"),
    (r"^no_obj_ptr$", "memory.no_object_pointer"),
    (r"^no_obj_embed_spatial$", "memory.occlusion_spatial_embedding_parameter"),
    (r"^mask_downsample\.", "memory.mask_downsample."),
    (r"^obj_ptr_tpos_proj\.", "memory.temporal_positional_encoding_projection_layer."),
    (r"^obj_ptr_proj\.layers\.0\.", "memory.object_pointer_proj.proj_in."),
    (r"^obj_ptr_proj\.layers\.1\.", "memory.object_pointer_proj.layers.0."),
    (r"^obj_ptr_proj\.layers\.2\.", "memory.object_pointer_proj.proj_out."),
    (r"^memory_attention\.norm\.", "memory.memory_attention.layer_norm."),
    (r"^memory_attention\.(layers\.\d+)\.norm(\d)\.", r"memory.memory_attention.\1.layer_norm\2."),
    (r"^memory_attention\.(layers\.\d+\.\w+)\.out_proj\.", r"memory.memory_attention.\1.o_proj."),
    (r"^memory_attention\.", "memory.memory_attention."),
    (r"^memory_encoder\.out_proj\.", "memory.memory_encoder.projection."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory.memory_encoder.feature_projection."),
    (r"^memory_encoder\.fuser\.", "memory.memory_encoder.memory_fuser."),
    (r"^(memory\.memory_encoder\.memory_fuser\.layers\.\d+)\.dwconv\.", r"\1.depthwise_conv."),
    (r"^(memory\.memory_encoder\.memory_fuser\.layers\.\d+)\.norm\.", r"\1.layer_norm."),
    (r"^(memory\.memory_encoder\.memory_fuser\.layers\.\d+)\.pwconv(\d)\.", r"\1.pointwise_conv\2."),
    (r"^(memory\.memory_encoder\.memory_fuser\.layers\.\d+)\.gamma$", r"\1.scale"),
    *(  # a convolution, its norm and an activation for each layer
        (
            rf"^memory_encoder\.mask_downsampler\.encoder\.{3 * layer + place}\.",
            f"memory.memory_encoder.mask_downsampler.layers.{layer}.{part}.",
        )
        for layer in range(4)
        for place, part in enumerate(("conv", "layer_norm"))
    ),
    (
        r"^memory_encoder\.mask_downsampler\.encoder\.12\.",
        "memory.memory_encoder.mask_downsampler.final_conv.",
    ),
)

# EdgeTAM's: the attention's perceptron, and what transformers has elsewhere within the perceiver.
EDGETAM_RENAMED: tuple[tuple[str, str], ...] = (
    (r"^(memory\.memory_attention\.layers\.\d+)\.linear1\.", r"\1.mlp.up_proj."),
    (r"^(memory\.memory_attention\.layers\.\d+)\.linear2\.", r"\1.mlp.down_proj."),
    (r"^spatial_perceiver\.latents$", "memory.spatial_perceiver.latents_1d"),
    (r"^spatial_perceiver\.norm\.", "memory.spatial_perceiver.layer_norm."),
    (r"^spatial_perceiver\.", "memory.spatial_perceiver."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+)\.attn\.norm_x\.", r"\1.layer_norm_input."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+)\.attn\.norm_latents\.", r"\1.layer_norm_latents."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+)\.self_attn\.norm\.", r"\1.layer_norm_self."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+)\.attn\.", r"\1.cross_attention."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+)\.self_attn\.", r"\1.self_attention."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+\.\w+_attention)\.to_q\.", r"\1.q_proj."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+\.\w+_attention)\.to_out\.", r"\1.o_proj."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+)\.ff\.", r"\1.mlp."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+)\.self_ff\.", r"\1.self_mlp."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+\.\w*mlp)\.0\.", r"\1.layer_norm."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+\.\w*mlp)\.1\.", r"\1.up_proj."),
    (r"^(memory\.spatial_perceiver\.layers\.\d+\.\w*mlp)\.3\.", r"\1.down_proj."),
)

# One projection in the published file, two in the module, one after the other.
KEYS_AND_VALUES = re.compile(r"(.*_attention)\.to_kv\.weight")


def with_our_names(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a published file by the names of ``Sam2``; unknown names stay as they are."""
    is_edgetam = any(name.startswith("spatial_perceiver.") for name in official)
    table = (*RENAMED, *EDGETAM_RENAMED) if is_edgetam else RENAMED
    renamed: dict[str, Tensor] = {}
    for name, tensor in official.items():
        ours = _our_name(name, table)
        both = KEYS_AND_VALUES.fullmatch(ours)
        if both is None:
            renamed[ours] = tensor
        else:
            halves = zip(("k_proj", "v_proj"), tensor.chunk(2), strict=True)
            renamed.update({f"{both[1]}.{half}.weight": part for half, part in halves})
    return renamed


def _our_name(official: str, table: Iterable[tuple[str, str]]) -> str:
    name = official
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name
