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
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.appearance import Colours, look
from sam_ros.core.grid import Grid
from sam_ros.core.motion import (
    PYRAMID_LEVELS,
    TrackedMask,
    View,
    cells_of,
    moved_masks,
    tracks_inside,
)
from sam_ros.core.objects import Look, LowResLogits, SegmentedObject, Target, Tracking, Tracks
from sam_ros.core.ownership import (
    NOT_THE_OBJECT,
    SIZES,
    apart,
    is_alike,
    is_taken,
    looks_like_it,
    looks_there,
    sharing,
    taken_from,
    uncovered,
    with_look,
    without_others,
)
from sam_ros.core.search import placed_again
from sam_ros.masks import BoolMask, Masks, tight_box_xyxy
from sam_ros.prompt import Prompt

VIEWS_KEPT = 512  # at least; a view takes 128 kB at most
MOST_STEPS = 16  # from one frame to another; where more lie between, not all are looked at
NEAR_LEVELS = 1  # of the pyramids, for what moved by a few pixels only
LEAST_FOUND = 0.1  # of the points that were tracked before: with fewer found, the object is lost
LEAST_FOUND_AGAIN = 0.5  # of the points of an object that was lost: with as many found, it is there again
FEWEST_TO_LOSE = 6  # points; of fewer it means nothing that they are gone
NEAR = 1 / 32  # of the side of the logits: a mask farther than this from the expected one is discarded
WHOLE = 0.85  # of the largest area that an object had lately: with less, it is not seen whole
WHOLE_KEPT = 25  # followed frames after which the part that is still visible becomes the reference
LOOKS = 4  # on one frame: for the objects lost on so many earlier frames at most
SEARCHES = 4  # on one frame and of those, for objects that are searched for in all of it
LEAST_OVERLAP = 0.3  # IoU of an object's mask with the expected one; with less, it is something else's

Expected = list[tuple[SegmentedObject, Prompt]]
"""Objects where they are expected on a frame, and how to ask the model for each there."""


