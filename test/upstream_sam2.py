"""SAM 2's own code (rf-sam-2), EdgeTAM's (edgetam-dimos) and transformers' as oracles.

Tests skip where they are missing. Both of the first are a package ``sam2``: one at a time.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from random_models import see_a_picture
from torch import Tensor, nn

from sam_ros.core.rep_vit import RepVit
from sam_ros.core.sam2 import Sam2, Sam2ImageEncoder
from sam_ros.prompt import Prompt

OFFICIAL_CONFIGS = {
    "sam2.1_tiny": "configs/sam2.1/sam2.1_hiera_t.yaml",
    "sam2.1_small": "configs/sam2.1/sam2.1_hiera_s.yaml",
    "sam2.1_base_plus": "configs/sam2.1/sam2.1_hiera_b+.yaml",
    "sam2.1_large": "configs/sam2.1/sam2.1_hiera_l.yaml",
    "edgetam": "configs/edgetam.yaml",
}

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="needs transformers, see standalone/requirements.in",
)


def _package() -> str:
    """Which package is called sam2 here."""
    spec = importlib.util.find_spec("sam2")
    if spec is None or spec.origin is None:
        return ""
    return "edgetam-dimos" if Path(spec.origin).with_name("edgetam.yaml").exists() else "rf-sam-2"


def needed_for(model_type: str) -> str:
    """The package with a model's own code."""
    return "edgetam-dimos" if model_type == "edgetam" else "rf-sam-2"


def needs_own_code(model_type: str) -> Any:
    """A test's parameter: a model, skipped where its own code is missing."""
    package = needed_for(model_type)
    mark = pytest.mark.skipif(_package() != package, reason=f"needs {package} as the package sam2")
    return pytest.param(model_type, marks=[mark, needs_transformers])


def build_official(model_type: str) -> Any:
    """A model as its own code builds it, with the weights that it begins with, on torch's default device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sam2.build_sam

        if model_type == "edgetam":  # its image encoder is timm's, which would be downloaded
            import sam2.modeling.backbones.timm as backbones

            backbones.create_model = _create_untrained
        with pytest.MonkeyPatch.context() as patch:  # Hiera reads numbers from a tensor while it is built
            patch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
            device = torch.get_default_device().type
            return sam2.build_sam.build_sam2(OFFICIAL_CONFIGS[model_type], device=device)


def _create_untrained(*arguments: Any, pretrained: bool, **options: Any) -> Any:  # noqa: ARG001
    import timm

    return timm.create_model(*arguments, pretrained=False, **options)


def save_random_official(model_type: str, path: Path, seed: int = 0) -> Any:
    """Save a random model as the published files are saved; its own code's image predictor of it."""
    torch.manual_seed(seed)
    model = build_official(model_type).requires_grad_(False)
    for name, tensor in model.named_parameters():
        if tensor.ndim < 2 or "embed" in name or "pos" in name:
            tensor.add_(torch.randn_like(tensor) * 0.05)
        if re.search(r"output_hypernetworks_mlps\.\d\.layers\.2\.weight", name):
            tensor.mul_(30)  # logits as large as trained ones
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        see_a_picture(model.image_encoder, model.image_size, norms)
    torch.save({"model": model.state_dict()}, path)
    with warnings.catch_warnings():  # torch deprecates what its transforms do
        warnings.simplefilter("ignore")
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        return SAM2ImagePredictor(model)


# transformers


def as_video_model(sam: Sam2) -> Any:
    """The whole model of transformers, its own encoder and decoder included, with the weights of ours."""
    import transformers

    memory: Any = sam.memory
    backbone, config, channels = sam.image_encoder.backbone, memory.config, sam.prompt_encoder.embed_dim
    values = config.to_dict() | {
        "vision_config": transformers.Sam2VisionConfig(
            backbone_config=backbone.config,
            backbone_channel_list=backbone.config.embed_dim_per_stage[::-1],
            fpn_hidden_size=channels,
            backbone_feature_sizes=config.vision_config.backbone_feature_sizes,
        ),
        "prompt_encoder_config": {"hidden_size": channels, "image_size": sam.image_encoder.img_size},
        "mask_decoder_config": _decoder_sizes(sam),
    }
    model = transformers.Sam2VideoModel(transformers.Sam2VideoConfig(**values)).eval()
    model.load_state_dict(transformers_names(sam.state_dict()))
    return model.requires_grad_(False)


def _decoder_sizes(sam: Sam2) -> dict[str, int]:
    return {
        "hidden_size": sam.prompt_encoder.embed_dim,
        "mlp_dim": sam.mask_decoder.transformer.layers[0].mlp.lin1.out_features,
        "iou_head_hidden_dim": sam.mask_decoder.iou_prediction_head.layers[0].out_features,
    }


