"""The rendered scene: every surface is where geometry says it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sam_ros.core.pinhole import Pinhole
from sam_ros.core.tabletop import THINGS, Ball, Block, Can, Rendering, View, render, sensed, tilted_view

CAMERA = Pinhole((120, 160), (150.0, 150.0), (79.5, 59.5))
VIEW = tilted_view(CAMERA, 1.0, 0.9, 0.2)
BLOCK, BALL, CAN = THINGS


@pytest.fixture(scope="module")
def rendering() -> Rendering:
    return render(VIEW)


def on_the_table(rendering: Rendering, view: View, label: int) -> npt.NDArray[np.float64]:
    """(N, 3) what is seen of a thing, in the table's frame."""
    rows, columns = np.nonzero(rendering.labels == label)
    assert len(rows) > 50
    x, y = view.camera.rays(rows, columns)
    return view.to_table(np.stack([x, y, np.ones_like(x)], axis=1) * rendering.depth_m[rows, columns, None])


def test_the_ball_is_a_sphere(rendering: Rendering) -> None:
    assert isinstance(BALL, Ball)
    from_center = on_the_table(rendering, VIEW, 2) - [*BALL.base_xy, BALL.radius]
    np.testing.assert_allclose(np.linalg.norm(from_center, axis=1), BALL.radius, atol=1e-5)


def test_the_block_has_three_visible_faces(rendering: Rendering) -> None:
    assert isinstance(BLOCK, Block)
    from_base = on_the_table(rendering, VIEW, 1) - [*BLOCK.base_xy, 0]
    cos, sin = np.cos(BLOCK.yaw), np.sin(BLOCK.yaw)
    along = from_base @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) - [0, 0, BLOCK.size[2] / 2]
    to_faces = np.abs(np.abs(along) - np.array(BLOCK.size) / 2)
    np.testing.assert_allclose(to_faces.min(axis=1), 0, atol=1e-5)
    assert set(to_faces.argmin(axis=1)) == {0, 1, 2}


def test_the_can_has_a_wall_and_a_lid(rendering: Rendering) -> None:
    assert isinstance(CAN, Can)
    points = on_the_table(rendering, VIEW, 3) - [*CAN.base_xy, 0]
    radius = np.hypot(points[:, 0], points[:, 1])
    on_wall, on_lid = (
        np.isclose(radius, CAN.radius, atol=1e-5),
        np.isclose(points[:, 2], CAN.height, atol=1e-5),
    )
    assert (on_wall | on_lid).all()
    assert on_wall.any() and on_lid.any()
    assert points[:, 2].min() >= -1e-5 and radius.max() <= CAN.radius + 1e-5


def test_the_rest_is_table_or_floor(rendering: Rendering) -> None:
    heights = on_the_table(rendering, VIEW, 0)[:, 2]
    assert (np.isclose(heights, 0, atol=1e-4) | np.isclose(heights, -0.7, atol=1e-4)).all()


def test_the_camera_is_at_its_distance_and_looks_at_the_tables_middle() -> None:
    np.testing.assert_allclose(VIEW.to_camera(np.zeros((1, 3))), [[0, 0, 1]], atol=1e-12)
    assert np.linalg.det(VIEW.rotation) == pytest.approx(1.0)


def test_pictures_are_coloured_by_thing(rendering: Rendering) -> None:
    for label, thing in enumerate(THINGS, 1):
        mean_rgb = rendering.image_rgb[rendering.labels == label].mean(axis=0)
        assert mean_rgb.argmax() == np.argmax(thing.rgb)


def test_a_sensed_depth_has_noise_and_holes_and_is_the_same_each_time(rendering: Rendering) -> None:
    noisy = sensed(rendering.depth_m, noise_m=0.002, holes=0.1, seed=1)
    np.testing.assert_array_equal(noisy, sensed(rendering.depth_m, noise_m=0.002, holes=0.1, seed=1))
    assert np.isnan(noisy).mean() == pytest.approx(0.1, abs=0.02)
    error = np.abs(noisy - rendering.depth_m) / rendering.depth_m**2
    assert np.nanmedian(error) == pytest.approx(
        0.6745 * 0.002, rel=0.25
    )  # of a normal distribution, and edges
    assert not np.isnan(rendering.depth_m).any(), "the rendering itself is left alone"


def test_a_pixel_without_a_ray_has_no_depth() -> None:
    folded = Pinhole((101, 101), (50.0, 50.0), (50.0, 50.0), (-0.5,))
    rendering = render(tilted_view(folded))
    assert np.isnan(rendering.depth_m[0, 0])
    assert np.isfinite(rendering.depth_m[50, 50])
