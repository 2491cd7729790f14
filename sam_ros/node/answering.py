"""The engine's second thread: answers prompts and followed frames, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sam_ros.core.everything import EverythingIn
from sam_ros.core.frames import EmbeddedFrame, Frame, UnencodedFrame
from sam_ros.core.objects import ObjectTable, Update, by_kind, lost_at_once
from sam_ros.core.segmenter import Segmented, Segmenter, empty_outputs
from sam_ros.errors import InvalidImageError, is_fault
from sam_ros.node.listener import Listener
from sam_ros.node.settings import Settings
from sam_ros.node.state import EngineState
from sam_ros.node.statistics import Statistics
from sam_ros.node.surveying import Surveying
from sam_ros.node.tally import Tally
from sam_ros.node.waiting import WaitingPrompt

ANSWERING = "decoding or publishing"  # what failed, for the listener


class Answering:
    """Answers prompts whose frame is embedded, without waiting for any encode; while following, every frame.

    Args:
        state: what it takes prompts, frames and objects from, and where objects are kept.
        segmenter: computes the answers.
        surveying: segments everything; a step of it is taken where nothing else is to be answered.
        listener: is told the answers and what happens.
        statistics: count what happens.
    """

    def __init__(
        self,
        state: EngineState,
        segmenter: Segmenter,
        surveying: Surveying,
        listener: Listener,
        statistics: Statistics,
    ) -> None:
        self._state, self._segmenter, self._surveying = state, segmenter, surveying
        self._listener = listener
        self._tally = Tally(statistics, listener)

    def run(self) -> None:
        """Answer until the engine stops."""
        while (answer := self._next_to_answer()) is not None:
            try:
                answer()
            except InvalidImageError as error:  # its pixels are looked at for the first time
                self._tally.dropped(error.kind, str(error))
            except Exception as error:  # noqa: BLE001 a thread that dies would leave the node deaf
                self._listener.on_failure(ANSWERING, error)

    def _next_to_answer(self) -> Callable[[], None] | None:
        """Wait for a prompt or a frame to answer; None to stop."""
        state = self._state
        with state.changed:
            while not state.stopping:
                state.look_for_frames()
                answer = self._take_first()
                if answer is not None:
                    state.changed.notify_all()  # the encode thread may be held up
                    return answer
                deadline = state.waiting.next_deadline
                state.changed.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            return None

    def _take_first(self) -> Callable[[], None] | None:
        """Take what is to be answered first, in order of arrival; None if nothing is ready."""
        state = self._state
        queues = [queue for queue in (state.to_repeat, state.to_follow) if queue]
        first = min(queues, key=lambda queue: queue[0].turn, default=None)
        prompt = state.waiting.first_ready(until=state.to_follow[0].frame if state.to_follow else None)
        if prompt is not None and (first is None or prompt.turn < first[0].turn):
            state.waiting.begin(prompt)
            return partial(self._answer, prompt)
        if first is None:
            return self._surveying.next_step(is_frame_due=False)
        # A prompt that waits for the frame would wait for a step too.
        step = self._surveying.next_step(is_frame_due=True) if prompt is None else None
        if step is not None:
            return step
        if first is state.to_follow:
            return partial(self._follow, state.to_follow.popleft().frame)
        return partial(self._repeat, state.to_repeat.popleft().frame)

    def _answer(self, prompt: WaitingPrompt) -> None:
        """Answer a prompt on its frame, or refuse it."""
        try:
            frame = prompt.frame()
            asked = prompt.request.convert(self._segmenter.target(frame))
            if isinstance(asked, EverythingIn):
                self._surveying.begin(prompt, frame, asked)
                return
            result, is_following = self._apply(prompt, frame, asked)
        except Exception as error:  # noqa: BLE001 whatever it is, the prompt has no answer
            self._refuse_failed(prompt, error)
            return
        finally:
            with self._state.changed:
                self._state.waiting.end()
        if result is None:
            return
        for objects in by_kind(result.refused):
            ids = [one.id for one in objects]
            self._tally.refused(prompt.request, objects[0].kind, objects[0].reason, ids)
        if result.change is not None:
            self._listener.on_answered(prompt.request.topic, result.outputs, result.change.touched)
            if not is_following:
                self._listener.on_outputs(result.outputs)
        if is_following and result.outputs.candidates is not None:
            self._listener.on_candidates(result.outputs)

    def _apply(
        self, prompt: WaitingPrompt, frame: EmbeddedFrame, update: Update
    ) -> tuple[Segmented | None, bool]:
        """The outcome of a prompt, None if it was taken back; and whether objects are followed."""
        is_following = False
        with self._state.changed:
            newest_hw = self._state.frames.newest_hw

        def compute(table: ObjectTable, settings: Settings) -> Segmented:
            nonlocal is_following
            is_following = settings.is_following
            return self._segmenter.prompted(
                table,
                update,
                frame,
                settings,
                follows=is_following,
                wants_candidates=self._listener.wants_candidates,
                newest_hw=newest_hw,
            )

        return self._commit(frame, compute, prompt), is_following

    def _follow(self, frame: EmbeddedFrame | UnencodedFrame) -> None:
        """Follow all objects to a frame, and publish the set of that frame."""
        if isinstance(frame, UnencodedFrame):
            self._leave_empty(frame.frame, frame.size_hw)
            return
        before, is_following = ObjectTable(), True

        def compute(table: ObjectTable, settings: Settings) -> Segmented:
            nonlocal before, is_following
            before, is_following = table, settings.is_following
            if not is_following:  # it was switched off meanwhile
                return Segmented(table, empty_outputs(frame.frame, frame.size_hw))
            return self._segmenter.followed(table, settings, frame)

        try:
            result = self._commit(frame, compute)
        except Exception:
            self._leave_empty(frame.frame, frame.size_hw)
            raise
        if result is not None and is_following:
            self._tally.lost_at_once([one.id for one in lost_at_once(before, result.table)])
            self._listener.on_outputs(result.outputs)

    def _leave_empty(self, frame: Frame, size_hw: tuple[int, int]) -> None:
        """Publish an empty set, for who synchronises outputs with images must not stall."""
        with self._state.changed:
            is_forgotten = self._state.frames.is_forgotten(frame)
        if not is_forgotten:
            self._listener.on_outputs(empty_outputs(frame, size_hw))

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
            What was computed at last; None if the frame was forgotten, the prompt taken back, or the engine
            stopped.
        """
        while True:
            with self._state.changed:
                before, settings = self._state.objects.table, self._state.settings
            result = compute(before, settings)
            with self._state.changed:
                if self._is_void(frame, prompt):
                    return None
                now = self._state.objects.table
                if prompt is None and now.objects is before.objects:  # at most another one is the clicked one
                    result, before = _selected_anew(result, before, now), now
                undoable = result.change if prompt is not None and prompt.request.undoable else None
                turn = 0 if prompt is None else prompt.turn
                if self._state.objects.replace(before, result.table, undoable, turn):
                    if result.table is not before:
                        self._state.answered_on = frame
                    if prompt is not None and self._state.clicked_on == frame.sequence:
                        self._state.frames.put_back(frame)  # another of its masks may be chosen yet
                    self._state.waiting.end()  # from here on undo takes a prompt back from the history
                    return result

    def _is_void(self, frame: EmbeddedFrame, prompt: WaitingPrompt | None) -> bool:
        """Whether an answer counts no more. The lock is held.

        Stopping does not wait for ever, and another engine may be at work by then.
        """
        is_withdrawn = prompt is not None and prompt.is_withdrawn
        return self._state.stopping or is_withdrawn or self._state.frames.is_forgotten(frame.frame)

    def _refuse_failed(self, prompt: WaitingPrompt, error: Exception) -> None:
        """Refuse a prompt that could not be answered, unless it was taken back; report what is no refusal."""
        with self._state.changed:
            self._state.waiting.end()  # from here on nothing takes it back
            is_withdrawn = prompt.is_withdrawn
        if is_fault(error):
            self._listener.on_failure(ANSWERING, error)
        if not is_withdrawn:
            self._tally.failed(prompt.request, error)


def _selected_anew(result: Segmented, before: ObjectTable, now: ObjectTable) -> Segmented:
    """What was computed of a table, from which the present one differs only in which object is clicked."""
    if result.table is before:
        return replace(result, table=now)
    return replace(result, table=replace(result.table, clicked=now.clicked))
