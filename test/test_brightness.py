"""What becomes black and white in deep images: by hand-checked values, and how steady it stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sam_ros.node.brightness import (
    IMAGES_SEEN,
    BrightnessRange,
    Levels,
    levels_by_bits,
    levels_by_spread,
    scaled,
)


def room(celsius_from: float, celsius_to: float, seed: int = 0) -> npt.NDArray[np.uint16]:
    """(40, 50) uint16 of a thermal camera: hundredths of a kelvin, with noise of 0.05."""
    rng = np.random.default_rng(seed)
    celsius = np.linspace(celsius_from, celsius_to, 2000) + rng.normal(0, 0.05, 2000)
    return np.round((celsius + 273.15) * 100).astype(np.uint16).reshape(40, 50)


@pytest.mark.parametrize(
    ("largest", "white"),
    [(0, 255), (255, 255), (256, 1023), (1024, 4095), (4095, 4095), (4096, 16383), (16384, 65535)],
)
def test_significant_bits_are_an_even_number_from_eight(largest: int, white: int) -> None:
    assert levels_by_bits(np.array([[0, largest]], np.uint16)) == Levels(0, white)


def test_levels_leave_out_single_pixels_and_holes() -> None:
    values = np.arange(10_000, 20_000, dtype=np.uint16).reshape(100, 100)
    values[0, :5], values[50, 50] = 0, 65535
    levels = levels_by_spread(values)
    assert levels is not None
    assert levels.black == pytest.approx(10_100, abs=10) and levels.white == pytest.approx(19_900, abs=10)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_a_hole(hole: float) -> None:
    values = np.array([[1.0, 1.0, 3.0, hole]], np.float32)
    levels = levels_by_spread(values)
    assert levels is not None and 1 <= levels.black < levels.white <= 3
    assert levels_by_spread(np.full((2, 2), hole, np.float32)) is None
    assert scaled(values, Levels(1, 3)).tolist() == [[0, 0, 255, 0]]


def test_noise_on_a_plain_wall_stays_faint() -> None:
    wall = 30_000 + np.random.default_rng(0).integers(0, 2, (50, 50)).astype(np.uint16)
    grey = BrightnessRange().grey(wall, "16UC1", 0)
    assert np.ptp(grey) <= 8


@pytest.mark.parametrize("extreme", [3.4e38, -3.4e38, 1e-45, 0.0])
def test_the_ends_of_float32_are_scaled_without_a_warning(extreme: float) -> None:
    grey = BrightnessRange().grey(np.array([[0.0, extreme], [1.0, -extreme]], np.float32), "32FC1", 0)
    assert grey.dtype == np.uint8 and grey.shape == (2, 2)


def test_scaled_values_are_in_proportion_and_clipped() -> None:
    expected = [[0, 0, 51, 255, 255]]
    assert scaled(np.array([[0, 100, 120, 200, 999]], np.uint16), Levels(100, 200)).tolist() == expected
    assert scaled(np.array([[-7, 100, 120, 200, 1e9]], np.float32), Levels(100, 200)).tolist() == expected


def test_brightness_does_not_change_with_noise() -> None:
    brightness = BrightnessRange()
    shades = set()
    for number in range(200):
        image = room(18, 30, seed=number)
        image[0, 0] = 29_500
        shades.add(int(brightness.grey(image, "16UC1", number)[0, 0]))
    assert len(shades) == 1


def test_what_does_not_fit_widens_the_range_once_and_with_a_margin() -> None:
    brightness = BrightnessRange()
    shades = []
    for step in range(100):
        image = room(18, 30 + 0.1 * step)
        image[0, 0] = 29_500
        shades.append(int(brightness.grey(image, "16UC1", step)[0, 0]))
    assert shades == sorted(shades, reverse=True) and 2 <= len(set(shades)) <= 8  # by a tenth each


def test_a_single_strange_image_is_forgotten() -> None:
    brightness = BrightnessRange()
    usual = room(18, 30)
    before = np.ptp(brightness.grey(usual, "16UC1", 0))
    strange = np.linspace(1, 65535, 2000).astype(np.uint16).reshape(40, 50)
    brightness.grey(strange, "16UC1", 1)
    assert np.ptp(brightness.grey(usual, "16UC1", 2)) < before / 10
    for number in range(3, IMAGES_SEEN + 2):
        after = brightness.grey(usual, "16UC1", number)
    assert np.ptp(after) == before


def test_an_image_that_is_read_again_changes_nothing() -> None:
    images = [room(18, 30 + number % 7, seed=number) for number in range(30)]
    once, again = BrightnessRange(), BrightnessRange()
    for number, image in enumerate(images):
        expected = once.grey(image, "16UC1", number)
        np.testing.assert_array_equal(again.grey(image, "16UC1", number), expected)
        for older in range(max(0, number - 5), number):
            again.grey(images[older], "16UC1", older)


def test_encodings_of_one_stream_have_ranges_of_their_own() -> None:
    brightness = BrightnessRange()
    values = np.array([[0, 4095]], np.uint16)
    assert brightness.grey(values, "mono16", 0).tolist() == [[0, 255]]
    brightness.grey(np.array([[1.0, 2.0]], np.float32), "32FC1", 1)
    brightness.grey(room(18, 30), "16UC1", 2)
    assert brightness.grey(values, "mono16", 3).tolist() == [[0, 255]]
