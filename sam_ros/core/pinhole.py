"""A pinhole camera with lens distortion: from pixels to rays, and from points back to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_ros.errors import InvalidCameraError

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

# How many coefficients sensor_msgs/CameraInfo's models have, in OpenCV's order k1 k2 p1 p2 k3 k4 k5 k6.
PLUMB_BOB = "plumb_bob"
RATIONAL_POLYNOMIAL = "rational_polynomial"
COEFFICIENTS = {PLUMB_BOB: 5, RATIONAL_POLYNOMIAL: 8}

ITERATIONS = 30
GOOD_ERROR_PX = 1e-3  # stop there
LARGEST_ERROR_PX = 0.1  # beyond, the model has no inverse: it folds the image's corners back


@dataclass(frozen=True)
class Pinhole:
    """A calibration; the camera looks along z, x is right and y down (REP 103's optical frame).

    Attributes:
        size_hw: (H, W) of the image.
        focal_xy: pixels.
        center_xy: the principal point; (0, 0) is the centre of the first pixel.
        distortion: k1 k2 p1 p2 k3 k4 k5 k6 as OpenCV defines them, from the end on as many as are 0 left out.

    Raises:
        InvalidCameraError: a value that no camera has.
    """

    size_hw: tuple[int, int]
    focal_xy: tuple[float, float]
    center_xy: tuple[float, float]
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if min(self.size_hw) < 1:
            raise InvalidCameraError(f"a camera's image needs pixels, got (H, W) = {self.size_hw}")
        values = (*self.focal_xy, *self.center_xy, *self.distortion)
        if not np.isfinite(values).all():
            raise InvalidCameraError(f"a calibration must be finite, got {values}")
        if min(self.focal_xy) <= 0:
            raise InvalidCameraError(
                f"focal lengths must be above 0, got {self.focal_xy}: is the camera calibrated?",
                kind="not calibrated",
            )
        if len(self.distortion) > COEFFICIENTS[RATIONAL_POLYNOMIAL]:
            raise InvalidCameraError(f"at most 8 coefficients of distortion, got {len(self.distortion)}")

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """(3, 3) as OpenCV takes it."""
        (fx, fy), (cx, cy) = self.focal_xy, self.center_xy
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)

    def resized(self, size_hw: tuple[int, int]) -> Pinhole:
        """The same camera with its image resized."""
        if size_hw == self.size_hw:
            return self
        scale_y, scale_x = size_hw[0] / self.size_hw[0], size_hw[1] / self.size_hw[1]
        (fx, fy), (cx, cy) = self.focal_xy, self.center_xy
        center_xy = (
            (cx + 0.5) * scale_x - 0.5,
            (cy + 0.5) * scale_y - 0.5,
        )  # pixels' edges scale, not centres
        return replace(self, size_hw=size_hw, focal_xy=(fx * scale_x, fy * scale_y), center_xy=center_xy)

    def rays(self, rows: Indices, columns: Indices) -> tuple[Floats, Floats]:
        """The x and y, each of the shape of the indices, of the points at z = 1 that pixels look at.

        NaN where the model of the distortion has no inverse.
        """
        if any(self.distortion):
            return self._table[0][rows, columns], self._table[1][rows, columns]
        (fx, fy), (cx, cy) = self.focal_xy, self.center_xy
        x, y = (columns - cx) / fx, (rows - cy) / fy
        return x.astype(np.float32), y.astype(np.float32)

    def project(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """(N, 2) pixels XY of (N, 3) points in the camera's frame; NaN for those not in front of it."""
        points = np.asarray(points, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
        x, y = _distorted(x, y, self.distortion)
        pixels = np.stack([x, y], axis=1) * self.focal_xy + self.center_xy
        pixels[points[:, 2] <= 0] = np.nan
        return pixels

    @cached_property
    def _table(self) -> tuple[Floats, Floats]:
        """Each (H, W): made once, since the inverse of a distortion takes many steps."""
        height, width = self.size_hw
        x = (np.arange(width) - self.center_xy[0]) / self.focal_xy[0]
        y = (np.arange(height) - self.center_xy[1]) / self.focal_xy[1]
        x_grid, y_grid = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        return _undistorted(x_grid, y_grid, self.distortion, max(self.focal_xy))


def _distorted(
    x: npt.NDArray[Any], y: npt.NDArray[Any], distortion: Sequence[float]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Where the lens puts points of the plane z = 1."""
    radial, tangential_x, tangential_y = _lens(x, y, distortion)
    return x * radial + tangential_x, y * radial + tangential_y


def _undistorted(x: Floats, y: Floats, distortion: Sequence[float], focal: float) -> tuple[Floats, Floats]:
    """The inverse, as OpenCV's ``undistortPoints`` finds it, which stops early and does not say so."""
    found_x, found_y = x, y
    with np.errstate(all="ignore"):
        for _ in range(ITERATIONS):
            radial, tangential_x, tangential_y = _lens(found_x, found_y, distortion)
            error_px = focal * np.hypot(
                found_x * radial + tangential_x - x, found_y * radial + tangential_y - y
            )
            if np.nanmax(error_px) < GOOD_ERROR_PX:
                break
            found_x, found_y = (x - tangential_x) / radial, (y - tangential_y) / radial
    has_inverse = error_px < LARGEST_ERROR_PX  # false where it is NaN
    return np.where(has_inverse, found_x, np.nan), np.where(has_inverse, found_y, np.nan)


def _lens(
    x: npt.NDArray[Any], y: npt.NDArray[Any], distortion: Sequence[float]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Radial factor and tangential shifts: docs.opencv.org, "Camera Calibration and 3D Reconstruction"."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*distortion, *(0.0,) * (8 - len(distortion)))
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return radial, 2 * p1 * x * y + p2 * (r2 + 2 * x * x), p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