class Follower:
    """Remembers how frames looked, and finds objects on them. Its methods may be called by any thread.

    It can be pickled, for work that is interrupted and goes on later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: dict[int, View] = {}
        self._first = 0  # earlier frames were not seen
        self._looks = 0

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {**self.__dict__, "_views": dict(self._views), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

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
        logits yet. One that was lost before is looked for where it was last seen whole, and then in all of
        the frame; it stays lost there until it is confirmed. Where many are lost, in turn.
        """
        some = self._with_looks(list(objects), target)
        moved = {o.created: o for o in self._moved_to(some, target)}
        expected: Expected = []
        colours = self._colours(target.sequence, target.grid)
        for one in some:
            now = moved.get(one.created, one)
            if colours is not None:
                now = _with_uncovered(now, colours, target)
            prompt = prompt_to_follow(now, target)
            if prompt is not None:
                expected.append((now, prompt))
        return expected

    def confirmed(
        self,
        expected: Expected,
        answers: Sequence[Masks],
        target: Target,
        features: npt.NDArray[np.float32] | None = None,
    ) -> list[SegmentedObject]:
        """The expected objects once the model has answered, in the same order; those not confirmed are lost.

        Args:
            expected: of this frame, as ``expected`` returned it.
            answers: of the model, one for each.
            target: the frame.
            features: (C, S/16, S/16) of its embedding; None has objects told apart by colours alone.
        """
        colours = self._colours(target.sequence, target.grid)
        found: list[SegmentedObject | None] = []
        covered = sum((answer.low_res_logits[0] > 0).astype(np.int32) for answer in answers)
        for (now, _), answer in zip(expected, answers, strict=True):
            logits = answer.low_res_logits[0]
            others = None if now.tracking.shares else (covered - (logits > 0)) > 0
            if now.sequence == target.sequence:
                found.append(now.decoded(logits, target.sequence))
            else:
                found.append(confirmed_object(now, logits, target, colours, features, others))
        if colours is not None:
            found = apart(found, [now for now, _ in expected], colours, target)
        return [one or _lost(now) for one, (now, _) in zip(found, expected, strict=True)]

    def _colours(self, sequence: int, grid: Grid) -> Colours | None:
        """(rows, columns) of a frame's cells; None where it was not seen, or has another size."""
        with self._lock:
            view = self._views.get(sequence)
        return cells_of(view, grid) if view is not None and view.size_hw == grid.original_hw else None

    def _moved_to(self, objects: Sequence[SegmentedObject], target: Target) -> list[SegmentedObject]:
        """Those of the objects that have logits of another frame and are found on this one, moved to it."""
        movable = [o for o in objects if o.low_res_logits is not None and o.size_hw == target.size_hw]
        groups: dict[tuple[int, bool], list[SegmentedObject]] = {}
        for one in movable:
            if target.sequence not in (one.sequence, one.logits_sequence):
                groups.setdefault((one.logits_sequence, one.is_lost), []).append(_with_any_reference(one))
        groups = dict(sorted(groups.items(), key=lambda group: group[0][1]))  # those in sight first
        looked_at = self._next_looks(sorted(sequence for sequence, are_lost in groups if are_lost))
        moved: list[SegmentedObject] = []
        gone: list[SegmentedObject] = []
        for (sequence, are_lost), some in groups.items():
            if sequence < self._first:
                moved += [one.decoded(np.asarray(one.low_res_logits), sequence) for one in some]
            elif not are_lost:
                tracked = self._tracked(some, sequence, target)
                moved += tracked
                gone += _others(some, tracked)
            elif sequence in looked_at:
                by_points = self._alike(self._looked_for(some, sequence, target), target, moved)
                moved += by_points
                gone += _others(some, by_points)
        moved += self._searched_for(gone, target, moved)
        return [replace(one, logits_sequence=target.sequence) for one in moved]

    def _with_looks(self, objects: Sequence[SegmentedObject], target: Target) -> list[SegmentedObject]:
        """The objects, and of those that were not followed yet what following has to know of them."""
        return [
            one
            if one.tracking.look is not None or target.sequence in (one.sequence, one.logits_sequence)
            else self._known(one, objects, target.grid)
            for one in objects
        ]

    def _known(self, one: SegmentedObject, others: Sequence[SegmentedObject], grid: Grid) -> SegmentedObject:
        """An object with how it looks on the frame of its logits, and with whom it shares its mask there."""
        colours = self._colours(one.logits_sequence, grid)
        if one.low_res_logits is None or colours is None:
            return one
        seen = look(colours, one.low_res_logits > 0)
        return replace(one, tracking=replace(one.tracking, look=seen, shares=sharing(one, others)))

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
                pairs = list(zip(objects, moved, strict=True))
                found += [_in_sight(one) for was, one in pairs if one is not None and _has_points(was)]
                objects = [was for was, one in pairs if one is None]
        return found

    def _alike(
        self, objects: Sequence[SegmentedObject], target: Target, in_sight: Sequence[SegmentedObject]
    ) -> list[SegmentedObject]:
        """Those of objects found by points where what is there looks like them, and is no other one."""
        colours = self._colours(target.sequence, target.grid)
        if colours is None:
            return list(objects)
        return [one for one in objects if looks_there(one, colours) and not is_taken(one, in_sight)]

    def _searched_for(
        self, objects: Sequence[SegmentedObject], target: Target, in_sight: Sequence[SegmentedObject]
    ) -> list[SegmentedObject]:
        """Objects whose points are gone, lost until they are confirmed, where something looks like them.

        Where many are searched for, in turn.
        """
        here = self._colours(target.sequence, target.grid)
        if here is None or not objects:
            return []
        start = self._looks % len(objects)
        found = []
        for one in [*objects[start:], *objects[:start]][:SEARCHES]:
            seen = one if one.is_lost else one.lost()
            there = self._colours(seen.logits_sequence, target.grid)
            found.append(placed_again(seen, here, there, taken_from(one, in_sight), target))
        return [one for one in found if one is not None]

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


def _others(objects: Sequence[SegmentedObject], than: Sequence[SegmentedObject]) -> list[SegmentedObject]:
    are_found = {one.created for one in than}
    return [one for one in objects if one.created not in are_found]


def _lost(one: SegmentedObject) -> SegmentedObject:
    """An object that was not confirmed where it was expected, or searched for."""
    searches = one.tracking.searches + 1 if one.is_lost else 0
    return replace(one, tracking=replace(one.tracking, searches=searches)).lost()


