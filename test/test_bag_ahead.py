"""Work that is done ahead in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from sam_ros.tools.bag.ahead import ahead

DEADLINE_SEC = 20.0


def counted(count: int, made: list[int]) -> Generator[int, None, None]:
    for number in range(count):
        made.append(number)
        yield number


def test_items_come_in_their_order() -> None:
    assert list(ahead(counted(50, []), 3)) == list(range(50))


def test_nothing_is_made_before_somebody_begins_to_take() -> None:
    made: list[int] = []
    items = ahead(counted(5, made), 2)
    assert made == []
    assert next(items) == 0
    items.close()


def test_an_item_is_made_while_another_one_is_used() -> None:
    second_is_made = threading.Event()

    def items() -> Generator[int, None, None]:
        yield 1
        second_is_made.set()
        yield 2

    taken = ahead(items(), 1)
    assert next(taken) == 1
    assert second_is_made.wait(DEADLINE_SEC)
    assert list(taken) == [2]


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise ValueError("no more")

    taken = ahead(items(), 4)
    assert next(taken) == 1
    with pytest.raises(ValueError, match="no more"):
        next(taken)


def test_who_stops_taking_ends_the_work_and_closes_what_makes_it() -> None:
    closed_by: list[str] = []

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed_by.append(threading.current_thread().name)

    taken = ahead(ahead(items(), 1), 1)
    assert next(taken) == 1
    taken.close()
    assert closed_by == ["ahead"]
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
