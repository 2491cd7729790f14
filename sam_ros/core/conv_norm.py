"""A convolution and its batch norm, of which TinyViT and RepViT consist; keys as in the published files."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """A convolution without bias, and its batch norm: (B, C, h, w) -> (B, C', h / stride, w / stride)."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.add_module("c", convolution)
        self.add_module("bn", nn.BatchNorm2d(outputs))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (C', C / groups, k, k) and bias (C',) of one convolution that does the norm's work too."""
        norm = self.bn
        mean, variance = torch.as_tensor(norm.running_mean), torch.as_tensor(norm.running_var)
        scale = norm.weight * (variance + norm.eps).rsqrt()  # (C',)
        return self.c.weight * scale[:, None, None, None], norm.bias - mean * scale
