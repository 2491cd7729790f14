"""What is refused or dropped: counted, then told to the listener."""

from __future__ import annotations

from collections.abc import Sequence

from sam_ros.core.edits import LONGEST_NAME
from sam_ros.errors import SamRosError, in_words, of_several, shortened
from sam_ros.node.listener import Listener
from sam_ros.node.statistics import Refusal, Statistics
from sam_ros.node.waiting import PromptRequest

WHY_LOST = (
    "it was lost on the first frame after its prompt, where the model holds something else for it; drag a "
    "box around it, or click elsewhere on it"
)
MOST_NAMED = 64  # objects of one refusal


class Tally:
    """Counts every refused prompt and dropped image, and tells of it. Thread-safe.

    Args:
        statistics: where it is counted.
        listener: who is told.
    """

    def __init__(self, statistics: Statistics, listener: Listener) -> None:
        self._statistics, self._listener = statistics, listener

    def refused(self, request: PromptRequest, kind: str, reason: str, ids: Sequence[str] = ()) -> None:
        """A prompt was refused, or those of its objects that have these ids, '' for one without."""
        ids, reason = ids or [request.id], of_several(reason, len(ids))
        self._refused(request.topic, request.stamp_ns, ids, kind, reason)

    def failed(self, request: PromptRequest, error: Exception) -> None:
        """A prompt was refused since the work that it asked for raised this."""
        kind = error.kind if isinstance(error, SamRosError) else SamRosError.kind
        self.refused(request, kind, in_words(error))

    def refused_message(self, topic: str, kind: str, reason: str, id: str = "") -> None:
        """A message without a stamp that counts was refused; it names the object of this id, if it does."""
        self._refused(topic, 0, [id], kind, reason)

    def lost_at_once(self, ids: Sequence[str]) -> None:
        """These objects were not found on the first frame after their prompt: nobody may have seen them."""
        if ids:
            reason = of_several(WHY_LOST, len(ids))
            self._refused("", 0, ids, "lost at once", reason)

    def dropped(self, kind: str, reason: str, *, is_usable: bool = False) -> None:
        """An image was dropped, though it may have been usable."""
        self._statistics.dropped(kind, is_usable=is_usable)
        self._listener.on_drop(kind, reason)

    def _refused(self, topic: str, stamp_ns: int, ids: Sequence[str], kind: str, reason: str) -> None:
        """Of the objects with these ids, as far as they can be told: an id that is too long only in part."""
        named = tuple(shortened(id, LONGEST_NAME) for id in ids if id)
        self._statistics.refused(kind, len(ids))
        self._listener.on_refusal(Refusal(topic, stamp_ns, named[:MOST_NAMED], kind, reason))
