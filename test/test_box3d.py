"""Boxes around points whose box is known."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sam_ros.core.box3d import Box3D, aligned_box, mean, oriented_box, upright_box

SIZE = np.array([0.3, 0.2, 0.1])
CENTER = np.array([0.1, -0.2, 1.5])


def rotation(x: float, y: float, z: float) -> npt.NDArray[np.float64]:
    """From a rotation vector."""
    return np.asarray(cv2.Rodrigues(np.array([x, y, z]))[0])


def faces(which: list[int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(N, 3) points on the upper faces of some axes of a box of SIZE around 0, and their normals."""
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 21)] * 2), axis=-1).reshape(-1, 2)
    points, normals = [], []
    for axis in which:
        on_face = np.insert(grid, axis, 0.5, axis=1)
        points.append(on_face * SIZE)
        normals.append(np.broadcast_to(np.eye(3)[axis], on_face.shape))
    return np.concatenate(points).astype(np.float32), np.concatenate(normals).astype(np.float32)


def moved(points: npt.NDArray[np.float32], turn: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (points @ turn.T + CENTER).astype(np.float32)


def same_up_to_signs(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    return bool(np.allclose(np.abs(one.T @ other), np.eye(3), atol=0.05))


def test_an_aligned_box_is_from_least_to_most() -> None:
    box = aligned_box(np.array([[0, 0, 1], [2, 1, 4], [1, -1, 2]], np.float32))
    np.testing.assert_allclose(box.center, [1.0, 0.0, 2.5])
    np.testing.assert_allclose(box.size, [2.0, 2.0, 3.0])
    np.testing.assert_array_equal(box.rotation, np.eye(3))


@pytest.mark.parametrize("yaw", [0.0, 0.4, 1.2, 2.9])
def test_an_upright_box_stands_on_z(yaw: float) -> None:
    points, _ = faces([0, 1, 2])
    box = upright_box(moved(points, rotation(0, 0, yaw)))
    np.testing.assert_allclose(box.size, SIZE, atol=2e-3)
    np.testing.assert_allclose(box.center, CENTER, atol=2e-3)
    np.testing.assert_allclose(box.rotation[:, 2], [0, 0, 1])
    assert same_up_to_signs(box.rotation, rotation(0, 0, yaw))


@pytest.mark.parametrize("seen", [[0, 1, 2], [0, 2], [2], [0]])
@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.3, -0.5, 0.2), (1.0, 0.9, -0.4), (2.0, -1.5, 0.7)])
def test_an_oriented_box_lies_along_the_faces_that_are_seen(
    seen: list[int], turn: tuple[float, float, float]
) -> None:
    points, normals = faces(seen)
    box = oriented_box(moved(points, rotation(*turn)), (normals @ rotation(*turn).T).astype(np.float32))
    expected = np.sort(np.ptp(points, axis=0))[::-1]
    np.testing.assert_allclose(box.size, expected, atol=2e-3)
    np.testing.assert_allclose(
        box.center, moved((points.max(0) + points.min(0))[None] / 2, rotation(*turn))[0], atol=2e-3
    )


def test_the_box_of_a_ball_does_not_turn() -> None:
    normals = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals[normals[:, 2] < -0.2]  # what a camera sees
    box = oriented_box(0.1 * normals, normals)
    np.testing.assert_allclose(np.abs(box.rotation), np.eye(3))
    np.testing.assert_allclose(box.size, [0.2, 0.2, 0.08], atol=0.01)


def test_without_normals_the_principal_axes_are_taken() -> None:
    generator = np.random.default_rng(0)
    cloud = (generator.uniform(-0.5, 0.5, (4000, 3)) * SIZE).astype(np.float32)
    turn = rotation(0.5, 0.3, -0.8)
    box = oriented_box(moved(cloud, turn), np.empty((0, 3), np.float32))
    np.testing.assert_allclose(box.size, SIZE, atol=0.02)
    assert same_up_to_signs(box.rotation, turn)


@pytest.mark.parametrize("make", [aligned_box, upright_box])
def test_points_in_one_place_make_a_box_without_size(make: object) -> None:
    points = np.full((12, 3), 1.0, np.float32)
    box = make(points)  # type: ignore[operator]
    np.testing.assert_allclose(box.size, 0, atol=1e-6)
    np.testing.assert_allclose(box.center, 1, atol=1e-6)


def test_rotations_are_right_handed_and_point_along_the_frame() -> None:
    points, normals = faces([0, 1, 2])
    for index in range(20):
        turn = rotation(*np.random.default_rng(index).uniform(-2, 2, 3))
        found = oriented_box(moved(points, turn), (normals @ turn.T).astype(np.float32)).rotation
        assert np.linalg.det(found) == pytest.approx(1.0)
        assert found[np.abs(found[:, 0]).argmax(), 0] > 0


def test_corners_and_quaternion_turn_the_same_way() -> None:
    box = Box3D(CENTER, rotation(0, 0, np.pi / 2), SIZE)
    np.testing.assert_allclose(box.quaternion_xyzw, [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12)
    lowest, highest = box.corners[0] - CENTER, box.corners[7] - CENTER
    np.testing.assert_allclose(lowest, [0.1, -0.15, -0.05], atol=1e-12)  # the box's -x is the frame's -y
    np.testing.assert_allclose(highest, [-0.1, 0.15, 0.05], atol=1e-12)
    np.testing.assert_allclose(Box3D(CENTER, np.eye(3), SIZE).quaternion_xyzw, [0, 0, 0, 1])


def test_mean_is_numpys() -> None:
    points = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    np.testing.assert_allclose(mean(points), points.mean(axis=0, dtype=np.float64), atol=1e-6)
