"""Single masks at the size of the image, of which only the part is computed where they are.

Most masks of a whole scene are small. What ``postprocess`` makes of logits is linear in them, in rows and in
columns: two matrices of the grid, of which a small mask needs a few rows. A large one is enlarged as a whole,
by OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sam_ros.core.grid import LOW_RES_STRIDE, Grid
from sam_ros.fast.postprocess import upscale_on_cpu
from sam_ros.masks import BoolMask, tight_box_xyxy

Logits = npt.NDArray[np.float32]
Span = tuple[int, int]  # half-open

LARGEST_SHARE = 0.1  # of the image: a part that is larger takes longer by matrices than the whole by OpenCV


@dataclass(frozen=True, eq=False)
class Cutout:
    """One mask at the size of the image, cut to where it is.

    Attributes:
        mask: (h, w) bool, not empty; its box is tight.
        x, y: of its top left pixel in the image.
        stability_score: on logits of the image's size.
    """

    mask: BoolMask
    x: int
    y: int
    stability_score: np.float32

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Half-open pixel edges in the image."""
        height, width = self.mask.shape
        return self.x, self.y, self.x + width, self.y + height

    @property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.mask))

    def area_within(self, region_xyxy: tuple[float, float, float, float]) -> int:
        """How many of its pixels have their centre in a region, pixel edges of the image."""
        x0, y0, x1, y1 = np.rint(region_xyxy).astype(int) - (self.x, self.y, self.x, self.y)
        return int(np.count_nonzero(self.mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]))

    def on(self, size_hw: tuple[int, int]) -> BoolMask:
        """(H, W): the mask on its image of that size."""
        whole = np.zeros(size_hw, bool)
        x0, y0, x1, y1 = self.box_xyxy
        whole[y0:y1, x0:x1] = self.mask
        return whole


def cut_out(mask: BoolMask, x: int, y: int, stability_score: np.float32) -> Cutout | None:
    """A mask (h, w) whose top left pixel is at x, y of the image; None if it is empty."""
    box = tight_box_xyxy(mask)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    return Cutout(mask[y0:y1, x0:x1].copy(), x + x0, y + y0, stability_score)


class FullSize:
    """Enlarges the masks of one image.

    Args:
        grid: where the image lies in low-res logits.
        mask_threshold: logits above it are foreground.
        stability_offset: of the logits, for the stability score.
    """

    def __init__(self, grid: Grid, mask_threshold: float, stability_offset: float) -> None:
        self._grid, self._threshold, self._offset = grid, mask_threshold, stability_offset
        covered = grid.covered_hw(beyond=1)
        self._rows, self._columns = (
            Axis(cells, prompt, original)
            for cells, prompt, original in zip(covered, grid.prompt_hw, grid.original_hw, strict=True)
        )

    def cutout(self, logits: Logits) -> Cutout | None:
        """What a mask of (S/4, S/4) logits is at the size of the image; None if it is empty there."""
        logits = logits[: self._rows.num_cells, : self._columns.num_cells]
        # Every pixel's logit is a mean of logits nearby: elsewhere none is above this.
        box = tight_box_xyxy(logits > self._threshold - self._offset)
        if box is None:
            return None
        x0, y0, x1, y1 = box
        rows, columns = self._rows.reached_by((y0, y1)), self._columns.reached_by((x0, x1))
        if rows[0] == rows[1] or columns[0] == columns[1]:  # all of it is in the padding beside the image
            return None
        return self._cut(self._enlarged(logits, rows, columns), rows[0], columns[0])

    def _enlarged(self, logits: Logits, rows: Span, columns: Span) -> Logits:
        """(h, w) logits of a part of the image, from those of the covered cells."""
        area = (rows[1] - rows[0]) * (columns[1] - columns[0])
        height, width = self._grid.original_hw
        if area > LARGEST_SHARE * height * width:
            return np.ascontiguousarray(upscale_on_cpu(logits, self._grid)[slice(*rows), slice(*columns)])
        down, from_rows = self._rows.weights_of(rows)
        across, from_columns = self._columns.weights_of(columns)
        cells = torch.from_numpy(logits[slice(*from_rows), slice(*from_columns)])
        enlarged: Logits = (down @ cells @ across.T).numpy()
        return enlarged

    def _cut(self, logits: Logits, y: int, x: int) -> Cutout | None:
        """The mask of a part of the image whose top left pixel is at x, y."""
        high, low = (
            np.float32(np.count_nonzero(logits > self._threshold + offset))
            for offset in (self._offset, -self._offset)
        )
        return cut_out(logits > self._threshold, x, y, high / np.maximum(low, 1))


class Axis:
    """How the rows or the columns of an image come from low-res cells: ``postprocess.upscale`` as a matrix.

    Attributes:
        num_cells: how many cells there are.

    Args:
        num_cells: of the low-res logits that the image covers, and one more where there is one.
        prompt_length: of the image in the square that prompts refer to.
        length: of the image, pixels.
    """

    def __init__(self, num_cells: int, prompt_length: int, length: int) -> None:
        self.num_cells = num_cells
        enlarged = interpolation(num_cells, LOW_RES_STRIDE * num_cells)[:prompt_length]
        weights = interpolation(prompt_length, length) @ enlarged  # (length, num_cells)
        self._weights = torch.from_numpy(weights.astype(np.float32))
        is_used = weights > 0
        self._first = is_used.argmax(1)  # (length,) the first cell that a pixel comes from, and the last
        self._last = num_cells - 1 - is_used[:, ::-1].argmax(1)

    def reached_by(self, cells: Span) -> Span:
        """The pixels that come from any of these cells."""
        first = int(np.searchsorted(self._last, cells[0], "left"))
        end = int(np.searchsorted(self._first, cells[1], "left"))
        return first, end

    def weights_of(self, pixels: Span) -> tuple[torch.Tensor, Span]:
        """(h, n) weights of these pixels, and which n cells they are for."""
        cells = int(self._first[pixels[0]]), int(self._last[pixels[1] - 1]) + 1
        return self._weights[slice(*pixels), slice(*cells)], cells


def interpolation(count: int, length: int) -> npt.NDArray[np.float64]:
    """(length, count): linear interpolation of samples, as OpenCV and torch resize (align_corners false)."""
    at = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    before = np.minimum(at.astype(int), max(count - 2, 0))
    weights = np.zeros((length, count))
    rows = np.arange(length)
    weights[rows, before] = 1 - (at - before)
    weights[rows, np.minimum(before + 1, count - 1)] += at - before
    return weights
