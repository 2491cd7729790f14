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
        self._changes: deque[tuple[int, Change]] = deque(maxlen=UNDO_KEPT)

    @property
    def last_turn(self) -> int:
        """The turn of what ``undo`` would take back; -1 if there is nothing."""
        return self._changes[-1][0] if self._changes else -1

    def replace(
        self, before: ObjectTable, after: ObjectTable, undoable: Change | None = None, turn: int = 0
    ) -> bool:
        """Make a table that was computed from another one the present one.

        Args:
            before: from which it was computed.
            after: the new table.
            undoable: what ``undo`` is to take back of it; None where it is not to be undone.
            turn: when that was asked for, among all that is.

        Returns:
            False, and nothing is changed, if ``before`` is not the present table any more.
        """
        if self.table is not before:
            return False
        if undoable is not None:
            self._changes.append((turn, undoable))
        self.table = after
        return True

    def undo(self) -> bool:
        """Take back the last undoable change, and nothing that came after it; false if there is none."""
        if not self._changes:
            return False
        self.table = self.table.undone(self._changes.pop()[1])
        return True

    def clear(self) -> None:
        """Forget all objects, and what undo could restore."""
        self.table = self.table.cleared()
        self._changes.clear()
