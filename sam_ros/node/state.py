"""What the engine's callers and threads share: frames, prompts, objects, and the one lock around them."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from sam_ros.core.frames import EmbeddedFrame, Frame, FrameStore, UnencodedFrame
from sam_ros.core.history import ObjectHistory
from sam_ros.node.everything import EverythingState
from sam_ros.node.settings import Settings
from sam_ros.node.statistics import Statistics
from sam_ros.node.waiting import PromptRequest, WaitingPrompts

MOST_DUE = 2  # frames on which answers are due: beyond, no later one is encoded, whoever waits for it

AnyFrame = TypeVar("AnyFrame", bound=EmbeddedFrame | UnencodedFrame)


@dataclass(frozen=True, eq=False)
class Due(Generic[AnyFrame]):
    """A frame on which a set of answers is due, and its turn among all that is to be answered."""

    frame: AnyFrame
    turn: int


class EngineState:
    """What there is to encode and to answer. Whoever reads or changes it holds ``changed``.

    Args:
        settings: how to work.
        waiting: holds the prompts that wait.
        statistics: count the sets of programs that later ones make superfluous.

    Attributes:
        changed: the lock; notified of every change.
        settings: how to work; frozen and replaced as a whole, so that it may be read without the lock.
        frames: images and embeddings.
        waiting: prompts that wait for their frame or their turn.
        to_follow: frames to which objects are to be followed, oldest first.
        to_repeat: embedded frames on which the objects are to be published again.
        everything: the request for everything that is worked on, and the last answer.
        objects: as they are, and what undo can restore.
        answered_on: the frame on which objects were answered last.
        last_encode_start: when the last frame was taken to be encoded or passed over, by ``time.monotonic``.
        stopping: whether the threads are to end.
    """

    def __init__(self, settings: Settings, waiting: WaitingPrompts, statistics: Statistics) -> None:
        self.changed = threading.Condition()
        self.settings = settings
        self.frames = FrameStore(settings.images_kept, settings.embeddings_kept, settings.stamp_tolerance_ns)
        self.waiting = waiting
        self.to_follow: deque[Due[EmbeddedFrame | UnencodedFrame]] = deque()
        self.to_repeat: deque[Due[EmbeddedFrame]] = deque()
        self.everything = EverythingState()
        self.objects = ObjectHistory()
        self.answered_on: EmbeddedFrame | None = None
        self.last_encode_start = float("-inf")
        self.stopping = False
        self._turns = itertools.count()
        self._statistics = statistics

    @property
    def has_objects(self) -> bool:
        """Whether objects are alive, shown or not."""
        return bool(self.objects.table.objects)

    @property
    def is_resting(self) -> bool:
        """Whether there is nothing that the newest frame would be encoded for."""
        return self.settings.encode == "with_objects" and not self.has_objects and self.waiting.is_empty

    @property
    def embeds_newest(self) -> bool:
        """Whether the newest embedding is that of a frame of now, as long as nobody asks for a frame."""
        encode = self.settings.encode
        return encode == "always" or (encode == "with_objects" and self.has_objects)

    @property
    def clicked_on(self) -> int:
        """Sequence of the frame that the clicked object was prompted on, 0 if there is none."""
        clicked = self.objects.table.clicked_object
        return 0 if clicked is None else clicked.sequence

    def next_turn(self) -> int:
        """The turn of what is to be answered after all that came before."""
        return next(self._turns)

    def configure(self, settings: Settings) -> None:
        """Change the settings from now on."""
        if self.settings.is_following and not settings.is_following:
            # Only following looks for lost objects: without it they would never be shown again.
            self.objects.table = self.objects.table.all_in_sight()
        self.settings = settings
        self.frames.configure(settings.images_kept, settings.embeddings_kept, settings.stamp_tolerance_ns)
        self.changed.notify_all()

    def stop(self) -> list[PromptRequest]:
        """Ask the threads to end; returns what will not be answered any more."""
        self.stopping = True
        self.changed.notify_all()
        return self._give_up()

    def forget_objects(self) -> list[PromptRequest]:
        """Forget objects, their history, and all that is not answered yet, which is returned.

        The last answer to a request for everything stays.
        """
        self.objects.clear()
        self.to_repeat.clear()
        return self._give_up()

    def _give_up(self) -> list[PromptRequest]:
        """Take back all prompts, and what is worked on of everything; returns each of them once."""
        surveyed = self.everything.cancel()
        return [*([] if surveyed is None else [surveyed]), *self.waiting.withdraw_all()]

    def flush(self) -> list[PromptRequest]:
        """Forget frames, objects and all that is not answered yet, which is returned."""
        withdrawn = self.forget_objects()
        self.everything.forget()
        self.frames.clear()
        self.to_follow.clear()
        self.answered_on = None
        self.last_encode_start = float("-inf")
        return withdrawn

    def submit(self, request: PromptRequest, frame: EmbeddedFrame | None = None) -> PromptRequest | None:
        """Let a prompt wait; returns the one that was dropped for it, if too many are waiting.

        Args:
            request: the prompt.
            frame: that it is for, where that is known already.
        """
        self.waiting.add(request, self.next_turn(), frame)
        self.look_for_frames()
        num_superseded, dropped = self.waiting.make_room(self.frames.encoding)
        self._count_superseded(num_superseded)
        self.changed.notify_all()
        return dropped

    def look_for_frames(self) -> None:
        """Find the frames of prompts that have none yet; forget sets that later ones make superfluous.

        To be called as prompts and images come: a prompt holds its frame from then on, however long the
        threads are busy.
        """
        if self.waiting.look_for_frames(self.frames, self.embeds_newest):
            self.changed.notify_all()  # the encode thread
        self._count_superseded(self.waiting.drop_superseded(self.frames.encoding))

    def _count_superseded(self, count: int) -> None:
        for _ in range(count):
            self._statistics.event("superseded")

    @property
    def wanted_frame(self) -> Frame | None:
        """The frame that is to be encoded for a prompt now.

        Every frame that comes after those that are due is due as well once it is encoded. Where a program
        prompts on frames faster than they are answered, they would be ever more.
        """
        is_full = len(self.to_follow) >= MOST_DUE
        return self.waiting.wanted_frame(self.to_follow[-1].frame.sequence if is_full else None)

    def repeat_answers(self) -> None:
        """Queue the objects to be published as they are now; while following, the next frame shows them."""
        frame = self.answered_on or self.frames.newest_embedding
        if frame is not None and not self.settings.is_following:
            self.to_repeat.append(Due(frame, self.next_turn()))
            self.changed.notify_all()
