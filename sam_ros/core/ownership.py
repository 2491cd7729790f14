"""Whose the pixels are: whether what the model answers is the object, what is around it, or another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.appearance import Colours, apart_by, histogram, likeness, look, mixed, odds
from sam_ros.core.grid import Grid
from sam_ros.core.motion import tracks_inside
from sam_ros.core.objects import Look, LowResLogits, SegmentedObject, Target
from sam_ros.masks import BoolMask, Masks

NOT_THE_OBJECT = -4.0  # logit: clearly outside
UNLIKE = 0.5  # likeness to how it looked lately: with less, it is something else
ALIKE = 0.75  # with more, an object that was lost is found, and one that is followed looks as it does now
AGAIN, ASTRAY = 0.6, 1.5  # of the way from its features to those around it: the same limits for features
IN_PART = 0.5  # of the largest area that an object had lately: with less, much of it is hidden
FRESH = 0.1  # of how an object looks is how it looks now
FEWEST_CELLS = 8  # of a mask; fewer say too little of how it looks to call it lost
OTHERS = -2.0  # natural logarithm: cells with less odds are not the object's
SAME_PIXELS = 0.3  # of the smaller mask: two that have more in common want the same pixels
CLEARLY = 1.2  # times as alike: then looks decide whose the pixels are, else motion
STABILITY_OFFSET = 1.0  # of the logits, see ``Masks.stability_score``
REMAINS = 0.25  # of what was expected: with less left to it, an object is lost
SIZES = (0.3, 2.5)  # times what it was seen as: the area of an object that is found again


def without_others(one: SegmentedObject, logits: LowResLogits, colours: Colours) -> LowResLogits:
    """Logits (S/4, S/4), clearly outside where the colours are those of what was around the object."""
    known = one.tracking.look
    if known is None:
        return logits
    height, width = colours.shape
    are_others = odds(colours, known.own, known.around) < OTHERS
    cut = logits.copy()
    cells = cut[:height, :width]
    cells[are_others] = np.minimum(cells[are_others], np.float32(NOT_THE_OBJECT))
    return cut


def uncovered(one: SegmentedObject, colours: Colours, reach: int) -> BoolMask | None:
    """Cells (S/4, S/4) so near to an object that look like it, so that they may be its own; None without any.

    Of one that is hidden in part, the rest comes out from behind what hides it.
    """
    known = one.tracking.look
    if known is None:
        return None
    height, width = colours.shape
    mask = _mask(one)
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    found = (cv2.dilate(mask.astype(np.uint8), kernel) > 0) & ~mask
    found[:height, :width] &= odds(colours, known.own, known.around) > -OTHERS
    found[height:], found[:, width:] = False, False
    return found if found.any() else None


def looks_like_it(one: SegmentedObject, now: Look, cells: int) -> bool:
    """Whether something looks like an object rather than like what was around that, if that differed.

    One that is seen whole may look different, as it turns. What is seen in part, or again, must look alike:
    it could be what hides the object.

    Args:
        one: the object, as it was before.
        now: how it looks,
        cells: and on how many low-res cells.
    """
    before = one.tracking.look
    if before is None or cells < FEWEST_CELLS:
        return not one.is_lost or is_alike(before, now)
    own, ground = likeness(now.own, before.own), likeness(now.own, before.around)
    if ground > own and likeness(before.own, before.around) < ALIKE:
        return False
    must_be_alike = one.is_lost or cells < IN_PART * one.tracking.full_area
    least, most = (ALIKE, AGAIN) if must_be_alike else (UNLIKE, ASTRAY)
    distance = apart_by(now, before)
    return own >= least and (distance is None or distance < most)


def looks_there(one: SegmentedObject, colours: Colours) -> bool:
    """Whether what is in the mask of an object that was lost has its colours; (rows, columns) of cells."""
    now, before = look(colours, _mask(one)), one.tracking.look
    return now is not None and is_alike(before, now)


def taken_from(one: SegmentedObject, others: Sequence[SegmentedObject]) -> BoolMask:
    """(S/4, S/4) where others are, but for those that an object shares its mask with, or may."""
    taken = np.zeros_like(_mask(one))
    for other in others:
        if other.created != one.created and not _may_share(one, other):
            taken |= _mask(other)
    return taken


def is_taken(one: SegmentedObject, others: Sequence[SegmentedObject]) -> bool:
    """Whether others are where most of an object would be."""
    mask = _mask(one)
    return bool((mask & taken_from(one, others)).sum() > mask.sum() / 2)


def is_alike(before: Look | None, now: Look | None) -> bool:
    """Whether an object has the colours that it had lately, as far as both are known."""
    return before is None or now is None or likeness(now.own, before.own) >= ALIKE


def with_look(one: SegmentedObject, before: Look | None, now: Look | None) -> SegmentedObject:
    """An object that was found, knowing how it looks: slowly as it does now, unless it is hidden in part."""
    known = before or now
    if before is not None and now is not None and is_alike(before, now):
        known = mixed(before, now, FRESH)
    return replace(one, tracking=replace(one.tracking, look=known))


def apart(
    found: Sequence[SegmentedObject | None],
    expected: Sequence[SegmentedObject],
    colours: Colours,
    target: Target,
) -> list[SegmentedObject | None]:
    """Objects of one frame, none of which has another's pixels; None where too little is left of one.

    What two want is that one's as which it looks; where both look like it, that one's whose points are found
    there: those of what is hidden are not. Objects that shared a mask when they were prompted,
    as a part and its whole do, go on to share it; what was prompted on this frame keeps its mask.

    Args:
        found: the objects as the model has answered; None where one is lost already.
        expected: the same as they were expected there.
        colours: (rows, columns) of the frame's cells.
        target: the frame.
    """
    result = list(found)
    for first, second in _pairs_on_the_same_pixels(found):
        one, other = result[first], result[second]
        if one is None or other is None or target.sequence in (one.sequence, other.sequence):
            continue
        both = _mask(one) & _mask(other)
        if both.sum() < SAME_PIXELS * min(_mask(one).sum(), _mask(other).sum()):
            continue
        wins = _is_first_ones(both, (one, other), (expected[first], expected[second]), colours, target)
        loser = second if wins else first
        result[loser] = _without(result[loser], both, expected[loser], target)
    return result


def _pairs_on_the_same_pixels(found: Sequence[SegmentedObject | None]) -> list[tuple[int, int]]:
    """Pairs of indices of objects that have much of their masks in common, but should not."""
    seen = [index for index, one in enumerate(found) if one is not None]
    if len(seen) < 2:
        return []
    masks = np.stack([_mask(found[index])[::2, ::2].ravel() for index in seen]).astype(np.float32)
    common = masks @ masks.T  # (seen, seen) cells
    areas = common.diagonal()
    are_many = common > SAME_PIXELS * np.minimum(areas[:, None], areas)
    pairs = [(seen[a], seen[b]) for a, b in np.argwhere(np.triu(are_many, 1))]
    return [(a, b) for a, b in pairs if not _may_share(found[a], found[b])]


def _may_share(one: SegmentedObject | None, other: SegmentedObject | None) -> bool:
    if one is None or other is None:
        return True
    return other.created in one.tracking.shares or one.created in other.tracking.shares


def sharing(one: SegmentedObject, others: Sequence[SegmentedObject]) -> frozenset[int]:
    """``created`` of the others of the same frame that have much of an object's mask."""
    mask = _mask(one)
    return frozenset(
        other.created
        for other in others
        if other.created != one.created
        and other.logits_sequence == one.logits_sequence
        and other.low_res_logits is not None
        and (mask & _mask(other)).sum() > SAME_PIXELS * min(mask.sum(), _mask(other).sum())
    )


