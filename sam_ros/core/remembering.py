"""Follow objects by the model's own memory of them: on which frame each was how, and where it is now; no ROS.

What is remembered of an object belongs to the object, see ``Bank``: it is added, refined, undone and removed
with it, and no other object can take it over.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sam_ros.core.bank import POINTERS_RECALLED, Bank, Found
from sam_ros.core.frames import EmbeddedFrame
from sam_ros.core.objects import SegmentedObject, Tracking
from sam_ros.core.protocol import PromptableModel
from sam_ros.masks import Masks


class Steps:
    """Counts the frames that objects are followed on. Its methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequences: list[int] = []  # rising, of consecutive steps
        self._first = 0  # step of the first

    def see(self, sequence: int, kept: int) -> None:
        """Count a frame unless a later one came before; forget which they were beyond so many."""
        with self._lock:
            if not self._sequences or sequence > self._sequences[-1]:
                self._sequences.append(sequence)
            forgotten = max(0, len(self._sequences) - kept)
            del self._sequences[:forgotten]
            self._first += forgotten

    def of(self, sequence: int) -> int:
        """The step of a frame; one that was not counted is taken for the last one counted before it.

        Where none was, it comes one step before the first: that is another frame's.
        """
        with self._lock:
            return self._first + bisect_right(self._sequences, sequence) - 1

    def clear(self) -> None:
        """Begin anew: what was before is too long ago to be recalled as the last frames."""
        with self._lock:
            self._first += len(self._sequences) + POINTERS_RECALLED
            self._sequences.clear()


class Remembering:
    """Finds objects by the memory of a model that has one.

    Args:
        model: finds and remembers.
    """

    def __init__(self, model: PromptableModel) -> None:
        self._model = model
        self._steps = Steps()

    def see(self, sequence: int, kept: int) -> None:
        """Count a frame that objects are followed on."""
        self._steps.see(sequence, kept)

    def forget_frames(self) -> None:
        """All frames so far are long ago."""
        self._steps.clear()

    def found(
        self, objects: Sequence[SegmentedObject], frame: EmbeddedFrame
    ) -> list[tuple[SegmentedObject, Masks]]:
        """Remembered objects as they are on a frame, with their masks; lost where they are not there.

        Whether they are there or not, the frame is remembered.
        """
        found = self._find(objects, frame)
        return [(_moved(o, one, frame.sequence), one.masks) for o, one in zip(objects, found, strict=True)]

    def seen_on(self, one: SegmentedObject, frame: EmbeddedFrame) -> SegmentedObject | None:
        """An object as it is on any frame, for a prompt there; None where it is not there."""
        (found,) = self._find([one], frame)
        if not found.is_there:
            return None
        tracking = replace(one.tracking, is_lost=False)
        logits = found.masks.low_res_logits[0]
        return replace(one, low_res_logits=logits, logits_sequence=frame.sequence, tracking=tracking)

    def prompted(
        self, answered: Sequence[tuple[SegmentedObject, Masks]], frame: EmbeddedFrame
    ) -> list[SegmentedObject]:
        """Objects whose prompts were answered on a frame: with these logits, and remembering them."""
        if not answered:
            return []
        memories = self._model.remember(
            frame.embedding, [masks for _, masks in answered], self._steps.of(frame.sequence)
        )
        return [
            _with_bank(
                o.decoded(masks.low_res_logits[0], frame.sequence), o.tracking.bank.with_memory(memory)
            )
            for (o, masks), memory in zip(answered, memories, strict=True)
        ]

    def _find(self, objects: Sequence[SegmentedObject], frame: EmbeddedFrame) -> list[Found]:
        if not objects:
            return []
        step = self._steps.of(frame.sequence)
        recalled = [o.tracking.bank.recalled(step) for o in objects]
        return self._model.find(frame.embedding, recalled, step)


def are_remembered(objects: Iterable[SegmentedObject]) -> list[SegmentedObject]:
    """Those of which the model remembers a prompt."""
    return [o for o in objects if o.tracking.bank.prompted]


def _moved(one: SegmentedObject, found: Found, sequence: int) -> SegmentedObject:
    bank = one.tracking.bank.with_memory(found.memory)
    if not found.is_there:
        return replace(one, tracking=replace(one.tracking, is_lost=True, bank=bank))
    return _with_bank(one.decoded(found.masks.low_res_logits[0], sequence), bank)


def _with_bank(one: SegmentedObject, bank: Bank) -> SegmentedObject:
    return replace(one, tracking=Tracking(bank=bank))
