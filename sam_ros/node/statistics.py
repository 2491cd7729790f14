"""What a running node counts, and what a refusal says, for its diagnostics."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

RATE_WINDOW_SEC = 5.0
ENCODE = "encode"
PASSED_OVER = "passed over"  # the event of a frame that is answered without being encoded
USABLE = (ENCODE, PASSED_OVER)  # the events that say that an image could be used


@dataclass(frozen=True)
class Snapshot:
    """What was counted until now.

    Attributes:
        rates_hz: events per second over the last seconds, by event.
        last_sec: duration of the last event in seconds, by event, where it has one.
        age_sec: seconds since the last event, by event.
        totals: events since the start, by event.
        drops: dropped images since the start, by kind.
        refusals: refused prompts since the start, by kind.
        last_drop: kind of the last image that could not be used; '' for none.
        dropping_sec: from the first to the last of the images that could not be used since the last one that
            could, or since the activation, in seconds.
    """

    rates_hz: dict[str, float]
    last_sec: dict[str, float]
    age_sec: dict[str, float]
    totals: dict[str, int]
    drops: dict[str, int]
    refusals: dict[str, int]
    last_drop: str = ""
    dropping_sec: float = 0.0


@dataclass(frozen=True)
class Refusal:
    """A prompt, or some objects of it, that were refused.

    Attributes:
        topic: where it came from; '' where that is not known any more.
        stamp_ns: of the prompt, in nanoseconds.
        ids: of the refused objects that have one.
        kind: what it is counted under.
        reason: what was wrong, and what would do.
    """

    topic: str
    stamp_ns: int
    ids: tuple[str, ...]
    kind: str
    reason: str

    @property
    def id(self) -> str:
        """Of the first of them, or ''."""
        return next(iter(self.ids), "")


class Statistics:
    """Counts events of any name; safe to use from several threads.

    Args:
        clock: seconds that never jump back; tests hand in their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}
        self._last_sec: dict[str, float] = {}
        self._totals: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._last_drop = ""
        self._drop_times: list[float] = []  # of the first and the last image of ``dropping_sec``

    def event(self, name: str, duration_sec: float | None = None) -> None:
        """Count an event that happened just now."""
        now = self._clock()
        with self._lock:
            times = self._times.setdefault(name, deque())
            times.append(now)
            while times[0] < now - RATE_WINDOW_SEC:
                times.popleft()
            self._totals[name] += 1
            if name in USABLE:
                self._drop_times.clear()
            if duration_sec is not None:
                self._last_sec[name] = duration_sec

    def dropped(self, kind: str, *, is_usable: bool = False) -> None:
        """Count an image that was dropped; one that could have been used is no sign of a useless camera."""
        now = self._clock()
        with self._lock:
            self._drops[kind] += 1
            if not is_usable:
                self._last_drop = kind
                self._drop_times = [*self._drop_times[:1], now]

    def activated(self) -> None:
        """Judge by the images that come from now on whether they can be used."""
        with self._lock:
            self._drop_times.clear()

    def refused(self, kind: str, count: int = 1) -> None:
        """Count a prompt, or so many objects of it, that were refused."""
        with self._lock:
            self._refusals[kind] += count

    def snapshot(self) -> Snapshot:
        """Everything counted until now."""
        now = self._clock()
        with self._lock:
            return Snapshot(
                rates_hz={
                    name: sum(t >= now - RATE_WINDOW_SEC for t in times) / RATE_WINDOW_SEC
                    for name, times in self._times.items()
                },
                last_sec=dict(self._last_sec),
                age_sec={name: now - times[-1] for name, times in self._times.items()},
                totals=dict(self._totals),
                drops=dict(self._drops),
                refusals=dict(self._refusals),
                last_drop=self._last_drop,
                dropping_sec=self._drop_times[-1] - self._drop_times[0] if self._drop_times else 0.0,
            )
