"""Two threads around a predictor: one encodes frames, one decodes prompts; no ROS."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from sam_ros.core.follower import VIEWS_KEPT, Follower, View, found_again, make_view, prompt_to_follow
from sam_ros.core.frames import EmbeddedFrame, Frame, FrameStore
from sam_ros.core.objects import (
    ObjectTable,
    ProgramPrompts,
    RefusedObject,
    SegmentedObject,
    Target,
    Update,
    update_clicked,
    update_program,
)
from sam_ros.errors import DeviceError, InvalidImageError, SamRosError
from sam_ros.masks import Masks
from sam_ros.node.statistics import ENCODE, Refusal, Statistics
from sam_ros.predictor import EncodeCancelledError, Predictor
from sam_ros.prompt import Prompt

HOLD_SEC = 1.0  # how long a prompt waits for an image that has not come yet
PENDING_KEPT = 64  # prompts waiting at most; beyond, the oldest is dropped
UNDO_KEPT = 64  # states of the clicked object that undo can go back
ENCODE_FAILED = "encode failed"  # the kind of an image that was dropped for an error that is not ours
OUT_OF_ORDER = "stamp not later"  # the kind of an image that came in order but is stamped otherwise
DECODING = "decoding or publishing"  # what failed, for the listener
JOIN_SEC = 4.0  # how long stopping waits for the threads; an encode on a CPU checks between blocks


@dataclass(frozen=True)
class Settings:
    """How the engine works; may change while it runs.

    Attributes:
        encode_always: encode every frame that there is time for, not just those that are prompted on.
        follow: answer on every frame that is encoded, the objects moved along; else once for each prompt, on
            its frame. Only where every frame is encoded.
        max_rate_hz: encode at most so often without being asked; 0 is unlimited.
        images_kept, embeddings_kept, stamp_tolerance_ns: see ``FrameStore``.
        accumulate_clicks: foreground clicks and boxes join the clicked object instead of replacing it.
        multimask_output: ask for three masks where the prompt is a single point.
        max_objects: at most so many objects live.
        min_predicted_iou, min_stability_score: objects below are left out of all outputs.
    """

    encode_always: bool = True
    follow: bool = False
    max_rate_hz: float = 0.0
    images_kept: int = 30
    embeddings_kept: int = 8
    stamp_tolerance_ns: int = 50_000_000
    accumulate_clicks: bool = False
    multimask_output: bool = True
    max_objects: int = 64
    min_predicted_iou: float = 0.0
    min_stability_score: float = 0.0

    @property
    def is_following(self) -> bool:
        """Whether objects are followed from frame to frame."""
        return self.follow and self.encode_always


@dataclass(frozen=True, eq=False)
class PromptRequest:
    """A prompt message that waits for its frame.

    Attributes:
        topic: where it came from, for messages to the user.
        stamp_ns: of the frame that it was given on; 0 means the newest.
        frame_id: of the message; '' fits every frame.
        convert: makes an update of it once the frame is known; raises InvalidPromptError.
        undoable: whether ``undo`` takes it back.
    """

    topic: str
    stamp_ns: int
    frame_id: str
    convert: Callable[[Target], Update]
    undoable: bool = True


@dataclass(frozen=True, eq=False)
class Outputs:
    """One set of answers on one frame, objects in creation order; what is not to be shown is left out.

    Attributes:
        frame: the frame that they belong to.
        size_hw: (H, W) of its image.
        objects: the objects with their best mask; the one of the candidates has all three.
        candidates: the three masks of the prompt's last single-point object, if it had one and they are
            wanted.
    """

    frame: Frame
    size_hw: tuple[int, int]
    objects: tuple[tuple[SegmentedObject, Masks], ...]
    candidates: Masks | None = None


class Listener(Protocol):
    """What the engine tells; called from its threads."""

    def wants_candidates(self) -> bool:
        """Whether the candidates of an answer will be looked at; if not, they are not made."""

    def on_outputs(self, outputs: Outputs) -> None:
        """A set of answers is ready."""

    def on_candidates(self, outputs: Outputs) -> None:
        """A prompt has candidates, but its object appears only in a set to come: publish just these."""

    def on_refusal(self, refusal: Refusal) -> None:
        """A prompt was refused, already counted."""

    def on_drop(self, kind: str, reason: str) -> None:
        """An image was dropped, already counted."""

    def on_failure(self, what: str, error: Exception) -> None:
        """Something failed that no input explains."""


class _Job:
    """A request on its way: waiting for a frame, then being decoded. Guarded by the engine's lock."""

    def __init__(self, request: PromptRequest) -> None:
        self.request = request
        self.deadline = time.monotonic() + HOLD_SEC
        self.wanted: Frame | None = None  # being encoded for it
        self.embedded: EmbeddedFrame | None = None
        self.refusal: SamRosError | None = None
        self.withdrawn = False

    @property
    def is_ready(self) -> bool:
        return self.embedded is not None or self.refusal is not None


