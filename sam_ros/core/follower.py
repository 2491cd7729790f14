"""Carry objects from frame to frame: where each has moved, and how to ask the model for it there; no ROS.

Asked with nothing but its logits of the frame before, SAM soon loses an object that moves: they say where
it was. So points all over the object are tracked from frame to frame (pyramidal Lucas-Kanade, there and
back), the logits are moved, turned and magnified as most of the points were, and SAM is asked with them and
the box around them. SAM finds something in any box: an object whose points are suddenly gone has left or is
covered, and is not asked for. ``python -m training.following`` measures what that is worth.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.objects import LowResLogits, SegmentedObject, Target, Tracks
from sam_ros.masks import MASK_PROMPT_LOGIT, resized_hw, tight_box_xyxy
from sam_ros.prompt import Prompt

VIEW_SIDE = 256  # pixels, the longest side of the small images in which motion is measured
CONTRAST = 48.0  # standard deviation of a view's grey
LEAST_CONTRAST = 8.0  # standard deviation of an image's grey; what has less is amplified no more than that
VIEWS_KEPT = 512  # at least; a view takes 64 kB at most
MOST_STEPS = 16  # from one frame to another; where more lie between, not all are looked at
MOST_POINTS, LEAST_POINTS = 100, 12  # tracked of one object
POINTS_TOGETHER = 1600  # of all objects
WINDOW = (15, 15)  # pixels of a view, compared around each point
PYRAMID_LEVELS = 4
NEAR_LEVELS = 1  # for what moved by a few pixels only
ITERATIONS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.03)
RETURN_PX = 1.0  # tracked there and back, a point ends so near to where it began, or it does not count
AGREE_PX = 1.5  # points so near to where a motion takes them agree with it
ASTRAY_PX = 3.0  # points so far from where the object's motion takes them are not the object's
MOST_WEIGHT = 3  # of a point that has been tracked for long, a new one's being 1
ENOUGH = 0.6  # of the points wanted: with fewer left, new ones are added
LEAST_FOUND = 0.1  # of the points that were tracked before: with fewer found, the object is lost
LEAST_FOUND_AGAIN = 0.5  # of the points of an object that was lost: with as many found, it is there again
FEWEST_TO_LOSE = 6  # points; of fewer it means nothing that they are gone
FEWEST_TO_TURN = 6  # points; fewer tell where an object moved, but not how it turned
MOST_GROWTH = 1.5  # in one step; what seems to grow or shrink more was not tracked well
NEAR = 1 / 32  # of the side of the low-res logits: so far beyond its place an object's mask is believed
WHOLE = 0.85  # of the largest area that an object had lately: with less, it is not seen whole
WHOLE_KEPT = 25  # frames that it was followed to, after which what is left of it counts as whole
LOOKS = 4  # in one frame, for objects that were lost on different ones
LEAST_OVERLAP = 0.3  # IoU of an object's mask with its place; with less, it is something else's
NOT_THE_OBJECT = -4.0  # logit: clearly outside

Points = npt.NDArray[np.float32]
"""(N, 2) XY, (0, 0) the centre of the first pixel."""
Motion = npt.NDArray[np.float64]
"""(2, 3) takes XY of one frame to XY of another."""
STILL: Motion = np.eye(2, 3)
_NO_POINTS, _NO_AGES = np.empty((0, 2), np.float32), np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class View:
    """A small grey picture of a frame: (h, w) uint8 of even brightness, and (H, W) of the frame's image."""

    grey: npt.NDArray[np.uint8]
    size_hw: tuple[int, int]


def make_view(image_rgb: npt.NDArray[np.uint8]) -> View:
    """The view of an (H, W, 3) uint8 RGB image."""
    size_hw = (image_rgb.shape[0], image_rgb.shape[1])
    height, width = view_hw(size_hw)
    small = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    # Lucas-Kanade compares brightness, which a camera's automatic exposure changes from frame to frame.
    mean, deviation = (float(some[0, 0]) for some in cv2.meanStdDev(grey))
    gain = CONTRAST / max(deviation, LEAST_CONTRAST)
    even = np.clip(128 + gain * (grey.astype(np.float32) - mean), 0, 255)
    return View(even.astype(np.uint8), size_hw)


def view_hw(size_hw: tuple[int, int]) -> tuple[int, int]:
    """The size (h, w) of the view of an image (H, W)."""
    height, width = resized_hw(size_hw, VIEW_SIDE)
    return max(1, height), max(1, width)


