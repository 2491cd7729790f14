"""Masks and depth to objects in space, held to rendered scenes whose geometry is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sam_ros.core.lifting import BoxXYXY, LiftingSettings, Pose, Solid, lift, times_smaller
from sam_ros.core.pinhole import Pinhole
from sam_ros.core.tabletop import THINGS, View, render, sensed, tilted_view
from sam_ros.errors import InvalidDepthError

SIZE_HW = (480, 640)
LENSES: dict[str, tuple[float, ...]] = {
    "no distortion": (),
    "plumb_bob": (-0.12, 0.05, 0.0008, -0.0006, -0.01),
    "rational_polynomial": (0.5, -0.1, 0.0005, -0.0003, 0.01, 0.83, -0.06, 0.02),
}
CENTROID_M = 0.01  # at a distance of one metre
SIDE_M = 0.02
SETTINGS = LiftingSettings()


@dataclass(frozen=True)
class Scene:
    """A view of the table, masks, and what its depth camera measures, in float32 metres."""

    view: View
    labels: npt.NDArray[np.uint16]
    true_depth_m: npt.NDArray[np.float32]
    depth_m: npt.NDArray[np.float32]

    @property
    def boxes_xyxy(self) -> list[BoxXYXY]:
        return [tight_box(self.labels == label) for label in range(1, len(THINGS) + 1)]

    def visible(self, label: int) -> npt.NDArray[np.float64]:
        """(N, 3) the true points of a thing, in the camera's frame."""
        rows, columns = np.nonzero(self.labels == label)
        x, y = self.view.camera.rays(rows, columns)
        return np.stack([x, y, np.ones_like(x)], axis=1) * self.true_depth_m[rows, columns, None]

    def lift(
        self, depth: Any = None, settings: LiftingSettings = SETTINGS, upright: bool = False
    ) -> list[Solid]:
        pose = Pose(self.view.rotation, self.view.position) if upright else None
        depth = self.depth_m if depth is None else depth
        solids = lift(self.labels, self.boxes_xyxy, depth, self.view.camera, settings, pose)
        assert None not in solids
        return [solid for solid in solids if solid is not None]


def tight_box(mask: npt.NDArray[np.bool_]) -> BoxXYXY:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return x, y, x + width, y + height


@cache
def scene(
    lens: str = "no distortion", tilt_rad: float = 0.9, noise_m: float = 0.002, holes: float = 0.05
) -> Scene:
    camera = Pinhole(SIZE_HW, (600.0, 590.0), (322.3, 236.8), LENSES[lens])
    view = tilted_view(camera, 1.0, tilt_rad, 0.15)
    rendering = render(view)
    depth_m = sensed(rendering.depth_m, noise_m, holes, seed=3)
    return Scene(view, rendering.labels, rendering.depth_m, depth_m)


