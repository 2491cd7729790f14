"""Small pictures of a part of an image, with a mask or a prompt drawn on it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pictures import Mask

Picture = NDArray[np.uint8]

TILE = 104  # pixels
GAP = 4  # pixels between tiles
RED, GREEN = (235, 40, 40), (40, 220, 60)


@dataclass(frozen=True)
class View:
    """What a tile shows of an image: pixels from ``left``, ``top`` up to ``right``, ``bottom``."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def scale(self) -> float:
        """Tile pixels to an image pixel: the longest side nearly fills the tile."""
        return (TILE - GAP) / max(self.right - self.left, self.bottom - self.top)

    def tile(self, image: Picture, mask: Mask | None = None) -> Picture:
        """(TILE, TILE, 3): the view of an image (H, W, 3) on white, a mask (H, W) in green and outlined."""
        small = self._resized(image)
        if mask is not None:
            _tint(small, self._resized(mask.astype(np.uint8) * 255) >= 128)
        tile = np.full((TILE, TILE, 3), 255, np.uint8)
        tile[: small.shape[0], : small.shape[1]] = small
        return tile

    def draw_click(self, tile: Picture, click_xy: NDArray[np.float32]) -> None:
        """A red dot; the coordinates are the image's."""
        cv2.circle(tile, self._place(click_xy + 0.5), 2, RED, -1)

    def draw_box(self, tile: Picture, box_xyxy: NDArray[np.float32]) -> None:
        """A red frame; the coordinates are the image's."""
        cv2.rectangle(tile, self._place(box_xyxy[:2]), self._place(box_xyxy[2:]), RED, 1)

    def _resized(self, picture: Picture) -> Picture:
        shown = picture[self.top : self.bottom, self.left : self.right]
        interpolation = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
        return cv2.resize(shown, None, fx=self.scale, fy=self.scale, interpolation=interpolation)

    def _place(self, xy: NDArray[np.float32]) -> tuple[int, int]:
        x, y = ((xy - (self.left, self.top)) * self.scale).tolist()
        return round(x), round(y)


def view_of_all(image: Picture) -> View:
    """All of an image (H, W, 3)."""
    height, width = image.shape[:2]
    return View(0, 0, width, height)


def view_around(box_xyxy: NDArray[np.float32], image: Picture, margin: float) -> View:
    """A square around a box, as far as it lies in an image (H, W, 3); the margin is in sides of the box."""
    left, top, right, bottom = box_xyxy.tolist()
    reach = (0.5 + margin) * max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    height, width = image.shape[:2]
    return View(
        max(0, round(x - reach)),
        max(0, round(y - reach)),
        min(width, round(x + reach)),
        min(height, round(y + reach)),
    )


def _tint(picture: Picture, mask: Mask) -> None:
    """Colour the mask (H, W) in a picture (H, W, 3)."""
    picture[mask] = (0.5 * picture[mask] + 0.5 * np.array(GREEN)).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, GREEN, 1)
