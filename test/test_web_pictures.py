"""Pictures and their envelope, read back by other means."""

import json
import struct

import cv2
import numpy as np
import pytest

from sam_ros.tools.web.pictures import areas, candidates_png, envelope, jpeg, labels_png


def test_an_envelope_holds_its_header_and_parts() -> None:
    message = envelope({"type": "frame", "name": "caf\u00e9"}, b"first", b"", b"third")
    (length,) = struct.unpack_from("<I", message)
    assert json.loads(message[4 : 4 + length]) == {"type": "frame", "name": "caf\u00e9", "parts": [5, 0, 5]}
    assert message[4 + length :] == b"firstthird"


@pytest.mark.parametrize(
    ("longest_side", "size_hw"), [(1280, (60, 80)), (80, (60, 80)), (40, (30, 40)), (1, (1, 1))]
)
def test_a_jpeg_is_made_smaller_but_never_larger(longest_side: int, size_hw: tuple[int, int]) -> None:
    image = np.full((60, 80, 3), (200, 100, 30), np.uint8)
    decoded = cv2.imdecode(np.frombuffer(jpeg(image, longest_side, 90), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded.shape == (*size_hw, 3)
    np.testing.assert_allclose(decoded[0, 0], (200, 100, 30), atol=4)
    assert (image == (200, 100, 30)).all()


def test_a_jpeg_of_higher_quality_is_larger() -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    assert len(jpeg(image, 80, 95)) > 2 * len(jpeg(image, 80, 30))


@pytest.mark.parametrize(
    "values", [(0, 0, 0), (0, 1, 255), (0, 256, 1024)], ids=["none", "grey", "two bytes"]
)
def test_labels_are_exact(values: tuple[int, int, int]) -> None:
    labels = np.array([values, values[::-1]], np.uint16)
    pixels = cv2.imdecode(np.frombuffer(labels_png(labels), np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)
    is_grey = max(values) < 256
    found = pixels[..., 0] if is_grey else pixels[..., 0] + 256 * pixels[..., 1]
    np.testing.assert_array_equal(found, labels)
    assert (pixels[..., 2] == (pixels[..., 0] if is_grey else 0)).all()


def test_candidates_are_exact_with_the_best_in_red() -> None:
    candidates = np.zeros((2, 3, 3), np.uint8)
    candidates[0, 0] = (255, 0, 0)
    candidates[1, 2] = (0, 255, 255)
    decoded = cv2.imdecode(np.frombuffer(candidates_png(candidates), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decoded, candidates)


def test_areas_count_each_label_even_where_it_is_hidden() -> None:
    labels = np.array([[0, 1, 1], [3, 1, 0]], np.uint16)
    assert areas(labels, 3) == [3, 0, 1]
    assert areas(labels, 4) == [3, 0, 1, 0]