def as_uint16(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Millimetres, holes are 0."""
    return np.round(1000 * np.nan_to_num(depth_m)).astype(np.uint16)


def half(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(depth_m[1::2, 1::2])


def assert_accurate(one: Scene, solids: list[Solid], upright: bool) -> None:
    for solid, thing in zip(solids, THINGS, strict=True):
        visible = one.visible(solid.label)
        true_points = one.view.to_table(visible) if upright else visible
        error_m = np.linalg.norm(solid.centroid - true_points.mean(axis=0))
        assert error_m < CENTROID_M, f"{thing.name}: centroid off by {error_m}"
        expected, found = np.sort(thing.size), np.sort(solid.box.size)
        seen = slice(2, None) if thing.name == "ball" else slice(None)  # its back is hidden from any side
        np.testing.assert_allclose(found[seen], expected[seen], atol=SIDE_M, err_msg=thing.name)


@pytest.mark.parametrize("upright", [False, True], ids=["camera's frame", "z up"])
@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("encode", [np.asarray, as_uint16], ids=["32FC1", "16UC1"])
def test_centroid_within_1_cm_and_sides_within_2_cm(lens: str, encode: Any, upright: bool) -> None:
    one = scene(lens)
    assert_accurate(one, one.lift(encode(one.depth_m), upright=upright), upright)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("encode", [np.asarray, as_uint16], ids=["32FC1", "16UC1"])
def test_so_they_are_with_depth_of_half_the_resolution(lens: str, encode: Any) -> None:
    one = scene(lens)
    assert_accurate(one, one.lift(encode(half(one.depth_m)), upright=True), upright=True)


@pytest.mark.parametrize("tilt_rad", [0.6, 1.1])
def test_so_they_are_from_other_heights(tilt_rad: float) -> None:
    one = scene(tilt_rad=tilt_rad)
    assert_accurate(one, one.lift(), upright=False)


def test_so_they_are_with_much_noise_and_many_holes() -> None:
    one = scene(noise_m=0.005, holes=0.25)
    assert_accurate(one, one.lift(), upright=False)


def test_so_they_are_where_masks_spill_over_the_edges() -> None:
    one = scene()
    spilled = cv2.dilate(one.labels, np.ones((7, 7), np.uint8))
    spilled[one.labels > 0] = one.labels[one.labels > 0]
    boxes = [tight_box(spilled == label) for label in range(1, 4)]
    solids = lift(spilled, boxes, one.depth_m, one.view.camera, SETTINGS)
    assert_accurate(one, [solid for solid in solids if solid is not None], upright=False)


def test_a_wrong_lens_is_noticed() -> None:
    """That is, the tests above would fail without undistorting."""
    one = scene("plumb_bob")
    bare = replace(one.view, camera=replace(one.view.camera, distortion=()))
    solids = replace(one, view=bare).lift()
    errors = [np.linalg.norm(s.centroid - one.visible(s.label).mean(axis=0)) for s in solids]
    assert max(errors) > 0.005


def test_an_aligned_box_spans_the_points() -> None:
    one = scene()
    for solid in one.lift(settings=replace(SETTINGS, boxes="aligned")):
        np.testing.assert_array_equal(solid.box.rotation, np.eye(3))
        np.testing.assert_allclose(solid.box.size, np.ptp(solid.points, axis=0), atol=1e-6)


def test_points_lie_under_their_pixels() -> None:
    one = scene("plumb_bob")
    for solid in one.lift():
        pixels = one.view.camera.project(solid.points)
        np.testing.assert_allclose(pixels, np.stack([solid.columns, solid.rows], axis=1), atol=0.01)
        assert (one.labels[solid.rows, solid.columns] == solid.label).all()


def test_no_object_has_more_points_than_asked_for() -> None:
    few = scene().lift(settings=replace(SETTINGS, max_points=1000))
    assert all(300 < len(solid.points) <= 1000 for solid in few)
    assert_accurate(scene(), few, upright=False)


# Small scenes, hand-made: a square of 20 x 20 pixels before a wall.

FLAT = Pinhole((40, 40), (40.0, 40.0), (19.5, 19.5))
SQUARE = np.zeros((40, 40), np.uint16)
SQUARE[10:30, 10:30] = 1
BOX: list[BoxXYXY] = [(10, 10, 30, 30)]
PLAIN = LiftingSettings(erosion_px=0)


def wall(depth_m: float = 1.0) -> npt.NDArray[np.float32]:
    return np.full((40, 40), depth_m, np.float32)


def lifted(depth: Any, settings: LiftingSettings = PLAIN, labels: Any = SQUARE) -> Solid:
    (solid,) = lift(labels, BOX, depth, FLAT, settings)
    assert solid is not None
    return solid


def test_a_flat_square_has_its_sides_and_its_centre() -> None:
    solid = lifted(wall())
    assert len(solid.points) == 400
    np.testing.assert_allclose(solid.centroid, [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(solid.box.size, [19 / 40, 19 / 40, 0], atol=1e-5)  # from centre to centre
    assert solid.depth_coverage == 1.0


@pytest.mark.parametrize("hole", [0.0, np.nan, np.inf, -np.inf, -1.0, 0.05, 20.0])
def test_holes_and_depths_out_of_range_do_not_count(hole: float) -> None:
    depth_m = wall()
    depth_m[10:15] = hole
    solid = lifted(depth_m)
    assert len(solid.points) == 300
    assert solid.depth_coverage == 0.75
    np.testing.assert_allclose(solid.points[:, 2], 1.0, atol=1e-6)


@pytest.mark.parametrize("hole", [0.0, np.nan])
def test_without_any_depth_there_is_no_object(hole: float) -> None:
    assert lift(SQUARE, BOX, wall(hole), FLAT, PLAIN) == [None]


def test_what_is_seen_through_a_hole_falls_away() -> None:
    depth_m = wall()
    depth_m[15:22, 15:22] = 1.3
    solid = lifted(depth_m)
    np.testing.assert_allclose(solid.points[:, 2], 1.0, atol=1e-6)
    assert len(solid.points) == 400 - 9 * 9  # the edge of the hole as well


def test_mixed_pixels_between_two_surfaces_belong_to_neither() -> None:
    depth_m = wall()
    depth_m[:, 24:] = 1.06
    depth_m[:, 23] = 1.03  # no gap in depth is left
    solid = lifted(replaced_by_ramp(depth_m))
    assert solid.columns.max() <= 22
    np.testing.assert_allclose(solid.points[:, 2], 1.0, atol=1e-6)


def replaced_by_ramp(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The same with a step so high that a camera mixes a whole ramp of depths."""
    steep = depth_m.copy()
    steep[:, 23], steep[:, 24:] = 1.1, 1.2
    return steep


def test_specks_are_no_part_of_an_object() -> None:
    depth_m = wall()
    depth_m[10:21] = np.nan
    depth_m[11, 11:13] = 1.02
    assert lifted(depth_m).rows.min() == 21


def test_the_rim_takes_its_depth_from_beside_it() -> None:
    depth_m = wall()
    depth_m[:, 28:] = 1.04  # mixed with what is behind
    depth_m[29, :] = 3.0  # the mask spills over onto the wall behind
    solid = lifted(depth_m, LiftingSettings(erosion_px=2))
    np.testing.assert_allclose(solid.points[:, 2], 1.0, atol=1e-6)
    assert (solid.columns.max(), solid.rows.max()) == (29, 28)
    assert solid.depth_coverage == 1.0


def test_a_thin_mask_is_not_eroded() -> None:
    line = np.zeros_like(SQUARE)
    line[10:30, 18:21] = 1
    assert len(lifted(wall(), LiftingSettings(erosion_px=2), line).points) == 3 * 20


def test_other_objects_and_boxes_outside_are_left_alone() -> None:
    labels = SQUARE.copy()
    labels[20:30, 10:30] = 2
    boxes: list[BoxXYXY] = [(10, 10, 30, 30), (10, 10, 30, 30), (100, 100, 120, 120), (-5, -5, 0, 0)]
    first, second, *outside = lift(labels, boxes, wall(), FLAT, PLAIN)
    assert first is not None and second is not None
    assert (len(first.points), len(second.points)) == (200, 200)
    assert outside == [None, None]


def test_inputs_are_not_changed() -> None:
    labels, depth_m = SQUARE.copy(), wall()
    depth_m[12, 12] = np.nan
    before = depth_m.copy()
    lift(labels, BOX, depth_m, FLAT, SETTINGS)
    np.testing.assert_array_equal(depth_m, before)
    np.testing.assert_array_equal(labels, SQUARE)


@pytest.mark.parametrize(("depth_hw", "factor"), [((480, 640), 1), ((240, 320), 2), ((120, 160), 4)])
def test_depth_may_be_a_whole_number_of_times_smaller(depth_hw: tuple[int, int], factor: int) -> None:
    assert times_smaller((480, 640), depth_hw) == factor


@pytest.mark.parametrize("depth_hw", [(480, 848), (720, 1280), (240, 424), (360, 480), (240, 640)])
def test_other_sizes_are_refused_with_what_to_do(depth_hw: tuple[int, int]) -> None:
    with pytest.raises(InvalidDepthError, match=r"does not lie on masks of 640 x 480: publish aligned depth"):
        times_smaller((480, 640), depth_hw)


def test_a_calibration_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidDepthError, match=r"camera_info is of \(H, W\) = \(30, 30\)"):
        lift(SQUARE, BOX, wall(), Pinhole((30, 30), (40.0, 40.0), (14.5, 14.5)), PLAIN)