TRANSFORMERS_RENAMED = (
    (r"^memory\.", ""),
    (r"^image_encoder\.no_memory$", "no_memory_embedding"),
    (r"^image_encoder\.quarter\.", "mask_decoder.conv_s0."),
    (r"^image_encoder\.eighth\.", "mask_decoder.conv_s1."),
    (r"^image_encoder\.neck\.", "vision_encoder.neck.convs."),
    (r"^image_encoder\.backbone\.", "vision_encoder.backbone."),
    (r"pe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"^(mask_decoder)\.output_upscaling\.0\.", r"\1.upscale_conv1."),
    (r"^(mask_decoder)\.output_upscaling\.1\.", r"\1.upscale_layer_norm."),
    (r"^(mask_decoder)\.output_upscaling\.3\.", r"\1.upscale_conv2."),
    (r"^(mask_decoder\.(?:iou|output|pred).*)\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.(?:iou|output|pred).*)\.layers\.1\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?:iou|output|pred).*)\.layers\.2\.", r"\1.proj_out."),
    (r"^(mask_decoder\.transformer\..*)norm(\d|_final_attn)\.", r"\1layer_norm\2."),
    (r"^(mask_decoder\.transformer\..*)\.out_proj\.", r"\1.o_proj."),
    (r"^(mask_decoder\.transformer\..*)\.lin1\.", r"\1.proj_in."),
    (r"^(mask_decoder\.transformer\..*)\.lin2\.", r"\1.proj_out."),
)


def transformers_names(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a ``Sam2`` by the names of transformers' whole model."""
    theirs: dict[str, Tensor] = {}
    points: list[Tensor] = []
    for name, tensor in ours.items():
        if ".point_embeddings." in name:
            points.append(tensor)
            continue
        for pattern, replacement in TRANSFORMERS_RENAMED:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901
        theirs[name] = tensor
    positions = theirs["prompt_encoder.shared_embedding.positional_embedding"]
    theirs["shared_image_embedding.positional_embedding"] = positions
    theirs["prompt_encoder.point_embed.weight"] = torch.cat(points)
    return theirs


Prompts = dict[int, Prompt]
"""Of each object that is prompted on a frame."""


def as_session(sam: Sam2) -> tuple[Any, Any]:
    """A whole model of transformers with the weights of ours, and a streaming session with it."""
    import transformers
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    if isinstance(sam.image_encoder.backbone, RepVit):
        model = _edgetam_video_model(sam, transformers)
    else:
        model = as_video_model(sam)
        model._batch_encode_memories = _one_by_one(model._batch_encode_memories)
    return model, Sam2VideoInferenceSession(dtype=torch.float32)


def _one_by_one(encode: Any) -> Any:
    """Where one object was prompted, transformers remembers all of a frame sharply; sam2's code does not."""

    def encode_one_by_one(inference_session: Any, frame_idx: int, **of_objects: list[Any]) -> None:
        for index in range(len(of_objects["objects_needing_memory_encoding"])):
            some = {name: values[index : index + 1] for name, values in of_objects.items()}
            encode(inference_session=inference_session, frame_idx=frame_idx, **some)

    return encode_one_by_one


class _VisionEncoder(nn.Module):
    """Our image encoder as transformers asks one: its own EdgeTAM needs a newer timm."""

    def __init__(self, encoder: Sam2ImageEncoder, positions: Any) -> None:
        super().__init__()
        self.encoder, self.positions = encoder, positions

    def forward(self, pixels: Tensor, **_: Any) -> Any:
        quarter, eighth, sixteenth, coarsest = self.encoder._strides(pixels)
        neck: Any = self.encoder.neck
        coarse = nn.functional.interpolate(neck[0](coarsest), scale_factor=2.0, mode="nearest")
        levels = [neck[3](quarter), neck[2](eighth), neck[1](sixteenth) + coarse]
        where = [self.positions(level.shape, level.device, level.dtype) for level in levels]
        return SimpleNamespace(fpn_hidden_states=levels, fpn_position_encoding=where)


def _edgetam_video_model(sam: Sam2, transformers: Any) -> Any:
    memory: Any = sam.memory
    channels = sam.prompt_encoder.embed_dim
    values = memory.config.to_dict() | {
        "vision_config": memory.config.vision_config,
        "prompt_encoder_config": {"hidden_size": channels, "image_size": sam.image_encoder.img_size},
        "mask_decoder_config": _decoder_sizes(sam),
    }
    model = transformers.EdgeTamVideoModel(transformers.EdgeTamVideoConfig(**values)).eval()
    names = transformers_names(sam.state_dict())
    del model.vision_encoder
    model.load_state_dict({name: it for name, it in names.items() if not name.startswith("vision_encoder.")})
    positions = type(model.memory_encoder.position_encoding)(channels // 2, normalize=True)
    model.vision_encoder = _VisionEncoder(sam.image_encoder, positions)
    return model.requires_grad_(False)


def prompt_session(
    model: Any, session: Any, pixels: Tensor, prompts: Prompts, scale_xy: Any
) -> dict[int, Any]:
    """The logits (S/4, S/4) of all objects on a session's next frame, (3, S, S) as the model takes it."""
    number = session.num_frames or 0
    for one, prompt in prompts.items():
        coords, labels = [np.empty((0, 2))], [np.empty(0, np.int64)]
        if prompt.box is not None:
            coords.append(prompt.box.reshape(2, 2) * scale_xy)
            labels.append(np.array([2, 3]))
        if prompt.point_coords is not None and prompt.point_labels is not None:
            coords.append(prompt.point_coords * scale_xy)
            labels.append(prompt.point_labels)
        inputs = {
            "point_coords": torch.tensor(np.concatenate(coords), dtype=torch.float32)[None, None],
            "point_labels": torch.tensor(np.concatenate(labels))[None, None],
        }
        session.add_point_inputs(session.obj_id_to_idx(one), number, inputs)
    session.obj_with_new_inputs = list(prompts)
    with torch.inference_mode():
        output = model(session, frame=pixels)
    return {one: logits[0].numpy() for one, logits in zip(output.object_ids, output.pred_masks, strict=True)}
