"""From masks and a depth image to objects in space: points, centroid and box of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.box3d import Box3D, Points, aligned_box, mean, oriented_box, upright_box
from sam_ros.core.pinhole import Pinhole
from sam_ros.errors import InvalidDepthError
from sam_ros.masks import BoolMask

Floats = npt.NDArray[np.float32]
Depth = Floats | npt.NDArray[np.uint16]
Indices = npt.NDArray[np.intp]
BoxXYXY = tuple[float, float, float, float]

MM_PER_M = 1000.0
JUMP = 0.05  # neighbours that differ by more of their depth are on either side of an edge
SMOOTHING = 5  # pixels; the noise of a depth camera is averaged over that window
SUPPORT = 5  # pixels of that window that have to be there: fewer are specks
FEWEST_POINTS = 10  # of an object
BOXES = ("oriented", "aligned")


@dataclass(frozen=True)
class LiftingSettings:
    """What counts as a thing.

    Attributes:
        min_depth_m: nearer pixels are holes.
        max_depth_m: so are further ones.
        depth_gap_m: a gap in depth that separates what is seen in one mask.
        erosion_px: of the mask, in pixels of the labels; masks and depth edges are never quite in one place.
        max_points: of an object; larger ones are taken at every n-th row and column.
        boxes: oriented or aligned.
    """

    min_depth_m: float = 0.1
    max_depth_m: float = 10.0
    depth_gap_m: float = 0.05
    erosion_px: int = 2
    max_points: int = 4096
    boxes: str = "oriented"


@dataclass(frozen=True)
class Pose:
    """Where a camera is in another frame: a point p of the camera's is rotation @ p + translation there.

    Attributes:
        rotation: (3, 3).
        translation: (3,) metres.
    """

    rotation: npt.NDArray[np.float64]
    translation: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solid:
    """An object in space: what the camera sees of it; its hidden back is not guessed.

    Attributes:
        label: its value in the labels.
        points: (N, 3) metres in the camera's frame, or in that of the pose.
        rows: (N,) where the points are in the depth image.
        columns: (N,)
        centroid: (3,) mean of the points.
        box: around the points.
        depth_coverage: share of the eroded mask that had a depth in range, 0 to 1.
    """

    label: int
    points: Points
    rows: Indices
    columns: Indices
    centroid: npt.NDArray[np.float64]
    box: Box3D
    depth_coverage: float


@dataclass(frozen=True)
class _Frame:
    """What all objects share; images of the depth's size (h, w)."""

    labels: npt.NDArray[np.uint16]
    depth: Depth
    camera: Pinhole
    erosion_px: float
    pose: Pose | None
    settings: LiftingSettings


