"""A rendered scene of known geometry: things on a table, as a picture, a depth image and labels.

It is what the camera shows where no depth camera is at hand, and what the measurements in space are held to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_ros.core.pinhole import Pinhole

Vector = npt.NDArray[np.float64]  # (3,)
Vectors = npt.NDArray[np.float64]  # (N, 3)
Floats = npt.NDArray[np.float64]  # (N,)
Rgb = tuple[int, int, int]

LIGHT = np.array([0.35, -0.4, 0.85]) / np.linalg.norm([0.35, -0.4, 0.85])  # towards it, in the table's frame
AMBIENT = 0.45
TABLE_RGB: Rgb = (196, 178, 150)
FLOOR_RGB: Rgb = (120, 120, 125)
WALL_RGB: Rgb = (225, 225, 220)
BOARD_M = 0.09
TABLE_HALF_M = 0.6  # a square; beyond it is the floor
FLOOR_BELOW_M = 0.7
FAR_M = 50.0
EDGE_M = 0.03  # neighbours further apart are mixed


@dataclass(frozen=True)
class Block:
    """A box that stands on the table, turned about the vertical."""

    name: str
    rgb: Rgb
    base_xy: tuple[float, float]
    size: tuple[float, float, float]
    yaw: float


@dataclass(frozen=True)
class Ball:
    """A sphere that lies on the table."""

    name: str
    rgb: Rgb
    base_xy: tuple[float, float]
    radius: float

    @property
    def size(self) -> tuple[float, float, float]:
        """Metres."""
        return (2 * self.radius,) * 3


@dataclass(frozen=True)
class Can:
    """A cylinder that stands on the table."""

    name: str
    rgb: Rgb
    base_xy: tuple[float, float]
    radius: float
    height: float

    @property
    def size(self) -> tuple[float, float, float]:
        """Metres."""
        return 2 * self.radius, 2 * self.radius, self.height


Thing = Block | Ball | Can

THINGS: tuple[Thing, ...] = (
    Block("box", (190, 60, 50), (-0.20, 0.02), (0.20, 0.12, 0.10), 0.5),
    Ball("ball", (60, 110, 190), (0.03, -0.10), 0.06),
    Can("can", (70, 150, 80), (0.22, 0.06), 0.045, 0.15),
)


@dataclass(frozen=True)
class View:
    """A camera over the table.

    Attributes:
        camera: its calibration.
        rotation: (3, 3), the camera's axes (right, down, forward) as columns in the table's frame.
        position: (3,) metres in the table's frame: z up, z = 0 the table's top, the origin its middle.
    """

    camera: Pinhole
    rotation: npt.NDArray[np.float64]
    position: Vector

    def to_table(self, points: npt.NDArray[np.floating]) -> Vectors:
        """(N, 3) points of the camera's frame in the table's."""
        return points @ self.rotation.T + self.position

    def to_camera(self, points: npt.NDArray[np.floating]) -> Vectors:
        """(N, 3) points of the table's frame in the camera's."""
        return (points - self.position) @ self.rotation


@dataclass(frozen=True)
class Rendering:
    """What a camera sees without noise.

    Attributes:
        image_rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32 along the camera's z; NaN where a pixel has no ray.
        labels: (H, W) uint16, k for the k-th thing, 0 for all else.
    """

    image_rgb: npt.NDArray[np.uint8]
    depth_m: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint16]


def tilted_view(
    camera: Pinhole, distance_m: float = 1.0, tilt_rad: float = 0.9, roll_rad: float = 0.0
) -> View:
    """A view of the table's middle from a distance; without a tilt it looks straight down."""
    sin, cos = np.sin(tilt_rad), np.cos(tilt_rad)
    right, forward = np.array([1.0, 0.0, 0.0]), np.array([0.0, sin, -cos])
    down = np.cross(forward, right)
    turned_right = np.cos(roll_rad) * right + np.sin(roll_rad) * down
    turned_down = np.cos(roll_rad) * down - np.sin(roll_rad) * right
    return View(camera, np.stack([turned_right, turned_down, forward], axis=1), -distance_m * forward)


def render(view: View, things: Sequence[Thing] = THINGS) -> Rendering:
    """Trace one ray for each pixel."""
    height, width = view.camera.size_hw
    rows, columns = np.indices((height, width)).reshape(2, -1)
    x, y = view.camera.rays(rows, columns)
    rays = np.stack([x, y, np.ones_like(x)], axis=1) @ view.rotation.T  # (H * W, 3), 1 along the camera's z
    depth = np.where(np.isnan(x), np.nan, FAR_M)
    shade = np.full((height * width, 3), WALL_RGB, np.float64)
    labels = np.zeros(height * width, np.uint16)
    for label, thing in enumerate((None, *things)):
        hit_depth, normals = _hit(thing, view.position, rays)
        nearer = hit_depth < depth  # false where NaN
        depth[nearer], labels[nearer] = hit_depth[nearer], label
        hits = view.position + hit_depth[nearer, None] * rays[nearer]
        rgb = _table_rgb(hits) if thing is None else np.array(thing.rgb, np.float64)
        shade[nearer] = rgb * _brightness(normals[nearer])[:, None]
    return Rendering(
        np.round(shade).astype(np.uint8).reshape(height, width, 3),
        depth.reshape(height, width).astype(np.float32),
        labels.reshape(height, width),
    )


