"""A bag's images as they would come to the node: numbered, or left out, by their headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sam_ros.core.frames import Arrival, Frame, FrameStore, Order, order_after
from sam_ros.errors import SamRosError
from sam_ros.node.encoding import OUT_OF_ORDER
from sam_ros.node.engine import LATE, OTHER_CAMERA
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.serialized import header_of_serialized
from sam_ros.tools.bag.source import BagError, Recorded

LEFT_OUT = {
    Arrival.LATE: SamRosError("its stamp is before that of an image that came earlier", LATE),
    Arrival.OTHER_CAMERA: SamRosError("another camera publishes on the same topic", OTHER_CAMERA),
}


@dataclass(frozen=True, eq=False)
class Arrived:
    """One image message.

    Attributes:
        position: its number on its topic, from 0.
        recorded: the message.
        frame: its number, stamp and data for the core; None where it is left out.
        problem: why there is no set of answers for it; None where there is one.
        begins_anew: whether stamps jumped back to it: whatever was before belongs to another recording.
        lap: how often they had jumped back by then.
        next_stamp_ns: of the next image with a set of answers; None for the last one.
    """

    position: int
    recorded: Recorded
    frame: Frame | None = None
    problem: SamRosError | None = None
    begins_anew: bool = False
    lap: int = 0
    next_stamp_ns: int | None = None


class Arrivals:
    """Takes images in the order of recording."""

    def __init__(self) -> None:
        self._recorded_sec = 0.0
        self._frames = FrameStore(
            images_kept=1, embeddings_kept=1, stamp_tolerance_ns=0, clock=lambda: self._recorded_sec
        )
        self._last_in_order: Frame | None = None
        self._position = self._lap = 0

    def take(self, recorded: Recorded) -> Arrived:
        """How an image comes after those before."""
        position, self._position = self._position, self._position + 1
        try:
            header = header_of_serialized(recorded.data)
            stamp_ns = stamp_to_ns(header)
        except SamRosError as error:
            return Arrived(position, recorded, problem=error, lap=self._lap)
        self._recorded_sec = recorded.time_ns / 1e9
        arrival = self._frames.arrival(stamp_ns, header.frame_id)
        if arrival in LEFT_OUT:
            return Arrived(position, recorded, problem=LEFT_OUT[arrival], lap=self._lap)
        begins_anew = arrival is Arrival.JUMP_BACK
        if begins_anew:
            self._begin_anew()
        frame = self._frames.add_image(stamp_ns, header.frame_id, recorded.data)
        problem = self._order_problem(frame)
        return Arrived(position, recorded, frame, problem, begins_anew, self._lap)

    def _begin_anew(self) -> None:
        self._frames.clear()
        self._last_in_order = None
        self._lap += 1

    def _order_problem(self, frame: Frame) -> SamRosError | None:
        if order_after(self._last_in_order, frame) is Order.OUT_OF_ORDER:
            return SamRosError("its stamp is not later than that of the image before", OUT_OF_ORDER)
        self._last_in_order = frame
        return None


def with_next_stamps(arrivals: Iterable[Arrived]) -> Iterator[Arrived]:
    """The same images, each once it is known which one is answered next.

    Raises:
        BagError: the bag is damaged after the last image that was yielded.
    """
    waiting: list[Arrived] = []
    try:
        for arrived in arrivals:
            if arrived.frame is not None and arrived.problem is None:
                yield from (replace(one, next_stamp_ns=arrived.frame.stamp_ns) for one in waiting)
                waiting.clear()
            waiting.append(arrived)
    except BagError:
        yield from waiting
        raise
    yield from waiting
