"""The request for everything that is worked on, and the last answer: shared behind the engine's lock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sam_ros.core.frames import EmbeddedFrame
from sam_ros.core.objects import ObjectTable
from sam_ros.masks import Masks
from sam_ros.node.waiting import PromptRequest


@dataclass(frozen=True, eq=False)
class EverythingJob:
    """A request that is worked on.

    Attributes:
        request: as it came.
        frame: on which everything is segmented.
        steps: the work: None after every step but the last, which gives the masks.
    """

    request: PromptRequest
    frame: EmbeddedFrame
    steps: Iterator[list[Masks] | None]


@dataclass(frozen=True, eq=False)
class EverythingFound:
    """An answer: the masks that were found on a frame, one each, best first."""

    frame: EmbeddedFrame
    masks: tuple[Masks, ...]


class EverythingState:
    """One job at a time, and the last answer. Not thread-safe: its owner locks.

    Attributes:
        job: what is worked on.
        found: the last answer, which may become objects.
    """

    def __init__(self) -> None:
        self.job: EverythingJob | None = None
        self.found: EverythingFound | None = None
        self._kept: frozenset[int] = frozenset()
        self._was_passed_over = False

    def begin(self, job: EverythingJob) -> PromptRequest | None:
        """Work on this from now on; returns what was worked on before, which is given up."""
        given_up = self.cancel()
        self.job = job
        return given_up

    def cancel(self) -> PromptRequest | None:
        """Give up what is worked on, which is returned; the last answer stays."""
        job, self.job = self.job, None
        return None if job is None else job.request

    def forget(self) -> None:
        """Forget the last answer."""
        self.found = None

    def finish(self, job: EverythingJob, masks: list[Masks]) -> EverythingFound | None:
        """The answer to a job; None where the job was given up meanwhile."""
        if self.job is not job:
            return None
        self.job, self._kept = None, frozenset()
        best_first = sorted(masks, key=lambda one: -one.predicted_iou[0])
        self.found = EverythingFound(job.frame, tuple(best_first))
        return self.found

    def next_job(self, is_frame_due: bool) -> EverythingJob | None:
        """What a step is to be taken of now.

        Args:
            is_frame_due: whether a followed frame waits for its answer. Then every other turn is a frame's:
                where frames come faster than they are answered, there would be no other turn.
        """
        self._was_passed_over = is_frame_due and not self._was_passed_over
        return None if self._was_passed_over else self.job

    def remember_kept(self, created: frozenset[int]) -> None:
        """Say which objects, by ``created``, the last answer became."""
        self._kept = created

    def is_kept_in(self, table: ObjectTable) -> bool:
        """Whether any of the objects that the last answer became is still alive."""
        return any(one.created in self._kept for one in table.objects)
