"""A ROS domain that no other test or benchmark on this machine uses."""

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
    """A domain id that no other test or benchmark on this machine holds; the lock dies with its holder."""
    for domain_id in random.sample(DOMAIN_IDS, len(DOMAIN_IDS)):  # low ids are what others take by hand
        path = Path(tempfile.gettempdir()) / f"sam_ros_domain_{domain_id}.lock"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain_id
            return
    raise RuntimeError(f"all ROS domain ids in {DOMAIN_IDS} are taken by others")
