"""What a model with a memory remembers of one object: immutable values; the tensors are the model's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sam_ros.masks import Masks

FRAMES_RECALLED = 6  # num_maskmem - 1 in sam2's configurations: of how many last frames features are recalled
POINTERS_RECALLED = 15  # max_obj_ptrs_in_encoder - 1: and of how many the pointers
PROMPTS_KEPT = 8  # frames that an object was prompted on, the newest; upstream keeps all, for ever


@dataclass(frozen=True, eq=False)
class Memory:
    """One object on one frame.

    Attributes:
        step: of the frame, counted over the frames that objects were followed on.
        is_prompted: whether it was prompted there.
        pointer: (C,) what the decoder made of the object; on the model's device.
        features: (L, 64) where the object was; on the model's device. None where it is too long ago.
    """

    step: int
    is_prompted: bool
    pointer: Any
    features: Any


@dataclass(frozen=True, eq=False)
class Recalled:
    """What is recalled of an object on a frame; the oldest of the last frames first, as upstream has it.

    Attributes:
        features: with how many frames ago each was, 0 for those it was prompted on.
        pointers: with how many frames ago each was.
    """

    features: tuple[tuple[int, Any], ...]
    pointers: tuple[tuple[int, Any], ...]

    @property
    def kind(self) -> tuple[int, int]:
        """How many of each: objects of one kind can be computed together."""
        return len(self.features), len(self.pointers)


@dataclass(frozen=True, eq=False)
class Found:
    """An object on a frame where it was found by what is remembered of it.

    Attributes:
        masks: the best of three.
        is_there: false where it is out of sight.
        memory: of this frame, whether it is there or not.
    """

    masks: Masks
    is_there: bool
    memory: Memory


@dataclass(frozen=True, eq=False)
class Bank:
    """The memories of one object: of frames that it was prompted on, and of the last ones. Never grows on.

    Attributes:
        prompted: in order of their steps, PROMPTS_KEPT at most.
        followed: in order of their steps, POINTERS_RECALLED at most, features of FRAMES_RECALLED at most.
    """

    prompted: tuple[Memory, ...] = ()
    followed: tuple[Memory, ...] = ()

    def with_memory(self, memory: Memory) -> Bank:
        """With one more; what is remembered of the same frame is replaced, the oldest forgotten.

        What is only followed never takes the place of a prompt.
        """
        if not memory.is_prompted and any(one.step == memory.step for one in self.prompted):
            return self
        prompted = [one for one in self.prompted if one.step != memory.step]
        followed = [one for one in self.followed if one.step != memory.step]
        (prompted if memory.is_prompted else followed).append(memory)
        return Bank(_newest(prompted, PROMPTS_KEPT), _faded(_newest(followed, POINTERS_RECALLED)))

    def of_prompts(self) -> Bank:
        """Without the last frames: what is worth keeping of an object as it was."""
        return Bank(self.prompted)

    def recalled(self, step: int) -> Recalled:
        """What is recalled on a frame: ``_prepare_memory_conditioned_features`` in sam2_base.py.

        Everywhere where it was prompted; of the frames before this one where it was and, farther back, what
        it was. Pointers of prompts that are later than the frame do not count.
        """
        ago = {step - one.step: one for one in self.followed if 0 < step - one.step <= POINTERS_RECALLED}
        before = range(FRAMES_RECALLED, 0, -1)
        features = [(0, one.features) for one in self.prompted]
        features += [(n, ago[n].features) for n in before if n in ago and ago[n].features is not None]
        pointers = [(step - one.step, one.pointer) for one in self.prompted if one.step <= step]
        pointers += [(n, ago[n].pointer) for n in sorted(ago)]
        return Recalled(tuple(features), tuple(pointers))


def _newest(memories: Iterable[Memory], most: int) -> tuple[Memory, ...]:
    return tuple(sorted(memories, key=lambda one: one.step)[-most:])


def _faded(memories: tuple[Memory, ...]) -> tuple[Memory, ...]:
    """Without the features of those that no later frame recalls."""
    past, recent = memories[:-FRAMES_RECALLED], memories[-FRAMES_RECALLED:]
    return (*(one if one.features is None else replace(one, features=None) for one in past), *recent)
