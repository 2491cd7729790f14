"""The pinhole camera against OpenCV's own projection."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam_ros.core.pinhole import Pinhole
from sam_ros.errors import InvalidCameraError

SIZE_HW = (48, 64)
PLAIN = Pinhole(SIZE_HW, (60.0, 50.0), (31.5, 23.5))
BARREL = (-0.28, 0.09, 0.001, -0.0008, -0.012)
RATIONAL = (0.45, -0.11, 0.0005, -0.0003, 0.01, 0.78, -0.02, 0.03)
MODELS = {"none": (), "plumb_bob": BARREL, "rational_polynomial": RATIONAL}


def camera(distortion: tuple[float, ...]) -> Pinhole:
    return Pinhole(SIZE_HW, PLAIN.focal_xy, PLAIN.center_xy, distortion)


def test_a_ray_goes_through_its_pixels_centre() -> None:
    x, y = PLAIN.rays(np.array([0, 23]), np.array([0, 63]))
    np.testing.assert_allclose(x, [-31.5 / 60, 31.5 / 60], rtol=1e-6)
    np.testing.assert_allclose(y, [-23.5 / 50, -0.5 / 50], rtol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_rays_lead_back_to_their_pixels_by_opencvs_projection(model: str) -> None:
    one = camera(MODELS[model])
    rows, columns = np.indices(SIZE_HW).reshape(2, -1)
    x, y = one.rays(rows, columns)
    points = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float64)
    coefficients = np.array(MODELS[model] or (0.0,) * 5)
    pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), one.matrix, coefficients)
    np.testing.assert_allclose(pixels.reshape(-1, 2), np.stack([columns, rows], axis=1), atol=2e-3)


@pytest.mark.parametrize("model", MODELS)
def test_project_is_opencvs(model: str) -> None:
    one = camera(MODELS[model])
    points = np.array([[0.1, -0.2, 1.0], [0.5, 0.3, 2.0], [-1.0, 0.4, 3.0]])
    coefficients = np.array(MODELS[model] or (0.0,) * 5)
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), one.matrix, coefficients)
    np.testing.assert_allclose(one.project(points), expected.reshape(-1, 2), atol=1e-9)


def test_what_is_behind_the_camera_has_no_pixel() -> None:
    assert np.isnan(PLAIN.project(np.array([[0.1, 0.1, -1.0], [0.0, 0.0, 0.0]]))).all()


def test_a_pixel_that_the_model_cannot_reach_has_no_ray() -> None:
    folded = Pinhole((101, 101), (50.0, 50.0), (50.0, 50.0), (-0.5,))  # r - 0.5 r^3 never exceeds 0.544
    x, y = folded.rays(np.array([50, 50, 0]), np.array([50, 70, 0]))
    assert np.isfinite(x[:2]).all() and np.isfinite(y[:2]).all()
    assert np.isnan(x[2]) and np.isnan(y[2])


def test_a_resized_camera_sees_the_same_edges() -> None:
    half = PLAIN.resized((24, 32))
    assert half.focal_xy == (30.0, 25.0)
    assert half.center_xy == (15.5, 11.5)  # the middle of 64 columns is that of 32
    assert PLAIN.resized(SIZE_HW) is PLAIN


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"focal_xy": (0.0, 0.0)}, "is the camera calibrated"),
        ({"center_xy": (float("nan"), 1.0)}, "finite"),
        ({"size_hw": (0, 4)}, "needs pixels"),
        ({"distortion": (0.1,) * 9}, "at most 8"),
    ],
)
def test_no_camera_is_like_that(values: dict[str, tuple[float, ...]], reason: str) -> None:
    given = {"size_hw": SIZE_HW, "focal_xy": (60.0, 50.0), "center_xy": (31.5, 23.5)} | values
    with pytest.raises(InvalidCameraError, match=reason):
        Pinhole(**given)  # type: ignore[arg-type]
