"""EfficientNet-Lite as image encoder, computed faster than by the module that holds its weights.

The result is that of ``EfficientNetEncoder`` in sam_ros/core/efficientnet.py up to rounding. What is done
differently:

- Batch norms are part of the convolutions before them, channels come last, and on a CPU oneDNN applies ReLU6
  while it still holds what it has convolved: 0.6 of the time in float32 (measured on AVX-512).
- The neck brings the strides together without making the wide image that it would project: every stride has
  its own share of the projection, and what comes from stride 32 is projected before it is enlarged.

The stem and the first stage are computed in float32 in every precision: of all stages, bfloat16 changes the
masks most there. Of sam_tiny they have a mean IoU of 0.990 with those of float32 on photographs; with all of
it in bfloat16, and earlier weights, 0.976 (benchmark).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ros.core.efficientnet import (
    LEVELS,
    Block,
    ConvNorm,
    EfficientNetEncoder,
    Levels,
    Neck,
    NeckBlock,
    padding,
)
from sam_ros.fast.layers import Step

State: TypeAlias = "tuple[Tensor, ...]"  # the strides that the neck wants so far, then the newest image


def efficientnet_layers(
    encoder: EfficientNetEncoder, dtype: torch.dtype, compile: bool = False
) -> list[Step]:
    """The encoder as a list of steps, so that an encode can be cancelled between stages.

    The first takes (1, 3, S, S) float32 normalised pixels, the last returns the packed features (1, 4C, S/16,
    S/16) float32; what is between is their own affair.

    Args:
        encoder: holds the weights, on their device.
        dtype: of the convolutions; norms and sums of the neck stay float32.
        compile: compile the stages with torch.compile; not on a CPU, where it found nothing more to fuse.
    """
    modules: Any = encoder.stages
    stages: list[Step] = [
        FastStage(stage, torch.float32 if index == 0 else dtype, index in LEVELS)
        for index, stage in enumerate(modules)
    ]
    if compile and encoder.stem.conv.weight.device.type != "cpu":
        stages = [torch.compile(stage, dynamic=False) for stage in stages]
    return [_Stem(encoder.stem, torch.float32), *stages, _FastNeck(encoder.neck, dtype)]


@dataclass(frozen=True, eq=False)
class _Convolution:
    """A convolution, and ReLU6 where ``is_active``, on images whose channels come last."""

    weight: Tensor  # (out, in / groups, k, k)
    bias: Tensor
    stride: int
    before: int  # zeros, at the left and at the top
    after: int
    groups: int
    is_active: bool
    is_fused: bool

    @classmethod
    def of(cls, layer: ConvNorm, dtype: torch.dtype) -> _Convolution:
        """With its batch norm folded in."""
        conv = layer.conv
        return cls.made(*layer.folded(), dtype, conv.stride[0], padding(conv), conv.groups, layer.is_active)

    @classmethod
    def made(
        cls,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        groups: int = 1,
        is_active: bool = False,
    ) -> _Convolution:
        """From float32 weights."""
        weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        is_fused = _is_fusible(weight)
        return cls(weight, bias.to(dtype), stride, *padding, groups, is_active, is_fused)

    def __call__(self, x: Tensor) -> Tensor:
        pad = self.before
        if self.before != self.after:
            x, pad = F.pad(x, [self.before, self.after, self.before, self.after]), 0
        if self.is_fused:
            return self._fused(x, pad)
        x = F.conv2d(x, self.weight, self.bias, self.stride, pad, 1, self.groups)
        return F.hardtanh_(x, 0.0, 6.0) if self.is_active else x

    def _fused(self, x: Tensor, pad: int) -> Tensor:
        """As torch.compile has it computed on a CPU."""
        activation = ("hardtanh", [0.0, 6.0], "") if self.is_active else ("none", [], "")
        convolve = torch.ops.mkldnn._convolution_pointwise
        sides = [pad, pad], [self.stride, self.stride], [1, 1]
        convolved: Tensor = convolve(x, self.weight, self.bias, *sides, self.groups, *activation)
        return convolved


class _CellConvolution:
    """A convolution whose stride is its kernel's side: one matrix product for all cells of the image.

    As a convolution of 4 x 4 pixels of 16 or 24 channels, oneDNN computes it wrongly in bfloat16 on
    processors with AMX (torch 2.15), in the same time. After ``pixel_unshuffle``, as the module has it, it
    takes longer (0.2 -> 0.6 ms, a trial).
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        """``weight`` (out, in, k, k) and ``bias`` (out,) in float32."""
        self.side = weight.shape[-1]
        self.weight = weight.permute(0, 2, 3, 1).flatten(1).to(dtype).contiguous()  # (out, k * k * in)
        self.bias = bias.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(1, in, H, W) -> (1, out, H/k, W/k)."""
        side = self.side
        rows, columns = x.shape[2] // side, x.shape[3] // side
        cells = x.permute(0, 2, 3, 1).reshape(rows, side, columns, side, -1).transpose(1, 2)
        return F.linear(cells.reshape(1, rows, columns, -1), self.weight, self.bias).permute(0, 3, 1, 2)


def _is_fusible(weight: Tensor) -> bool:
    """Whether oneDNN is there and computes in this precision."""
    if weight.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


class _Stem:
    """(1, 3, S, S) float32 -> the first image, (1, 32, S/2, S/2)."""

    def __init__(self, stem: ConvNorm, dtype: torch.dtype) -> None:
        self.convolution, self.dtype = _Convolution.of(stem, dtype), dtype

    def __call__(self, pixels: Tensor) -> State:
        return (self.convolution(pixels.to(self.dtype, memory_format=torch.channels_last)),)


class FastBlock:
    """An inverted residual."""

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        layers = [layer for layer in (block.expand, block.depthwise, block.project) if layer is not None]
        self.layers = [_Convolution.of(layer, dtype) for layer in layers]
        self.is_residual = block.is_residual

    def __call__(self, x: Tensor) -> Tensor:
        """(1, channels, H, W) -> (1, out, H/stride, W/stride)."""
        y = x
        for layer in self.layers:
            y = layer(y)
        return y.add_(x) if self.is_residual else y


class FastStage:
    """Blocks of one stage; where the neck wants what they make, it is kept."""

    def __init__(self, stage: Iterable[Block], dtype: torch.dtype, is_kept: bool) -> None:
        self.blocks = [FastBlock(block, dtype) for block in stage]
        self.dtype, self.is_kept = dtype, is_kept

    def __call__(self, state: State) -> State:
        """What the neck wants so far and the newest image, one stage further."""
        *kept, x = state
        x = x.to(self.dtype)
        for block in self.blocks:
            x = block(x)
        return (*kept, x, x) if self.is_kept else (*kept, x)


class _FastNeck:
    """The strides 4, 8, 16 and 32 -> packed features (1, 4C, S/16, S/16) float32."""

    def __init__(self, neck: Neck, dtype: torch.dtype) -> None:
        quarter, eighth = neck.quarter.in_channels, neck.eighth.in_channels
        weight = neck.merge.weight[:, :, 0, 0]  # (C, all channels)
        coarsest = weight.shape[0]
        sixteenth = weight.shape[1] - 16 * quarter - 4 * eighth - coarsest
        parts = torch.split(weight, [16 * quarter, 4 * eighth, sixteenth, coarsest], 1)
        bias = _bias(neck.merge)
        nothing = torch.zeros_like(bias)
        # What pixel_unshuffle gathers is what a convolution of a cell's size sees.
        self.from_quarter = _CellConvolution(parts[0].reshape(-1, quarter, 4, 4), bias, dtype)
        self.from_eighth = _CellConvolution(parts[1].reshape(-1, eighth, 2, 2), nothing, dtype)
        self.from_sixteenth = _Convolution.made(parts[2][..., None, None], nothing, dtype)
        projection = parts[3] @ neck.coarsest.weight[:, :, 0, 0]
        self.from_coarsest = _Convolution.made(
            projection[..., None, None], parts[3] @ _bias(neck.coarsest), dtype
        )
        blocks: Any = neck.blocks
        self.blocks = [_FastNeckBlock(block, dtype) for block in blocks]
        self.norm = neck.norm
        self.eighth = _Convolution.made(neck.eighth.weight, _bias(neck.eighth), dtype)
        self.quarter = _Convolution.made(neck.quarter.weight, _bias(neck.quarter), dtype)

    def __call__(self, state: State) -> Tensor:
        quarter, eighth, sixteenth, coarsest, _ = state
        coarse = F.interpolate(self.from_coarsest(coarsest).float(), scale_factor=2.0, mode="bilinear")
        x = coarse + self.from_quarter(quarter) + self.from_eighth(eighth) + self.from_sixteenth(sixteenth)
        x = x.permute(0, 2, 3, 1)  # (1, h, w, C) float32
        for block in self.blocks:
            x = block(x)
        norm = self.norm
        x = F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps).permute(0, 3, 1, 2)
        return Levels(x, self.eighth(eighth).float(), self.quarter(quarter).float()).packed().contiguous()


class _FastNeckBlock:
    """(1, h, w, C) float32 -> (1, h, w, C) float32."""

    def __init__(self, block: NeckBlock, dtype: torch.dtype) -> None:
        depthwise = block.depthwise
        side = depthwise.padding[0]
        assert isinstance(side, int)
        self.depthwise = _Convolution.made(
            depthwise.weight, _bias(depthwise), dtype, 1, (side, side), depthwise.groups
        )
        self.norm, self.dtype = block.norm, dtype
        self.expand = block.expand.weight.to(dtype), block.expand.bias.to(dtype)
        self.project = block.project.weight.to(dtype), block.project.bias.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        y = self.depthwise(x.permute(0, 3, 1, 2).to(self.dtype)).permute(0, 2, 3, 1).float()
        y = F.layer_norm(y, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(self.dtype)
        return x + F.linear(F.gelu(F.linear(y, *self.expand)), *self.project)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
