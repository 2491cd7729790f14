"""Which prompts are applied to which image: each to the one whose stamp is nearest to its own."""

from __future__ import annotations

from collections.abc import Sequence

from sam_ros.node.waiting import PromptRequest
from sam_ros.tools.bag.requests import TimedRequest


class Plan:
    """Hands out prompts image by image.

    Args:
        requests: all of them, in any order; those of one stamp keep theirs.
        num_taken: how many of them earlier images had.
    """

    def __init__(self, requests: Sequence[TimedRequest], num_taken: int = 0) -> None:
        self._requests = sorted(requests, key=lambda timed: timed.request.stamp_ns)
        self.num_taken = num_taken
        """How many prompts were handed out, or found to belong to no image."""

    def for_image(
        self, stamp_ns: int, next_stamp_ns: int | None
    ) -> tuple[list[PromptRequest], list[PromptRequest]]:
        """The prompts that belong to an image, and those that belong to none since no image is near enough.

        Args:
            stamp_ns: of the image.
            next_stamp_ns: of the one after it; None, or one that is not later, where there is none.
        """
        belong: list[PromptRequest] = []
        lost: list[PromptRequest] = []
        while (timed := self._next()) is not None:
            late_ns = timed.request.stamp_ns - stamp_ns
            if next_stamp_ns is None or next_stamp_ns <= stamp_ns:
                if late_ns > timed.tolerance_ns:
                    break
            elif 2 * late_ns > next_stamp_ns - stamp_ns:
                break
            (belong if abs(late_ns) <= timed.tolerance_ns else lost).append(timed.request)
            self.num_taken += 1
        return belong, lost

    def rest(self) -> list[PromptRequest]:
        """The prompts that no image was near enough to."""
        left = [timed.request for timed in self._requests[self.num_taken :]]
        self.num_taken = len(self._requests)
        return left

    def _next(self) -> TimedRequest | None:
        return self._requests[self.num_taken] if self.num_taken < len(self._requests) else None
