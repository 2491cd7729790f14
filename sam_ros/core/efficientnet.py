"""EfficientNet-Lite as the image encoder of a SAM, with fine detail for the decoder, as plainly as can be.

The backbone is EfficientNet-Lite (Tan and Le, https://arxiv.org/abs/1905.11946; the Lite variants are
TensorFlow's, without squeeze-and-excitation and with ReLU6): few parameters, and convolutions alone. Its
strides of 4, 8, 16 and 32 are brought together at SAM's stride of 16. Its strides of 4 and 8 also reach the
decoder directly, where it upscales, as in SAM 2 (https://arxiv.org/abs/2408.00714): borders are found there.

``sam_ros/fast/efficientnet.py`` computes the same faster.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from sam_ros.core.architecture import EfficientNetArchitecture

STEM_CHANNELS = 32
NORM_EPS = 1e-3  # of the batch norms
LEVELS = (1, 2, 4, 6)  # the stages that end the strides 4, 8, 16 and 32
NECK_KERNEL = 7
NECK_EXPANSION = 4
PACKED = 4  # features have so many times the channels of the embedding


class StageSize(NamedTuple):
    """Of a stage of the backbone; the first of its blocks has the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


LITE0 = (
    StageSize(3, 1, 1, 16, 1),
    StageSize(3, 2, 6, 24, 2),
    StageSize(5, 2, 6, 40, 2),
    StageSize(3, 2, 6, 80, 3),
    StageSize(5, 1, 6, 112, 3),
    StageSize(5, 2, 6, 192, 4),
    StageSize(3, 1, 6, 320, 1),
)


def stage_sizes(architecture: EfficientNetArchitecture) -> list[StageSize]:
    """Of each stage of a backbone; the first and the last have one block in all sizes."""
    wide = [size._replace(channels=_widened(size.channels, architecture.width)) for size in LITE0]
    first, *middle, last = wide
    return [
        first,
        *(size._replace(blocks=math.ceil(architecture.depth * size.blocks)) for size in middle),
        last,
    ]


