"""Two threads around a model: one encodes frames, one answers prompts and frames; no ROS."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sam_ros.core.frames import Arrival, EmbeddedFrame, Frame, FrameStore, Order
from sam_ros.core.history import ObjectHistory
from sam_ros.core.objects import Choice, ObjectTable, by_kind, difference
from sam_ros.core.protocol import PromptableModel
from sam_ros.core.segmenter import Segmented, Segmenter, empty_outputs
from sam_ros.errors import (
    DeviceError,
    EncodeCancelledError,
    InvalidImageError,
    InvalidPromptError,
    SamRosError,
    shortened,
)
from sam_ros.node.listener import Listener
from sam_ros.node.schedule import frame_to_encode
from sam_ros.node.settings import Settings
from sam_ros.node.statistics import ENCODE, Refusal, Statistics
from sam_ros.node.waiting import PromptRequest, WaitingPrompt, WaitingPrompts

ENCODE_FAILED = "encode failed"  # the kind of an image that was dropped for an error that is not ours
OUT_OF_ORDER = "stamp not later"  # the kind of an image that is stamped as the one before
LATE = "out of order"  # the kind of an image that was overtaken by a later one
OTHER_CAMERA = "other camera"  # the kind of an image of a second camera on the same topic
ANSWERING = "decoding or publishing"  # what failed, for the listener
JOIN_SEC = 4.0  # stopping waits so long for the threads: the node is to end within 5 s of a signal


@dataclass(frozen=True, eq=False)
class _Due:
    """An embedded frame on which a set of answers is due, and its turn among all that is to be answered."""

    frame: EmbeddedFrame
    turn: int


class Engine:
    """Segments and follows objects: takes images and prompts at any rate, answers through the listener.

    Callers never block: their methods only store, or change the table of objects. The encode thread encodes
    the frame that a prompt waits for, else the newest; the decode thread answers prompts whose frame is
    embedded without waiting for any encode. While following, it also answers every embedded frame in its
    turn. The next frame is encoded meanwhile, but the one after that only if a prompt waits for it.

    Args:
        model: encodes images and decodes prompts.
        read_image: makes an (H, W, 3) uint8 RGB image of a serialized one; raises InvalidImageError.
        listener: is told what happens.
        settings: how to work.
        statistics: count what happens.
        waiting: of prompts; tests hand in one that waits for a shorter time.
    """

    def __init__(
        self,
        model: PromptableModel,
        read_image: Callable[[bytes], npt.NDArray[np.uint8]],
        listener: Listener,
        settings: Settings,
        statistics: Statistics,
        waiting: WaitingPrompts | None = None,
    ) -> None:
        self._model = model
        self._read_image = read_image
        self._listener = listener
        self._settings = settings
        self._statistics = statistics
        self._segmenter = Segmenter(model, statistics.event)
        self._changed = threading.Condition()  # guards all below, and is notified of every change
        self._frames = FrameStore(settings.images_kept, settings.embeddings_kept, settings.stamp_tolerance_ns)
        self._waiting = waiting or WaitingPrompts()
        self._turns = itertools.count()
        self._to_follow: deque[_Due] = deque()
        self._to_repeat: deque[_Due] = deque()
        self._objects = ObjectHistory()
        self._answered_on: EmbeddedFrame | None = None
        self._last_encode_start = float("-inf")
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._encode_loop, name="encode", daemon=True),
            threading.Thread(target=self._decode_loop, name="decode", daemon=True),
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> bool:
        """End both threads, cancelling an encode; false if one would not end in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + JOIN_SEC
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def configure(self, settings: Settings) -> None:
        """Change the settings from now on."""
        with self._changed:
            if settings.is_following and not self._settings.is_following:
                # What it remembers is of before following was last switched off.
                self._segmenter.forget_frames(self._frames.num_frames + 1)
            if self._settings.is_following and not settings.is_following:
                # Only following looks for lost objects: without it they would never be shown again.
                self._objects.table = self._objects.table.all_in_sight()
            self._settings = settings
            self._frames.configure(
                settings.images_kept, settings.embeddings_kept, settings.stamp_tolerance_ns
            )
            self._changed.notify_all()

    def add_image(self, stamp_ns: int, frame_id: str, data: bytes) -> None:
        """Store a camera image, still serialized; drop it where it is late, or of a second camera.

        A stamp that jumps back means another recording: all that was before is forgotten.
        """
        self._statistics.event("image")
        with self._changed:
            newest, arrival = self._frames.newest_image, self._frames.arrival(stamp_ns, frame_id)
            flushed = self._flush() if arrival is Arrival.JUMP_BACK else []
            if arrival in (Arrival.NEXT, Arrival.JUMP_BACK):
                self._frames.add_image(stamp_ns, frame_id, data)
                self._changed.notify_all()
        if newest is not None:
            self._tell_arrival(arrival, frame_id, newest, (newest.stamp_ns - stamp_ns) / 1e9, flushed)

    def _tell_arrival(
        self, arrival: Arrival, frame_id: str, newest: Frame, back_sec: float, flushed: list[PromptRequest]
    ) -> None:
        """Say what is unusual about an image, stamped so many seconds before the newest one."""
        if arrival is Arrival.JUMP_BACK:
            self._listener.on_flush(
                f"the images' stamps jumped back by {back_sec:.3f} s: all frames and objects are forgotten"
            )
        elif arrival is Arrival.LATE:
            self._drop(LATE, f"its stamp is {back_sec:.3f} s before that of an image that came earlier")
        elif arrival is Arrival.OTHER_CAMERA:
            self._drop(
                OTHER_CAMERA,
                f"two cameras publish on one topic, with frame_id {shortened(newest.frame_id)!r} and "
                f"{shortened(frame_id)!r}; the second one is left out",
            )
        for request in flushed:
            self._refuse(request, "stale", "the images' stamps jumped back; earlier frames are forgotten")

    def submit(self, request: PromptRequest) -> None:
        """Store a prompt; it is answered or refused through the listener."""
        self._statistics.event("prompt")
        with self._changed:
            dropped = self._waiting.add(request, next(self._turns))
            self._changed.notify_all()
        if dropped is not None:
            self._refuse(dropped, "queue full", "too many prompts are waiting; this was the oldest of them")

    def clear(self) -> None:
        """Forget all objects, and the prompts that still wait.

        Publishes an empty set if there is a frame, unless the next one is answered anyway.
        """
        with self._changed:
            self._forget_objects()
            self._repeat_answers()

    def undo(self) -> bool:
        """Take back the last click, box or mask prompt, waiting or answered; false if there is none."""
        with self._changed:
            if self._waiting.withdraw_last():
                return True
            if not self._objects.undo():
                return False
            self._repeat_answers()
            return True

    def choose(self, topic: str, index: int) -> None:
        """Make another of the three masks of its single click the clicked object's mask; 0 is the best."""
        with self._changed:
            clicked = self._objects.table.clicked_object
            frame = None if clicked is None else self._frames.embedding_with(clicked.sequence)
            if frame is not None:
                request = PromptRequest(topic, frame.stamp_ns, "", lambda _: Choice(index))
                self._waiting.add(request, next(self._turns), frame)
                self._changed.notify_all()
        if clicked is None:
            self._tell(topic, "no object", "there is no clicked object whose mask could be chosen")
        elif frame is None:
            self._tell(
                topic,
                "stale",
                f"the frame that object {shortened(clicked.id)} was clicked on is no longer embedded; click "
                "again, or raise embeddings_kept",
            )

    def select(self, topic: str, id: str) -> None:
        """Make the object of this id the clicked one."""
        with self._refusing_edit(topic, id), self._changed:
            table = self._objects.table
            self._objects.replace(table, table.with_clicked(table.with_id(id)))

    def remove(self, topic: str, id: str) -> None:
        """Forget the object of this id; '' is the clicked one. Undo brings it back."""
        with self._refusing_edit(topic, id), self._changed:
            before = self._objects.table
            after = before.without(before.with_id(id))
            self._objects.replace(before, after, difference(before, after))
            self._repeat_answers()

    @contextmanager
    def _refusing_edit(self, topic: str, id: str) -> Iterator[None]:
        """Refuse an edit of an object that is not there."""
        try:
            yield
        except InvalidPromptError as error:
            self._tell(topic, error.kind, str(error), id)

    @property
    def num_objects(self) -> int:
        """How many objects are alive."""
        with self._changed:
            return len(self._objects.table.objects)

    def _flush(self) -> list[PromptRequest]:
        """Forget frames, objects and waiting prompts, which are returned."""
        withdrawn = self._forget_objects()
        self._frames.clear()
        self._segmenter.forget_frames()
        self._to_follow.clear()
        self._answered_on = None
        self._last_encode_start = float("-inf")
        self._statistics.event("flush")
        return withdrawn

    def _forget_objects(self) -> list[PromptRequest]:
        """Forget objects, their history, and the waiting prompts, which are returned."""
        self._objects.clear()
        self._to_repeat.clear()
        return self._waiting.withdraw_all()

    def _repeat_answers(self) -> None:
        """Queue the objects to be published as they are now; while following, the next frame shows them."""
        frame = self._answered_on or self._frames.newest_embedding
        if frame is not None and not self._settings.is_following:
            self._to_repeat.append(_Due(frame, next(self._turns)))
            self._changed.notify_all()

    def _refuse(self, request: PromptRequest, kind: str, reason: str, id: str = "", count: int = 1) -> None:
        """Count the refusal of a prompt, or of so many of its objects, and tell of it."""
        self._tell(request.topic, kind, reason, id, count, request.stamp_ns)

    def _tell(
        self, topic: str, kind: str, reason: str, id: str = "", count: int = 1, stamp_ns: int = 0
    ) -> None:
        self._statistics.refused(kind, count)
        self._listener.on_refusal(Refusal(topic, stamp_ns, shortened(id), kind, reason))

    # The encode thread.

    def _encode_loop(self) -> None:
        while (frame := self._next_to_encode()) is not None:
            try:
                self._encode(frame)
            except EncodeCancelledError:
                return
            except InvalidImageError as error:
                self._drop(error.kind, str(error))
                self._give_up(frame, error)
            except Exception as error:  # noqa: BLE001 a thread that dies would leave the node deaf
                kind = error.kind if isinstance(error, SamRosError) else ENCODE_FAILED
                self._statistics.dropped(kind)
                self._listener.on_failure(f"encoding the image of stamp {frame.stamp_ns} ns", error)
                self._give_up(frame, SamRosError(f"its image could not be encoded: {error}", kind))

    def _next_to_encode(self) -> Frame | None:
        """Wait for a frame to encode: one that a prompt waits for, else the newest; None to stop."""
        with self._changed:
            while not self._stopping:
                idle_sec = time.monotonic() - self._last_encode_start
                frame, wait_sec = frame_to_encode(
                    self._waiting.wanted_frame,
                    self._frames.newest_untried,
                    self._settings,
                    is_behind=bool(self._to_follow),
                    idle_sec=idle_sec,
                )
                if frame is not None:
                    self._frames.begin_encoding(frame)
                    self._last_encode_start = time.monotonic()
                    return frame
                self._changed.wait(wait_sec)
            return None

    def _encode(self, frame: Frame) -> None:
        start = time.monotonic()
        image_rgb = self._read_image(frame.data)
        read = time.monotonic()
        embedding = self._model.encode(image_rgb, lambda: self._stopping)
        encoded = time.monotonic()
        is_following = self._settings.is_following  # no lock: settings are frozen and replaced as a whole
        if is_following:
            self._segmenter.see(frame.sequence, image_rgb, self._settings.views_kept)
        if self._store_embedding(EmbeddedFrame(frame, embedding), is_following):
            self._statistics.event("read", read - start)
            self._statistics.event(ENCODE, encoded - read)
        else:
            self._drop(OUT_OF_ORDER, "its stamp is not later than that of the image before")

    def _store_embedding(self, embedded: EmbeddedFrame, is_following: bool) -> bool:
        """Store an embedding and, while following, queue its frame to be answered.

        Returns:
            False if its stamp is not later than the last one's while following: sets of answers have stamps
            that increase strictly.
        """
        with self._changed:
            order = self._frames.add_embedding(embedded)
            if is_following and order is Order.NEXT:
                self._to_follow.append(_Due(embedded, next(self._turns)))
            self._waiting.frame_embedded(embedded)
            self._changed.notify_all()
        return not is_following or order is not Order.OUT_OF_ORDER

    def _give_up(self, frame: Frame, error: SamRosError) -> None:
        with self._changed:
            self._frames.give_up(frame, error)
            self._waiting.frame_given_up(frame, error)
            self._changed.notify_all()

    def _drop(self, kind: str, reason: str) -> None:
        self._statistics.dropped(kind)
        self._listener.on_drop(kind, reason)

    # The decode thread.

    def _decode_loop(self) -> None:
        while (answer := self._next_to_answer()) is not None:
            try:
                answer()
            except Exception as error:  # noqa: BLE001 a thread that dies would leave the node deaf
                self._listener.on_failure(ANSWERING, error)

    def _next_to_answer(self) -> Callable[[], None] | None:
        """Wait for a prompt or a frame to answer; None to stop."""
        with self._changed:
            while not self._stopping:
                if self._waiting.look_for_frames(self._frames, self._settings.encode_always):
                    self._changed.notify_all()  # the encode thread
                for _ in range(self._waiting.drop_superseded(self._frames.encoding)):
                    self._statistics.event("superseded")
                answer = self._take_first()
                if answer is not None:
                    self._changed.notify_all()  # the encode thread may be held up
                    return answer
                deadline = self._waiting.next_deadline
                self._changed.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            return None

    def _take_first(self) -> Callable[[], None] | None:
        """Take what is to be answered first, in order of arrival; None if nothing is ready."""
        queues = [queue for queue in (self._to_repeat, self._to_follow) if queue]
        first = min(queues, key=lambda queue: queue[0].turn, default=None)
        prompt = self._waiting.first_ready(until=self._to_follow[0].frame if self._to_follow else None)
        if prompt is not None and (first is None or prompt.turn < first[0].turn):
            self._waiting.begin(prompt)
            return partial(self._answer, prompt)
        if first is None:
            return None
        answer = self._follow if first is self._to_follow else self._repeat
        return partial(answer, first.popleft().frame)

    def _answer(self, prompt: WaitingPrompt) -> None:
        """Answer a prompt on its frame, or refuse it."""
        try:
            result, is_following = self._apply(prompt)
        except Exception as error:  # noqa: BLE001 whatever it is, the prompt has no answer
            self._refuse_failed(prompt, error)
            return
        finally:
            with self._changed:
                self._waiting.end()
        if result is None:
            return
        for refused, count in by_kind(result.refused):
            more = f" (and {count - 1} more objects)" if count > 1 else ""
            self._refuse(prompt.request, refused.kind, refused.reason + more, refused.id, count)
        if result.change is not None:
            self._listener.on_answered(prompt.request.topic, result.outputs, result.change.touched)
            if not is_following:
                self._listener.on_outputs(result.outputs)
        if is_following and result.outputs.candidates is not None:
            self._listener.on_candidates(result.outputs)

    def _apply(self, prompt: WaitingPrompt) -> tuple[Segmented | None, bool]:
        """The outcome of a prompt, None if it was taken back; and whether objects are followed."""
        frame, convert, is_following = prompt.frame(), prompt.request.convert, False

        def compute(table: ObjectTable, settings: Settings) -> Segmented:
            nonlocal is_following
            is_following = settings.is_following
            return self._segmenter.prompted(
                table,
                convert(self._segmenter.target(frame)),
                frame,
                settings,
                follows=is_following,
                wants_candidates=self._listener.wants_candidates,
            )

        return self._commit(frame, compute, prompt), is_following

    def _follow(self, frame: EmbeddedFrame) -> None:
        """Follow all objects to a frame, and publish the set of that frame."""
        try:
            result = self._commit(frame, partial(self._segmenter.followed, frame=frame))
        except Exception:
            with self._changed:
                is_forgotten = self._frames.is_forgotten(frame.frame)
            if not is_forgotten:  # who synchronises outputs with images must not stall
                self._listener.on_outputs(empty_outputs(frame))
            raise
        if result is not None:
            self._listener.on_outputs(result.outputs)

    def _repeat(self, frame: EmbeddedFrame) -> None:
        """Publish the objects as they are, on a frame that was answered before."""
        result = self._commit(frame, partial(self._segmenter.repeated, frame=frame))
        if result is not None:
            self._listener.on_outputs(result.outputs)

    def _commit(
        self,
        frame: EmbeddedFrame,
        compute: Callable[[ObjectTable, Settings], Segmented],
        prompt: WaitingPrompt | None = None,
    ) -> Segmented | None:
        """Replace the objects by what is computed from them; compute anew if they were changed meanwhile.

        Computing takes milliseconds, for which callbacks must not wait: so it holds no lock, and whether its
        result counts is decided afterwards.

        Args:
            frame: on which it is computed.
            compute: what is computed, without the lock.
            prompt: that is being answered, if it is one.

        Returns:
            What was computed at last; None if the frame was forgotten or the prompt taken back.
        """
        while True:
            with self._changed:
                before, settings = self._objects.table, self._settings
            result = compute(before, settings)
            with self._changed:
                if self._frames.is_forgotten(frame.frame) or (prompt is not None and prompt.is_withdrawn):
                    return None
                undoable = result.change if prompt is not None and prompt.request.undoable else None
                if self._objects.replace(before, result.table, undoable):
                    if result.table is not before:
                        self._answered_on = frame
                    self._waiting.end()  # from here on undo takes a prompt back from the history
                    return result

    def _refuse_failed(self, prompt: WaitingPrompt, error: Exception) -> None:
        """Refuse a prompt that could not be answered, unless it was taken back; report what is no refusal."""
        if not isinstance(error, SamRosError) or isinstance(error, DeviceError):
            self._listener.on_failure(ANSWERING, error)
        if prompt.is_withdrawn:
            return
        if isinstance(error, SamRosError):
            self._refuse(prompt.request, error.kind, str(error))
        else:
            self._refuse(prompt.request, SamRosError.kind, f"{type(error).__name__}: {error}")
