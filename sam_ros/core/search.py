"""Where an object that was lost may be: at a few places in all of a frame, by its colours and its motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sam_ros.core.appearance import Colours, places
from sam_ros.core.motion import shifted
from sam_ros.core.objects import Look, SegmentedObject, Target
from sam_ros.core.ownership import looks_there
from sam_ros.masks import BoolMask, tight_box_xyxy


def placed_again(
    one: SegmentedObject, here: Colours, there: Colours | None, taken: BoolMask, target: Target
) -> SegmentedObject | None:
    """A lost object at one of the places on a frame at which something looks like it.

    First that which is nearest to where it would be had it moved on, then the others in turn. Not where
    something was that looked like it already while it was seen, nor where others are. Without any such place,
    where it was.

    Args:
        one: the object, as it was last seen whole.
        here, there: (rows, columns) colours of the frame's cells, and of those of the frame it was seen on,
            None if that is forgotten.
        taken: (S/4, S/4) where others are on the frame.
        target: the frame.
    """
    logits = np.asarray(one.low_res_logits)
    box = tight_box_xyxy((logits > 0)[: len(here), : here.shape[1]])
    if box is None or one.tracking.look is None:
        return None
    middle = np.add(box[:2], box[2:]) // 2
    found = [np.subtract(xy, middle) for xy in _new_places(one.tracking.look, here, there, taken, box)]
    moved_on = np.multiply(one.tracking.drift_xy, target.sequence - one.logits_sequence)
    found.sort(key=lambda shift: float(np.linalg.norm(shift - moved_on)))
    tracking = replace(one.tracking, tracks=None, entering=None)
    moved = [
        replace(one, low_res_logits=shifted(logits, shift, target.grid), tracking=tracking)
        for shift in found or [np.zeros(2)]
    ]
    alike = [each for each in moved if looks_there(each, here)]
    return alike[one.tracking.searches % len(alike)] if alike else None


def _new_places(
    seen: Look, here: Colours, there: Colours | None, taken: BoolMask, box: tuple[int, int, int, int]
) -> list[tuple[int, int]]:
    """XY of the places on a frame where something looks like an object, and nothing did before but itself.

    Args:
        seen: how it looked.
        here, there, taken: as above.
        box: XYXY cells, where it was.
    """
    left, top, right, bottom = box
    size_wh, middle = (right - left, bottom - top), ((left + right) // 2, (top + bottom) // 2)
    before = [] if there is None else [xy for xy, _ in places(there, seen.own, size_wh)]
    others = [xy for xy in before if not _is_near(xy, middle, size_wh)]
    found = places(here, seen.own, size_wh, taken[: len(here), : here.shape[1]])
    return [xy for xy, _ in found if not any(_is_near(xy, other, size_wh) for other in others)]


def _is_near(xy: tuple[int, int], other_xy: tuple[int, int], size_wh: tuple[int, int]) -> bool:
    """Whether boxes of one size around two places have much in common."""
    return bool((np.abs(np.subtract(xy, other_xy)) < np.divide(size_wh, 2)).all())
