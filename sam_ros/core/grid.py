"""Where an image lies in what a model takes: its input, the coordinates of prompts, and low-res logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_ros.errors import InvalidImageError
from sam_ros.masks import MASK_PROMPT_LOGIT

LOW_RES_STRIDE = 4  # pixels of the prompts' square to one low-res logit, in every model of this family

SizeHW = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """Where one image lies in the two squares of a model: the encoder's input, and the one that prompts use.

    In SAM both have the same side S. Other models encode a smaller square than the one that the coordinates
    of their prompts and their low-res logits refer to. Either way the image lies at the top left, and the
    rest of a square is padding.

    Attributes:
        original_hw: (H, W) of the image, pixels.
        input_size: side of the square that the encoder takes, in its pixels.
        input_hw: (h, w) to which the image is resized for the encoder.
        prompt_size: S, side of the square that prompts refer to; low-res logits are (S/4, S/4).
        prompt_hw: (h, w) of the image in that square.

    Raises:
        InvalidImageError: the image is empty, or so elongated that its shorter side vanishes in a square.
    """

    original_hw: SizeHW
    input_size: int
    input_hw: SizeHW
    prompt_size: int
    prompt_hw: SizeHW

    def __post_init__(self) -> None:
        if 0 in (*self.original_hw, *self.input_hw, *self.prompt_hw):
            height, width = self.original_hw
            raise InvalidImageError(
                f"an image of {width} x {height} pixels is empty or too elongated", kind="image shape"
            )

    @property
    def low_res_size(self) -> int:
        """S/4, the side of low-res logits."""
        return self.prompt_size // LOW_RES_STRIDE

    @property
    def prompt_scale_xy(self) -> npt.NDArray[np.float64]:
        """(2,) x, y: image pixels times this are coordinates that the prompt encoder takes."""
        return np.divide(self.prompt_hw[::-1], self.original_hw[::-1])

    @property
    def cell_xy(self) -> npt.NDArray[np.float64]:
        """(2,) width and height of one low-res cell, in image pixels."""
        return LOW_RES_STRIDE / self.prompt_scale_xy

    def covered_hw(self, beyond: int = 0) -> SizeHW:
        """How many rows and columns of low-res logits the image covers, the last ones perhaps in part.

        Args:
            beyond: how many rows and columns of padding to add, as far as the square has any. Bilinear
                interpolation at the image's lower and right edge reads one.
        """
        rows, columns = (-(-length // LOW_RES_STRIDE) + beyond for length in self.prompt_hw)
        return min(rows, self.low_res_size), min(columns, self.low_res_size)


def padded_grid(original_hw: SizeHW, input_size: int, prompt_size: int | None = None) -> Grid:
    """The image resized to the longest side and padded to a square, as SAM takes it.

    Args:
        original_hw: (H, W) of the image.
        input_size: side of the encoder's square.
        prompt_size: side of the prompts' square; None where it is the same.

    Raises:
        InvalidImageError: the image is empty or too elongated.
    """
    prompt_size = prompt_size or input_size
    return Grid(
        original_hw,
        input_size,
        resized_hw(original_hw, input_size),
        prompt_size,
        resized_hw(original_hw, prompt_size),
    )


def squashed_grid(original_hw: SizeHW, input_size: int) -> Grid:
    """The image stretched to the whole square, as SAM 2 takes it.

    Raises:
        InvalidImageError: the image is empty.
    """
    whole = (input_size, input_size)
    return Grid(original_hw, input_size, whole, input_size, whole)


def resized_hw(original_hw: SizeHW, longest_side: int) -> SizeHW:
    """The size (H, W) of an image once its longest side is resized to ``longest_side``.

    ResizeLongestSide.get_preprocess_shape in segment_anything/utils/transforms.py. A side of a very elongated
    image may become 0.
    """
    scale = longest_side / max(*original_hw, 1)  # an image may be empty
    return int(original_hw[0] * scale + 0.5), int(original_hw[1] * scale + 0.5)


def logits_from_mask(mask: npt.NDArray[np.generic], grid: Grid) -> npt.NDArray[np.float32]:
    """A mask image as SAM's mask prompt: logits of +-L, area-resized, -L in the padding.

    Args:
        mask: (h, w), nonzero is foreground; covers the whole image, at the image's or any other resolution.
        grid: of the image that the mask covers.

    Returns:
        (S/4, S/4) float32 in [-L, L], L being MASK_PROMPT_LOGIT: means over the area of each value.
    """
    foreground = (np.asarray(mask) != 0).astype(np.float32)
    rows, columns = (
        _area_weights(length, covered, grid.low_res_size)
        for length, covered in zip(foreground.shape, grid.prompt_hw, strict=True)
    )  # (S/4, h) and (S/4, w)
    coverage = np.clip(rows @ foreground @ columns.T, 0, 1)  # (S/4, S/4); sums of shares round
    logits: npt.NDArray[np.float32] = (2 * coverage - 1) * np.float32(MASK_PROMPT_LOGIT)
    return logits


def _area_weights(length: int, covered: int, low_res_length: int) -> npt.NDArray[np.float32]:
    """(low_res_length, length): the share of each low-res cell that each of ``length`` samples covers.

    The samples together cover the first ``covered`` of the axis' 4 * low_res_length prompt pixels.
    """
    samples = np.arange(length + 1) * (covered / length / LOW_RES_STRIDE)  # edges, in low-res cells
    cells = np.arange(low_res_length + 1)
    low = np.maximum(cells[:-1, None], samples[None, :-1])
    high = np.minimum(cells[1:, None], samples[None, 1:])
    return np.clip(high - low, 0, None).astype(np.float32)
