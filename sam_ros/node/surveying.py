"""Segments everything in view, a step at a time, and makes objects of what was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sam_ros.core.edits import keep_masks
from sam_ros.core.everything import EverythingIn
from sam_ros.core.frames import EmbeddedFrame
from sam_ros.core.objects import SegmentedObject, Target, difference
from sam_ros.core.protocol import PromptableModel
from sam_ros.core.segmenter import Outputs
from sam_ros.errors import is_fault
from sam_ros.masks import Masks
from sam_ros.node.everything import EverythingFound, EverythingJob
from sam_ros.node.listener import Listener
from sam_ros.node.state import EngineState
from sam_ros.node.statistics import Statistics
from sam_ros.node.tally import Tally
from sam_ros.node.waiting import WaitingPrompt

SURVEYING = "segmenting everything"  # what failed, for the listener


class Surveying:
    """Works on requests for everything; each method holds the engine's lock only while it reads or changes.

    Args:
        state: where the job and the last answer are kept.
        model: finds everything on an embedded image.
        listener: is told the answers and what happens.
        statistics: count what happens.
    """

    def __init__(
        self, state: EngineState, model: PromptableModel, listener: Listener, statistics: Statistics
    ) -> None:
        self._state, self._model = state, model
        self._listener, self._statistics = listener, statistics
        self._tally = Tally(statistics, listener)

    def begin(self, prompt: WaitingPrompt, frame: EmbeddedFrame, asked: EverythingIn) -> None:
        """Take a request on; what was worked on before is given up."""
        options = replace(self._state.settings.everything, region=asked.region)
        steps = self._model.everything_in_steps(frame.embedding, options)
        with self._state.changed:
            self._state.waiting.end()  # from here on it is the job that is taken back
            if prompt.is_withdrawn:
                return
            given_up = self._state.everything.begin(EverythingJob(prompt.request, frame, steps))
        if given_up is not None:
            self._tally.refused(given_up, "superseded", "a newer request for everything took its place")

    def next_step(self, is_frame_due: bool) -> Callable[[], None] | None:
        """A step, if it is time for one; the lock is held.

        Args:
            is_frame_due: see ``EverythingState.next_job``.
        """
        job = self._state.everything.next_job(is_frame_due)
        return None if job is None else partial(self._step, job)

    def _step(self, job: EverythingJob) -> None:
        start = time.monotonic()
        try:
            masks = next(job.steps)
        except Exception as error:  # noqa: BLE001 whatever it is, the request has no answer
            self._fail(job, error)
            return
        self._statistics.event("everything", time.monotonic() - start)
        if masks is not None:
            with self._state.changed:
                found = self._state.everything.finish(job, masks)
            if found is not None:
                self._listener.on_everything(job.request.topic, outputs_of(found))

    def _fail(self, job: EverythingJob, error: Exception) -> None:
        with self._state.changed:
            is_wanted = self._state.everything.job is job
            if is_wanted:
                self._state.everything.cancel()
        if is_fault(error):
            self._listener.on_failure(SURVEYING, error)
        if is_wanted:  # else another request took its place, or it was taken back
            self._tally.failed(job.request, error)


def keep_everything(state: EngineState) -> tuple[bool, str]:
    """Make objects of the last answer, which can be undone; the lock is held.

    Returns:
        Whether it was done, and what to tell the caller.
    """
    found, before, settings = state.everything.found, state.objects.table, state.settings
    if found is None:
        return False, "nothing to keep: segment everything first"
    if not found.masks:
        return False, "nothing to keep: nothing was found"
    if state.everything.is_kept_in(before):
        return False, "the last answer is kept already"
    newest_hw = state.frames.newest_hw
    if settings.is_following and newest_hw not in (None, found.frame.size_hw):
        return False, "nothing was kept: images have another size by now; segment everything again"
    target = Target(found.frame.sequence, found.frame.embedding.grid)
    after = keep_masks(
        before, found.masks, target, max_objects=settings.max_objects, as_shown=not settings.is_following
    )
    change = difference(before, after)
    if not change.made:
        return False, f"nothing was kept: {len(found.masks)} were found, and max_objects is reached"
    state.objects.replace(before, after, change, state.next_turn())
    state.everything.remember_kept(change.made)
    state.answered_on = found.frame
    state.repeat_answers()
    state.changed.notify_all()  # with objects there may be more to encode
    is_all = len(change.made) == len(found.masks)
    more = "" if is_all else f"; max_objects is {settings.max_objects}"
    return True, f"kept {len(change.made)} of {len(found.masks)} as objects{more}"


def outputs_of(found: EverythingFound) -> Outputs:
    """An answer as a set of outputs, its objects named 1, 2, ... in its order."""
    frame, size_hw = found.frame, found.frame.size_hw
    objects: list[tuple[SegmentedObject, Masks]] = [
        (SegmentedObject(str(index + 1), "", index, frame.sequence, size_hw), masks)
        for index, masks in enumerate(found.masks)
    ]
    return Outputs(frame.frame, size_hw, tuple(objects))
