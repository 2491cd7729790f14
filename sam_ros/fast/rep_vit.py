"""RepViT, EdgeTAM's image encoder, computed faster than by the modules that hold its weights.

The result is that of ``RepVit.forward`` (sam_ros/core/rep_vit.py) and the neck behind it, up to rounding.
Every batch norm is part of the convolution before it, and the three branches of a token mixer, which all see
a surrounding of 3 x 3 at most, are one convolution. Channels come last.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ros.core.rep_vit import (
    Block,
    ChannelMixer,
    Downsample,
    SqueezeExcite,
    Stage,
    Stem,
    TokenMixer,
)
from sam_ros.core.sam2 import Sam2ImageEncoder
from sam_ros.fast.layers import Convolution, Layer, Step
from sam_ros.fast.pyramid import FastPyramid, State


def rep_vit_layers(encoder: Sam2ImageEncoder, dtype: torch.dtype, compile: bool = False) -> list[Step]:
    """The encoder as a list of steps, so that an encode can be cancelled between stages.

    The first takes (1, 3, S, S) float32 normalised pixels, the last returns (1, 4C, S/16, S/16) float32; what
    is between is their own affair.

    Args:
        encoder: holds the weights, on their device.
        dtype: of the convolutions.
        compile: compile the stages with torch.compile.
    """
    backbone: Any = encoder.backbone
    stages: list[Step] = [FastStage(stage, dtype) for stage in backbone.stages]
    if compile:
        stages = [torch.compile(stage, dynamic=False) for stage in stages]
    return [_Stem(backbone.stem, dtype), *stages, _ChannelsLast(), FastPyramid(encoder, dtype)]


def _mixing_tokens(mixer: TokenMixer, dtype: torch.dtype) -> Convolution:
    """All three branches as one convolution of 3 x 3."""
    weight, bias = mixer.conv.folded()
    centre, more = mixer.conv1.folded()
    weight = weight.clone()
    weight[:, :, 1, 1] += centre[:, :, 0, 0] + 1  # one is the branch that keeps the image
    return Convolution.made(weight, bias + more, dtype, groups=len(weight))


class _Stem:
    """(1, 3, S, S) float32 -> (1, D, S/4, S/4)."""

    def __init__(self, stem: Stem, dtype: torch.dtype) -> None:
        self.first, self.second = Convolution.of(stem.conv1, dtype), Convolution.of(stem.conv2, dtype)
        self.dtype = dtype

    def __call__(self, pixels: Tensor) -> State:
        x = pixels.to(self.dtype, memory_format=torch.channels_last)
        return (self.second(F.gelu(self.first(x))),)


class _FastChannelMixer:
    """What a perceptron over the channels adds to an image (1, D, h, w)."""

    def __init__(self, mixer: ChannelMixer, dtype: torch.dtype) -> None:
        self.first, self.second = Convolution.of(mixer.conv1, dtype), Convolution.of(mixer.conv2, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return self.second(F.gelu(self.first(x)))


class FastBlock:
    """``Block`` for one image: (1, D, h, w) -> the same."""

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        self.mix_tokens = _mixing_tokens(block.token_mixer, dtype)
        self.squeeze = _FastSqueeze(block.se, dtype) if isinstance(block.se, SqueezeExcite) else None
        self.mix_channels = _FastChannelMixer(block.channel_mixer, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.mix_tokens(x)
        if self.squeeze is not None:
            x = x * self.squeeze(x)
        return x + self.mix_channels(x)


class _FastSqueeze:
    """The weights (1, D, 1, 1) of an image's channels (1, D, h, w)."""

    def __init__(self, squeeze: SqueezeExcite, dtype: torch.dtype) -> None:
        self.first, self.second = _plain(squeeze.fc1, dtype), _plain(squeeze.fc2, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x.mean((2, 3), keepdim=True)))).sigmoid()


def _plain(layer: nn.Conv2d, dtype: torch.dtype) -> Convolution:
    return Convolution.made(layer.weight, layer.get_parameter("bias"), dtype)


class _FastDownsample:
    """(1, D, h, w) -> (1, D', h/2, w/2)."""

    def __init__(self, module: Downsample, dtype: torch.dtype) -> None:
        self.block = FastBlock(module.pre_block, dtype)
        self.spatial = Convolution.of(module.spatial_downsample, dtype)
        self.channels = Convolution.of(module.channel_downsample, dtype)
        self.mix_channels = _FastChannelMixer(module.ffn, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.channels(self.spatial(self.block(x)))
        return x + self.mix_channels(x)


class FastStage:
    """``Stage`` for one image; what it makes is kept for the neck."""

    def __init__(self, stage: Stage, dtype: torch.dtype) -> None:
        blocks: Any = stage.blocks
        self.layers: list[Layer] = [FastBlock(block, dtype) for block in blocks]
        if isinstance(stage.downsample, Downsample):
            self.layers.insert(0, _FastDownsample(stage.downsample, dtype))

    def __call__(self, state: State) -> State:
        """What the neck wants so far and the newest image, one stage further."""
        *kept, x = state
        for layer in self.layers:
            x = layer(x)
        return (*kept, x, x)


class _ChannelsLast:
    """(1, D, h, w) -> (1, h, w, D) of all that is kept, as the neck takes it; nothing is copied."""

    def __call__(self, state: State) -> State:
        return tuple(x.permute(0, 2, 3, 1) for x in state)
