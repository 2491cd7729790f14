"""Clients that come and go; some of them without a word."""

from __future__ import annotations

import random
import subprocess
import sys
import time

from benchmark.node import end

MOST = 3  # at a time
STAY_SEC = (4.0, 20.0)
EVERY_SEC = 6.0  # on average one comes, if there is room
KILLED = 0.25  # share of those that are killed, so that the node learns of it only when their lease ends


class Visitors:
    """Starts and ends the processes of clients.

    Args:
        seed: of all that is random.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._present: list[subprocess.Popen[bytes]] = []
        self._killed_at: dict[int, float] = {}
        self.num_come = 0
        """How many have come until now."""

    def look(self, passed_sec: float) -> None:
        """To be called now and then, with the time since the last call: let some go, and maybe one come."""
        now = time.monotonic()
        for visitor in self._present:
            if now > self._killed_at.get(visitor.pid, now):
                visitor.kill()
        self._present = [visitor for visitor in self._present if visitor.poll() is None]
        if len(self._present) < MOST and self._random.random() < passed_sec / EVERY_SEC:
            self._let_one_come()

    def _let_one_come(self) -> None:
        self.num_come += 1
        stay_sec = self._random.uniform(*STAY_SEC)
        arguments = ("--seed", str(self.num_come), "--seconds", f"{stay_sec:.1f}")
        visitor = subprocess.Popen([sys.executable, "-m", "benchmark.soak.visitor", *arguments])
        if self._random.random() < KILLED:
            self._killed_at[visitor.pid] = time.monotonic() + stay_sec
        self._present.append(visitor)

    def close(self) -> None:
        """Let all go."""
        for visitor in self._present:
            end(visitor)