def _has_points(one: SegmentedObject) -> bool:
    """Whether enough points of it were tracked that it says something whether they are found."""
    return one.tracking.tracks is not None and len(one.tracking.tracks.points) >= FEWEST_TO_LOSE


def _with_any_reference(one: SegmentedObject) -> SegmentedObject:
    """The object with itself as reference if it has none: what to look for if this frame loses it."""
    if one.tracking.reference is not None:
        return one
    return replace(one, tracking=replace(one.tracking, reference=one))


def _in_sight(one: SegmentedObject) -> SegmentedObject:
    return replace(one, tracking=replace(one.tracking, is_lost=False))


def prompt_to_follow(one: SegmentedObject, target: Target) -> Prompt | None:
    """How to ask for an object on a frame that it was prompted on or moved to; None where it was neither.

    Where it was moved to: its logits, and the box around what is positive in them, and what may have come
    into the image beside that; None where nothing is.
    """
    if one.sequence == target.sequence:
        return one.prompt_on(target)
    logits = one.low_res_logits
    if logits is None or one.logits_sequence != target.sequence:
        return None
    rows, columns = target.grid.covered_hw()
    cells_xyxy = tight_box_xyxy(_with_entering(one)[:rows, :columns])
    if cells_xyxy is None:
        return None
    height, width = target.size_hw
    box_xyxy = np.minimum(cells_xyxy * np.tile(target.grid.cell_xy, 2), (width, height, width, height))
    return Prompt(box=box_xyxy, low_res_logits=logits)


def confirmed_object(
    one: SegmentedObject,
    logits: LowResLogits,
    target: Target,
    colours: Colours | None = None,
    features: npt.NDArray[np.float32] | None = None,
    others: BoolMask | None = None,
) -> SegmentedObject | None:
    """An object that was expected on this frame, once the model has answered with these logits (S/4, S/4).

    A mask that spills over to something else would grow from frame to frame and be carried along with that:
    it is believed only near the expected one. Of the tracked points those stay that lie in the mask. None
    where the mask is empty or something else's, unless the object is still as it was prompted.
    """
    if colours is not None and not one.is_lost:
        logits = without_others(one, logits, colours)
    is_confirmed = _is_where_expected(one, logits > 0)
    if is_confirmed:
        logits = _near(_with_entering(one), logits)
    elif _is_still_as_prompted(one):
        logits = np.asarray(one.low_res_logits)
    else:
        return None
    now = None if colours is None else look(colours, logits > 0, features, others)
    num_pixels, num_known = int((logits > 0).sum()), int((np.asarray(one.low_res_logits) > 0).sum())
    if now is not None and not looks_like_it(one, now, num_pixels):
        return None
    if one.is_lost and not SIZES[0] < num_pixels / num_known < SIZES[1]:
        return None
    tracks = one.tracking.tracks
    if tracks is not None:
        tracks = tracks_inside(tracks, logits, target.grid)
    confirmed = one.decoded(logits, target.sequence)
    tracking = Tracking(
        tracks,
        entering=None if is_confirmed else one.tracking.entering,
        shares=one.tracking.shares,
        must_be_confirmed=is_confirmed,
    )
    confirmed = replace(confirmed, tracking=tracking)
    lately = now if is_confirmed else None  # of what is carried, only the look at its prompt is known
    return _with_reference(with_look(confirmed, one.tracking.look, lately), one.tracking, now)


def _is_where_expected(one: SegmentedObject, mask: BoolMask) -> bool:
    """Whether an answer (S/4, S/4) overlaps the expected mask enough.

    What may have come into the image agrees with what is expected either way.
    """
    known = np.asarray(one.low_res_logits) > 0
    outside = ~_with_entering(one) | known
    return bool(mask.any() and (mask & known).sum() >= LEAST_OVERLAP * ((mask | known) & outside).sum())


def _is_still_as_prompted(one: SegmentedObject) -> bool:
    """Whether an object that the model never gave again since its prompt is there by most of its points.

    The mask of a click on a background is often one that the model does not give a second time. It is all
    that is known of the object then.
    """
    tracks = one.tracking.tracks
    if one.is_lost or one.tracking.must_be_confirmed:
        return False
    return tracks is not None and _has_points(one) and tracks.found >= LEAST_FOUND_AGAIN


