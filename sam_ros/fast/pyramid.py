"""From the four strides of SAM 2's image encoders to packed features: their neck with less work.

The result is that of ``Sam2ImageEncoder.forward`` (sam_ros/core/sam2.py) behind its backbone, up to rounding.
Projections of the finer strides that follow each other are one; channels come last until the end.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ros.core.efficientnet import Levels
from sam_ros.core.sam2 import Sam2ImageEncoder
from sam_ros.fast.layers import Linear

State: TypeAlias = "tuple[Tensor, ...]"
"""The strides (1, h, w, D) that the neck wants so far, then the newest image."""


class FastPyramid:
    """The strides 4, 8, 16 and 32 (1, h, w, D) -> features (1, 4C, S/16, S/16) float32.

    Args:
        encoder: holds the weights.
        dtype: of the matrix products.
    """

    def __init__(self, encoder: Sam2ImageEncoder, dtype: torch.dtype) -> None:
        neck: Any = encoder.neck
        coarsest, sixteenth, eighth, quarter = (_matrix(layer) for layer in neck)
        placed = sixteenth[1] + coarsest[1] + encoder.no_memory.flatten()  # of the sum of both
        self.coarsest = Linear(coarsest[0].to(dtype), None)
        self.sixteenth = Linear(sixteenth[0].to(dtype), placed.to(dtype))
        self.eighth = _one_after_the_other(eighth, _matrix(encoder.eighth), dtype)
        self.quarter = _one_after_the_other(quarter, _matrix(encoder.quarter), dtype)

    def __call__(self, state: State) -> Tensor:
        """See the class."""
        quarter, eighth, sixteenth, coarsest, _ = state
        coarse = _channels_first(self.coarsest(coarsest))
        embedding = _channels_first(self.sixteenth(sixteenth)) + F.interpolate(coarse, scale_factor=2.0)
        levels = Levels(
            embedding, _channels_first(self.eighth(eighth)), _channels_first(self.quarter(quarter))
        )
        return levels.packed().contiguous()


def _channels_first(x: Tensor) -> Tensor:
    """(1, h, w, C) -> (1, C, h, w) float32."""
    return x.float().permute(0, 3, 1, 2)


def _matrix(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight (out, in) and bias (out,) of a convolution of 1 x 1."""
    return layer.weight[:, :, 0, 0], layer.get_parameter("bias")


def _one_after_the_other(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], dtype: torch.dtype
) -> Linear:
    """Both projections as one."""
    weight, bias = second[0] @ first[0], second[0] @ first[1] + second[1]
    return Linear(weight.to(dtype), bias.to(dtype))
