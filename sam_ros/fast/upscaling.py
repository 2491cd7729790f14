"""The last steps of SAM's mask decoder: the image upscaled fourfold, times what each mask weights it with.

Transposed convolutions of kernel 2 and stride 2 are linear layers from a position to a cell of 2 x 2, so that
channels stay last and memory is gone through in order. Only the masks that are wanted are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder
from torch import Tensor, nn

from sam_ros.fast.details import with_level

POSITIONS_IN_CELL = 4  # 2 x 2: rows, then columns


@dataclass(frozen=True, eq=False)
class Answer:
    """What a decoder makes of B prompts, before masks are computed.

    Attributes:
        predicted_iou: (B, 4), that of the single-mask output first.
        hyper: (B, 4, C/8), the weights of each mask for the channels of the upscaled image.
        tokens: (B, O, C) the output tokens, see ``OutputTokens``.
        size_hw: h, w of the image embedding.
        logits_in_cells: given a prompt's row and hyper (M, C/8) of some of its masks, computes their logits
            (4hw, 4, M): cells of 2 x 2 positions in cells of 2 x 2.
    """

    predicted_iou: Tensor
    hyper: Tensor
    tokens: Tensor
    size_hw: tuple[int, int]
    logits_in_cells: Callable[[int, Tensor], Tensor]

    def low_res_logits(self, row: int, masks: Tensor) -> Tensor:
        """(M, 4h, 4w) logits of the masks with the given (M,) indexes, of the prompt in this row."""
        height, width = self.size_hw
        in_cells = self.logits_in_cells(row, self.hyper[row, masks])
        cells = in_cells.view(height, width, 2, 2, 2, 2, -1)  # h, w, dy, dx, dy of dy, dx of dx, M
        return cells.permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * height, 4 * width)


class Upscaling:
    """Both upscalings of the decoder.

    Finer levels of the image, where a model has them, are added before each activation, see ``Details``.

    Args:
        decoder: whose weights are used.
    """

    def __init__(self, decoder: MaskDecoder) -> None:
        first, self._norm, self._activation, second, _ = decoder.output_upscaling
        self.first_weight, self.first_bias = _as_linear(first)  # (4 * C/4, C) and (4 * C/4,)
        self._second_weight, self._second_bias = _as_linear(second)  # (4 * C/8, C/4) and (4 * C/8,)

    def once(self, image: Tensor, eighth: Tensor | None, positions: slice) -> Tensor:
        """The first upscaling: every position becomes a cell of 2 x 2.

        Args:
            image: (..., n, C), some positions of it.
            eighth: see ``Details``.
            positions: which.

        Returns:
            (..., n, 4, C/4).
        """
        return self.activated(_in_cells(image, self.first_weight, self.first_bias), eighth, positions)

    def activated(self, upscaled: Tensor, eighth: Tensor | None, positions: slice) -> Tensor:
        """What follows the first upscaling of some positions, (..., n, 4, C/4) in and out."""
        norm, upscaled = self._norm, with_level(upscaled, eighth, positions)
        normed = F.layer_norm(upscaled, upscaled.shape[-1:], norm.weight, norm.bias, norm.eps)
        return self._activation(normed)

    def logits(
        self, upscaled_once: Tensor, quarter: Tensor | None, positions: slice, hyper: Tensor
    ) -> Tensor:
        """The second upscaling, weighted for each mask.

        Args:
            upscaled_once: (n, C/4), some of the 4N positions.
            quarter: see ``Details``.
            positions: which.
            hyper: (M, C/8), see ``Answer``.

        Returns:
            (n, 4, M): cells of 2 x 2.
        """
        upscaled = _in_cells(upscaled_once, self._second_weight, self._second_bias)
        return self._activation(with_level(upscaled, quarter, positions)) @ hyper.T


def _as_linear(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """A transposed convolution of kernel 2 and stride 2 as a linear layer: (4 * out, in) and (4 * out,)."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # (in, out, 2, 2) -> (4 * out, in)
    return weight, layer.get_parameter("bias").repeat(POSITIONS_IN_CELL)


def _in_cells(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(..., in) -> (..., 4, out): every position becomes 2 x 2."""
    return F.linear(x, weight, bias).view(*x.shape[:-1], POSITIONS_IN_CELL, -1)
