"""Let an executable end by itself when SIGINT or SIGTERM comes."""

from __future__ import annotations

import os
import signal
from threading import Event

ENDING = (signal.SIGINT, signal.SIGTERM)


def event_set_by_signals() -> Event:
    """An event that the first SIGINT or SIGTERM sets; further ones, as launch may send them, are ignored.

    They would interrupt ``Event.set``, which is not reentrant, or kill Python after it dropped its handlers.
    To be called in the main thread.
    """
    event = Event()

    def handle(*_: object) -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        event.set()

    for number in ENDING:
        signal.signal(number, handle)
    return event


def exit_on_signals() -> None:
    """Let the first SIGINT or SIGTERM end the process at once, quietly and with exit code 0.

    For the time until there is something to clean up. To be called in the main thread.
    """
    for number in ENDING:
        signal.signal(number, lambda *_: os._exit(0))
