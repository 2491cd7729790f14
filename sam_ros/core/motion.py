"""Optical flow between frames: where masks have moved, measured on small grey pictures; knows no objects.

Points all over each mask are tracked from frame to frame (pyramidal Lucas-Kanade, there and back), and its
low-res logits are moved, turned and magnified as most of the points were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.appearance import Colours, palette
from sam_ros.core.grid import Grid, SizeHW, resized_hw
from sam_ros.core.objects import LowResLogits, Tracks
from sam_ros.masks import MASK_PROMPT_LOGIT, BoolMask

VIEW_SIDE = 256  # pixels, the longest side of the small images in which motion is measured
CONTRAST = 48.0  # standard deviation of a view's grey
LEAST_CONTRAST = 8.0  # standard deviation of an image's grey; what has less is amplified no more than that
MOST_POINTS, LEAST_POINTS = 100, 12  # tracked on one mask
POINTS_TOGETHER = 1600  # on all masks
WINDOW = (15, 15)  # pixels of a view, compared around each point
PYRAMID_LEVELS = 4
ITERATIONS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.03)
RETURN_PX = 1.0  # tracked there and back, a point ends so near to where it began, or it does not count
AGREE_PX = 1.5  # points so near to where a motion takes them agree with it
ASTRAY_PX = 3.0  # points so far from where the mask's motion takes them are not the object's
MOST_WEIGHT = 3  # of a point that has been tracked for long, a new one's being 1
ENOUGH = 0.6  # of the points wanted: with fewer left, new ones are added
FEWEST_TO_TURN = 6  # points; fewer tell where a mask moved, but not how it turned
EDGE = 2  # cells along the border of an image, of which a mask may stop short
SEEN = 0.9  # of a cell: of which less was in the image before, that cell is new in it
MOST_GROWTH = 1.5  # in one step; what seems to grow or shrink more was not tracked well

Points = npt.NDArray[np.float32]
"""(N, 2) XY, (0, 0) the centre of the first pixel."""
Motion = npt.NDArray[np.float64]
"""(2, 3) takes XY of one frame to XY of another."""
STILL: Motion = np.eye(2, 3)
_NO_POINTS, _NO_AGES = np.empty((0, 2), np.float32), np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class View:
    """A small picture of a frame, of even brightness.

    Attributes:
        grey: (h, w) uint8.
        size_hw: (H, W) of the frame's image.
        colours: (h, w) see ``appearance.palette``.
    """

    grey: npt.NDArray[np.uint8]
    size_hw: SizeHW
    colours: Colours


def make_view(image_rgb: npt.NDArray[np.uint8]) -> View:
    """The view of an (H, W, 3) uint8 RGB image."""
    size_hw = (image_rgb.shape[0], image_rgb.shape[1])
    height, width = view_hw(size_hw)
    small = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    # Lucas-Kanade compares brightness, which a camera's automatic exposure changes from frame to frame.
    mean, deviation = (float(statistic[0, 0]) for statistic in cv2.meanStdDev(grey))
    gain = CONTRAST / max(deviation, LEAST_CONTRAST)
    even_grey, even_rgb = (
        np.clip(128 + gain * (each.astype(np.float32) - mean), 0, 255) for each in (grey, small)
    )
    return View(even_grey.astype(np.uint8), size_hw, palette(even_rgb))


def cells_of(view: View, grid: Grid) -> Colours:
    """(rows, columns) the colours of a view, one for each low-res cell that the image covers."""
    rows, columns = grid.covered_hw()
    return np.asarray(cv2.resize(view.colours, (columns, rows), interpolation=cv2.INTER_NEAREST), np.uint8)


def view_hw(size_hw: SizeHW) -> SizeHW:
    """The size (h, w) of the view of an image (H, W)."""
    height, width = resized_hw(size_hw, VIEW_SIDE)
    return max(1, height), max(1, width)


@dataclass(frozen=True, eq=False)
class TrackedMask:
    """A mask in one frame, and points on it.

    Attributes:
        low_res_logits: (S/4, S/4) its logits.
        tracks: points in the frame's view; None or too few are topped up before they are tracked.
        entering: (S/4, S/4) bool, see ``objects.Tracking``; None where nothing is.
    """

    low_res_logits: LowResLogits
    tracks: Tracks | None = None
    entering: BoolMask | None = None


def moved_masks(
    masks: Sequence[TrackedMask], before: View, after: View, grid: Grid, pyramid_levels: int = PYRAMID_LEVELS
) -> list[TrackedMask]:
    """Masks in another frame: their logits moved as their points have, and those points that moved along.

    A mask of which no point is found stays where it was. The points that are left are one frame older, so
    that an age of 1 is that of a point which was new.

    Args:
        masks: any number.
        before, after: the frames; their images have one size.
        grid: of that size.
        pyramid_levels: how far they may have moved, 15 pixels of a view and so many times twice as far.
    """
    if not masks:
        return []
    starts = _topped_up(masks, grid)
    points = np.concatenate([tracks.points for tracks in starts])
    ends, is_tracked = track(before, after, points, pyramid_levels)
    borders = np.cumsum([len(tracks.points) for tracks in starts])[:-1]
    return [
        _moved(mask, tracks, ended, found, grid)
        for mask, tracks, ended, found in zip(
            masks, starts, np.split(ends, borders), np.split(is_tracked, borders), strict=True
        )
    ]


def _topped_up(masks: Sequence[TrackedMask], grid: Grid) -> list[Tracks]:
    """Points to track on each mask; the more masks, the fewer on each."""
    rows, columns = grid.covered_hw()
    most = min(MOST_POINTS, max(LEAST_POINTS, POINTS_TOGETHER // len(masks)))
    cell_xy = view_cell_xy(grid)
    return [
        enough_tracks(mask.tracks, mask.low_res_logits[:rows, :columns] > 0, cell_xy, most) for mask in masks
    ]


def _moved(
    mask: TrackedMask, tracks: Tracks, ends: Points, is_tracked: npt.NDArray[np.bool_], grid: Grid
) -> TrackedMask:
    """A mask after the motion that most of its tracked points agree on."""
    here, there, ages = tracks.points[is_tracked], ends[is_tracked], tracks.ages[is_tracked]
    motion = find_motion(here, there, 1 + np.minimum(ages, MOST_WEIGHT - 1))
    moves_along = np.linalg.norm(_applied(motion, here) - there, axis=1) < ASTRAY_PX
    logits, entering = _warped(mask, in_cells(motion, view_cell_xy(grid)), grid)
    share = np.count_nonzero(moves_along) / max(1, len(tracks.points))
    return TrackedMask(logits, Tracks(there[moves_along], ages[moves_along] + 1, share), entering)


def enough_tracks(
    tracks: Tracks | None, mask: npt.NDArray[np.bool_], cell_xy: npt.NDArray[np.float64], most: int
) -> Tracks:
    """Tracks on a mask (h, w) of low-res cells of that size in a view; where few are left, with new ones."""
    points, ages = (_NO_POINTS, _NO_AGES) if tracks is None else (tracks.points, tracks.ages)
    if len(points) < ENOUGH * most:
        added = points_inside(mask, cell_xy, most - len(points))
        points = np.concatenate([points, added])
        ages = np.concatenate([ages, np.zeros(len(added), np.int64)])
    return Tracks(points, ages)


def points_inside(mask: npt.NDArray[np.bool_], cell_xy: npt.NDArray[np.float64], most: int) -> Points:
    """At most so many points in a view, spread over a mask (h, w) of low-res cells of that size."""
    rows, columns = np.nonzero(mask)
    if len(rows) > most:
        picked = np.linspace(0, len(rows) - 1, most).round().astype(int)
        rows, columns = rows[picked], columns[picked]
    centres = np.column_stack([columns, rows]) + 0.5
    return np.asarray(centres * cell_xy - 0.5, np.float32)


def tracks_inside(tracks: Tracks, logits: LowResLogits, grid: Grid) -> Tracks:
    """Those of the tracks that lie where logits (S/4, S/4) are positive."""
    cells = np.floor((tracks.points + 0.5) / view_cell_xy(grid)).astype(int)
    x, y = np.clip(cells, 0, len(logits) - 1).T
    is_inside = logits[y, x] > 0
    return Tracks(tracks.points[is_inside], tracks.ages[is_inside])


def track(
    before: View, after: View, points: Points, pyramid_levels: int = PYRAMID_LEVELS
) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Where points of one view are in another (N, 2), and which of them (N,) were found and found back."""
    if not len(points):
        return points, np.zeros(0, np.bool_)
    ends, found = _lucas_kanade(before, after, points, pyramid_levels)
    back, found_back = _lucas_kanade(after, before, ends, pyramid_levels)
    is_back = np.linalg.norm(back - points, axis=1) < RETURN_PX
    height, width = after.grey.shape
    is_inside = ((ends > -1) & (ends < (width, height))).all(axis=1)
    return ends, found & found_back & is_back & is_inside