def lift(
    labels: npt.NDArray[np.uint16],
    boxes_xyxy: Sequence[BoxXYXY],
    depth: Depth,
    camera: Pinhole,
    settings: LiftingSettings,
    pose: Pose | None = None,
) -> list[Solid | None]:
    """The objects of a label image in space.

    Args:
        labels: (H, W), k for the k-th object, 0 for none.
        boxes_xyxy: a box around each object's mask, half-open pixel edges of the labels.
        depth: (H / n, W / n) along the camera's z, registered to the labels: float32 metres, or uint16
            millimetres (REP 118). Zeros, NaN and infinities are holes.
        camera: of either image's size.
        settings: what counts as a thing.
        pose: of the camera in a frame whose z is up; points are then in that frame, oriented boxes upright.

    Returns:
        One for each box, None where too little of its mask has a depth.

    Raises:
        InvalidDepthError: the sizes do not fit together.
    """
    labels_hw, depth_hw = (labels.shape[0], labels.shape[1]), (depth.shape[0], depth.shape[1])
    factor = times_smaller(labels_hw, depth_hw)
    _check_camera(camera, labels_hw, depth_hw)
    frame = _Frame(
        labels[factor // 2 :: factor, factor // 2 :: factor],
        depth,
        camera.resized(depth_hw),
        settings.erosion_px / factor,
        pose,
        settings,
    )
    boxes = [tuple(edge / factor for edge in box_xyxy) for box_xyxy in boxes_xyxy]
    return [_lift(frame, label, box_xyxy) for label, box_xyxy in enumerate(boxes, 1)]


def _check_camera(camera: Pinhole, labels_hw: tuple[int, int], depth_hw: tuple[int, int]) -> None:
    if camera.size_hw not in (labels_hw, depth_hw):
        raise InvalidDepthError(
            f"camera_info is of (H, W) = {camera.size_hw}, the masks are of {labels_hw} and the depth is of "
            f"{depth_hw}: take the camera_info of one of the two",
            kind="size of camera_info",
        )


def times_smaller(labels_hw: tuple[int, int], depth_hw: tuple[int, int]) -> int:
    """How many times smaller the depth image is than the labels, in both directions.

    Raises:
        InvalidDepthError: it is not a whole number of times smaller.
    """
    factor = labels_hw[0] // max(depth_hw[0], 1)
    if factor < 1 or (depth_hw[0] * factor, depth_hw[1] * factor) != labels_hw:
        raise InvalidDepthError(
            f"depth of {depth_hw[1]} x {depth_hw[0]} pixels does not lie on masks of {labels_hw[1]} x "
            f"{labels_hw[0]}: publish aligned depth (realsense: align_depth.enable:=true; others: "
            "the register node of depth_image_proc)",
            kind="size of the depth",
        )
    return factor


def _lift(frame: _Frame, label: int, box_xyxy: Sequence[float]) -> Solid | None:
    rows, columns, stride = _window(box_xyxy, frame.labels.shape, frame.settings.max_points)
    whole = frame.labels[rows, columns] == label
    mask = _eroded(whole, frame.erosion_px / stride)
    depth_m = _metres(frame.depth[rows, columns])
    has_depth = mask & (depth_m > frame.settings.min_depth_m) & (depth_m < frame.settings.max_depth_m)
    of_thing = _median_cluster(depth_m, _without_edges(depth_m, has_depth), frame.settings.depth_gap_m)
    depth_m, of_thing = _smoothed(depth_m, of_thing, whole & ~mask)
    grid = _grid(frame.camera, rows, columns, depth_m)
    of_thing &= ~np.isnan(grid[..., 0])  # where the camera's model has no ray
    if np.count_nonzero(of_thing) < FEWEST_POINTS:
        return None
    found_rows, found_columns = np.nonzero(of_thing)
    points = grid[found_rows, found_columns]  # (N, 3)
    if frame.pose is not None:
        points = (points @ frame.pose.rotation.T + frame.pose.translation).astype(np.float32)
    return Solid(
        label,
        points,
        found_rows * stride + rows.start,
        found_columns * stride + columns.start,
        mean(points),
        _box(frame, points, grid, of_thing),
        float(np.count_nonzero(has_depth) / np.count_nonzero(mask)),
    )


def _box(frame: _Frame, points: Points, grid: Floats, of_thing: BoolMask) -> Box3D:
    if frame.settings.boxes == "aligned":
        return aligned_box(points)
    return oriented_box(points, _normals(grid, of_thing)) if frame.pose is None else upright_box(points)


def _grid(camera: Pinhole, rows: slice, columns: slice, depth_m: Floats) -> Floats:
    """(h, w, 3): the points of a window of the depth image."""
    height, width = camera.size_hw
    x, y = camera.rays(
        np.arange(height)[rows, None], np.arange(width)[None, columns]
    )  # (h, w) or one of them 1
    grid = np.empty((*depth_m.shape, 3), np.float32)
    np.multiply(x, depth_m, out=grid[..., 0])
    np.multiply(y, depth_m, out=grid[..., 1])
    grid[..., 2] = depth_m
    return grid


def _normals(grid: Floats, of_thing: BoolMask) -> Points:
    """(M, 3) unit normals of every other pixel whose neighbours two pixels away are of the thing as well."""
    before, here, after = slice(0, -4, 2), slice(2, -2, 2), slice(4, None, 2)
    crosses = ((here, before), (here, after), (before, here), (after, here))
    inside = of_thing[here, here].copy()
    for cross in crosses:
        inside &= of_thing[cross]
    left, right, above, below = (grid[cross][inside] for cross in crosses)  # (M, 3) each
    (ax, ay, az), (bx, by, bz) = (right - left).T, (below - above).T
    normals = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)
    lengths = np.sqrt(np.einsum("ij,ij->i", normals, normals))
    return normals / np.maximum(lengths, np.float32(1e-12))[:, None]


