"""The laps of a bag: its stamps begin anew where a simulation was reset, or a bag that loops was recorded."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from sam_ros.tools.bag.arrivals import Arrived

FIRST_LAP = 0


class Laps:
    """Tells which lap a stamp is of, where several have it.

    Args:
        images: of the bag, in the order of recording; of no images, everything is of the first lap.
    """

    def __init__(self, images: Iterable[Arrived]) -> None:
        rows = [
            (image.frame.stamp_ns, image.recorded.time_ns, image.lap)
            for image in images
            if image.frame is not None
        ]
        self._stamps_ns, self._times_ns, self._laps = np.array(rows, np.int64).reshape(-1, 3).T

    def of_stamp(self, stamp_ns: int) -> int:
        """The lap of the image whose stamp is nearest; the first of several."""
        return self._of_nearest(np.abs(self._stamps_ns - stamp_ns))

    def of_message(self, stamp_ns: int, recorded_ns: int) -> int:
        """The lap of the image that is nearest by its stamp and by when it was recorded, both together.

        Either alone misleads. What a detector says of the last images of a lap is recorded after the next lap
        has begun; and of an image that is missing, another lap may have one with the same stamp. What comes
        later than half a lap after its image may still be taken for the next lap's.
        """
        return self._of_nearest(np.abs(self._stamps_ns - stamp_ns) + np.abs(self._times_ns - recorded_ns))

    def _of_nearest(self, distances_ns: npt.NDArray[np.int64]) -> int:
        return int(self._laps[distances_ns.argmin()]) if distances_ns.size else FIRST_LAP