@dataclass(frozen=True, eq=False)
class _Republish:
    """Publish the objects as they are, on this frame."""

    embedded: EmbeddedFrame


@dataclass(frozen=True, eq=False)
class _Follow:
    """Publish the objects as they are on this frame, the newest that is embedded."""

    embedded: EmbeddedFrame


class Engine:
    """Objects segmented on frames: takes images and prompts at any rate, answers through the listener.

    Callers never block: ``add_image``, ``submit``, ``clear`` and ``undo`` only store. The encode thread takes
    the newest frame, or one that a prompt waits for; the decode thread answers prompts whose frame is
    embedded without waiting for any encode. While objects are followed, it answers each embedded frame in its
    turn, and the next one is encoded meanwhile, but the one after it only if a prompt waits for it.
    """

    def __init__(
        self,
        predictor: Predictor,
        read_image: Callable[[bytes], npt.NDArray[np.uint8]],
        listener: Listener,
        settings: Settings,
        statistics: Statistics,
    ) -> None:
        self._predictor = predictor
        self._read_image = read_image
        self._listener = listener
        self._settings = settings
        self._statistics = statistics
        self._changed = threading.Condition()  # guards all below
        self._follower = Follower()
        self._frames = FrameStore(settings.images_kept, settings.embeddings_kept, settings.stamp_tolerance_ns)
        self._pending: deque[_Job | _Republish | _Follow] = deque()
        self._running_job: _Job | None = None
        self._table = ObjectTable()
        self._history: deque[SegmentedObject | None] = deque(maxlen=UNDO_KEPT)
        self._published_on: EmbeddedFrame | None = None
        self._newest_encoded: Frame | None = None  # of those whose stamps increase
        self._num_frames = 0
        self._flushed_until = 0  # sequence of the last frame before the last flush
        self._encoding: Frame | None = None
        self._broken: WeakKeyDictionary[Frame, SamRosError] = WeakKeyDictionary()
        self._last_attempt = -1  # sequence of the newest frame that was encoded or given up
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
                self._follower.clear(first=self._num_frames + 1)  # what it knows is of long ago
            if self._settings.is_following and not settings.is_following:
                self._table = self._table.all_in_sight()
            self._settings = settings
            self._frames.configure(
                settings.images_kept, settings.embeddings_kept, settings.stamp_tolerance_ns
            )
            self._changed.notify_all()

    def add_image(self, stamp_ns: int, frame_id: str, data: bytes) -> None:
        """Store a camera image, still serialized. A stamp that jumps back means another recording: flush."""
        self._statistics.event("image")
        flushed: list[PromptRequest] = []
        with self._changed:
            newest = self._frames.newest_image
            if newest is not None and stamp_ns < newest.stamp_ns - self._settings.stamp_tolerance_ns:
                flushed = self._flush()
            self._num_frames += 1
            self._frames.add_image(Frame(self._num_frames, stamp_ns, frame_id, data))
            self._changed.notify_all()
        for request in flushed:
            self._refuse(request, "stale", "the images' stamps jumped back; earlier frames are forgotten")

    def submit(self, request: PromptRequest) -> None:
        """Store a prompt; it is answered or refused through the listener."""
        self._statistics.event("prompt")
        with self._changed:
            waiting = self._waiting_jobs()
            overflow = waiting[0] if len(waiting) >= PENDING_KEPT else None
            if overflow is not None:
                self._pending.remove(overflow)
            self._pending.append(_Job(request))
            self._changed.notify_all()
        if overflow is not None:
            self._refuse(overflow.request, "queue full", f"more than {PENDING_KEPT} prompts are waiting")

    def clear(self) -> None:
        """Forget all objects, and the prompts that still wait.

        Publishes an empty set if there is a frame, unless the next one is answered anyway.
        """
        with self._changed:
            self._pending = deque(job for job in self._pending if isinstance(job, _Follow))
            self._withdraw_running_job()
            self._table = self._table.cleared()
            self._history.clear()
            self._republish()

    def undo(self) -> bool:
        """Take back the last click, box or mask prompt, waiting or answered; false if there is none."""
        with self._changed:
            undoable = [job for job in self._waiting_jobs() if job.request.undoable]
            if undoable:
                self._pending.remove(undoable[-1])
                return True
            if self._running_job is not None and self._running_job.request.undoable:
                self._withdraw_running_job()
                return True
            if not self._history:
                return False
            self._table = self._table.with_clicked_object(self._history.pop())
            self._republish()
            return True

    @property
    def num_objects(self) -> int:
        """How many objects are alive."""
        with self._changed:
            return len(self._table.objects)

    def _flush(self) -> list[PromptRequest]:
        """Forget frames, objects and waiting prompts, which are returned."""
        waiting = self._waiting_jobs()
        self._frames.clear()
        self._flushed_until = self._num_frames
        self._pending.clear()
        self._withdraw_running_job()
        self._table = self._table.cleared()
        self._history.clear()
        self._published_on = None
        self._newest_encoded = None
        self._follower.clear()
        self._last_encode_start = float("-inf")
        self._statistics.event("flush")
        return [job.request for job in waiting]

    def _waiting_jobs(self) -> list[_Job]:
        return [job for job in self._pending if isinstance(job, _Job)]

    def _withdraw_running_job(self) -> None:
        if self._running_job is not None:
            self._running_job.withdrawn = True

    def _republish(self) -> None:
        if self._settings.is_following:
            return
        embedded = self._published_on or self._frames.newest_embedding
        if embedded is not None:
            self._pending.append(_Republish(embedded))
            self._changed.notify_all()

    def _refuse(self, request: PromptRequest, kind: str, reason: str, id: str = "") -> None:
        self._statistics.refused(kind)
        self._listener.on_refusal(Refusal(request.topic, request.stamp_ns, id, kind, reason))

    # The encode thread.

    def _encode_loop(self) -> None:
        while (frame := self._next_frame()) is not None:
            try:
                self._encode(frame)
            except EncodeCancelledError:
                return
            except InvalidImageError as error:
                self._statistics.dropped(error.kind)
                self._listener.on_drop(error.kind, str(error))
                self._give_up(frame, error)
            except Exception as error:  # noqa: BLE001 a thread that dies would leave the node deaf
                kind = error.kind if isinstance(error, SamRosError) else ENCODE_FAILED
                self._statistics.dropped(kind)
                self._listener.on_failure(f"encoding the image of stamp {frame.stamp_ns} ns", error)
                self._give_up(frame, SamRosError(f"its image could not be encoded: {error}", kind))

    def _next_frame(self) -> Frame | None:
        """Wait for a frame to encode: one that a prompt waits for, else the newest; None to stop."""
        with self._changed:
            while not self._stopping:
                frame, wait_sec = self._choose_frame()
                if frame is not None:
                    self._encoding = frame
                    self._last_encode_start = time.monotonic()
                    self._last_attempt = max(self._last_attempt, frame.sequence)
                    return frame
                self._changed.wait(wait_sec)
            return None

    def _choose_frame(self) -> tuple[Frame | None, float | None]:
        """The frame to encode now, or None and how many seconds to wait at most."""
        waiting = self._waiting_jobs()
        wanted = next((job.wanted for job in waiting if job.wanted and not job.is_ready), None)
        newest = self._frames.newest_image
        if wanted is not None:
            return wanted, None
        if newest is None or newest.sequence <= self._last_attempt or not self._settings.encode_always:
            return None, None
        if any(isinstance(job, _Follow) for job in self._pending):
            return None, None  # the decode thread is behind
        period = 1 / self._settings.max_rate_hz if self._settings.max_rate_hz else 0.0
        wait_sec = self._last_encode_start + period - time.monotonic()
        return (newest, None) if wait_sec <= 0 else (None, wait_sec)

    def _encode(self, frame: Frame) -> None:
        start = time.monotonic()
        image_rgb = self._read_image(frame.data)
        read = time.monotonic()
        embedding = self._predictor.encode(image_rgb, lambda: self._stopping)
        encoded = time.monotonic()
        embedded = EmbeddedFrame(frame, embedding)
        view = make_view(image_rgb) if self._settings.is_following else None
        with self._changed:
            self._encoding = None
            is_usable = frame.sequence <= self._flushed_until or self._follow_on(embedded, view)
            if is_usable:
                self._statistics.event("read", read - start)
                self._statistics.event(ENCODE, encoded - read)
            for job in self._waiting_for(frame):
                job.embedded = embedded
            self._changed.notify_all()
        if not is_usable:
            self._statistics.dropped(OUT_OF_ORDER)
            self._listener.on_drop(OUT_OF_ORDER, "its stamp is not later than that of the image before")

    def _follow_on(self, embedded: EmbeddedFrame, view: View | None) -> bool:
        """Keep an embedded frame; where there is a view, have it answered after the prompts before it.

        Stamps increase strictly from set to set; only a camera that leaves them all at zero is excused.

        Returns:
            Whether the frame's stamp is as it should be.
        """
        last, frame, settings = self._newest_encoded, embedded.frame, self._settings
        self._frames.add_embedding(embedded)
        if view is not None:
            # As far back as a prompt may reach.
            views_kept = max(VIEWS_KEPT, settings.images_kept + settings.embeddings_kept)
            self._follower.add(frame.sequence, view, views_kept)
        if last is not None and frame.sequence <= last.sequence:
            return True  # encoded late, for a prompt
        if last is not None and frame.stamp_ns <= last.stamp_ns and (last.stamp_ns or frame.stamp_ns):
            return view is None
        self._newest_encoded = frame
        if view is not None:
            self._pending.append(_Follow(embedded))
        return True

    def _give_up(self, frame: Frame, error: SamRosError) -> None:
        with self._changed:
            self._encoding = None
            self._broken[frame] = error
            for job in self._waiting_for(frame):
                job.refusal = error
            self._changed.notify_all()

    def _waiting_for(self, frame: Frame) -> list[_Job]:
        return [job for job in self._waiting_jobs() if job.wanted is frame]

    # The decode thread.

    def _decode_loop(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                if isinstance(job, _Job):
                    self._answer(job)
                elif isinstance(job, _Follow):
                    self._follow(job.embedded)
                else:
                    self._publish_again(job.embedded)
            except SamRosError as error:
                if isinstance(error, DeviceError) or not isinstance(job, _Job):
                    self._listener.on_failure(DECODING, error)
                self._refuse_running_job(error)
            except Exception as error:  # noqa: BLE001 a thread that dies would leave the node deaf
                self._listener.on_failure(DECODING, error)
                self._refuse_running_job(SamRosError(f"{type(error).__name__}: {error}"))
            finally:
                self._running_job = None

    def _refuse_running_job(self, error: SamRosError) -> None:
        """Refuse the prompt under way, unless it was taken back or has changed the objects already."""
        job = self._running_job
        if job is not None and not job.withdrawn:
            self._refuse(job.request, error.kind, str(error))

    def _next_job(self) -> _Job | _Republish | _Follow | None:
        """Wait for something to answer, or a prompt to refuse, in order of arrival; None to stop."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                for job in self._pending:
                    if not isinstance(job, _Job) or (self._resolve(job, now) and self._is_its_turn(job)):
                        self._pending.remove(job)
                        self._running_job = job if isinstance(job, _Job) else None
                        self._changed.notify_all()  # the encode thread may be held up
                        return job
                self._changed.wait(self._time_to_next_deadline(now))
            return None

    def _is_its_turn(self, job: _Job) -> bool:
        """Whether no frame before that of a prompt has still to be answered."""
        followed = next((one for one in self._pending if isinstance(one, _Follow)), None)
        if followed is None or job.embedded is None:
            return True
        return job.embedded.sequence <= followed.embedded.sequence

    def _time_to_next_deadline(self, now: float) -> float | None:
        deadlines = [job.deadline for job in self._waiting_jobs() if job.wanted is None]
        return max(0.0, min(deadlines) - now) if deadlines else None

    def _resolve(self, job: _Job, now: float) -> bool:
        """Find the frame of a prompt; true once it is embedded or there is none to be had."""
        if job.is_ready:
            return True
        if job.wanted is not None:
            return False
        job.embedded, job.wanted = self._find(job.request.stamp_ns)
        if job.wanted is not None:
            job.refusal = self._broken.get(job.wanted)
            self._changed.notify_all()  # the encode thread
        elif job.embedded is None and self._is_hopeless(job, now):
            job.refusal = self._explain_missing_frame(job.request.stamp_ns)
        return job.is_ready

    def _find(self, stamp_ns: int) -> tuple[EmbeddedFrame | None, Frame | None]:
        """The embedded frame of a stamp, or the frame to encode for it; the rules are the design's."""
        frames = self._frames
        if stamp_ns == 0:
            return self._find_newest()
        embedded = frames.find_embedding(stamp_ns)
        if embedded is not None:
            return embedded, None
        encoding = self._encoding_kept
        if encoding is not None and abs(encoding.stamp_ns - stamp_ns) <= frames.stamp_tolerance_ns:
            return None, encoding
        return None, frames.find_image(stamp_ns)

    @property
    def _encoding_kept(self) -> Frame | None:
        """The frame that is being encoded, unless it was forgotten meanwhile."""
        frame = self._encoding
        return frame if frame is not None and frame.sequence > self._flushed_until else None

    def _find_newest(self) -> tuple[EmbeddedFrame | None, Frame | None]:
        """The newest embedding or, where frames are encoded only when prompted on, the newest image's."""
        image = self._frames.newest_image
        if image is None:
            return None, None
        if self._settings.encode_always:
            embedded = self._frames.newest_embedding
            return embedded, (None if embedded else self._encoding_kept or image)
        embedded = self._frames.embedding_of(image)
        return embedded, (None if embedded else image)

    def _is_hopeless(self, job: _Job, now: float) -> bool:
        """Whether no image to come can serve the prompt, or it has waited long enough for one."""
        newest = self._frames.newest_image
        if newest is not None and 0 < job.request.stamp_ns <= newest.stamp_ns:
            return True
        return now >= job.deadline

    def _explain_missing_frame(self, stamp_ns: int) -> SamRosError:
        newest = self._frames.newest_image
        if newest is None:
            return SamRosError("no image has come yet", "no image")
        ahead_sec = (stamp_ns - newest.stamp_ns) / 1e9
        if ahead_sec > 0:
            return SamRosError(f"its stamp is {ahead_sec:.3f} s newer than the newest image", "too new")
        return SamRosError(
            f"its stamp is {-ahead_sec:.3f} s older than the newest image and its frame is no longer kept; "
            "raise images_kept or embeddings_kept",
            "stale",
        )

    def _answer(self, job: _Job) -> None:
        """Apply a prompt on its frame, decode there, and hand the answers on.

        All objects are decoded and published; where objects are followed, only what was prompted is decoded,
        and its object appears on the next frame.
        """
        request, embedded = job.request, self._frame_of(job)
        with self._changed:
            before, settings = self._table, self._settings
        target, is_following = self._target(embedded), settings.is_following
        after, refused = self._applied(before, request.convert(target), target, settings)
        if after is not None:
            prompted = _prompted(before, after)
            asked = [
                (one, one.prompt_on(target))
                for one in after.objects
                if one.created in prompted or not is_following
            ]
            answers = self._decode(asked, embedded, settings, prompted)
            if not self._keep(job, before, after, answers, embedded):
                return
        self._report(request, refused)
        if after is not None:
            outputs = _outputs(embedded, answers, settings)
            if not is_following:
                self._listener.on_outputs(outputs)
            elif outputs.candidates is not None:
                self._listener.on_candidates(outputs)

    @staticmethod
    def _frame_of(job: _Job) -> EmbeddedFrame:
        """The frame that was found for a prompt."""
        if job.embedded is None:
            raise job.refusal or SamRosError("no frame")
        frame_id = job.embedded.frame.frame_id
        if job.request.frame_id not in ("", frame_id):
            raise SamRosError(
                f"its frame_id is {job.request.frame_id!r}, the image's is {frame_id!r}", "wrong frame_id"
            )
        return job.embedded

    def _applied(
        self, before: ObjectTable, update: Update, target: Target, settings: Settings
    ) -> tuple[ObjectTable | None, tuple[RefusedObject, ...]]:
        """The table after an update on a frame, None if it changes nothing; and what of it was refused."""
        start = before
        if settings.is_following and not isinstance(update, ProgramPrompts):
            start = self._carried(before, [before.clicked_object], target)
        after, refused = _apply(start, update, target, settings)
        if after is start:
            return None, refused
        return (after if settings.is_following else after.only_on(target)), refused

    def _keep(
        self,
        job: _Job,
        before: ObjectTable,
        after: ObjectTable,
        answers: Sequence[tuple[SegmentedObject, Masks]],
        embedded: EmbeddedFrame,
    ) -> bool:
        """Make the answers of a prompt to what was there before what there is; false if it was taken back."""
        with self._changed:
            if job.withdrawn:
                return False
            if self._table is not before:  # undone meanwhile: apply the prompt to what is there now
                self._pending.appendleft(job)
                return False
            self._running_job = None  # from here on undo takes it back from the history
            sequence = embedded.sequence
            logits = {o.created: m.low_res_logits[0] for o, m in answers if o.sequence == sequence}
            self._table = after.with_answers(logits, sequence)
            self._published_on = embedded
            if job.request.undoable:
                self._history.append(before.clicked_object)
            return True

    def _publish_again(self, embedded: EmbeddedFrame) -> None:
        target = self._target(embedded)
        with self._changed:
            before, settings = self._table.only_on(target), self._settings
        asked = [(o, o.prompt_on(target)) for o in before.objects]
        self._listener.on_outputs(_outputs(embedded, self._decode(asked, embedded, settings), settings))

    def _follow(self, embedded: EmbeddedFrame) -> None:
        """Move all objects on to this frame, decode them there, and hand the answers on.

        An object that is not found stays as it was last seen, and is left out.
        """
        target = self._target(embedded)
        with self._changed:
            before, settings = self._table, self._settings
        table = before.only_on(target)
        try:
            answers = self._found(self._carried(table, table.objects, target), embedded, settings)
        except Exception:
            if embedded.sequence > self._flushed_until:
                # Who synchronises outputs with images must not stall.
                self._listener.on_outputs(_outputs(embedded, [], settings))
            raise
        with self._changed:
            if embedded.sequence <= self._flushed_until:
                return
            if self._table is not before:  # cleared or undone meanwhile: this frame shows what is left
                self._pending.appendleft(_Follow(embedded))
                return
            found = {one.created for one, _ in answers}
            lost = [
                one.lost()
                for one in table.objects
                if one.created not in found and one.sequence != target.sequence
            ]
            self._table = table.with_objects([*(one for one, _ in answers), *lost])
            self._published_on = embedded
        self._listener.on_outputs(_outputs(embedded, answers, settings))

    def _found(
        self, table: ObjectTable, embedded: EmbeddedFrame, settings: Settings
    ) -> list[tuple[SegmentedObject, Masks]]:
        """The objects that were prompted on this frame or carried to it and are there, with masks."""
        target = self._target(embedded)
        asked = []
        for one in table.objects:
            if one.sequence == target.sequence:
                asked.append((one, one.prompt_on(target)))
            elif one.logits_sequence == target.sequence:
                prompt = prompt_to_follow(one, target)
                if prompt is not None:
                    asked.append((one, prompt))
        seen = ((_seen(o, m, target), m) for o, m in self._decode(asked, embedded, settings))
        return [(one, masks) for one, masks in seen if one is not None]

    def _carried(
        self, table: ObjectTable, objects: Sequence[SegmentedObject | None], target: Target
    ) -> ObjectTable:
        """The table, with the logits of these of its objects moved to this frame."""
        start = time.monotonic()
        some = [o for o in objects if o is not None and o.size_hw == target.size_hw]
        carried = self._follower.carried(some, target)
        if not carried:
            return table
        self._statistics.event("follow", time.monotonic() - start)
        return table.with_objects(carried)

    def _target(self, embedded: EmbeddedFrame) -> Target:
        return Target(embedded.frame.sequence, embedded.embedding.original_hw, self._predictor.image_size)

    def _decode(
        self,
        asked: Sequence[tuple[SegmentedObject, Prompt]],
        embedded: EmbeddedFrame,
        settings: Settings,
        prompted: Collection[int] = (),
    ) -> list[tuple[SegmentedObject, Masks]]:
        """The answers to the prompts of objects on one frame.

        Of three masks only the best is made, but all of the last object that was ``prompted`` with one point
        if somebody looks at candidates.
        """
        if not asked:
            return []
        three = [settings.multimask_output and prompt.is_single_point for _, prompt in asked]
        best_only = [True] * len(asked)
        offering = [i for i, (o, _) in enumerate(asked) if three[i] and o.created in prompted]
        if offering and self._listener.wants_candidates():
            best_only[offering[-1]] = False
        start = time.monotonic()
        masks = self._predictor.decode(
            embedded.embedding,
            [prompt for _, prompt in asked],
            multimask_output=three,
            best_only=best_only,
        )
        self._statistics.event("decode", time.monotonic() - start)
        return [(one, answer) for (one, _), answer in zip(asked, masks, strict=True)]

    def _report(self, request: PromptRequest, refused: tuple[RefusedObject, ...]) -> None:
        """Say once for each kind what was refused, and how often."""
        by_kind: dict[str, list[RefusedObject]] = {}
        for one in refused:
            by_kind.setdefault(one.kind, []).append(one)
        for kind, some in by_kind.items():
            for _ in some[1:]:
                self._statistics.refused(kind)
            more = f" (and {len(some) - 1} more objects)" if len(some) > 1 else ""
            self._refuse(request, kind, some[0].reason + more, some[0].id)


def _apply(
    table: ObjectTable, update: Update, target: Target, settings: Settings
) -> tuple[ObjectTable, tuple[RefusedObject, ...]]:
    if isinstance(update, ProgramPrompts):
        return update_program(table, update, target, max_objects=settings.max_objects)
    updated = update_clicked(
        table,
        update,
        target,
        accumulate_clicks=settings.accumulate_clicks,
        max_objects=settings.max_objects,
    )
    return updated, ()


def _seen(one: SegmentedObject, answer: Masks, target: Target) -> SegmentedObject | None:
    """An object once it is decoded on this frame, on which it was prompted or to which it was carried."""
    logits = answer.low_res_logits[0]
    if one.sequence == target.sequence:
        return one.decoded(logits, target.sequence)
    return found_again(one, logits, target)


def _prompted(before: ObjectTable, after: ObjectTable) -> set[int]:
    """The objects, by ``created``, that a prompt made or changed."""
    untouched = {id(o) for o in before.objects}
    return {o.created for o in after.objects if id(o) not in untouched}


def _outputs(
    embedded: EmbeddedFrame,
    answers: list[tuple[SegmentedObject, Masks]],
    settings: Settings,
) -> Outputs:
    shown = tuple(
        (o, masks)
        for o, masks in answers
        if masks.masks[0].any()
        and max(masks.predicted_iou[0], 0.0) >= settings.min_predicted_iou  # as published: clamped
        and masks.stability_score[0] >= settings.min_stability_score
    )
    candidates = next((masks for _, masks in shown if len(masks.masks) > 1), None)
    return Outputs(embedded.frame, embedded.embedding.original_hw, shown, candidates)
