"""RepViT, EdgeTAM's image encoder, as plainly as can be: its keys are those of the published file.

Wang et al., https://arxiv.org/abs/2307.09283; timm's ``repvit_m1``, whose batch norms and branches
``sam_ros/fast/rep_vit.py`` folds into one convolution each.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sam_ros.core.conv_norm import ConvNorm

EXPANSION = 2  # of the hidden channels of a channel mixer
SQUEEZE = 4  # so many times fewer channels within squeeze-and-excitation, in multiples of
SQUEEZE_DIVISOR = 8


class TokenMixer(nn.Module):
    """(B, C, h, w) -> (B, C, h, w): every channel looks at its surrounding, by three branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, channels, 3, groups=channels)
        self.conv1 = ConvNorm(channels, channels, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.conv(x) + self.conv1(x) + x


class SqueezeExcite(nn.Module):
    """(B, C, h, w) -> (B, C, h, w): channels weighted by what all of the image holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        fewer = int(channels / SQUEEZE + SQUEEZE_DIVISOR / 2) // SQUEEZE_DIVISOR * SQUEEZE_DIVISOR
        fewer = max(SQUEEZE_DIVISOR, fewer)
        self.fc1 = nn.Conv2d(channels, fewer, 1)
        self.fc2 = nn.Conv2d(fewer, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class ChannelMixer(nn.Module):
    """(B, C, h, w) -> (B, C, h, w): a perceptron over the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, EXPANSION * channels)
        self.conv2 = ConvNorm(EXPANSION * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.conv2(F.gelu(self.conv1(x)))


class Block(nn.Module):
    """(B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int, *, has_squeeze: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(channels)
        self.se = SqueezeExcite(channels) if has_squeeze else nn.Identity()
        self.channel_mixer = ChannelMixer(channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.se(self.token_mixer(x))
        return x + self.channel_mixer(x)


class Downsample(nn.Module):
    """(B, C, h, w) -> (B, C', h/2, w/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pre_block = Block(inputs, has_squeeze=False)
        self.spatial_downsample = ConvNorm(inputs, inputs, 3, 2, groups=inputs)
        self.channel_downsample = ConvNorm(inputs, outputs)
        self.ffn = ChannelMixer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        return x + self.ffn(x)


class Stem(nn.Module):
    """Pixels (B, 3, S, S) -> (B, C, S/4, S/4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, channels // 2, 3, 2)
        self.conv2 = ConvNorm(channels // 2, channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.conv2(F.gelu(self.conv1(x)))


class Stage(nn.Module):
    """(B, C, h, w) -> (B, C', h', w'); all stages but the first begin by halving the image."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.downsample = Downsample(inputs, outputs) if inputs != outputs else nn.Identity()
        self.blocks = nn.Sequential(*(Block(outputs, has_squeeze=i % 2 == 0) for i in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.blocks(self.downsample(x))


class RepVit(nn.Module):
    """Normalised pixels (B, 3, S, S) -> (B, C, S/stride, S/stride) of the strides 4, 8, 16 and 32.

    Args:
        embed_dims: C of each stride.
        depths: number of blocks of each.
    """

    def __init__(self, embed_dims: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = Stem(embed_dims[0])
        inputs = (embed_dims[0], *embed_dims)
        self.stages = nn.ModuleList(map(Stage, inputs, embed_dims, depths))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See the class."""
        x, strides = self.stem(pixels), []
        for stage in self.stages:
            x = stage(x)
            strides.append(x)
        return strides