def _lucas_kanade(
    before: View, after: View, points: Points, pyramid_levels: int
) -> tuple[Points, npt.NDArray[np.bool_]]:
    ends, status, _ = cv2.calcOpticalFlowPyrLK(
        before.grey,
        after.grey,
        points[:, None],
        np.empty(0, np.float32),
        winSize=WINDOW,
        maxLevel=pyramid_levels,
        criteria=ITERATIONS,
    )
    return np.asarray(ends[:, 0], np.float32), np.asarray(status.ravel() == 1)


def find_motion(starts: Points, ends: Points, weights: npt.NDArray[np.int64]) -> Motion:
    """The turning, magnifying and shifting that most of the points (N, 2) agree on; none without points.

    A point of weight (N,) 2 counts as two.
    """
    if not len(starts):
        return STILL
    starts, ends = np.repeat(starts, weights, axis=0), np.repeat(ends, weights, axis=0)
    shift = np.column_stack([np.eye(2), np.median(ends - starts, axis=0)])
    if len(weights) < FEWEST_TO_TURN:
        return shift
    found, _ = cv2.estimateAffinePartial2D(starts, ends, method=cv2.RANSAC, ransacReprojThreshold=AGREE_PX)
    if found is None:
        return shift
    growth = np.sqrt(abs(np.linalg.det(found[:, :2])))
    return np.asarray(found) if 1 / MOST_GROWTH < growth < MOST_GROWTH else shift


