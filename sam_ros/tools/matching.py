"""Messages that belong together by their stamps: exactly, or as near as allowed. Bounded; the newest wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FLUSH_NS = 2_000_000_000  # a stamp that is so much older than the newest one: the clock was set back

Match = dict[str, Any]


class Matcher:
    """Finds sets of messages of several streams.

    The leading streams share their stamps exactly; a set of them with its others is a match. Of a near stream
    the exact stamp is taken, else the nearest one within the tolerance, once a message of that stamp or a
    later one has come, so that no nearer can follow. Of a steady stream the nearest is taken, whatever its
    stamp. Of an optional stream as of a near one, where it is at hand.

    Args:
        leading: streams of equal stamps.
        near: streams that have to have a message near in time.
        steady: streams of which any message will do.
        optional: streams that a match can do without.
        tolerance_ns: how far apart stamps of near and optional streams may be.
        kept: messages to keep of each stream.
    """

    def __init__(
        self,
        leading: Sequence[str],
        near: Sequence[str],
        steady: Sequence[str],
        optional: Sequence[str],
        tolerance_ns: int,
        kept: int,
    ) -> None:
        self._leading, self._near, self._steady, self._optional = leading, near, steady, optional
        self._tolerance_ns = tolerance_ns
        self._kept = kept
        self._messages: dict[str, dict[int, Any]] = {
            name: {} for name in (*leading, *near, *steady, *optional)
        }
        self.received = dict.fromkeys(self._messages, 0)
        """How many messages of each stream have come."""
        self.newest_ns: dict[str, int] = {}
        """The newest stamp of each stream."""
        self.matches = 0
        """How many matches were found."""

    def add(self, stream: str, stamp_ns: int, message: Any) -> Match | None:
        """Take a message; return the newest match that it completes, older ones are dropped then."""
        if stamp_ns < self.newest_ns.get(stream, stamp_ns) - FLUSH_NS:
            self.flush()
        self.received[stream] += 1
        self.newest_ns[stream] = max(stamp_ns, self.newest_ns.get(stream, stamp_ns))
        messages = self._messages[stream]
        messages[stamp_ns] = message
        if len(messages) > self._kept:
            del messages[min(messages)]
        return self._newest_match()

    def flush(self) -> None:
        """Forget every message."""
        for messages in self._messages.values():
            messages.clear()
        self.newest_ns.clear()

    def candidates(self) -> list[int]:
        """Stamps that all leading streams have, newest first."""
        first, *others = (self._messages[name] for name in self._leading)
        return sorted((stamp for stamp in first if all(stamp in other for other in others)), reverse=True)

    def nearest(self, stream: str, stamp_ns: int) -> int | None:
        """The stamp that is nearest to another one, among the messages that are kept."""
        return min(self._messages[stream], key=lambda stamp: abs(stamp - stamp_ns), default=None)

    def _newest_match(self) -> Match | None:
        for stamp_ns in self.candidates():
            match = self._match(stamp_ns)
            if match is not None:
                self._drop_up_to(stamp_ns)
                self.matches += 1
                return match
        return None

    def _match(self, stamp_ns: int) -> Match | None:
        found: Match = {name: self._messages[name][stamp_ns] for name in self._leading}
        for name in (*self._near, *self._steady, *self._optional):
            nearest = self.nearest(name, stamp_ns)
            if nearest is not None and self._will_do(name, nearest, stamp_ns):
                found[name] = self._messages[name][nearest]
            elif name not in self._optional:
                return None
        return found

    def _will_do(self, stream: str, nearest_ns: int, stamp_ns: int) -> bool:
        if stream in self._steady:
            return True
        is_settled = self.newest_ns[stream] >= stamp_ns or stream in self._optional
        return is_settled and abs(nearest_ns - stamp_ns) <= self._tolerance_ns

    def _drop_up_to(self, stamp_ns: int) -> None:
        for name in self._leading:
            messages = self._messages[name]
            for old in [stamp for stamp in messages if stamp <= stamp_ns]:
                del messages[old]

    def why_nothing(self, topics: Mapping[str, str], publishers: Mapping[str, int]) -> str:
        """Why no match has been found lately, and what to do.

        Args:
            topics: the name of the topic of each stream that is needed.
            publishers: how many publishers each of these topics has.
        """
        silent = [name for name in topics if not self.received[name]]
        if silent:
            return "; ".join(_why_silent(topics[name], publishers[name]) for name in silent)
        stampless = [topics[name] for name in topics if self.newest_ns.get(name) == 0]
        if stampless:
            return f"the stamps of {' and '.join(stampless)} are 0: their publisher has to set them"
        candidates = self.candidates()
        if not candidates:
            names = " and ".join(topics[name] for name in self._leading)
            return (
                f"no new messages of equal stamps come on {names}: are both of one node, and is it running?"
            )
        return self._why_apart(topics, candidates[-1])

    def _why_apart(self, topics: Mapping[str, str], stamp_ns: int) -> str:
        for name in self._near:
            if stamp_ns < min(self._messages[name], default=stamp_ns):
                return (
                    f"the masks come so late that {topics[name]} of their frame is no longer kept: raise "
                    f"messages_kept, which is {self._kept}"
                )
            nearest = self.nearest(name, stamp_ns)
            apart_sec = ((nearest or 0) - stamp_ns) / 1e9
            if abs(apart_sec) > self._tolerance_ns / 1e9:
                return (
                    f"the nearest stamp on {topics[name]} is {abs(apart_sec):.3f} s "
                    f"{'later' if apart_sec > 0 else 'earlier'} than the masks', max_stamp_difference is "
                    f"{self._tolerance_ns / 1e9:g} s: are the clocks the same, is it the same camera?"
                )
        return "messages come, but no later ones: has a camera stopped?"


def _why_silent(topic: str, publishers: int) -> str:
    if publishers == 0:
        return f"{topic} has no publisher: is the name right?"
    return f"{topic} has a publisher, but nothing comes: does its QoS fit (ros2 topic info -v {topic})?"
