"""A ROS domain for a demo, a test or a benchmark alone."""

from __future__ import annotations

import fcntl
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOMAIN_IDS = range(1, 102)  # those whose UDP ports lie below Linux's ephemeral ones


@contextmanager
def claimed_domain_id() -> Iterator[int]:
    """A domain id that nobody else on this machine has claimed; the lock dies with its holder."""
    for domain_id in random.sample(DOMAIN_IDS, len(DOMAIN_IDS)):  # low ids are what others take by hand
        path = Path(tempfile.gettempdir()) / f"sam_ros_domain_{domain_id}.lock"
        if not path.exists():
            path.touch()
        with path.open() as lock:  # only to read: it may be another user's
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain_id
            return
    raise RuntimeError(f"all ROS domain ids in {DOMAIN_IDS} are taken by others")
