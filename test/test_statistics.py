"""Counts, rates and ages, on a clock that the test sets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sam_ros.node.statistics import RATE_WINDOW_SEC, USABLE, Statistics


class Clock:
    """Seconds that go on only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_snapshot_before_any_event_is_empty(clock: Clock) -> None:
    snapshot = Statistics(clock).snapshot()
    assert snapshot.rates_hz == snapshot.last_sec == snapshot.age_sec == {}
    assert snapshot.totals == snapshot.drops == snapshot.refusals == {}


def test_a_steady_rate_is_measured(clock: Clock) -> None:
    statistics = Statistics(clock)
    for _ in range(100):
        clock.now += 0.125
        statistics.event("image")
    assert statistics.snapshot().rates_hz["image"] == pytest.approx(8.0, abs=1 / RATE_WINDOW_SEC)
    assert statistics.snapshot().totals == {"image": 100}


def test_rates_fall_to_zero_when_events_stop(clock: Clock) -> None:
    statistics = Statistics(clock)
    for _ in range(10):
        statistics.event("image")
    assert statistics.snapshot().rates_hz["image"] == 10 / RATE_WINDOW_SEC
    clock.now += RATE_WINDOW_SEC
    assert statistics.snapshot().rates_hz["image"] == 10 / RATE_WINDOW_SEC
    clock.now += 0.01
    snapshot = statistics.snapshot()
    assert snapshot.rates_hz == {"image": 0.0}
    assert snapshot.totals == {"image": 10}
    assert snapshot.age_sec["image"] == pytest.approx(RATE_WINDOW_SEC + 0.01)


def test_events_are_counted_by_name(clock: Clock) -> None:
    statistics = Statistics(clock)
    statistics.event("encode", 0.25)
    clock.now += 1
    statistics.event("decode", 0.01)
    statistics.event("decode", 0.02)
    statistics.event("image")
    clock.now += 2
    snapshot = statistics.snapshot()
    assert snapshot.totals == {"encode": 1, "decode": 2, "image": 1}
    assert snapshot.last_sec == {"encode": 0.25, "decode": 0.02}
    assert snapshot.age_sec == {"encode": 3, "decode": 2, "image": 2}


def test_drops_and_refusals_are_counted_by_kind(clock: Clock) -> None:
    statistics = Statistics(clock)
    for kind in ("short data", "wrong step", "short data"):
        statistics.dropped(kind)
    statistics.refused("stale")
    snapshot = statistics.snapshot()
    assert snapshot.drops == {"short data": 2, "wrong step": 1}
    assert snapshot.last_drop == "short data" and snapshot.totals == {}
    assert snapshot.refusals == {"stale": 1}


def test_dropping_sec_is_the_time_since_which_images_were_only_dropped(clock: Clock) -> None:
    statistics = Statistics(clock)

    def dropping_sec(wait_sec: float) -> float:
        clock.now += wait_sec
        statistics.dropped("short data")
        clock.now += 50  # an encode that takes long is not a drop
        return statistics.snapshot().dropping_sec

    assert statistics.snapshot().dropping_sec == 0
    assert [dropping_sec(1), dropping_sec(1), dropping_sec(2)] == [0, 51, 103]
    statistics.event("decode")
    assert statistics.snapshot().dropping_sec == 103
    statistics.event("encode", 50.0)
    assert statistics.snapshot().dropping_sec == 0
    assert [dropping_sec(1), dropping_sec(1)] == [0, 51]


def test_an_image_that_was_passed_over_could_be_used_as_well_as_an_encoded_one(clock: Clock) -> None:
    statistics = Statistics(clock)
    for event in USABLE:
        statistics.dropped("short data")
        clock.now += 5
        statistics.dropped("short data")
        assert statistics.snapshot().dropping_sec == 5
        statistics.event(event)
        assert statistics.snapshot().dropping_sec == 0


def test_a_drop_of_a_usable_image_is_counted_but_no_sign_of_useless_ones(clock: Clock) -> None:
    statistics = Statistics(clock)
    statistics.dropped("short data")
    clock.now += 5
    statistics.dropped("out of order", is_usable=True)
    snapshot = statistics.snapshot()
    assert snapshot.drops == {"short data": 1, "out of order": 1}
    assert (snapshot.dropping_sec, snapshot.last_drop) == (0, "short data")


def test_what_was_dropped_before_an_activation_is_no_sign_of_useless_images(clock: Clock) -> None:
    statistics = Statistics(clock)
    statistics.dropped("short data")
    statistics.activated()
    clock.now += 5
    statistics.dropped("short data")
    snapshot = statistics.snapshot()
    assert snapshot.dropping_sec == 0 and snapshot.drops == {"short data": 2}


def test_a_snapshot_does_not_change_any_more(clock: Clock) -> None:
    statistics = Statistics(clock)
    statistics.event("image")
    statistics.refused("stale")
    snapshot = statistics.snapshot()
    statistics.event("image")
    statistics.event("encode", 1.0)
    statistics.refused("stale")
    assert snapshot.totals == {"image": 1} and snapshot.refusals == {"stale": 1}
    assert snapshot.last_sec == {}


def test_memory_is_bounded_by_the_window(clock: Clock) -> None:
    statistics = Statistics(clock)
    for _ in range(1000):
        clock.now += 1
        statistics.event("image")
    assert len(statistics._times["image"]) <= RATE_WINDOW_SEC + 1


def test_no_event_of_any_thread_is_lost() -> None:
    statistics = Statistics()

    def count(_: int) -> None:
        for _ in range(500):
            statistics.event("image", 0.1)
            statistics.refused("stale")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    snapshot = statistics.snapshot()
    assert snapshot.totals["image"] == snapshot.refusals["stale"] == 2000