def _window(box_xyxy: Sequence[float], size_hw: tuple[int, ...], max_points: int) -> tuple[slice, slice, int]:
    """Rows and columns of a box inside the image, at most so many pixels, and the step between them."""
    x0, y0 = (max(math.floor(edge), 0) for edge in box_xyxy[:2])
    x1, y1 = (
        min(math.ceil(edge), size) for edge, size in zip(box_xyxy[2:], (size_hw[1], size_hw[0]), strict=True)
    )
    area = max(x1 - x0, 0) * max(y1 - y0, 0)
    stride = max(math.ceil(math.sqrt(area / max_points)), 1)
    return slice(y0, max(y1, y0), stride), slice(x0, max(x1, x0), stride), stride


def _eroded(mask: BoolMask, erosion_px: float) -> BoolMask:
    """Without its edge; a mask that is hardly more than edge stays as it is."""
    if not erosion_px or not mask.size:
        return mask
    side = 2 * math.ceil(erosion_px) + 1
    eroded = cv2.erode(mask.view(np.uint8), np.ones((side, side), np.uint8), borderValue=0).view(np.bool_)
    return eroded if 4 * np.count_nonzero(eroded) >= np.count_nonzero(mask) else mask


def _metres(depth: Depth) -> Floats:
    if depth.dtype == np.uint16:
        return depth * np.float32(1 / MM_PER_M)
    return np.ascontiguousarray(depth, np.float32)


def _without_edges(depth_m: Floats, has_depth: BoolMask) -> BoolMask:
    """Pixels whose neighbours are all near in depth: at an edge a pixel mixes what is on either side of it.

    Neighbours outside the mask do not count. A thing that is all edge keeps its pixels.
    """
    if not has_depth.any():
        return has_depth
    window = np.ones((3, 3), np.uint8)
    highest = cv2.dilate(np.where(has_depth, depth_m, np.float32(0)), window)
    lowest = cv2.erode(np.where(has_depth, depth_m, np.float32(np.inf)), window)
    inner = has_depth & (highest - lowest < JUMP * depth_m)
    return inner if 4 * np.count_nonzero(inner) >= np.count_nonzero(has_depth) else has_depth


def _median_cluster(depth_m: Floats, chosen: BoolMask, gap_m: float) -> BoolMask:
    """Those of the chosen pixels that no gap in depth parts from their median."""
    depths = np.sort(depth_m[chosen])
    if not depths.size:
        return chosen
    middle = depths.size // 2
    gaps = np.flatnonzero(np.diff(depths) > gap_m)
    first = int(gaps[gaps < middle].max(initial=-1)) + 1
    last = int(gaps[gaps >= middle].min(initial=depths.size - 1))
    return chosen & (depth_m >= depths[first]) & (depth_m <= depths[last])


def _smoothed(depth_m: Floats, of_thing: BoolMask, rim: BoolMask) -> tuple[Floats, BoolMask]:
    """The mean depth of the thing's pixels around each pixel; its pixels without specks, with its rim.

    The rim was eroded from the mask, since a depth camera mixes there what is before and behind. Without it a
    thing would be smaller: so it takes the depth of what is next to it, but for pixels of another surface.
    """
    if not of_thing.any():
        return depth_m, of_thing
    total = _window_sum(np.where(of_thing, depth_m, np.float32(0)))
    count = _window_sum(of_thing.astype(np.float32))
    smooth: Floats = total / np.maximum(count, np.float32(1))
    is_elsewhere = (depth_m > 0) & (np.abs(depth_m - smooth) > JUMP * smooth)  # false for NaN
    return smooth, (of_thing | (rim & ~is_elsewhere)) & (count >= SUPPORT)


def _window_sum(image: Floats) -> Floats:
    window = (SMOOTHING, SMOOTHING)
    return cv2.boxFilter(image, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
