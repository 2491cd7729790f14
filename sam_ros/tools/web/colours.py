"""A colour for each object: the same on every frame and for every viewer."""

from __future__ import annotations

from collections import OrderedDict

from sam_ros.core.overlay import PALETTE_RGB, ColourRgb

IDS_KEPT = 4096


class Colours:
    """Gives ids the colours of the overlay in the order in which they are first seen."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()  # those seen last at the end
        self._num_seen = 0

    def of(self, id: str) -> ColourRgb:
        """The id's colour; an id that was not seen for thousands of others may get a new one."""
        if id not in self._numbers:
            self._numbers[id] = self._num_seen
            self._num_seen += 1
        self._numbers.move_to_end(id)
        while len(self._numbers) > IDS_KEPT:
            self._numbers.popitem(last=False)
        return PALETTE_RGB[self._numbers[id] % len(PALETTE_RGB)]
