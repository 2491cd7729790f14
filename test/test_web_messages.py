"""Gestures as messages, and answers as what the page reads."""

from array import array
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from node_rig import detection, detections
from sensor_msgs.msg import Image

from sam_ros.core.overlay import PALETTE_RGB
from sam_ros.errors import InvalidImageError
from sam_ros.tools.web import messages
from sam_ros.tools.web.colours import Colours
from sam_ros.tools.web.gestures import Click, Drag, Moment

MOMENT = Moment(12, 345_000_000, "lens")


def test_a_click_carries_the_header_of_what_was_seen() -> None:
    msg = messages.point_of(Click("foreground", 3.25, 4.5, MOMENT))
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec, msg.header.frame_id) == (12, 345_000_000, "lens")
    assert (msg.point.x, msg.point.y, msg.point.z) == (3.25, 4.5, 0.0)


def test_a_box_is_one_object_without_an_id() -> None:
    msg = messages.box_of(Drag((10.0, 20.0, 40.0, 25.0), MOMENT))
    assert (msg.header.stamp.sec, msg.header.frame_id, msg.id, list(msg.results)) == (12, "lens", "", [])
    assert (msg.bbox.center.position.x, msg.bbox.center.position.y, msg.bbox.center.theta) == (
        25.0,
        22.5,
        0.0,
    )
    assert (msg.bbox.size_x, msg.bbox.size_y) == (30.0, 5.0)


def test_the_page_gets_the_header_that_it_gives_back() -> None:
    assert messages.moment_values(messages.header_of(MOMENT)) == {
        "sec": 12,
        "nanosec": 345_000_000,
        "frame_id": "lens",
    }


def test_labels_are_read_in_either_byte_order_and_with_padded_rows() -> None:
    labels = np.array([[0, 1, 258], [3, 0, 65535]], np.uint16)
    for order, is_bigendian in (("<u2", 0), (">u2", 1)):
        rows = np.zeros((2, 10), np.uint8)
        rows[:, :6] = labels.astype(order).view(np.uint8)
        msg = Image(height=2, width=3, step=10, encoding="16UC1", is_bigendian=is_bigendian)
        msg.data = array("B", rows.tobytes())
        np.testing.assert_array_equal(messages.labels_of(msg), labels)
        assert messages.labels_of(msg).dtype == np.uint16


def test_candidates_are_read_with_padded_rows() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    rows = np.zeros((2, 8), np.uint8)
    rows[:, :6] = pixels.reshape(2, 6)
    msg = Image(height=2, width=2, step=8, encoding="8UC3", data=array("B", rows.tobytes()))
    np.testing.assert_array_equal(messages.candidates_of(msg), pixels)


@pytest.mark.parametrize(
    "wrong",
    [{"encoding": "mono8"}, {"width": 0}, {"height": 0}, {"step": 5}, {"height": 3}, {"data": array("B")}],
)
def test_labels_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    right = {"height": 2, "width": 3, "step": 6, "encoding": "16UC1", "data": array("B", bytes(12))}
    assert messages.labels_of(Image(**right)).shape == (2, 3)
    with pytest.raises(InvalidImageError, match="expected an image of 16UC1, got"):
        messages.labels_of(Image(**{**right, **wrong}))


def test_objects_have_what_the_page_shows_of_them() -> None:
    cup = detection("cup_1", (2.0, 1.0), (4.0, 2.0), class_id="cup")
    cup.results[0].hypothesis.score = 0.87654321
    nameless = detection("_1", (0.5, 1.5), (1.0, 1.0))
    labels = np.array([[1, 1, 1, 0], [2, 1, 0, 0]], np.uint16)
    assert messages.objects_of(detections(0, cup, nameless), labels, Colours()) == [
        {
            "id": "cup_1",
            "class_id": "cup",
            "iou": [0.8765],
            "box": (0.0, 0.0, 4.0, 2.0),
            "area": 4,
            "colour": PALETTE_RGB[0],
        },
        {
            "id": "_1",
            "class_id": "",
            "iou": [],
            "box": (0.0, 1.0, 1.0, 2.0),
            "area": 1,
            "colour": PALETTE_RGB[1],
        },
    ]


@pytest.mark.parametrize(("values", "expected"), [({"encode (ms)": "3500.0"}, 3.5), ({}, 0.0)])
def test_the_time_of_an_encode_is_read(values: dict[str, str], expected: float) -> None:
    assert messages.encode_sec(values) == expected


def test_a_status_is_read_in_words() -> None:
    status = DiagnosticStatus(level=DiagnosticStatus.STALE, message="no image has come yet")
    status.values = [KeyValue(key="state", value="active")]
    assert messages.status_values(status) == {
        "level": "stale",
        "message": "no image has come yet",
        "values": {"state": "active"},
    }
