"""Which values of a deep image are black and white: found image by image, held steady along a stream."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

IMAGES_SEEN = 512  # more than the node keeps: what is read again is still among them
SAMPLE = 1 << 16  # so many values show how an image's are spread
PERCENTILES = (1.0, 99.0)  # single hot or dead pixels decide nothing
LEAST_CONTRAST = 1 / 1024  # of the values themselves: noise on a plain wall stays faint
LEAST_WIDTH = 1e-30  # of float32, whose inverse is still one

Deep = npt.NDArray[Any]  # (H, W) uint16 or float32


@dataclass(frozen=True)
class Levels:
    """The values that become 0 and 255.

    Attributes:
        black: the value shown as 0; so is everything below.
        white: greater than ``black``; shown as 255, as is everything above.
    """

    black: float
    white: float


def levels_by_bits(values: Deep) -> Levels | None:
    """From 0 to the largest value of 8, 10, 12, 14 or 16 bits, whichever the image needs."""
    bits = max(8, int(values.max()).bit_length())
    return Levels(0.0, 2.0 ** (bits + bits % 2) - 1)


def levels_by_spread(values: Deep) -> Levels | None:
    """Where nearly all values lie, None if all are holes.

    Holes are 0 in integers, as depth cameras send it, and what is not finite.
    """
    stride = math.ceil(math.sqrt(values.size / SAMPLE))
    sample = values[::stride, ::stride].astype(np.float64)
    if values.dtype == np.uint16:
        sample = sample[sample > 0]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return None
    low, high = (float(value) for value in np.percentile(sample, PERCENTILES))
    least = max(LEAST_CONTRAST * max(abs(low), abs(high)), LEAST_WIDTH)
    return Levels(low, max(high, low + least))


@dataclass(frozen=True)
class Rule:
    """How images of one encoding are scaled.

    Attributes:
        measure: finds the levels of one image.
        margin: how much more than what was found is kept on either side, as a share of its width.
    """

    measure: Callable[[Deep], Levels | None]
    margin: float


# mono16 is a camera whose sensor has fewer bits than the message; the others measure something.
RULES = {"mono16": Rule(levels_by_bits, 0.0), "16UC1": Rule(levels_by_spread, 0.1)}
RULES["32FC1"] = RULES["16UC1"]


class BrightnessRange:
    """The levels of one stream of images, by encoding; may be used from several threads.

    They span what the last ``IMAGES_SEEN`` images showed. They widen as soon as an image does not fit, by a
    margin more, and narrow only once all that was seen would fit into half of them: brightness changes in few
    steps, and not with the noise of images. One that is read again replaces what it showed itself, so that it
    does not matter how often, nor how late, that is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, Levels] = {}
        self._seen: dict[str, dict[Hashable, Levels]] = {encoding: {} for encoding in RULES}

    def grey(self, values: Deep, encoding: str, key: Hashable) -> npt.NDArray[np.uint8]:
        """An image of one of the encodings in RULES, as (H, W) uint8.

        Args:
            values: (H, W) uint16 for mono16 and 16UC1, float32 for 32FC1; NaN and infinities become 0.
            encoding: whose rule counts.
            key: what tells the image from others of the stream, such as its stamp.
        """
        found = RULES[encoding].measure(values)
        with self._lock:
            levels = self._levels(encoding, key, found)
        return np.zeros(values.shape, np.uint8) if levels is None else scaled(values, levels)

    @property
    def is_in_use(self) -> bool:
        """Whether there were such images: then what an image looks like depends on those before."""
        with self._lock:
            return any(self._seen.values())

    def _levels(self, encoding: str, key: Hashable, found: Levels | None) -> Levels | None:
        seen, kept = self._seen[encoding], self._kept.get(encoding)
        if found is None:
            return kept
        seen[key] = found
        if len(seen) > IMAGES_SEEN:
            del seen[next(iter(seen))]
        black = min(levels.black for levels in seen.values())
        white = max(levels.white for levels in seen.values())
        if kept is None or not _fits(black, white, kept):
            margin = RULES[encoding].margin * (white - black)
            kept = self._kept[encoding] = Levels(black - margin, white + margin)
        return kept


def _fits(black: float, white: float, kept: Levels) -> bool:
    """Whether levels serve for what lies between two values: they hold it, and it fills half of them."""
    return kept.black <= black and white <= kept.white and 2 * (white - black) >= kept.white - kept.black


def scaled(values: Deep, levels: Levels) -> npt.NDArray[np.uint8]:
    """(H, W) uint8: black to 0, white to 255, what lies between in proportion; NaN and infinities to 0."""
    if values.dtype == np.uint16:
        return np.asarray(_table(levels)[values], np.uint8)
    grey = _in_proportion(values, levels)
    grey[np.isinf(values)] = 0
    return grey


@lru_cache(maxsize=4)
def _table(levels: Levels) -> npt.NDArray[np.uint8]:
    """(65536,) uint8: what each 16 bit value becomes."""
    return _in_proportion(np.arange(1 << 16, dtype=np.float32), levels)


def _in_proportion(values: npt.NDArray[np.float32], levels: Levels) -> npt.NDArray[np.uint8]:
    """The same shape; NaN becomes 0, infinities an end."""
    scale = 255 / (levels.white - levels.black)
    with np.errstate(over="ignore", invalid="ignore"):  # far beyond the levels, and clipped; NaN
        scaled = values * np.float32(scale)
        scaled -= np.float32(levels.black * scale)
        np.fmax(scaled, 0, out=scaled)  # of NaN and a number the number
        np.fmin(scaled, 255, out=scaled)
        return np.rint(scaled, out=scaled).astype(np.uint8)
