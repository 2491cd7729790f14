"""What a run begins with: a backbone that has seen ImageNet, and the decoder of an earlier sam_tiny."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from segment_anything.modeling import Sam
from torch import Tensor, nn

from sam_ros.core.efficientnet import ConvNorm, EfficientNetEncoder, Neck
from sam_ros.core.model import PIXEL_MEAN, PIXEL_STD

TENSORFLOW_MEAN, TENSORFLOW_STD = 127.0, 128.0  # of pixels, for EfficientNet-Lite
NECK_STD = 0.02  # of the initial weights of its blocks
NOT_USED = ("_conv_head.", "_bn1.", "_fc.", "num_batches_tracked")  # of the classifier


def load_backbone(encoder: EfficientNetEncoder, path: Path) -> None:
    """Take the backbone from a state dict of efficientnet_lite_pytorch, a .pth file of its model packages.

    Both lists hold the layers in the order in which they are computed.

    Raises:
        ValueError: the file is of another size of EfficientNet-Lite.
    """
    stored = torch.load(path, "cpu", weights_only=True)
    tensors = [t for name, t in stored.items() if not (name.startswith(NOT_USED[:3]) or NOT_USED[3] in name)]
    wanted = [t for module in _layers(encoder) for t in _tensors(module)]
    if [t.shape for t in tensors] != [t.shape for t in wanted]:
        raise ValueError(f"{path} is of another size than the encoder")
    with torch.no_grad():
        for parameter, tensor in zip(wanted, tensors, strict=True):
            parameter.copy_(tensor)
        _renormalise(encoder.stem)


def _layers(encoder: EfficientNetEncoder) -> list[ConvNorm]:
    return [module for module in encoder.modules() if isinstance(module, ConvNorm)]


def _tensors(layer: ConvNorm) -> list[Tensor]:
    norm = layer.norm
    return [layer.conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var]


def _renormalise(stem: ConvNorm) -> None:
    """Let the stem take pixels normalised as SAM's; it was trained on (x * std + mean - 127) / 128."""
    scale = torch.tensor(PIXEL_STD) / TENSORFLOW_STD  # (3,)
    shift = (torch.tensor(PIXEL_MEAN) - TENSORFLOW_MEAN) / TENSORFLOW_STD
    stem.norm.running_mean -= (stem.conv.weight * shift[:, None, None]).sum((1, 2, 3))
    stem.conv.weight *= scale[:, None, None]


def initialise_neck(neck: Neck) -> None:
    """Blocks that hardly change anything, and finer levels that are zero: the decoder is not disturbed."""
    with torch.no_grad():
        for module in neck.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=NECK_STD)
                nn.init.zeros_(module.bias)
        for layer in (neck.eighth, neck.quarter):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))


def load_decoder(sam: Sam, path: Path) -> None:
    """Take the prompt encoder and mask decoder of an exported file, and the norm that ends its encoder."""
    stored = {name: tensor.float() for name, tensor in load_file(path).items()}
    for part in ("prompt_encoder", "mask_decoder"):
        weights = {
            name.removeprefix(f"{part}."): tensor for name, tensor in stored.items() if name.startswith(part)
        }
        getattr(sam, part).load_state_dict(weights)
    norm = sam.image_encoder.neck.norm
    if "image_encoder.neck.3.weight" in stored:  # of a ViT
        with torch.no_grad():
            norm.weight.copy_(stored["image_encoder.neck.3.weight"])
            norm.bias.copy_(stored["image_encoder.neck.3.bias"])
