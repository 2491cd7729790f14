"""The objects as they are now, and the changes that undo can take back."""

from __future__ import annotations

from collections import deque

from sam_ros.core.objects import Change, ObjectTable

UNDO_KEPT = 64  # changes


class ObjectHistory:
    """The present object table, and the changes that led to it. Not thread-safe: its owner locks.

    Attributes:
        table: the objects as they are.
    """

    def __init__(self) -> None:
        self.table = ObjectTable()
        self._changes: deque[Change] = deque(maxlen=UNDO_KEPT)

    def replace(self, before: ObjectTable, after: ObjectTable, undoable: Change | None = None) -> bool:
        """Make a table that was computed from another one the present one.

        Args:
            before: from which it was computed.
            after: the new table.
            undoable: what ``undo`` is to take back of it; None where it is not to be undone.

        Returns:
            False, and nothing is changed, if ``before`` is not the present table any more.
        """
        if self.table is not before:
            return False
        if undoable is not None:
            self._changes.append(undoable)
        self.table = after
        return True

    def undo(self) -> bool:
        """Take back the last undoable change, and nothing that came after it; false if there is none."""
        if not self._changes:
            return False
        self.table = self.table.undone(self._changes.pop())
        return True

    def clear(self) -> None:
        """Forget all objects, and what undo could restore."""
        self.table = self.table.cleared()
        self._changes.clear()
