"""How much freed memory the C library keeps for itself."""

from __future__ import annotations

import ctypes
import os

M_ARENA_MAX = -8  # of mallopt, malloc.h
ARENAS = 2


def limit_arenas() -> None:
    """Let glibc keep freed memory in two arenas instead of up to eight for each core.

    Threads share what an arena keeps, and an image's buffers are made by one thread and freed by another: of
    many arenas each fills with them. Those that exist stay, so it is to be called before the first thread.
    What the environment says of it comes first, by ``MALLOC_ARENA_MAX`` or ``GLIBC_TUNABLES``. Other C
    libraries have no arenas.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    is_given = "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if mallopt is not None and not is_given:
        mallopt(M_ARENA_MAX, ARENAS)