def _widened(channels: int, width: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` next to ``width`` times the channels, at most a tenth below it."""
    wanted = channels * width
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * wanted else rounded + divisor


class Levels(NamedTuple):
    """What the encoder makes of B images; h = w = S/16.

    Attributes:
        embedding: (B, C, h, w), what prompts attend to.
        eighth: (B, C/4, 2h, 2w), added where the decoder has upscaled once.
        quarter: (B, C/8, 4h, 4w), added where it has upscaled twice.
    """

    embedding: Tensor
    eighth: Tensor
    quarter: Tensor

    def packed(self) -> Tensor:
        """(B, 4C, h, w): one tensor, as ``SamPredictor`` keeps one for each image."""
        cells = [F.pixel_unshuffle(self.eighth, 2), F.pixel_unshuffle(self.quarter, 4)]
        return torch.cat([self.embedding, *cells], 1)


def unpacked(features: Tensor) -> Levels:
    """The inverse of ``Levels.packed``."""
    channels = features.shape[1] // PACKED
    embedding, eighth, quarter = torch.split(features, [channels, channels, 2 * channels], 1)
    return Levels(embedding, F.pixel_shuffle(eighth, 2), F.pixel_shuffle(quarter, 4))


class EfficientNetEncoder(nn.Module):
    """Normalised pixels (B, 3, S, S) -> features (B, 4C, S/16, S/16), all float32, see ``Levels.packed``."""

    def __init__(self, architecture: EfficientNetArchitecture) -> None:
        super().__init__()
        self.img_size = architecture.image_size  # segment_anything's name for it
        self.stem = ConvNorm(3, STEM_CHANNELS, kernel=3, stride=2)
        sizes = stage_sizes(architecture)
        inputs = [STEM_CHANNELS, *(size.channels for size in sizes)]
        self.stages = nn.ModuleList(map(_stage, inputs, sizes))
        inputs = [sizes[index].channels for index in LEVELS]
        self.neck = Neck(inputs, architecture.prompt_embed_dim, architecture.neck_blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return self.levels(pixels).packed()

    def levels(self, pixels: Tensor) -> Levels:
        """The three levels, before they are packed."""
        x = self.stem(pixels)  # (B, 32, S/2, S/2)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        levels: Levels = self.neck([outputs[index] for index in LEVELS])
        return levels


def _stage(channels: int, size: StageSize) -> nn.Sequential:
    """Its blocks, the first from so many channels."""
    kernel, stride, expansion, out, count = size
    first = Block(channels, out, kernel, stride, expansion)
    return nn.Sequential(first, *(Block(out, out, kernel, 1, expansion) for _ in range(count - 1)))


class Block(nn.Module):
    """An inverted residual: expand, filter each channel, project; what came in is added where it fits."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = ConvNorm(channels, inner) if expansion > 1 else None
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, out, is_active=False)
        self.is_residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H/stride, W/stride)."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.is_residual else y


class FrozenNorm(nn.Module):
    """What a batch norm of so many channels knows; its statistics are of its pretraining and never change."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(channels,) each: the norm of x is scale * x + shift."""
        scale = self.weight * (self.running_var + NORM_EPS).rsqrt()
        return scale, self.bias - self.running_mean * scale


class ConvNorm(nn.Module):
    """A convolution, a batch norm, and ReLU6 where ``is_active``."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        is_active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, groups=groups, bias=False)
        self.norm = FrozenNorm(out)
        self.is_active = is_active

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H/stride, W/stride)."""
        weight, bias = self.folded()
        conv = self.conv
        with _exactly_if(conv.groups > 1 and x.device.type == "cpu"):
            x = _padded(x, conv).to(weight.dtype)
            x = F.conv2d(x, weight, bias, conv.stride, 0, 1, conv.groups)
        return F.relu6(x, inplace=True) if self.is_active else x

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (out, in / groups, k, k) and bias (out,) of the one convolution that computes both."""
        scale, shift = self.norm.scale_and_shift()
        return self.conv.weight * scale[:, None, None, None], shift


def _exactly_if(is_exact: bool) -> AbstractContextManager[object]:
    """No autocast: a CPU learns depthwise convolutions in bfloat16 at half the speed of float32."""
    return torch.autocast("cpu", enabled=False) if is_exact else nullcontext()


def _padded(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Zeros around an image as TensorFlow's "SAME" has them: where they do not halve, more come last."""
    before, after = padding(conv)
    return F.pad(x, [before, after, before, after]) if after else x


def padding(conv: nn.Conv2d) -> tuple[int, int]:
    """Zeros before and after each side of an image whose side is a multiple of the stride."""
    both = conv.kernel_size[0] - conv.stride[0]
    return both // 2, both - both // 2


class Neck(nn.Module):
    """The strides 4, 8, 16 and 32 of a backbone -> ``Levels``.

    Args:
        inputs: channels at each of these strides.
        channels: C of the embedding.
        blocks: how many.
    """

    def __init__(self, inputs: list[int], channels: int, blocks: int) -> None:
        super().__init__()
        quarter, eighth, sixteenth, coarsest = inputs
        self.coarsest = nn.Conv2d(coarsest, channels, 1)
        self.merge = nn.Conv2d(16 * quarter + 4 * eighth + sixteenth + channels, channels, 1)
        self.blocks = nn.ModuleList(NeckBlock(channels) for _ in range(blocks))
        self.norm = LayerNorm2d(channels)
        self.eighth = nn.Conv2d(eighth, channels // 4, 1)
        self.quarter = nn.Conv2d(quarter, channels // 8, 1)

    def forward(self, inputs: list[Tensor]) -> Levels:
        """From (B, inputs[i], S / stride, S / stride) of each stride."""
        quarter, eighth, sixteenth, coarsest = inputs
        coarse = F.interpolate(self.coarsest(coarsest), scale_factor=2.0, mode="bilinear")
        fine = [F.pixel_unshuffle(quarter, 4), F.pixel_unshuffle(eighth, 2)]
        x = self.merge(torch.cat([*fine, sixteenth, coarse], 1))  # (B, C, S/16, S/16)
        for block in self.blocks:
            x = block(x)
        return Levels(self.norm(x), self.eighth(eighth), self.quarter(quarter))


class NeckBlock(nn.Module):
    """A block of ConvNeXt (https://arxiv.org/abs/2201.03545).

    It looks at a wide surrounding in every channel, then at all channels at every position.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, NECK_KERNEL, padding=NECK_KERNEL // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, NECK_EXPANSION * channels)
        self.project = nn.Linear(NECK_EXPANSION * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        with _exactly_if(x.device.type == "cpu"):
            y = self.depthwise(x.float())
        y = self.norm(y.permute(0, 2, 3, 1))  # (B, h, w, C)
        y = self.project(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class DetailedMaskDecoder(MaskDecoder):
    """segment_anything's mask decoder, to which finer levels of the image are added where it upscales.

    Its state dict is that of ``MaskDecoder``; with zeros for the finer levels so are its answers.
    """

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """``MaskDecoder.predict_masks``, of packed features (1, 4C, h, w) in place of the embedding.

        Returns:
            (B, 4, 4h, 4w) low-res logits, the single-mask output first, and (B, 4) predicted IoU.
        """
        levels = unpacked(image_embeddings)
        batch = len(sparse_prompt_embeddings)
        output_tokens = self.output_tokens().expand(batch, -1, -1)
        tokens = torch.cat([output_tokens, sparse_prompt_embeddings], 1)
        image = levels.embedding + dense_prompt_embeddings  # (B, C, h, w)
        hidden, source = self.transformer(image, image_pe.expand(batch, -1, -1, -1), tokens)
        upscaled = self.upscaled(source.transpose(1, 2).reshape(image.shape), levels.eighth, levels.quarter)
        heads = self.output_hypernetworks_mlps
        hyper = torch.stack(
            [head(hidden[:, 1 + index]) for index, head in enumerate(heads)], 1
        )  # (B, 4, C/8)
        logits = (hyper @ upscaled.flatten(2)).reshape(batch, -1, *upscaled.shape[-2:])
        return logits, self.iou_prediction_head(hidden[:, 0])

    def output_tokens(self) -> Tensor:
        """(5, C): of the predicted IoU, and of the four masks."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def upscaled(self, image: Tensor, eighth: Tensor, quarter: Tensor) -> Tensor:
        """(B, C, h, w) after all attention, and the finer levels -> (B, C/8, 4h, 4w)."""
        first, norm, activation, second, last_activation = self.output_upscaling
        twofold = activation(norm(first(image) + eighth))
        detailed: Tensor = last_activation(second(twofold) + quarter)
        return detailed
