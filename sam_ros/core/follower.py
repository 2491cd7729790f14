"""Follow objects from frame to frame: where each is expected, and what the model's answers confirm; no ROS.

Asked with nothing but its logits of the frame before, SAM soon loses an object that moves: they say where
it was. So its logits are moved as the object has (see ``motion``), and SAM is asked with them and the box
around them. SAM finds something in any box: an object whose points are suddenly gone has left or is covered,
and is not asked for. ``python -m training.following`` measures what that is worth.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.grid import Grid
from sam_ros.core.motion import (
    PYRAMID_LEVELS,
    TrackedMask,
    View,
    moved_masks,
    tracks_inside,
)
from sam_ros.core.objects import LowResLogits, SegmentedObject, Target, Tracking, Tracks
from sam_ros.masks import Masks, tight_box_xyxy
from sam_ros.prompt import Prompt

VIEWS_KEPT = 512  # at least; a view takes 64 kB at most
MOST_STEPS = 16  # from one frame to another; where more lie between, not all are looked at
NEAR_LEVELS = 1  # of the pyramids, for what moved by a few pixels only
LEAST_FOUND = 0.1  # of the points that were tracked before: with fewer found, the object is lost
LEAST_FOUND_AGAIN = 0.5  # of the points of an object that was lost: with as many found, it is there again
FEWEST_TO_LOSE = 6  # points; of fewer it means nothing that they are gone
NEAR = 1 / 32  # of the side of the logits: a mask farther than this from the expected one is discarded
WHOLE = 0.85  # of the largest area that an object had lately: with less, it is not seen whole
WHOLE_KEPT = 25  # followed frames after which the part that is still visible becomes the reference
LOOKS = 4  # on one frame: for the objects lost on so many earlier frames at most
LEAST_OVERLAP = 0.3  # IoU of an object's mask with the expected one; with less, it is something else's
NOT_THE_OBJECT = -4.0  # logit: clearly outside

Expected = list[tuple[SegmentedObject, Prompt]]
"""Objects where they are expected on a frame, and how to ask the model for each there."""


class Follower:
    """Remembers how frames looked, and finds objects on them. Its methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: dict[int, View] = {}
        self._first = 0  # earlier frames were not seen
        self._looks = 0

    def add(self, sequence: int, view: View, views_kept: int = VIEWS_KEPT) -> None:
        """Remember a frame, forgetting the oldest beyond so many."""
        with self._lock:
            self._views[sequence] = view
            while len(self._views) > views_kept:
                del self._views[min(self._views)]

    def clear(self, first: int = 0) -> None:
        """Forget all frames. Objects of frames before ``first`` are assumed not to have moved."""
        with self._lock:
            self._views.clear()
            self._first = first

    def expected(self, objects: Iterable[SegmentedObject], target: Target) -> Expected:
        """Where objects are expected on a frame, and how to ask for each: by the moved logits and their box.

        An object that was prompted on this frame is asked for by its prompt. Left out are those of which too
        few points are found, those whose frame is forgotten or has another size, and those that have no
        logits yet. One that was lost before is looked for where it was last seen whole; where many are lost,
        in turn.
        """
        some = list(objects)
        moved = {o.created: o for o in self._moved_to(some, target)}
        expected: Expected = []
        for now in (moved.get(o.created, o) for o in some):
            prompt = prompt_to_follow(now, target)
            if prompt is not None:
                expected.append((now, prompt))
        return expected

    def confirmed(
        self, expected: Expected, answers: Sequence[Masks], target: Target
    ) -> list[SegmentedObject]:
        """The expected objects once the model has answered, in the same order; those not confirmed are lost.

        Args:
            expected: of this frame, as ``expected`` returned it.
            answers: of the model, one for each.
            target: the frame.
        """
        found = []
        for (now, _), answer in zip(expected, answers, strict=True):
            logits = answer.low_res_logits[0]
            if now.sequence == target.sequence:
                found.append(now.decoded(logits, target.sequence))
            else:
                found.append(confirmed_object(now, logits, target) or now.lost())
        return found

    def _moved_to(self, objects: Sequence[SegmentedObject], target: Target) -> list[SegmentedObject]:
        """Those of the objects that have logits of another frame and are found on this one, moved to it."""
        movable = [o for o in objects if o.low_res_logits is not None and o.size_hw == target.size_hw]
        groups: dict[tuple[int, bool], list[SegmentedObject]] = {}
        for one in movable:
            if target.sequence not in (one.sequence, one.logits_sequence):
                groups.setdefault((one.logits_sequence, one.is_lost), []).append(_with_any_reference(one))
        looked_at = self._next_looks(sorted(sequence for sequence, are_lost in groups if are_lost))
        moved: list[SegmentedObject] = []
        for (sequence, are_lost), some in groups.items():
            if sequence < self._first:
                moved += [one.decoded(np.asarray(one.low_res_logits), sequence) for one in some]
            elif not are_lost:
                moved += self._tracked(some, sequence, target)
            elif sequence in looked_at:
                moved += self._looked_for(some, sequence, target)
        return [replace(one, logits_sequence=target.sequence) for one in moved]

    def _next_looks(self, lost_on: Sequence[int]) -> set[int]:
        """Of the frames on which objects were lost, those whose objects are looked for this time."""
        start, self._looks = self._looks, self._looks + LOOKS
        return {lost_on[(start + i) % len(lost_on)] for i in range(min(LOOKS, len(lost_on)))}

    def _tracked(
        self, objects: Sequence[SegmentedObject], sequence: int, target: Target
    ) -> Sequence[SegmentedObject]:
        """Those of the objects that are not lost on the way from that frame."""
        path = self._path(sequence, target.sequence, MOST_STEPS)
        if not path:
            return []
        for before, after in pairwise(path):
            moved = moved_objects(objects, before, after, target.grid)
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
                moved = moved_objects(objects, before, after, target.grid, levels)
                found += [_in_sight(one) for one in moved if one is not None]
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