def sensed(
    depth_m: npt.NDArray[np.float32], noise_m: float, holes: float, seed: int
) -> npt.NDArray[np.float32]:
    """A rendered depth as a depth camera would give it: noise, mixed pixels at edges, holes of NaN.

    Args:
        depth_m: (H, W) metres.
        noise_m: standard deviation at one metre; it grows with the square of the depth, as in stereo.
        holes: share of the pixels.
        seed: of the random numbers.
    """
    generator = np.random.default_rng(seed)
    mixed = depth_m.copy()
    neighbour = np.roll(depth_m, (1, 1), axis=(0, 1))
    edge = np.abs(neighbour - depth_m) > EDGE_M
    mixed[edge] = (depth_m[edge] + neighbour[edge]) / 2
    mixed += (noise_m * mixed**2 * generator.standard_normal(mixed.shape)).astype(np.float32)
    mixed[generator.random(mixed.shape) < holes] = np.nan
    return mixed


def _hit(thing: Thing | None, origin: Vector, rays: Vectors) -> tuple[Floats, Vectors]:
    """How many times its ray each pixel is from the thing, inf where it passes by; the normals (N, 3)."""
    if isinstance(thing, Block):
        return _hit_block(thing, origin, rays)
    if isinstance(thing, Ball):
        return _hit_ball(thing, origin, rays)
    if isinstance(thing, Can):
        return _hit_can(thing, origin, rays)
    return _hit_table(origin, rays)


def _hit_table(origin: Vector, rays: Vectors) -> tuple[Floats, Vectors]:
    """The table's top, and the floor beside it."""
    times = _ahead(-origin[2] / rays[:, 2])
    with np.errstate(invalid="ignore"):
        beside = np.abs(origin[:2] + times[:, None] * rays[:, :2]).max(axis=1) > TABLE_HALF_M
    floor = _ahead((-FLOOR_BELOW_M - origin[2]) / rays[:, 2])
    return np.where(beside, floor, times), np.broadcast_to([0.0, 0.0, 1.0], rays.shape)


def _hit_block(block: Block, origin: Vector, rays: Vectors) -> tuple[Floats, Vectors]:
    """By the slabs between opposite faces: within the block a ray is inside of all three."""
    cos, sin = np.cos(block.yaw), np.sin(block.yaw)
    axes = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    half = np.array(block.size) / 2
    start = (origin - [*block.base_xy, half[2]]) @ axes
    along = rays @ axes  # (N, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        enter = (-half * np.sign(along) - start) / along
        leave = (half * np.sign(along) - start) / along
    face = enter.argmax(axis=1)
    times = enter.max(axis=1)
    normals = -np.sign(along[np.arange(len(along)), face])[:, None] * axes.T[face]
    return np.where(times <= leave.min(axis=1), _ahead(times), np.inf), normals


def _hit_ball(ball: Ball, origin: Vector, rays: Vectors) -> tuple[Floats, Vectors]:
    start = origin - [*ball.base_xy, ball.radius]
    times = _first_root((rays**2).sum(axis=1), rays @ start, float(start @ start) - ball.radius**2)
    return times, _at(start, times, rays) / ball.radius


def _hit_can(can: Can, origin: Vector, rays: Vectors) -> tuple[Floats, Vectors]:
    start = origin - [*can.base_xy, 0.0]
    across = float(start[:2] @ start[:2]) - can.radius**2
    side = _first_root((rays[:, :2] ** 2).sum(axis=1), rays[:, :2] @ start[:2], across)
    hits = _at(start, side, rays)
    side = np.where((hits[:, 2] >= 0) & (hits[:, 2] <= can.height), side, np.inf)
    lid = _ahead((can.height - start[2]) / rays[:, 2])
    lid = np.where(np.hypot(*_at(start, lid, rays)[:, :2].T) <= can.radius, lid, np.inf)
    normals = np.where((lid < side)[:, None], [0.0, 0.0, 1.0], hits * [1, 1, 0] / can.radius)
    return np.minimum(lid, side), normals


def _first_root(a: Floats, half_b: Floats, c: float) -> Floats:
    """The lesser solution of a t^2 + 2 half_b t + c = 0, inf where there is none ahead."""
    with np.errstate(invalid="ignore"):
        return _ahead((-half_b - np.sqrt(half_b**2 - a * c)) / a)


def _ahead(times: Floats) -> Floats:
    return np.where(times > 0, times, np.inf)  # inf where NaN


def _at(start: Vector, times: Floats, rays: Vectors) -> Vectors:
    """Points along rays; the start where a ray hits nothing."""
    return start + np.where(np.isfinite(times), times, 0.0)[:, None] * rays


def _table_rgb(hits: Vectors) -> Vectors:
    """(N, 3): boards of wood, and a grey floor beside the table."""
    board = np.floor(hits[:, 1] / BOARD_M)
    grain = 8 * np.sin(40 * board) + 4 * np.sin(25 * hits[:, 0] + 9 * board) * np.sin(230 * hits[:, 1])
    return np.where(hits[:, 2:] < -0.01, FLOOR_RGB, np.array(TABLE_RGB) + grain[:, None])


def _brightness(normals: Vectors) -> Floats:
    """(N,) by Lambert's law, with some light from everywhere."""
    return AMBIENT + (1 - AMBIENT) * np.clip(normals @ LIGHT, 0.0, 1.0)
