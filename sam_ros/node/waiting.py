"""Prompts that wait for their frame and their turn: how long, in which order, and what is dropped."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sam_ros.core.everything import EverythingIn
from sam_ros.core.frames import EmbeddedFrame, Frame, FrameStore, UnencodedFrame
from sam_ros.core.objects import Target, Update
from sam_ros.errors import InvalidPromptError, SamRosError, shortened

HOLD_SEC = 1.0  # how long a prompt waits for an image that has not come yet
WAIT_SEC = 30.0  # how long a prompt waits for its frame to be encoded
PATIENCE_SEC = 0.1  # after which a set of a program gives way to a later one
PROMPTS_KEPT = 64  # waiting at most; beyond, the oldest is dropped


@dataclass(frozen=True, eq=False)
class PromptRequest:
    """A prompt message as it came.

    Attributes:
        topic: where it came from, for messages to the user.
        stamp_ns: of the frame that it was given on; 0 means the newest.
        frame_id: of the message; '' fits every frame.
        convert: makes an update of it once the frame is known, or what is asked of everything there; raises
            InvalidPromptError.
        undoable: whether ``undo`` takes it back.
        is_complete_set: whether it lists all objects of a program, so that the next one of its topic makes
            it superfluous.
        id: of the one object that it names, for refusals and removal; '' where it names none.
        problem: why it is refused as it comes; None where that depends on its frame.
    """

    topic: str
    stamp_ns: int
    frame_id: str
    convert: Callable[[Target], Update | EverythingIn]
    undoable: bool = True
    is_complete_set: bool = False
    id: str = ""
    problem: InvalidPromptError | None = None


class WaitingPrompt:
    """A prompt on its way: waiting for a frame, then being answered.

    Attributes:
        request: the message.
        turn: its place among all that is to be answered; lower ones come first.
        wanted: the frame that is to be encoded for it.
        embedded: its frame, once that is embedded.
        refusal: why it has no frame.
        is_withdrawn: whether it was taken back, by undo, clear, remove or a flush: its answer is thrown away.
    """

    def __init__(self, request: PromptRequest, turn: int, deadline: float) -> None:
        self.request = request
        self.turn = turn
        self.wanted: Frame | None = None
        self.embedded: EmbeddedFrame | None = None
        self.refusal: SamRosError | None = None
        self.is_withdrawn = False
        self._deadline = deadline
        self._since = time.monotonic()

    @property
    def is_ready(self) -> bool:
        """Whether it can be answered or refused."""
        return self.embedded is not None or self.refusal is not None

    @property
    def age_sec(self) -> float:
        """How long it has been waiting."""
        return time.monotonic() - self._since

    def is_superseded_by(self, later: WaitingPrompt) -> bool:
        """Whether a later set of the same program makes this one pointless, and is answered no later.

        Not where the later one is refused, or may still be, and not where its frame has yet to be encoded and
        that of this one is embedded already.
        """
        both = self.request.is_complete_set and later.request.is_complete_set
        if not both or self.request.topic != later.request.topic or self.refusal is not None:
            return False
        frame = later.wanted if later.embedded is None else later.embedded.frame
        if frame is None or not later.is_of(frame):
            return False
        return later.embedded is not None or self.embedded is None

    @property
    def waits_until(self) -> float | None:
        """When it gives up waiting for an image that has not come; None where its frame is known."""
        return self._deadline if self.wanted is None and not self.is_ready else None

    def frame(self) -> EmbeddedFrame:
        """Its frame.

        Raises:
            SamRosError: there is none, or the prompt names another frame_id.
        """
        if self.embedded is None:
            raise self.refusal or SamRosError("no frame")
        if not self.is_of(self.embedded.frame):
            given, frame_id = self.request.frame_id, self.embedded.frame.frame_id
            raise SamRosError(
                f"its frame_id is {shortened(given)!r}, the image's is {shortened(frame_id)!r}",
                "wrong frame_id",
            )
        return self.embedded

    def is_of(self, frame: Frame) -> bool:
        """Whether it may be meant for a frame with that frame_id."""
        return self.request.frame_id in ("", frame.frame_id)

    def look_for_frame(self, frames: FrameStore, encode_always: bool) -> None:
        """Note its frame, embedded or to be encoded, or the refusal where none can come any more."""
        if self.is_ready or self.wanted is not None:
            return
        stamp_ns = self.request.stamp_ns
        self.embedded, self.wanted = frames.find(stamp_ns, encode_always=encode_always)
        if self.wanted is not None:
            self.refusal = frames.error_of(self.wanted)
        elif self.embedded is None and self._is_hopeless(frames):
            self.refusal = frames.explain_missing(stamp_ns)

    def _is_hopeless(self, frames: FrameStore) -> bool:
        return not frames.may_still_come(self.request.stamp_ns) or time.monotonic() >= self._deadline


class WaitingPrompts:
    """All prompts that are not answered yet, in order of arrival. Not thread-safe: its owner locks.

    Args:
        hold_sec: how long a prompt waits for an image that has not come yet.
        prompts_kept: how many may wait; beyond, the oldest is dropped.
        wait_sec: how long a prompt waits for its frame to be encoded.
        patience_sec: how long a set of a program waits before it gives way to a later one.
    """

    def __init__(
        self,
        hold_sec: float = HOLD_SEC,
        prompts_kept: int = PROMPTS_KEPT,
        wait_sec: float = WAIT_SEC,
        patience_sec: float = PATIENCE_SEC,
    ) -> None:
        self._hold_sec, self._prompts_kept = hold_sec, prompts_kept
        self._wait_sec, self._patience_sec = wait_sec, patience_sec
        self._waiting: list[WaitingPrompt] = []
        self._running: WaitingPrompt | None = None

    def add(self, request: PromptRequest, turn: int, frame: EmbeddedFrame | None = None) -> None:
        """Let a prompt wait; ``make_room`` is to be called once it has looked for its frame.

        Args:
            request: the prompt.
            turn: its place among all that is to be answered.
            frame: that it is for, where that is known already.
        """
        prompt = WaitingPrompt(request, turn, time.monotonic() + self._hold_sec)
        prompt.embedded = frame
        self._waiting.append(prompt)

    def make_room(self, encoding: Frame | None) -> tuple[int, PromptRequest | None]:
        """Where too many wait, forget superfluous sets of programs and, if that is not enough, drop a prompt.

        That is the oldest set of a program, which is sent anew, else the oldest prompt; never the last one.

        Returns:
            How many were superfluous, and what was dropped.
        """
        if len(self._waiting) <= self._prompts_kept:
            return 0, None
        num_superseded = self.drop_superseded(encoding, patience_sec=0.0)
        if len(self._waiting) <= self._prompts_kept:
            return num_superseded, None
        others = self._waiting[:-1]
        dropped = next((prompt for prompt in others if prompt.request.is_complete_set), others[0])
        self._waiting.remove(dropped)
        return num_superseded, dropped.request

    def look_for_frames(self, frames: FrameStore, encode_always: bool) -> bool:
        """Find frames of prompts that have none yet; true if one more is to be encoded."""
        wanted_before = self.wanted_frame()
        for prompt in self._waiting:
            prompt.look_for_frame(frames, encode_always)
            if (
                not prompt.is_ready
                and prompt.age_sec > self._wait_sec
                and prompt.wanted is not frames.encoding
            ):
                prompt.refusal = SamRosError(
                    f"it waited {prompt.age_sec:.0f} s for its frame: frames are encoded too slowly for so "
                    "many prompts",
                    "waited too long",
                )
        return self.wanted_frame() is not wanted_before

    def drop_superseded(self, encoding: Frame | None, patience_sec: float | None = None) -> int:
        """Forget sets of programs that have waited while a later one came; returns how many.

        Args:
            encoding: the frame that is being encoded.
            patience_sec: how long they have to have waited; as long as ever where it is not given.

        One whose frame is being encoded is answered: else, where sets come faster than frames are encoded,
        none ever would be. Of those whose frames are embedded the last one is answered.
        """
        patience_sec = self._patience_sec if patience_sec is None else patience_sec
        kept: list[WaitingPrompt] = []
        for index, prompt in enumerate(self._waiting):
            is_superseded = prompt.age_sec >= patience_sec and any(
                prompt.is_superseded_by(later) for later in self._waiting[index + 1 :]
            )
            is_being_encoded = not prompt.is_ready and prompt.wanted is not None and prompt.wanted is encoding
            if is_being_encoded or not is_superseded:
                kept.append(prompt)
        num_dropped = len(self._waiting) - len(kept)
        self._waiting = kept
        return num_dropped

    def first_ready(self, until: EmbeddedFrame | UnencodedFrame | None) -> WaitingPrompt | None:
        """The first prompt that can be answered or refused.

        Args:
            until: a frame that is still to be answered: a prompt on a later one has to wait for that.
        """
        return next((p for p in self._waiting if p.is_ready and _is_its_turn(p, until)), None)

    def begin(self, prompt: WaitingPrompt) -> None:
        """Say that a prompt is being answered from now on."""
        self._waiting.remove(prompt)
        self._running = prompt

    def end(self) -> None:
        """Say that the prompt which is being answered has changed the objects, or was refused."""
        self._running = None

    @property
    def is_empty(self) -> bool:
        """Whether no prompt waits or is being answered."""
        return not self._waiting and self._running is None

    def wanted_frame(self, until: int | None = None) -> Frame | None:
        """The frame that the first prompt without embedded frame waits for.

        Args:
            until: sequence of the last frame that may be encoded now; None where any may.
        """
        wanted = (p.wanted for p in self._waiting if p.wanted is not None and not p.is_ready)
        return next((frame for frame in wanted if until is None or frame.sequence <= until), None)

    def frame_embedded(self, embedded: EmbeddedFrame) -> None:
        """Give a frame to those that wait for it."""
        for prompt in self._waiting_for(embedded.frame):
            prompt.embedded = embedded

    def frame_given_up(self, frame: Frame, error: SamRosError) -> None:
        """Refuse those that wait for a frame that cannot be encoded."""
        for prompt in self._waiting_for(frame):
            prompt.refusal = error

    @property
    def next_deadline(self) -> float | None:
        """When the first of those that wait for an image to come gives up, by ``time.monotonic``."""
        return min((p.waits_until for p in self._waiting if p.waits_until is not None), default=None)

    def withdraw_last(self, after_turn: int = -1) -> bool:
        """Take back the last prompt that can be undone, waiting or being answered; false if there is none.

        Args:
            after_turn: that of a later change, which is to be undone instead of earlier prompts.
        """
        undoable = [p for p in self._on_their_way if p.request.undoable and p.turn > after_turn]
        last = sorted(undoable, key=lambda prompt: prompt.turn)[-1:]
        return bool(self._withdraw(last))

    def withdraw_all(self) -> list[PromptRequest]:
        """Take back all prompts, waiting or being answered, and return them; none is returned twice."""
        return self._withdraw(self._on_their_way)

    def withdraw_named(self, id: str) -> list[PromptRequest]:
        """Take back the prompts that name this object, waiting or being answered, and return them."""
        return self._withdraw([prompt for prompt in self._on_their_way if prompt.request.id == id])

    @property
    def _on_their_way(self) -> list[WaitingPrompt]:
        """All prompts: the one that is being answered, if there is one, and those that wait."""
        return [*([] if self._running is None else [self._running]), *self._waiting]

    def _withdraw(self, prompts: Collection[WaitingPrompt]) -> list[PromptRequest]:
        for prompt in prompts:
            prompt.is_withdrawn = True
        self._waiting = [prompt for prompt in self._waiting if not prompt.is_withdrawn]
        if self._running is not None and self._running.is_withdrawn:
            self._running = None
        return [prompt.request for prompt in prompts]

    def _waiting_for(self, frame: Frame) -> list[WaitingPrompt]:
        return [prompt for prompt in self._waiting if prompt.wanted is frame]


def _is_its_turn(prompt: WaitingPrompt, until: EmbeddedFrame | UnencodedFrame | None) -> bool:
    """Whether no frame before that of a prompt has still to be answered; a refusal need not wait."""
    return until is None or prompt.embedded is None or prompt.embedded.sequence <= until.sequence
