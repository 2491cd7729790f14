"""The objects as they are now, and the states that undo can go back to."""

from __future__ import annotations

from collections import deque

from sam_ros.core.objects import ObjectTable, SegmentedObject

UNDO_KEPT = 64  # states of the clicked object


class ObjectHistory:
    """The present object table and what undo needs of earlier ones. Not thread-safe: its owner locks.

    Attributes:
        table: the objects as they are.
    """

    def __init__(self) -> None:
        self.table = ObjectTable()
        self._clicked_before: deque[SegmentedObject | None] = deque(maxlen=UNDO_KEPT)

    def replace(self, before: ObjectTable, after: ObjectTable, *, undoable: bool = False) -> bool:
        """Make a table that was computed from another one the present one.

        Args:
            before: from which it was computed.
            after: the new table.
            undoable: whether ``undo`` restores the clicked object of before.

        Returns:
            False, and nothing is changed, if ``before`` is not the present table any more.
        """
        if self.table is not before:
            return False
        if undoable and after is not before:
            self._clicked_before.append(before.clicked_object)
        self.table = after
        return True

    def undo(self) -> bool:
        """Restore the clicked object as it was before the last undoable change; false if there is none.

        The other objects stay as they are.
        """
        if not self._clicked_before:
            return False
        self.table = self.table.with_clicked_object(self._clicked_before.pop())
        return True

    def clear(self) -> None:
        """Forget all objects, and what undo could restore."""
        self.table = self.table.cleared()
        self._clicked_before.clear()
