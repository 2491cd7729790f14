"""What is refused or dropped: counted, then told to the listener."""

from __future__ import annotations

from collections.abc import Sequence

from sam_ros.errors import of_several, shortened
from sam_ros.node.listener import Listener
from sam_ros.node.statistics import Refusal, Statistics
from sam_ros.node.waiting import PromptRequest

WHY_LOST = (
    "it was lost on the first frame after its prompt, where the model holds something else for it; drag a "
    "box around it, or click elsewhere on it"
)


class Tally:
    """Counts every refused prompt and dropped image, and tells of it. Thread-safe.

    Args:
        statistics: where it is counted.
        listener: who is told.
    """

    def __init__(self, statistics: Statistics, listener: Listener) -> None:
        self._statistics, self._listener = statistics, listener

    def refused(self, request: PromptRequest, kind: str, reason: str, id: str = "", count: int = 1) -> None:
        """A prompt was refused, or so many of its objects, of which ``id`` is the first, if it names any."""
        reason, id = of_several(reason, count), shortened(id or request.id)
        self._refused(Refusal(request.topic, request.stamp_ns, id, kind, reason), count)

    def refused_edit(self, topic: str, kind: str, reason: str, id: str = "") -> None:
        """An edit of the object of this id was refused."""
        self._refused(Refusal(topic, 0, shortened(id), kind, reason), 1)

    def lost_at_once(self, ids: Sequence[str]) -> None:
        """These objects were not found on the first frame after their prompt: nobody may have seen them."""
        if ids:
            reason = of_several(WHY_LOST, len(ids))
            self._refused(Refusal("", 0, shortened(ids[0]), "lost at once", reason), len(ids))

    def dropped(self, kind: str, reason: str, *, is_usable: bool = False) -> None:
        """An image was dropped, though it may have been usable."""
        self._statistics.dropped(kind, is_usable=is_usable)
        self._listener.on_drop(kind, reason)

    def _refused(self, refusal: Refusal, count: int) -> None:
        self._statistics.refused(refusal.kind, count)
        self._listener.on_refusal(refusal)
