"""Which lap a prompt is of, by its stamp and by when it was recorded."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from node_rig import SECOND, header
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from sam_ros.tools.bag.arrivals import Arrivals
from sam_ros.tools.bag.laps import Laps
from sam_ros.tools.bag.source import Recorded


def laps_of(images: Iterable[tuple[float, float]]) -> Laps:
    """Of images whose stamp and time of recording are given, in seconds."""
    messages = [
        Recorded(round(recorded * SECOND), serialize_message(Image(header=header(round(stamp * SECOND)))))
        for stamp, recorded in images
    ]
    return Laps(map(Arrivals().take, messages))


def lap(laps: Laps, stamp: float, recorded: float) -> int:
    return laps.of_message(round(stamp * SECOND), round(recorded * SECOND))


def steady(first: float, last: float, recorded: float, rate: float = 1.0) -> list[tuple[float, float]]:
    """Ten images in each second of stamps; ``rate`` is how fast their clock runs."""
    count = round(10 * (last - first)) + 1
    return [(first + i / 10, recorded + i / 10 / rate) for i in range(count)]


RESET = laps_of([*steady(10, 13, 100), *steady(10, 11, 103.1)])


def test_a_stamp_that_both_laps_have_is_of_the_one_in_which_it_was_recorded() -> None:
    assert [lap(RESET, 10.5, 100.6), lap(RESET, 10.5, 103.7)] == [0, 1]


def test_a_slow_detector_is_of_the_lap_of_its_images() -> None:
    assert [lap(RESET, stamp, 103 + 0.4) for stamp in (12.8, 13)] == [0, 0]
    assert lap(RESET, 10.0, 103.6) == 1


def test_detections_that_are_recorded_before_their_image_are_of_its_lap() -> None:
    assert [lap(RESET, 10.0, recorded) for recorded in (99.95, 103.05)] == [0, 1]


def test_detections_need_not_jump_themselves() -> None:
    """The detector was started in the second lap, or saw nothing in the first."""
    assert [lap(RESET, stamp, 93.2 + stamp) for stamp in (10.2, 10.6, 11.0)] == [1, 1, 1]


def test_detections_of_an_image_that_is_missing_stay_in_their_lap() -> None:
    laps = laps_of([*steady(10, 13, 100), *steady(10, 10.4, 103.1), *steady(10.8, 11, 103.9)])
    assert lap(laps, 10.6, 103.8) == 1


def test_the_last_detections_of_a_lap_do_not_depend_on_how_long_the_next_one_is() -> None:
    for last in (10.0, 10.1, 13.0, 20.0):
        assert lap(laps_of([*steady(10, 13, 100), *steady(10, last, 103.1)]), 13.0, 103.2) == 0, last


def test_the_second_lap_may_have_earlier_stamps() -> None:
    laps = laps_of([*steady(100, 103, 100), *steady(1, 2, 103.1)])
    assert [lap(laps, 102.9, 103.2), lap(laps, 1.0, 103.2), lap(laps, 1.5, 103.7)] == [0, 1, 1]


@pytest.mark.parametrize("rate", [0.2, 10.0])
def test_a_simulation_may_run_slower_or_faster(rate: float) -> None:
    period = 3.1 / rate
    laps = laps_of([*steady(10, 13, 100, rate), *steady(10, 13, 100 + period, rate)])
    late = 0.04
    assert [lap(laps, 13.0, 100 + 3 / rate + late), lap(laps, 10.0, 100 + period + late)] == [0, 1]


def test_a_short_loop_counts_too() -> None:
    """Its first two images are taken for late ones."""
    laps = laps_of([*steady(10, 11.5, 100), *steady(10, 11.5, 101.6)])
    assert [lap(laps, stamp, 101.7) for stamp in (11.5, 10.0)] == [0, 1]


def test_a_stamp_alone_is_of_the_first_lap_that_has_it() -> None:
    laps = laps_of([*steady(10, 13, 100), *steady(10, 20, 103.1)])
    assert [laps.of_stamp(round(stamp * SECOND)) for stamp in (10, 13, 13.1, 20)] == [0, 0, 1, 1]


def test_without_images_all_is_of_the_first_lap() -> None:
    assert (Laps(()).of_stamp(5), Laps(()).of_message(5, 7)) == (0, 0)
