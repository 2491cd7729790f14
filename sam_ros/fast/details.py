"""An image's features as the decoder uses them: the embedding that it attends to, and finer levels.

Most image encoders make an embedding alone. Others, as SAM 2's, also make finer levels of the image, which
the decoder adds where it upscales.
"""

from __future__ import annotations

from typing import NamedTuple

from segment_anything.modeling import MaskDecoder
from torch import Tensor

from sam_ros.core.efficientnet import DetailedMaskDecoder, Levels, unpacked


class Details(NamedTuple):
    """The finer levels of one image, in the order in which positions become cells of 2 x 2; None if absent.

    Attributes:
        eighth: (N, 4, C/4), added to what was upscaled once.
        quarter: (4N, 4, C/8), added to what was upscaled twice.
    """

    eighth: Tensor | None = None
    quarter: Tensor | None = None

    @classmethod
    def of(cls, levels: Levels) -> Details:
        """Those of one image."""
        rows, columns = levels.embedding.shape[2:]
        eighth = levels.eighth.reshape(-1, rows, 2, columns, 2)  # C/4, h, dy, w, dx
        # C/8, h, dy, dy of dy, w, dx, dx of dx
        quarter = levels.quarter.reshape(-1, rows, 2, 2, columns, 2, 2)
        return cls(
            eighth.permute(1, 3, 2, 4, 0).reshape(rows * columns, 4, -1),
            quarter.permute(1, 4, 2, 5, 3, 6, 0).reshape(4 * rows * columns, 4, -1),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """The levels that there are; ``Details(*tensors)`` are these again."""
        return tuple(level for level in self if level is not None)


def embedding_of(decoder: MaskDecoder, features: Tensor) -> Tensor:
    """(1, C, h, w): what tokens attend to, of the features that the image encoder of this model makes."""
    return features[:, : decoder.transformer_dim]


def details_of(decoder: MaskDecoder, features: Tensor) -> Details:
    """The finer levels in them, where this decoder adds any."""
    return Details.of(unpacked(features)) if isinstance(decoder, DetailedMaskDecoder) else Details()


def with_level(upscaled: Tensor, level: Tensor | None, positions: slice) -> Tensor:
    """Add some positions of a finer level, in place.

    Args:
        upscaled: (..., n, 4, C') of those positions.
        level: (all positions, 4, C'); None adds nothing.
        positions: which.
    """
    return upscaled if level is None else upscaled.add_(level[positions])