def _with_any_reference(one: SegmentedObject) -> SegmentedObject:
    """The object with itself as reference if it has none: what to look for if this frame loses it."""
    if one.tracking.reference is not None:
        return one
    return replace(one, tracking=replace(one.tracking, reference=one))


def _in_sight(one: SegmentedObject) -> SegmentedObject:
    return replace(one, tracking=replace(one.tracking, is_lost=False))


def prompt_to_follow(one: SegmentedObject, target: Target) -> Prompt | None:
    """How to ask for an object on a frame that it was prompted on or moved to; None where it was neither.

    Where it was moved to: its logits, and the box around what is positive in them; None where nothing is.
    """
    if one.sequence == target.sequence:
        return one.prompt_on(target)
    logits = one.low_res_logits
    if logits is None or one.logits_sequence != target.sequence:
        return None
    rows, columns = target.grid.covered_hw()
    cells_xyxy = tight_box_xyxy(logits[:rows, :columns] > 0)
    if cells_xyxy is None:
        return None
    height, width = target.size_hw
    box_xyxy = np.minimum(cells_xyxy * np.tile(target.grid.cell_xy, 2), (width, height, width, height))
    return Prompt(box=box_xyxy, low_res_logits=logits)


def confirmed_object(one: SegmentedObject, logits: LowResLogits, target: Target) -> SegmentedObject | None:
    """An object that was expected on this frame, once the model has answered with these logits (S/4, S/4).

    A mask that spills over to something else would grow from frame to frame and be carried along with that:
    it is believed only near the expected one. Of the tracked points those stay that lie in the mask. None
    where the mask is empty or something else's.
    """
    place = np.asarray(one.low_res_logits) > 0
    mask = logits > 0
    if not mask.any() or (mask & place).sum() < LEAST_OVERLAP * (mask | place).sum():
        return None
    logits = _near(place, logits)
    tracks = one.tracking.tracks
    if tracks is not None:
        tracks = tracks_inside(tracks, logits, target.grid)
    confirmed = replace(one.decoded(logits, target.sequence), tracking=Tracking(tracks))
    return _with_reference(confirmed, one.tracking)


def _near(place: npt.NDArray[np.bool_], logits: LowResLogits) -> LowResLogits:
    """The logits (S/4, S/4), clearly outside where they are far from the expected mask."""
    reach = max(1, round(NEAR * len(logits)))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.dilate(place.astype(np.uint8), kernel)
    return np.where(near > 0, logits, np.minimum(logits, np.float32(NOT_THE_OBJECT)))


def _with_reference(one: SegmentedObject, before: Tracking) -> SegmentedObject:
    """A confirmed object with what it looks like whole: as now, or as lately where it was larger.

    Args:
        one: the object, so far without reference.
        before: what was known of it on the frame before.
    """
    area, full_area, age = (
        int((np.asarray(one.low_res_logits) > 0).sum()),
        before.full_area,
        before.reference_age + 1,
    )
    if before.reference is None or age > WHOLE_KEPT:
        full_area = area
    tracks = one.tracking.tracks
    if area < WHOLE * full_area:
        return replace(one, tracking=Tracking(tracks, before.reference, age, full_area))
    return replace(one, tracking=Tracking(tracks, one, 0, max(area, full_area)))


def moved_objects(
    objects: Sequence[SegmentedObject],
    before: View,
    after: View,
    grid: Grid,
    pyramid_levels: int = PYRAMID_LEVELS,
) -> list[SegmentedObject | None]:
    """Objects in another frame: their low-res logits and points moved, see ``motion.moved_masks``.

    Returns:
        As many; None where the object is not to be found.
    """
    masks = [TrackedMask(np.asarray(one.low_res_logits), one.tracking.tracks) for one in objects]
    moved = moved_masks(masks, before, after, grid, pyramid_levels)
    return [
        None if is_missing(was, now.tracks) else _with_mask(was, now)
        for was, now in zip(objects, moved, strict=True)
    ]


def _with_mask(one: SegmentedObject, mask: TrackedMask) -> SegmentedObject:
    return replace(
        one, low_res_logits=mask.low_res_logits, tracking=replace(one.tracking, tracks=mask.tracks)
    )


def is_missing(one: SegmentedObject, found: Tracks | None) -> bool:
    """Whether an object is not there: so few of its points are found again.

    Points that were tracked before can be tracked: where they are gone, so is the object. One that never had
    any, since it has no texture, is assumed not to have moved.
    """
    tracks = one.tracking.tracks
    tracked = 0 if tracks is None else len(tracks.points)
    if tracked < FEWEST_TO_LOSE or found is None:
        return False
    not_new = int(np.count_nonzero(found.ages > 1))
    return not_new < (LEAST_FOUND_AGAIN if one.is_lost else LEAST_FOUND) * tracked
