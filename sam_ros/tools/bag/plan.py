"""Which prompts are applied to which image: each to the one of its lap whose stamp is nearest to its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

from sam_ros.node.waiting import PromptRequest
from sam_ros.tools.bag.requests import TimedRequest


class Plan:
    """Hands out prompts image by image.

    Args:
        requests: all of them, in any order; those of one lap and stamp keep theirs.
        num_taken: how many of them earlier images had.
    """

    def __init__(self, requests: Sequence[TimedRequest], num_taken: int = 0) -> None:
        self._requests = sorted(requests, key=lambda timed: (timed.lap, timed.request.stamp_ns))
        self.num_taken = num_taken
        """How many prompts were handed out, or found to belong to no image."""

    def for_image(
        self, lap: int, stamp_ns: int, next_stamp_ns: int | None
    ) -> tuple[list[PromptRequest], list[PromptRequest]]:
        """The prompts that belong to an image, and those that belong to none since no image is near enough.

        Args:
            lap: of the image; what is left of earlier laps belongs to no image.
            stamp_ns: of the image.
            next_stamp_ns: of the one after it; None, or one that is not later, where there is none.
        """

        def is_due(timed: TimedRequest) -> bool:
            return timed.lap == lap and not _is_for_later(timed, stamp_ns, next_stamp_ns)

        belong: list[PromptRequest] = []
        lost = [timed.request for timed in self._take_while(lambda timed: timed.lap < lap)]
        for timed in self._take_while(is_due):
            is_near = abs(timed.request.stamp_ns - stamp_ns) <= timed.tolerance_ns
            (belong if is_near else lost).append(timed.request)
        return belong, lost

    def rest(self) -> list[PromptRequest]:
        """The prompts that no image was near enough to."""
        return [timed.request for timed in self._take_while(lambda _: True)]

    def _take_while(self, is_due: Callable[[TimedRequest], bool]) -> list[TimedRequest]:
        """The next prompts, up to the first that is not due."""
        left = map(self._requests.__getitem__, range(self.num_taken, len(self._requests)))
        taken = list(takewhile(is_due, left))
        self.num_taken += len(taken)
        return taken


def _is_for_later(timed: TimedRequest, stamp_ns: int, next_stamp_ns: int | None) -> bool:
    """Whether a prompt is nearer to the next image or, where there is none, too late for this one."""
    late_ns = timed.request.stamp_ns - stamp_ns
    if next_stamp_ns is None or next_stamp_ns <= stamp_ns:
        return late_ns > timed.tolerance_ns
    return 2 * late_ns > next_stamp_ns - stamp_ns