def _with_entering(one: SegmentedObject) -> BoolMask:
    """(S/4, S/4) where an object is, and where it may have come into the image."""
    mask = np.asarray(one.low_res_logits) > 0
    return mask if one.tracking.entering is None else mask | one.tracking.entering


def _with_uncovered(one: SegmentedObject, colours: Colours, target: Target) -> SegmentedObject:
    """An object moved to this frame; where it was seen in part, with what may have come out again."""
    if one.low_res_logits is None or one.is_lost or one.logits_sequence != target.sequence:
        return one
    if one.sequence == target.sequence or (one.low_res_logits > 0).sum() >= WHOLE * one.tracking.full_area:
        return one
    found = uncovered(one, colours, _reach(target.grid.low_res_size))
    if found is None:
        return one
    entering = found if one.tracking.entering is None else found | one.tracking.entering
    logits = np.where(found, np.float32(0), one.low_res_logits)
    return replace(one, low_res_logits=logits, tracking=replace(one.tracking, entering=entering))


def _reach(size: int) -> int:
    """How far, in cells, an object may grow from one frame to the next."""
    return max(1, round(NEAR * size))


def _near(place: npt.NDArray[np.bool_], logits: LowResLogits) -> LowResLogits:
    """The logits (S/4, S/4), clearly outside where they are far from the expected mask."""
    reach = _reach(len(logits))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.dilate(place.astype(np.uint8), kernel)
    return np.where(near > 0, logits, np.minimum(logits, np.float32(NOT_THE_OBJECT)))


def _with_reference(one: SegmentedObject, before: Tracking, now: Look | None) -> SegmentedObject:
    """A confirmed object with what it looks like whole: as now, or as lately where it was larger.

    Args:
        one: the object, so far without reference.
        before: what was known of it on the frame before.
        now: how it looks; what looks otherwise than lately may be hidden in part.
    """
    area, full_area = int((np.asarray(one.low_res_logits) > 0).sum()), before.full_area
    age = before.reference_age + 1
    if before.reference is None or age > WHOLE_KEPT:
        full_area = area
    if area >= WHOLE * full_area and is_alike(before.look, now):
        tracking = replace(
            one.tracking,
            reference=one,
            reference_age=0,
            full_area=max(area, full_area),
            drift_xy=_drift(one, before),
        )
        # What is looked for once it is lost knows how it moved.
        seen = replace(one, tracking=replace(one.tracking, drift_xy=tracking.drift_xy))
        return replace(one, tracking=replace(tracking, reference=seen))
    tracking = replace(
        one.tracking,
        reference=before.reference,
        reference_age=age,
        full_area=full_area,
        drift_xy=before.drift_xy,
    )
    return replace(one, tracking=tracking)


def _drift(one: SegmentedObject, before: Tracking) -> tuple[float, float]:
    """By how many cells an object moves from frame to frame, as it is seen whole on one and was before."""
    if before.reference is None or before.is_lost:
        return before.drift_xy
    frames = one.logits_sequence - before.reference.logits_sequence
    boxes = [tight_box_xyxy(np.asarray(each.low_res_logits) > 0) for each in (before.reference, one)]
    if boxes[0] is None or boxes[1] is None or not frames:
        return before.drift_xy
    was, now = (np.add(box[:2], box[2:]) / 2 for box in boxes if box is not None)
    x, y = np.add(before.drift_xy, (now - was) / frames) / 2
    return float(x), float(y)


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
    masks = [
        TrackedMask(np.asarray(one.low_res_logits), one.tracking.tracks, one.tracking.entering)
        for one in objects
    ]
    moved = moved_masks(masks, before, after, grid, pyramid_levels)
    return [
        None if is_missing(was, now.tracks) else _with_mask(was, now)
        for was, now in zip(objects, moved, strict=True)
    ]


def _with_mask(one: SegmentedObject, mask: TrackedMask) -> SegmentedObject:
    tracking = replace(one.tracking, tracks=mask.tracks, entering=mask.entering)
    return replace(one, low_res_logits=mask.low_res_logits, tracking=tracking)


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
