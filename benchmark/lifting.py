"""Masks and a depth image of 1280 x 720 to 20 objects in space, on one core, against the usual recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from benchmark.contest import Options
from benchmark.images import HD, SIZES_HW
from benchmark.results import Result
from benchmark.timing import interleaved
from sam_ros.core.lifting import BoxXYXY, Depth, LiftingSettings, Pose, lift
from sam_ros.core.pinhole import Pinhole
from sam_ros.core.tabletop import Ball, Block, Can, Rendering, Thing, View, render, sensed, tilted_view

OBJECTS = 20
COLUMNS = 5
NOISE_M, HOLES = 0.002, 0.03
DISTANCE_M, TILT_RAD = 0.97, 0.6
HOST = torch.device("cpu")
CAMERA_FRAME, UPRIGHT = "oriented boxes, camera's frame", "upright boxes, z up"


@dataclass(frozen=True)
class Scene:
    """Things on a table, and what a depth camera measures of them."""

    things: Sequence[Thing]
    view: View
    rendering: Rendering
    boxes_xyxy: Sequence[BoxXYXY]
    depth_m: npt.NDArray[np.float32]

    @property
    def pose(self) -> Pose:
        """Of the camera over the table."""
        return Pose(self.view.rotation, self.view.position)


def measure(options: Options) -> list[Result]:
    """One result for each kind of box and encoding, with the errors of both sides."""
    one = scene(SIZES_HW[HD])
    effort = replace(options.effort, budget_sec=options.effort.budget_sec / 10)
    with _one_core():
        return [
            _result(one, boxes, encoding, effort)
            for boxes in (CAMERA_FRAME, UPRIGHT)
            for encoding in ("32FC1", "16UC1")
        ]


def scene(size_hw: tuple[int, ...]) -> Scene:
    """Blocks, balls and cans in rows, all of them seen whole."""
    height, width = size_hw[:2]
    things = [_thing(index) for index in range(OBJECTS)]
    focal = 0.7 * width
    camera = Pinhole((height, width), (focal, focal), ((width - 1) / 2, (height - 1) / 2))
    view = tilted_view(camera, DISTANCE_M, TILT_RAD)
    rendering = render(view, things)
    boxes = [_tight_box(rendering.labels == label) for label in range(1, OBJECTS + 1)]
    return Scene(things, view, rendering, boxes, sensed(rendering.depth_m, NOISE_M, HOLES, seed=0))


def _thing(index: int) -> Thing:
    x, y = 0.24 * (index % COLUMNS - 2), 0.17 * (index // COLUMNS) - 0.25
    kinds: tuple[Thing, ...] = (
        Block("block", (200, 50, 50), (x, y), (0.10, 0.08, 0.06), 0.3 * index),
        Ball("ball", (50, 60, 200), (x, y), 0.045),
        Can("can", (40, 200, 50), (x, y), 0.04, 0.08),
    )
    return kinds[index % len(kinds)]


def _tight_box(mask: npt.NDArray[np.bool_]) -> BoxXYXY:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return x, y, x + width, y + height


def _result(one: Scene, boxes: str, encoding: str, effort: Any) -> Result:
    pose = one.pose if boxes == UPRIGHT else None
    depth: Depth = one.depth_m
    if encoding == "16UC1":
        depth = np.round(1000 * np.nan_to_num(one.depth_m)).astype(np.uint16)
    ours = partial(lifted, one, depth, pose)
    theirs = partial(by_the_usual_recipe, one, depth, pose)
    timings = interleaved({"ours": ours, "theirs": theirs}, effort, HOST)
    case = {"image": HD, "objects": str(OBJECTS), "boxes": boxes, "depth": encoding}
    figures = {
        **{f"{name} (mm)": value for name, value in errors_mm(one, ours(), pose).items()},
        **{f"other's {name} (mm)": value for name, value in errors_mm(one, theirs(), pose).items()},
    }
    return Result("lifting", case, timings["ours"].seconds, timings["theirs"].seconds, figures)


Found = list[tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]]  # centroid and sides of each object


def lifted(one: Scene, depth: Depth, pose: Pose | None) -> Found:
    """As ``objects_3d`` does it."""
    solids = lift(one.rendering.labels, one.boxes_xyxy, depth, one.view.camera, LiftingSettings(), pose)
    return [(solid.centroid, solid.box.size) for solid in solids if solid is not None]


def by_the_usual_recipe(one: Scene, depth: Depth, pose: Pose | None) -> Found:
    """The whole image to points, those of each mask, near its median depth, principal axes."""
    depth_m = depth.astype(np.float32) / (1000 if depth.dtype == np.uint16 else 1)
    height, width = depth_m.shape
    rows, columns = np.mgrid[:height, :width]
    x, y = one.view.camera.rays(rows, columns)
    cloud = np.stack([x, y, np.ones_like(x)], axis=-1) * depth_m[..., None]
    if pose is not None:
        cloud = cloud @ pose.rotation.T.astype(np.float32) + pose.translation.astype(np.float32)
    found: Found = []
    for label in range(1, OBJECTS + 1):
        chosen = (one.rendering.labels == label) & (depth_m > 0) & np.isfinite(depth_m)
        near = np.abs(depth_m[chosen] - np.median(depth_m[chosen])) < 0.1
        points = cloud[chosen][near]
        centroid = points.mean(axis=0)
        _, axes = np.linalg.eigh(np.cov(points.T))
        found.append((centroid, np.ptp(points @ axes, axis=0)))
    return found


def errors_mm(one: Scene, found: Found, pose: Pose | None) -> dict[str, float]:
    """The largest errors of the centroids of what is visible, and of the sides of blocks and cans."""
    off, sides = [], []
    for label, (thing, (centroid, size)) in enumerate(zip(one.things, found, strict=True), 1):
        rows, columns = np.nonzero(one.rendering.labels == label)
        x, y = one.view.camera.rays(rows, columns)
        visible = np.stack([x, y, np.ones_like(x)], axis=1) * one.rendering.depth_m[rows, columns, None]
        true = visible.mean(axis=0) if pose is None else one.view.to_table(visible).mean(axis=0)
        off.append(1000 * float(np.linalg.norm(centroid - true)))
        if not isinstance(thing, Ball):  # its back is hidden
            sides.append(1000 * float(np.abs(np.sort(size) - np.sort(thing.size)).max()))
    return {"centroid off": max(off), "side off": max(sides)}


@contextmanager
def _one_core() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
