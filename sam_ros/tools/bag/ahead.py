"""Work done ahead, in a thread of its own, while what it has made already is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import closing
from typing import Generic, TypeVar

Item = TypeVar("Item")
POLL_SEC = 0.1  # until the thread notices that nobody takes its items any more


class _End(Generic[Item]):
    """What comes after the last item.

    Attributes:
        error: that ended them, if one did.
    """

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Generator[Item, None, None], count: int) -> Generator[Item, None, None]:
    """The items of a generator, made up to ``count`` ahead of who takes them, in their order.

    What the generator raises is raised here, after its last item. It is closed in its own thread.
    """
    waiting: queue.Queue[Item | _End[Item]] = queue.Queue(count)
    abandoned = threading.Event()
    thread = threading.Thread(target=_make, args=(items, waiting, abandoned), name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        abandoned.set()
        thread.join()


def _make(
    items: Generator[Item, None, None], waiting: queue.Queue[Item | _End[Item]], abandoned: threading.Event
) -> None:
    try:
        with closing(items):
            for item in items:
                if not _put(item, waiting, abandoned):
                    return
    except BaseException as error:  # noqa: BLE001 it belongs to who takes the items
        _put(_End(error), waiting, abandoned)
    else:
        _put(_End(), waiting, abandoned)


def _put(
    item: Item | _End[Item], waiting: queue.Queue[Item | _End[Item]], abandoned: threading.Event
) -> bool:
    """Wait for room; false once nobody takes anything any more."""
    while not abandoned.is_set():
        try:
            waiting.put(item, timeout=POLL_SEC)
        except queue.Full:
            continue
        return True
    return False
