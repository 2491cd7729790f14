"""Boxes in space, and the box around points: along the axes, upright, or turned freely."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]  # (N, 3) metres
Matrix = npt.NDArray[np.float64]  # (3, 3), columns are the axes

ROUNDS = 8  # of turning about each axis, at most
SETTLED = 0.005  # radians
FEWEST_NORMALS = 20
CLEAR = 0.15  # about a can's axis it is up to 0.13, about the others from 0.18 on


@dataclass(frozen=True)
class Box3D:
    """A box in a frame.

    Attributes:
        center: (3,) metres.
        rotation: (3, 3), a right-handed rotation whose columns are the box's axes.
        size: (3,) metres along these axes.
    """

    center: npt.NDArray[np.float64]
    rotation: Matrix
    size: npt.NDArray[np.float64]

    @property
    def corners(self) -> npt.NDArray[np.float64]:
        """(8, 3) metres; bit k of a corner's index says at which end of axis k it is."""
        signs = (np.arange(8)[:, None] >> np.arange(3)) & 1  # (8, 3)
        return self.center + ((signs - 0.5) * self.size) @ self.rotation.T

    @property
    def quaternion_xyzw(self) -> tuple[float, float, float, float]:
        """The rotation as a unit quaternion with w >= 0."""
        rotation_vector = cv2.Rodrigues(self.rotation)[0].ravel()
        angle = float(np.linalg.norm(rotation_vector))  # 0 to pi
        x, y, z = rotation_vector * (np.sin(angle / 2) / angle if angle else 0.0)
        return float(x), float(y), float(z), float(np.cos(angle / 2))


def aligned_box(points: Points) -> Box3D:
    """The box along the frame's axes."""
    return _box_along(points, np.eye(3))


def upright_box(points: Points) -> Box3D:
    """The least box that stands on the frame's z; its first axis is the longer horizontal side."""
    return _ordered(_box_along(points, _turned_by_area(points, np.eye(3), axis=2)), axes=(0, 1))


def oriented_box(points: Points, normals: Points) -> Box3D:
    """A box along the faces of a thing, its sides in decreasing order.

    Of a thing a camera sees some faces and not the others, so that neither the principal axes of its points
    nor the least box around them lie along it: what is seen of a box fits into a flatter one. The normals of
    the faces do: axes are sought that as many normals as possible lie along. Where they say nothing of a turn
    about one axis, as on a plate or a can, the least rectangle around the points decides; where they say
    nothing at all, as on a ball, the frame's axes do, so that the box does not turn from frame to frame.

    Args:
        points: (N, 3) metres.
        normals: (M, 3) of unit length, all over the surface; with few of them the principal axes are taken.
    """
    axes = _principal_axes(points)
    if len(normals) >= FEWEST_NORMALS:
        axes, clearness = _axes_along(normals, axes)
        if clearness.max() < CLEAR:
            axes = np.eye(3)
        elif clearness.min() < CLEAR:
            axes = _turned_by_area(points, axes, int(clearness.argmin()))
    return _ordered(_box_along(points, axes), axes=(0, 1, 2))


def _axes_along(normals: Points, axes: Matrix) -> tuple[Matrix, npt.NDArray[np.float64]]:
    """Axes for which the sum of the fourth powers of the normals' components is greatest.

    A unit vector's is 1 along an axis and less anywhere else. It is the quartimax rotation of factor analysis
    (Neuhaus and Wrigley, 1954): about one axis the best turn has a closed form, and all axes come in turn.

    Returns:
        The axes, and how clear the turn about each is: 0 where the normals do not tell, at most 1.
    """
    products = (normals[:, :, None] * normals[:, None, :]).reshape(-1, 9)  # (M, 9)
    moments = (products.T @ products).astype(np.float64) / len(normals)  # (9, 9), all that is needed of them
    clearness = np.zeros(3)
    for _ in range(ROUNDS):
        before = axes
        for axis in range(3):
            plane = axes[:, (axis + 1) % 3] + 1j * axes[:, (axis + 2) % 3]
            squares = np.outer(plane, plane).ravel()  # normal @ plane, squared, is these times its products
            fourth = complex(squares @ moments @ squares)
            clearness[axis] = abs(fourth)
            axes = _turned(axes, axis, cmath.phase(fourth) / 4)
        if np.abs(axes - before).max() < SETTLED:
            break
    return axes, clearness


def _turned_by_area(points: Points, axes: Matrix, axis: int) -> Matrix:
    """Axes turned about one of them so that the rectangle around the points seen along it is least."""
    seen = points @ axes[:, [(axis + 1) % 3, (axis + 2) % 3]].astype(np.float32)  # (N, 2)
    return _turned(axes, axis, np.deg2rad(cv2.minAreaRect(seen)[2]))


def _turned(axes: Matrix, axis: int, angle: float) -> Matrix:
    plane = [(axis + 1) % 3, (axis + 2) % 3]
    cos, sin = math.cos(angle), math.sin(angle)
    turned = axes.copy()
    turned[:, plane] = axes[:, plane] @ np.array([[cos, -sin], [sin, cos]])
    return turned


def _box_along(points: Points, axes: Matrix) -> Box3D:
    along = (
        axes.T.astype(np.float32) @ points.T
    )  # (3, N): a minimum along rows takes a tenth of one along columns
    low, high = along.min(axis=1).astype(np.float64), along.max(axis=1).astype(np.float64)
    return Box3D(axes @ ((low + high) / 2), axes, high - low)


def _ordered(box: Box3D, axes: Iterable[int]) -> Box3D:
    """The same box with some of its axes in decreasing order of their sides, each pointing along the frame's.

    A box has many rotations: without a rule it would seem to turn by a right angle between two frames.
    """
    given = list(axes)
    order = np.arange(3)
    order[given] = sorted(given, key=lambda axis: -box.size[axis])
    rotation = box.rotation[:, order]
    strongest = np.abs(rotation).argmax(axis=0)
    rotation = rotation * np.where(rotation[strongest, np.arange(3)] < 0, -1.0, 1.0)
    if np.linalg.det(rotation) < 0:
        rotation[:, given[-1]] *= -1
    return Box3D(box.center, rotation, box.size[order])


def mean(points: Points) -> npt.NDArray[np.float64]:
    """(3,), as ``points.mean(axis=0)`` in a fifth of its time."""
    return (np.ones(len(points), np.float32) @ points).astype(np.float64) / len(points)


def _principal_axes(points: Points) -> Matrix:
    centred = points - mean(points).astype(np.float32)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes.astype(np.float64)
    return axes * np.sign(np.linalg.det(axes))  # right-handed