def _is_first_ones(
    both: BoolMask,
    pair: tuple[SegmentedObject, SegmentedObject],
    expected: tuple[SegmentedObject, SegmentedObject],
    colours: Colours,
    target: Target,
) -> bool:
    """Whether pixels (S/4, S/4) that two objects want are the first one's."""
    height, width = colours.shape
    there = histogram(colours[both[:height, :width]])
    known = [one.tracking.look for one in pair]
    first, second = (0.0 if each is None else likeness(there, each.own) for each in known)
    if max(first, second) > CLEARLY * min(first, second):
        return first > second
    if expected[0].is_lost != expected[1].is_lost:
        return expected[1].is_lost
    first, second = (_density(one, both, target) for one in expected)
    return first >= second


def _density(one: SegmentedObject, cells: BoolMask, target: Target) -> float:
    """How densely an object's points lie in some cells (S/4, S/4) of its mask, 1 being as in all of it."""
    tracks, area = one.tracking.tracks, (_mask(one) & cells).sum()
    if tracks is None or not len(tracks.points) or not area:
        return 0.0
    inside = tracks_inside(tracks, np.where(cells, np.float32(1), np.float32(-1)), target.grid)
    return float(len(inside.points) / len(tracks.points) * _mask(one).sum() / area)


def _without(
    one: SegmentedObject | None, cells: BoolMask, expected: SegmentedObject, target: Target
) -> SegmentedObject | None:
    """An object without some cells (S/4, S/4); None where too little is left."""
    if one is None:
        return None
    logits = np.where(cells, np.float32(NOT_THE_OBJECT), np.asarray(one.low_res_logits))
    if (logits > 0).sum() < REMAINS * _mask(expected).sum():
        return None
    tracks = one.tracking.tracks
    if tracks is not None:
        tracks = tracks_inside(tracks, logits, target.grid)
    return replace(one, low_res_logits=logits, tracking=replace(one.tracking, tracks=tracks))


