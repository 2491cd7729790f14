"""Parts that image encoders of several kinds are computed of, on channels that come last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from sam_ros.core.conv_norm import ConvNorm

Layer = Callable[[Tensor], Tensor]
Step = Callable[[Any], Any]
"""One of the steps of an encoder; what it hands to the next is the encoder's own affair."""


@dataclass(frozen=True)
class Linear:
    """A linear layer in the dtype of its weights; the input is converted to it."""

    weight: Tensor  # (out, in)
    bias: Tensor | None

    @classmethod
    def of(cls, layer: nn.Linear, dtype: torch.dtype) -> Linear:
        """With the weights of a module."""
        return cls(layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution on an image whose channels come last in memory: (1, D, h, w) -> (1, D', h/s, w/s)."""

    weight: Tensor  # (D', D / groups, k, k)
    bias: Tensor  # (D',)
    stride: int = 1
    groups: int = 1

    @classmethod
    def made(
        cls, weight: Tensor, bias: Tensor, dtype: torch.dtype, stride: int = 1, groups: int = 1
    ) -> Convolution:
        """From float32 weights."""
        weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        return cls(weight, bias.to(dtype), stride, groups)

    @classmethod
    def of(cls, layer: ConvNorm, dtype: torch.dtype) -> Convolution:
        """With its batch norm folded in."""
        return cls.made(*layer.folded(), dtype, layer.c.stride[0], layer.c.groups)

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        padding = self.weight.shape[2] // 2
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


class Neck:
    """(1, h, w, D) -> (1, C, h, w) float32: two convolutions, each followed by a norm over the channels.

    It ends segment_anything's ``ImageEncoderViT`` and encoders that stand in for it.
    """

    def __init__(self, neck: nn.Sequential, dtype: torch.dtype) -> None:
        modules: Any = neck
        reduce, self.first_norm, convolve, self.second_norm = modules
        self.reduce = Linear(reduce.weight.flatten(1).to(dtype), None)
        self.weight = convolve.weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.padding = convolve.padding

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        x = _norm_2d(self.reduce(x).float(), self.first_norm)
        x = x.permute(0, 3, 1, 2).to(self.weight.dtype)  # (1, C, h, w), channels last in memory
        x = F.conv2d(x, self.weight, padding=self.padding).float()
        x = _norm_2d(x.permute(0, 2, 3, 1), self.second_norm)
        return x.permute(0, 3, 1, 2).contiguous()


def _norm_2d(x: Tensor, norm: LayerNorm2d) -> Tensor:
    """LayerNorm2d of segment_anything/modeling/common.py, on channels that come last."""
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    """The module's norm over the channels, in float32."""
    return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer.eps)


def add_in_pieces(compute: Layer, x: Tensor, rows: int) -> Tensor:
    """Add compute(x) to x (1, h, w, D), so many rows at a time; in place where those are not all."""
    if rows >= x.shape[1]:
        return x + compute(x)
    for piece in torch.split(x, rows, 1):
        piece.add_(compute(piece))
    return x


def split_windows(qkv: Tensor, padding: Tensor, window: int, num_heads: int) -> Tensor:
    """Queries, keys and values by window and head: (1, r, w, 3D) -> (3, G, window, window, d).

    Args:
        qkv: of each position, its channels ordered by query, key or value, then by head.
        padding: (3D,), of the positions that complete the last windows of rows and columns.
        window: side of a window, positions.
        num_heads: heads of attention; G = windows * heads.
    """
    height, width = qkv.shape[1:3]
    down, across = -(-height // window), -(-width // window)
    if (height, width) != (down * window, across * window):
        grid = padding.expand(1, down * window, across * window, -1).clone()
        grid[:, :height, :width] = qkv
        qkv = grid
    qkv = qkv.reshape(down, window, across, window, 3, num_heads, -1)
    return qkv.permute(4, 0, 2, 5, 1, 3, 6).flatten(1, 3)


def join_windows(attended: Tensor, height: int, width: int, window: int, num_heads: int) -> Tensor:
    """The inverse for one of the three, without padding: (G, window * window, d) -> (1, height, width, D)."""
    grid = attended.reshape(-(-height // window), -(-width // window), num_heads, window, window, -1)
    grid = grid.permute(0, 3, 1, 4, 2, 5)  # rows of windows, rows, windows, columns, heads, d
    image = grid.reshape(1, len(grid) * window, grid.shape[2] * window, -1)
    return image[:, :height, :width]
