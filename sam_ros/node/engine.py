"""Two threads around a model: one encodes frames, one answers prompts and frames; no ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from sam_ros.core.frames import Arrival, Frame
from sam_ros.core.objects import Choice, difference
from sam_ros.core.protocol import PromptableModel
from sam_ros.core.segmenter import Segmenter
from sam_ros.errors import InvalidImageError, InvalidPromptError, shortened
from sam_ros.node.answering import Answering
from sam_ros.node.encoding import Encoding
from sam_ros.node.listener import Listener
from sam_ros.node.settings import Settings
from sam_ros.node.state import EngineState
from sam_ros.node.statistics import Statistics
from sam_ros.node.surveying import Surveying, keep_everything
from sam_ros.node.tally import Tally
from sam_ros.node.waiting import PromptRequest, WaitingPrompts

LATE = "out of order"  # the kind of an image that was overtaken by a later one
OTHER_CAMERA = "other camera"  # the kind of an image of a second camera on the same topic
INACTIVE = "inactive"  # the kind of a prompt that is refused for the state of the node
TAKEN_BACK = "taken back"  # the kind of a prompt whose object was forgotten before it was answered
JOIN_SEC = 4.0  # stopping waits so long for the threads: the node is to end within 5 s of a signal


class Engine:
    """Segments and follows objects: takes images and prompts at any rate, answers through the listener.

    Callers never block: their methods only store, or change the table of objects. One thread encodes
    (``Encoding``), one answers (``Answering``); they and the callers share the ``EngineState``.

    Args:
        model: encodes images and decodes prompts.
        read_image: makes an (H, W, 3) uint8 RGB image of a serialized one; raises InvalidImageError.
        read_size: (H, W) of a serialized image, for frames that are not encoded; raises InvalidImageError.
        listener: is told what happens.
        settings: how to work.
        statistics: count what happens.
        waiting: of prompts; tests hand in one that waits for a shorter time.
    """

    def __init__(
        self,
        model: PromptableModel,
        read_image: Callable[[bytes], npt.NDArray[np.uint8]],
        read_size: Callable[[bytes], tuple[int, int]],
        listener: Listener,
        settings: Settings,
        statistics: Statistics,
        waiting: WaitingPrompts | None = None,
    ) -> None:
        self._statistics, self._tally = statistics, Tally(statistics, listener)
        self._listener = listener
        self._segmenter = Segmenter(model, statistics.event)
        self._state = EngineState(settings, waiting or WaitingPrompts(), statistics)
        encoding = Encoding(self._state, model, read_image, read_size, self._segmenter, listener, statistics)
        surveying = Surveying(self._state, model, listener, statistics)
        answering = Answering(self._state, self._segmenter, surveying, listener, statistics)
        self._threads = [
            threading.Thread(target=encoding.run, name="encode", daemon=True),
            threading.Thread(target=answering.run, name="decode", daemon=True),
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> bool:
        """End both threads, cancelling an encode; false if one would not end in time."""
        with self._state.changed:
            withdrawn = self._state.stop()
        self._refuse_all(withdrawn, INACTIVE, "the node was deactivated before this could be answered")
        deadline = time.monotonic() + JOIN_SEC
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def configure(self, settings: Settings) -> None:
        """Change the settings from now on."""
        with self._state.changed:
            if settings.is_following and not self._state.settings.is_following:
                # What it remembers is of before following was last switched off.
                self._segmenter.forget_frames(self._state.frames.num_frames + 1)
            self._state.configure(settings)

    def add_image(
        self, stamp_ns: int, frame_id: str, data: bytes, problem: InvalidImageError | None = None
    ) -> None:
        """Store a camera image, still serialized; drop it where it is late, or of a second camera.

        A stamp that jumps back means another recording: all that was before is forgotten. Of an image that is
        known to have a problem only that is kept, for the prompts that are meant for it.
        """
        with self._state.changed:
            newest, arrival = self._state.frames.newest_image, self._state.frames.arrival(stamp_ns, frame_id)
            flushed: list[PromptRequest] = []
            if arrival is Arrival.JUMP_BACK:
                self._segmenter.forget_frames()
                flushed = self._state.flush()
            is_taken = arrival in (Arrival.NEXT, Arrival.JUMP_BACK)
            if is_taken:
                frame = self._state.frames.add_image(stamp_ns, frame_id, data if problem is None else b"")
                if problem is not None:
                    self._state.frames.refuse(frame, problem)
                self._state.look_for_frames()
                self._state.changed.notify_all()
        if is_taken and problem is not None:
            self._tally.dropped(problem.kind, str(problem))
        if newest is not None:
            self._tell_arrival(arrival, frame_id, newest, (newest.stamp_ns - stamp_ns) / 1e9, flushed)

    def _tell_arrival(
        self, arrival: Arrival, frame_id: str, newest: Frame, back_sec: float, flushed: list[PromptRequest]
    ) -> None:
        """Say what is unusual about an image, stamped so many seconds before the newest one."""
        if arrival is Arrival.JUMP_BACK:
            self._statistics.event("flush")
            self._listener.on_flush(
                f"the images' stamps jumped back by {back_sec:.3f} s: all frames and objects are forgotten"
            )
        elif arrival is Arrival.LATE:
            self._tally.dropped(
                LATE,
                f"its stamp is {back_sec:.3f} s before that of an image that came earlier",
                is_usable=True,
            )
        elif arrival is Arrival.OTHER_CAMERA:
            self._tally.dropped(
                OTHER_CAMERA,
                f"two cameras publish on one topic, with frame_id {shortened(newest.frame_id)!r} and "
                f"{shortened(frame_id)!r}; the second one is left out",
                is_usable=True,
            )
        self._refuse_all(flushed, "stale", "the images' stamps jumped back; earlier frames are forgotten")

    def submit(self, request: PromptRequest) -> None:
        """Store a prompt; it is answered or refused through the listener."""
        self._statistics.event("prompt")
        if request.problem is not None:
            self._tally.refused(request, request.problem.kind, str(request.problem))
            return
        with self._state.changed:
            dropped = self._state.submit(request)
        self._tell_dropped(dropped)

    def _tell_dropped(self, dropped: PromptRequest | None) -> None:
        if dropped is not None:
            reason = (
                "too many prompts are waiting; the oldest makes room, a set of a program before all others"
            )
            self._tally.refused(dropped, "queue full", reason)

    def _refuse_all(self, requests: list[PromptRequest], kind: str, reason: str) -> None:
        for request in requests:
            self._tally.refused(request, kind, reason)

    def clear(self) -> None:
        """Forget all objects; refuse the prompts, and the request for everything, that are not answered yet.

        Publishes an empty set if there is a frame, unless the next one is answered anyway.
        """
        with self._state.changed:
            withdrawn = self._state.forget_objects()
            self._state.repeat_answers()
        self._refuse_all(withdrawn, TAKEN_BACK, "all objects were cleared before this was answered")

    def undo(self) -> bool:
        """Take back the last click, box or mask prompt, waiting or answered; false if there is none."""
        with self._state.changed:
            if self._state.waiting.withdraw_last(self._state.objects.last_turn):
                return True
            if not self._state.objects.undo():
                return False
            self._state.repeat_answers()
            return True

    def choose(self, topic: str, index: int) -> None:
        """Make another of the three masks of its single click the clicked object's mask; 0 is the best."""
        with self._state.changed:
            clicked, dropped = self._state.objects.table.clicked_object, None
            frame = None if clicked is None else self._state.frames.embedding_with(clicked.sequence)
            if frame is not None:
                request = PromptRequest(topic, frame.stamp_ns, "", lambda _: Choice(index))
                dropped = self._state.submit(request, frame)
        self._tell_dropped(dropped)
        if clicked is None:
            self._tally.refused_message(
                topic, "no object", "there is no clicked object whose mask could be chosen"
            )
        elif frame is None:
            self._tally.refused_message(
                topic,
                "stale",
                f"the frame that object {shortened(clicked.id)} was clicked on is no longer embedded; click "
                "again, or raise embeddings_kept",
            )

    def select(self, topic: str, id: str) -> None:
        """Make the object of this id the clicked one."""
        with self._refusing_edit(topic, id), self._state.changed:
            table = self._state.objects.table
            selected = table.with_id(id)
            if selected.created != table.clicked:
                self._state.objects.replace(table, table.with_clicked(selected))

    def remove(self, topic: str, id: str) -> None:
        """Forget the object of this id; '' is the clicked one. Undo brings it back.

        Prompts that name it and are not answered yet are refused, for they would make it anew. They may be
        all that there is of it.
        """
        withdrawn: list[PromptRequest] = []
        with self._refusing_edit(topic, id), self._state.changed:
            before = self._state.objects.table
            clicked = before.clicked_object
            name = id or (clicked.id if clicked is not None else "")
            withdrawn = self._state.waiting.withdraw_named(name) if name else []
            if not withdrawn or any(one.id == name for one in before.objects):
                after = before.without(before.with_id(name))
                turn = self._state.next_turn()
                self._state.objects.replace(before, after, difference(before, after), turn)
                self._state.repeat_answers()
        self._refuse_all(withdrawn, TAKEN_BACK, "its object was removed before this was answered")

    def keep_everything(self) -> tuple[bool, str]:
        """Make objects of all that was found last; whether it was done, and what to tell the caller."""
        with self._state.changed:
            return keep_everything(self._state)

    @contextmanager
    def _refusing_edit(self, topic: str, id: str) -> Iterator[None]:
        """Refuse an edit of an object that is not there."""
        try:
            yield
        except InvalidPromptError as error:
            self._tally.refused_message(topic, error.kind, str(error), id)

    @property
    def num_objects(self) -> int:
        """How many objects are alive."""
        with self._state.changed:
            return len(self._state.objects.table.objects)