def _mask(one: SegmentedObject | None) -> BoolMask:
    return np.asarray(None if one is None else one.low_res_logits) > 0


def kept(answer: Masks, logits: LowResLogits | None, grid: Grid) -> Masks:
    """An answer without those pixels that were found not to be the object's, or what was kept in its place.

    Args:
        answer: of the model, one mask.
        logits: (S/4, S/4) what is left of its logits.
        grid: of its image.
    """
    if logits is None:
        return answer
    remains = logits > 0
    if (logits[remains] != answer.low_res_logits[0][remains]).any():
        return _instead(answer, logits, grid)
    rows, columns = grid.covered_hw()
    is_cut = ((answer.low_res_logits[0] > 0) & (logits <= 0))[:rows, :columns]
    if not is_cut.any():
        return answer
    pixels = _in_pixels(is_cut.astype(np.float32), grid, cv2.INTER_NEAREST)
    return replace(answer, masks=answer.masks & ~pixels, low_res_logits=logits[None])


def _instead(answer: Masks, logits: LowResLogits, grid: Grid) -> Masks:
    """The mask of logits that the model did not answer with; predicted IoU falls as the two disagree."""
    rows, columns = grid.covered_hw()
    given, known = answer.low_res_logits[0] > 0, logits > 0
    agreement = np.float32((given & known).sum() / (given | known).sum())
    stability = np.float32((logits > STABILITY_OFFSET).sum() / (logits > -STABILITY_OFFSET).sum())
    return replace(
        answer,
        masks=_in_pixels(logits[:rows, :columns], grid, cv2.INTER_LINEAR)[None],
        predicted_iou=answer.predicted_iou * agreement,
        stability_score=stability[None],
        low_res_logits=logits[None],
    )


def _in_pixels(cells: npt.NDArray[np.float32], grid: Grid, interpolation: int) -> BoolMask:
    """(H, W) where cells (rows, columns) that cover the image are positive."""
    height, width = grid.original_hw
    size_wh = np.rint(grid.cell_xy * cells.shape[::-1]).astype(int)
    larger = cv2.resize(cells, size_wh.tolist(), interpolation=interpolation)
    return np.asarray(larger[:height, :width] > 0)
