"""Boxes drawn where their corners are seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam_ros.core.box3d import Box3D
from sam_ros.core.pinhole import Pinhole
from sam_ros.core.wireframe import EDGES, draw_box

CAMERA = Pinhole((100, 120), (100.0, 100.0), (59.5, 49.5))
GREEN = (0, 255, 0)


def drawn(center: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
    image = np.zeros((100, 120, 3), np.uint8)
    draw_box(image, Box3D(np.array(center), np.eye(3), np.array([0.4, 0.2, 0.2])), CAMERA, GREEN)
    return image


def test_twelve_edges_join_corners_that_differ_along_one_axis() -> None:
    assert len(set(EDGES)) == 12
    assert all(bin(low ^ high).count("1") == 1 for low, high in EDGES)


def test_a_box_before_the_camera_is_where_its_corners_are() -> None:
    image = drawn((0.0, 0.0, 1.1))  # its front is 1 m away: 40 x 20 pixels around the middle
    rows, columns = np.nonzero(image[..., 1] > 100)
    found = (rows.min(), rows.max(), columns.min(), columns.max())
    np.testing.assert_allclose(found, (39.5, 59.5, 39.5, 79.5), atol=2)  # lines are two pixels wide
    assert not image[..., [0, 2]].any()
    assert not image[48:52, 55:65].any(), "its middle is free"


def test_what_is_behind_the_camera_is_not_drawn() -> None:
    assert not drawn((0.0, 0.0, -1.0)).any()
