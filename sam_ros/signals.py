"""Let an executable end by itself when SIGINT or SIGTERM comes."""

from __future__ import annotations

import os
import signal
import time
from threading import Event, Thread

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


def exit_after_signal(timeout_sec: float) -> None:
    """End the process with exit code 0 if it still runs so long after the first SIGINT or SIGTERM.

    For work that cannot be given up, as that of other packages. To be called once, in the main thread, after
    ``event_set_by_signals``, whose handlers run only between two steps of Python: what is watched here is
    written by the interpreter as soon as a signal comes.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)

    def watch() -> None:
        while os.read(reader, 1)[0] not in ENDING:
            pass  # a signal that others handle
        time.sleep(timeout_sec)
        os._exit(0)

    Thread(target=watch, name="exit", daemon=True).start()


def exit_on_signals() -> None:
    """Let the first SIGINT or SIGTERM end the process at once, quietly and with exit code 0.

    For the time until there is something to clean up. To be called in the main thread.
    """
    for number in ENDING:
        signal.signal(number, lambda *_: os._exit(0))