def _applied(motion: Motion, points: Points) -> npt.NDArray[np.float64]:
    """Where a motion takes points (N, 2)."""
    return np.asarray(points @ motion[:, :2].T + motion[:, 2])


def view_cell_xy(grid: Grid) -> npt.NDArray[np.float64]:
    """(2,) width and height of a low-res cell in the view of an image, in the view's pixels."""
    scale_xy = np.divide(view_hw(grid.original_hw)[::-1], grid.original_hw[::-1])
    return grid.cell_xy * scale_xy


def in_cells(motion: Motion, cell_xy: npt.NDArray[np.float64]) -> Motion:
    """The same motion of low-res cells instead of a view's pixels."""
    linear, shift = motion[:, :2], motion[:, 2]
    # A cell's (x + 0.5) * cell_xy - 0.5 is its place in the view.
    moved = linear @ (0.5 * cell_xy - 0.5) + shift + 0.5
    return np.column_stack([linear * cell_xy / cell_xy[:, None], moved / cell_xy - 0.5])


def _warped(mask: TrackedMask, motion: Motion, grid: Grid) -> tuple[LowResLogits, BoolMask | None]:
    """Logits (S/4, S/4) after a motion of cells, and where the object may have come into the image.

    What lies outside the image is not known. Where the mask goes on to the border, what comes in beside it
    may be its own: the logits there are 0, neither in nor out.
    """
    rows, columns = grid.covered_hw()
    cells = mask.low_res_logits[:rows, :columns]
    moved = np.full_like(mask.low_res_logits, -MASK_PROMPT_LOGIT)
    if mask.entering is None and not _is_at_the_border(cells > 0):
        moved[:rows, :columns] = _warp(cells, motion, cv2.BORDER_REPLICATE)
        return moved, None
    body, is_known = _continued(cells, mask.entering)
    continued = _warp(body, motion, cv2.BORDER_REPLICATE)
    is_new = _warp(is_known.astype(np.float32), motion, cv2.BORDER_CONSTANT) < SEEN
    comes_in = _warp(np.ones_like(cells), motion, cv2.BORDER_CONSTANT) < SEEN
    if mask.entering is None and not (comes_in & (continued > 0)).any():
        moved[:rows, :columns] = _warp(cells, motion, cv2.BORDER_REPLICATE)
        return moved, None
    moved[:rows, :columns] = np.where(is_new, np.minimum(continued, np.float32(0)), continued)
    entering = np.zeros(moved.shape, np.bool_)
    entering[:rows, :columns] = is_new & (continued > 0)
    return moved, entering


def _is_at_the_border(mask: BoolMask) -> bool:
    """Whether a mask (h, w) reaches those cells that matter to what lies beyond the border."""
    edges = (mask[: EDGE + 1], mask[-EDGE - 1 :], mask[:, : EDGE + 1], mask[:, -EDGE - 1 :])
    return any(bool(edge.any()) for edge in edges)


def shifted(logits: LowResLogits, by_xy: npt.NDArray[np.float64], grid: Grid) -> LowResLogits:
    """Logits (S/4, S/4) moved by so many cells; nothing comes in from outside the image."""
    rows, columns = grid.covered_hw()
    motion = np.column_stack([np.eye(2), by_xy])
    cells = logits[:rows, :columns] + np.float32(MASK_PROMPT_LOGIT)
    moved = np.full_like(logits, -MASK_PROMPT_LOGIT)
    moved[:rows, :columns] = _warp(cells, motion, cv2.BORDER_CONSTANT) - np.float32(MASK_PROMPT_LOGIT)
    return moved


def _continued(cells: LowResLogits, entering: BoolMask | None) -> tuple[LowResLogits, BoolMask]:
    """Cells (h, w) of which the outermost repeat those further in, and which of them (h, w) are as they were.

    A mask seldom reaches the last cells, of which the image may cover a part only.
    """
    inner = cells[EDGE:-EDGE, EDGE:-EDGE]
    if not inner.size:
        return cells, np.ones(cells.shape, np.bool_)
    body = np.maximum(cells, cv2.copyMakeBorder(inner, EDGE, EDGE, EDGE, EDGE, cv2.BORDER_REPLICATE))
    if entering is not None:
        body = np.where(entering[: len(cells), : cells.shape[1]], np.float32(MASK_PROMPT_LOGIT), body)
    return body, (body <= 0) | (cells > 0)


def _warp(cells: npt.NDArray[np.float32], motion: Motion, border: int) -> npt.NDArray[np.float32]:
    height, width = cells.shape
    moved = cv2.warpAffine(cells, motion, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(moved, np.float32)
