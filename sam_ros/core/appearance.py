"""How objects look: their colours and features and those around them, compared and searched for.

Colours are of a view of even brightness, so that a camera's exposure matters little, in a palette so coarse
that shading matters little. Two histograms are compared by the overlap of their square roots (Bhattacharyya).
Features are the image embedding's. How far they are apart is measured by how far an object's are from those
around it, which needs no scale, so that it means the same for every model.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.objects import Look
from sam_ros.masks import BoolMask, tight_box_xyxy

LEVELS = 6  # of each of red, green and blue
COLOURS = LEVELS**3
FEWEST_FEATURES = 2.0  # places of the embedding that an object covers; less says nothing of it
AROUND = 5  # cells: how far from an object's mask its surroundings reach
FLOOR = 1e-3  # share of a colour that counts as none
MOST_ODDS = 3.0  # natural logarithm: what one cell can say for an object, or against it
BLUR = (3, 3)  # cells that are judged together
PLACES = 3  # in a frame, where an object that is searched for may be
SURROUNDED = 1.6  # times an object's sides: around a place within that, there must be less that looks like it
LEAST_SCORE = 0.5  # of natural logarithm, the mean over a place, less that around it

Colours = npt.NDArray[np.uint8]
"""(h, w) number of each pixel's or cell's colour in the palette."""
Floats = npt.NDArray[np.float32]


def palette(even_rgb: Floats) -> Colours:
    """The colours (h, w) of an (h, w, 3) RGB image in [0, 255]."""
    levels = np.minimum(even_rgb.astype(np.int32) * LEVELS // 256, LEVELS - 1)  # (h, w, 3)
    return (levels @ np.array([LEVELS * LEVELS, LEVELS, 1])).astype(np.uint8)


def _smoothing() -> Floats:
    """(COLOURS, COLOURS) shares of each colour that count for those next to it."""
    axis = 0.5 * np.eye(LEVELS) + 0.25 * (np.eye(LEVELS, k=1) + np.eye(LEVELS, k=-1))
    axis[0, 0] = axis[-1, -1] = 0.75
    return np.kron(axis, np.kron(axis, axis)).astype(np.float32)


_SMOOTHING = _smoothing()


def look(
    colours: Colours, mask: BoolMask, features: Floats | None = None, others: BoolMask | None = None
) -> Look | None:
    """How what is in a mask looks, and what is around it; None where it is empty.

    Args:
        colours: (rows, columns) of the cells that the image covers.
        mask: (S/4, S/4).
        features: (C, S/16, S/16) of the image embedding, if they are known.
        others: (S/4, S/4) where other objects are: they come and go, and are not its surroundings.
    """
    pooled = None if features is None else pooled_features(features, mask)
    mask = mask[: len(colours), : colours.shape[1]]
    box = tight_box_xyxy(mask)
    if box is None:
        return None
    left, top, right, bottom = box
    rows, columns = colours.shape
    part = np.s_[
        max(0, top - AROUND) : min(bottom + AROUND, rows),
        max(0, left - AROUND) : min(right + AROUND, columns),
    ]
    inside = mask[part]
    kernel = np.ones((2 * AROUND + 1, 2 * AROUND + 1), np.uint8)
    beside = (cv2.dilate(inside.astype(np.uint8), kernel) > 0) & ~inside
    if others is not None and (beside & ~others[part]).any():
        beside &= ~others[part]
    return Look(histogram(colours[part][inside]), histogram(colours[part][beside]), pooled)


def pooled_features(features: Floats, mask: BoolMask) -> Floats | None:
    """(2, C) means of features (C, h, w) over a mask of any size and over what is around it.

    None where the mask is too small for them, or fills all there is.
    """
    channels, height, width = features.shape
    inside = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    beside = np.clip(cv2.dilate(inside, np.ones((3, 3))) - inside, 0, 1)
    if min(inside.sum(), beside.sum()) < FEWEST_FEATURES:
        return None
    weights = np.stack([inside.ravel() / inside.sum(), beside.ravel() / beside.sum()])  # (2, h * w)
    there = np.flatnonzero(weights.any(axis=0))
    return np.asarray(weights[:, there] @ features.reshape(channels, -1)[:, there].T, np.float32)


def apart_by(now: Look, before: Look) -> float | None:
    """How far features are from those of before, those around being 1 away from them; None if not known."""
    if now.features is None or before.features is None:
        return None
    own, around = before.features
    return float(np.linalg.norm(now.features[0] - own) / max(np.linalg.norm(around - own), 1e-9))


def histogram(colours: npt.NDArray[np.uint8]) -> Floats:
    """(COLOURS,) smoothed shares of some colours (n,), together 1; all 0 of none."""
    counts = np.bincount(colours, minlength=COLOURS).astype(np.float32)
    return np.asarray(_SMOOTHING @ counts / max(1, len(colours)), np.float32)


def likeness(one: Floats, other: Floats) -> float:
    """How much two histograms have in common, from 0 to 1."""
    return float(np.sqrt(one * other).sum())


def mixed(before: Look, now: Look, share: float) -> Look:
    """A look with so much of a newer one."""
    features = now.features if before.features is None else before.features
    if before.features is not None and now.features is not None:
        features = before.features + share * (now.features - before.features)
    own = before.own + share * (now.own - before.own)
    return Look(own, before.around + share * (now.around - before.around), features)


def odds(colours: Colours, own: Floats, others: Floats) -> Floats:
    """(h, w) natural logarithm of how much likelier each cell is an object's than others', by its colour.

    Args:
        colours: (h, w).
        own, others: (COLOURS,) histograms.
    """
    each = np.log((own + FLOOR) / (others + FLOOR)).clip(-MOST_ODDS, MOST_ODDS).astype(np.float32)
    return cv2.blur(each[colours], BLUR)


def places(
    colours: Colours, own: Floats, size_wh: tuple[int, int], taken: BoolMask | None = None
) -> list[tuple[tuple[int, int], float]]:
    """Where in a frame something of these looks and this size may be: x, y and a score, the best first.

    Args:
        colours: (h, w) of the frame.
        own: (COLOURS,) histogram of what is searched for.
        size_wh: of the box around it, in cells.
        taken: (h, w) where it cannot be.
    """
    each = odds(colours, own, histogram(colours.ravel()))
    if taken is not None:
        each[taken] = -MOST_ODDS
    around_wh = [round(SURROUNDED * side) for side in size_wh]
    inner, like_it, like_it_too = (
        _means(cells, wh)
        for cells, wh in ((each, size_wh), (each.clip(0), size_wh), (each.clip(0), around_wh))
    )
    share = size_wh[0] * size_wh[1] / max(1, around_wh[0] * around_wh[1])
    score = inner - (like_it_too - share * like_it) / (1 - share)
    found = []
    for _ in range(PLACES):
        _, best, _, (x, y) = cv2.minMaxLoc(score)
        if best < LEAST_SCORE:
            break
        found.append(((x, y), float(best)))
        cv2.rectangle(score, (x - size_wh[0] // 2, y - size_wh[1] // 2, *size_wh), -MOST_ODDS, cv2.FILLED)
    return found


def _means(cells: Floats, size_wh: Sequence[int]) -> Floats:
    """(h, w) means over boxes around each cell."""
    return np.asarray(
        cv2.blur(cells, tuple(max(1, side) for side in size_wh), borderType=cv2.BORDER_REPLICATE)
    )