class Follower:
    """Remembers how frames looked and moves objects between them. Its methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: dict[int, View] = {}
        self._first = 0  # frames of before were not seen
        self._looks = 0

    def add(self, sequence: int, view: View, views_kept: int = VIEWS_KEPT) -> None:
        """Remember a frame, forgetting the oldest beyond so many."""
        with self._lock:
            self._views[sequence] = view
            while len(self._views) > views_kept:
                del self._views[min(self._views)]

    def clear(self, first: int = 0) -> None:
        """Forget all frames. Objects of frames before the first to come are taken to stay."""
        with self._lock:
            self._views.clear()
            self._first = first

    def carried(self, objects: Iterable[SegmentedObject], target: Target) -> list[SegmentedObject]:
        """Those of the objects that have logits of another frame and are found on this one, moved to it.

        Not found are those whose points are gone, and those whose frame is forgotten; those of a frame of
        before anything was seen are taken to stay. One that was lost before is looked for where it was last
        seen whole; where there are many, in turn.
        """
        groups: dict[tuple[int, bool], list[SegmentedObject]] = {}
        for one in objects:
            if one.low_res_logits is not None and one.logits_sequence != target.sequence:
                groups.setdefault((one.logits_sequence, one.is_lost), []).append(one)
        lost_on = sorted(sequence for sequence, are_lost in groups if are_lost)
        looked_at = {lost_on[(self._looks + i) % len(lost_on)] for i in range(min(LOOKS, len(lost_on)))}
        self._looks += LOOKS
        found: list[SegmentedObject] = []
        for (sequence, are_lost), some in groups.items():
            if sequence < self._first:
                found += [one.decoded(np.asarray(one.low_res_logits), sequence) for one in some]
            elif not are_lost:
                found += self._moved(some, sequence, target)
            elif sequence in looked_at:
                found += self._looked_for(some, sequence, target)
        return [replace(one, logits_sequence=target.sequence) for one in found]

    def _moved(
        self, objects: Sequence[SegmentedObject], sequence: int, target: Target
    ) -> Sequence[SegmentedObject]:
        """Those of the objects that are not lost on the way from that frame."""
        path = self._path(sequence, target.sequence, MOST_STEPS)
        if not path:
            return []
        for before, after in pairwise(path):
            moved = moved_objects(objects, before, after, target.image_size)
            objects = [one for one in moved if one is not None]
        return objects

    def _looked_for(
        self, objects: Sequence[SegmentedObject], sequence: int, target: Target
    ) -> Sequence[SegmentedObject]:
        """Those of the objects that are there again, near their place on that frame or far from it.

        Near by, the smallest levels of the pyramids are left out: what hides an object shows in them as well.
        """
        found: list[SegmentedObject] = []
        for before, after in pairwise(self._path(sequence, target.sequence, steps=1)):
            for levels in (NEAR_LEVELS, PYRAMID_LEVELS):
                moved = moved_objects(objects, before, after, target.image_size, levels)
                found += [replace(one, is_lost=False) for one in moved if one is not None]
                objects = [was for was, one in zip(objects, moved, strict=True) if one is None]
        return found

    def _path(self, start: int, end: int, steps: int) -> list[View]:
        """The views from one frame to another in at most so many steps; none where an end is missing."""
        with self._lock:
            views = dict(self._views)
        if start not in views or end not in views or views[start].size_hw != views[end].size_hw:
            return []
        low, high = sorted((start, end))
        between = sorted(s for s in views if low <= s <= high and views[s].size_hw == views[end].size_hw)
        picked = np.unique(np.linspace(0, len(between) - 1, steps + 1).round().astype(int))
        path = [views[between[index]] for index in picked]
        return path if start < end else path[::-1]


def prompt_to_follow(one: SegmentedObject, target: Target) -> Prompt | None:
    """How to ask for an object whose logits were carried to this frame; None where nothing of it is left.

    Its logits, and the box around what is positive in them.
    """
    logits = one.low_res_logits
    if logits is None:
        return None
    rows, columns = covered_hw(target.size_hw, target.image_size)
    box = tight_box_xyxy(logits[:rows, :columns] > 0)
    if box is None:
        return None
    height, width = target.size_hw
    scale = np.divide((width, height), resized_hw(target.size_hw, target.image_size)[::-1]) * 4
    edges = np.minimum(np.array(box) * np.tile(scale, 2), (width, height, width, height))
    return Prompt(box=edges, low_res_logits=logits)


def found_again(one: SegmentedObject, logits: LowResLogits, target: Target) -> SegmentedObject | None:
    """An object that was carried to this frame, once the model has answered with these logits (S/4, S/4).

    A mask that spills over to something else would grow from frame to frame and be carried along with that:
    it is believed only near the object's place. Of the tracked points those stay that lie in the mask. None
    where the mask is empty or something else's.
    """
    place = np.asarray(one.low_res_logits) > 0
    mask = logits > 0
    if not mask.any() or (mask & place).sum() < LEAST_OVERLAP * (mask | place).sum():
        return None
    reach = max(1, round(NEAR * len(logits)))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.dilate(place.astype(np.uint8), kernel)
    logits = np.where(near > 0, logits, np.minimum(logits, np.float32(NOT_THE_OBJECT)))
    tracks = one.tracks
    if tracks is not None:
        cells = np.floor((tracks.points + 0.5) / _cell_xy(target.size_hw, target.image_size)).astype(int)
        x, y = np.clip(cells, 0, len(logits) - 1).T
        is_inside = logits[y, x] > 0
        tracks = Tracks(tracks.points[is_inside], tracks.ages[is_inside])
    found = replace(one.decoded(logits, target.sequence), tracks=tracks)
    area, full_area, age = int((logits > 0).sum()), one.full_area, one.whole_age + 1
    if one.whole is None or age > WHOLE_KEPT:
        full_area = area
    if area < WHOLE * full_area:
        return replace(found, whole=one.whole, whole_age=age, full_area=full_area)
    return replace(found, whole=found, whole_age=0, full_area=max(area, full_area))


def covered_hw(size_hw: tuple[int, int], image_size: int) -> tuple[int, int]:
    """How many rows and columns of low-res logits an image (H, W) covers, the last ones perhaps in part."""
    height, width = resized_hw(size_hw, image_size)
    return -(-height // 4), -(-width // 4)


def moved_objects(
    objects: Sequence[SegmentedObject],
    before: View,
    after: View,
    image_size: int,
    pyramid_levels: int = PYRAMID_LEVELS,
) -> list[SegmentedObject | None]:
    """Objects in another frame: their low-res logits moved as they have, and where their points are there.

    Args:
        objects: any number, all with logits.
        before, after: the frames; their images have one size.
        image_size: S.
        pyramid_levels: how far they may have moved, 15 pixels of a view and so many times twice as far.

    Returns:
        As many; None where the object is not to be found.
    """
    if not objects:
        return []
    cell_xy = _cell_xy(before.size_hw, image_size)
    rows, columns = covered_hw(before.size_hw, image_size)
    logits = [np.asarray(one.low_res_logits) for one in objects]
    each = min(MOST_POINTS, max(LEAST_POINTS, POINTS_TOGETHER // len(objects)))
    starts = [
        enough_tracks(one.tracks, some[:rows, :columns] > 0, cell_xy, each)
        for one, some in zip(objects, logits, strict=True)
    ]
    points = np.concatenate([tracks.points for tracks in starts])
    ends, is_tracked = track(before, after, points, pyramid_levels)
    borders = np.cumsum([len(tracks.points) for tracks in starts])[:-1]
    moved: list[SegmentedObject | None] = []
    for one, some, tracks, ended, found in zip(
        objects, logits, starts, np.split(ends, borders), np.split(is_tracked, borders), strict=True
    ):
        here, there, ages = tracks.points[found], ended[found], tracks.ages[found]
        motion = find_motion(here, there, 1 + np.minimum(ages, MOST_WEIGHT - 1))
        is_with_it = np.linalg.norm(_applied(motion, here) - there, axis=1) < ASTRAY_PX
        if is_missing(one, ages[is_with_it]):
            moved.append(None)
            continue
        moved.append(
            replace(
                one,
                low_res_logits=_warped(some, in_cells(motion, cell_xy), rows, columns),
                tracks=Tracks(there[is_with_it], ages[is_with_it] + 1),
            )
        )
    return moved


def is_missing(one: SegmentedObject, ages: npt.NDArray[np.int64]) -> bool:
    """Whether an object is not there: so few of its points are found, of these ages.

    Points that were tracked before can be tracked: where they are gone, so is the object. One that never had
    any, since it has no texture, is taken to stay.
    """
    tracked = 0 if one.tracks is None else len(one.tracks.points)
    if tracked < FEWEST_TO_LOSE:
        return False
    return int(np.count_nonzero(ages)) < (LEAST_FOUND_AGAIN if one.is_lost else LEAST_FOUND) * tracked


def enough_tracks(
    tracks: Tracks | None, mask: npt.NDArray[np.bool_], cell_xy: npt.NDArray[np.float64], most: int
) -> Tracks:
    """Tracks on an object, a mask (h, w) of low-res cells; where there are few, with new ones added."""
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


def _cell_xy(size_hw: tuple[int, int], image_size: int) -> npt.NDArray[np.float64]:
    """(2,) width and height of a low-res cell in the view of an image (H, W)."""
    height, width = view_hw(size_hw)
    input_h, input_w = resized_hw(size_hw, image_size)
    return np.array([4 * width / input_w, 4 * height / input_h])


def in_cells(motion: Motion, cell_xy: npt.NDArray[np.float64]) -> Motion:
    """The same motion of low-res cells instead of a view's pixels."""
    linear, shift = motion[:, :2], motion[:, 2]
    # A cell's (x + 0.5) * cell_xy - 0.5 is its place in the view.
    moved = linear @ (0.5 * cell_xy - 0.5) + shift + 0.5
    return np.column_stack([linear * cell_xy / cell_xy[:, None], moved / cell_xy - 0.5])


def _warped(logits: LowResLogits, motion: Motion, rows: int, columns: int) -> LowResLogits:
    """Logits (S/4, S/4) after a motion; objects go on beyond the image's border, in the padding is none."""
    moved = np.full_like(logits, -MASK_PROMPT_LOGIT)
    moved[:rows, :columns] = cv2.warpAffine(
        logits[:rows, :columns],
        motion,
        (columns, rows),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return moved
