"""Sizes of serialized images, against whole images that rclpy serialized."""

from __future__ import annotations

import array
from collections.abc import Callable
from itertools import product
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam_ros.errors import InvalidImageError
from sam_ros.node.images import image_from_compressed_msg, image_from_msg
from sam_ros.node.layouts import PACKED, PLANAR
from sam_ros.node.sizes import check_image, size_of_compressed, size_of_image

MAX_PIXELS = 1000


def serialized(frame_id: str = "camera", encoding: str = "rgb8", **values: int) -> bytes:
    fields = {"height": 3, "width": 5, "step": 15, "is_bigendian": 1, **values}
    num_bytes = fields.pop("num_bytes", 45)
    msg = Image(header=Header(frame_id=frame_id), encoding=encoding, **fields)
    msg.data = array.array("B", bytes(num_bytes))
    return bytes(serialize_message(msg))


@pytest.mark.parametrize("frame_id", ["", "c", "ca", "cam", "came", "camera_optical"])
@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "8UC1", "mono16", "bayer_rggb8"])
def test_the_size_is_read_whatever_stands_before_it(frame_id: str, encoding: str) -> None:
    assert size_of_image(serialized(frame_id, encoding), MAX_PIXELS) == (3, 5)


@pytest.mark.parametrize(
    "data",
    [
        serialized(num_bytes=44),
        serialized()[:-1],
        serialized()[:30],
        serialized()[:8],
        serialized(height=0),
        serialized(height=300, step=0),
    ],
    ids=["short data", "cut data", "cut fields", "cut header", "no pixels", "too many pixels"],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImageError):
        size_of_image(data, MAX_PIXELS)


def told(read: Callable[[Any, int], Any], image: Any, max_pixels: int) -> tuple[Any, ...]:
    """(H, W) of what a function of an image returns, pixels or a size, or the refusal's kind and words."""
    try:
        found = read(image, max_pixels)
        return found[:2] if isinstance(found, tuple) else found.shape[:2]
    except InvalidImageError as error:
        return error.kind, str(error)


@pytest.mark.parametrize(
    "encoding", [*PACKED, *PLANAR, "", "x9", "bayer_foo8", "rgb8 ", "jp\u00e9g", "x" * 99]
)
def test_an_image_is_refused_as_it_is_when_it_is_read(encoding: str) -> None:
    sizes, steps = ((4, 2), (3, 2), (4, 1), (0, 2), (40, 40)), (0, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32)
    for (width, height), step in product(sizes, steps):
        for num_bytes in (0, max(0, step * height - 1), step * height, 3 * step * height):
            values = {"width": width, "height": height, "step": step, "num_bytes": num_bytes}
            data = serialized("camera", encoding, **values)
            msg = deserialize_message(data, Image)
            assert told(size_of_image, data, MAX_PIXELS) == told(image_from_msg, msg, MAX_PIXELS)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (serialized(height=300, width=4), "image too large"),
        (serialized(num_bytes=20 * MAX_PIXELS), "image too large"),
        (serialized(height=0), "empty image"),
        (serialized()[:30], "malformed message"),
    ],
    ids=["too many pixels", "too many bytes", "no pixels", "cut fields"],
)
def test_what_an_image_is_refused_for_before_it_is_kept(data: bytes, kind: str) -> None:
    with pytest.raises(InvalidImageError) as caught:
        check_image(data, MAX_PIXELS)
    assert caught.value.kind == kind


def test_an_image_that_is_not_too_large_is_kept_until_it_is_read() -> None:
    for msg in (serialized(), serialized(num_bytes=44), serialized(height=250, width=4, num_bytes=16_000)):
        check_image(msg, MAX_PIXELS)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_size_of_a_file_is_that_of_its_header(suffix: str) -> None:
    data = cv2.imencode(suffix, np.zeros((3, 5, 3), np.uint8))[1].tobytes()
    assert size_of_compressed(file_message(data), MAX_PIXELS) == (3, 5)
    with pytest.raises(InvalidImageError):
        size_of_compressed(file_message(data), 14)


@pytest.mark.parametrize("data", [b"", b"GIF89a"])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImageError):
        size_of_compressed(file_message(data), MAX_PIXELS)


def test_a_file_is_refused_as_it_is_when_it_is_read() -> None:
    """As far as its header tells, which has the pixels' format; and a PNG's end."""
    pixels = np.zeros((3, 5, 3), np.uint8)
    png, jpeg = (cv2.imencode(suffix, pixels)[1].tobytes() for suffix in (".png", ".jpg"))
    deep = cv2.imencode(".png", pixels[..., 0].astype(np.uint16))[1].tobytes()
    tiff = cv2.imencode(".tiff", pixels)[1].tobytes()
    scans = jpeg[:2] + 40 * b"\xff\xda\x00\x02" + jpeg[2:]
    for file in (png, jpeg, deep, png[:-1], png[:20], tiff, scans, b"", b"GIF89a", b"II*\x00"):
        msg = CompressedImage(format="png", data=array.array("B", file))
        for max_pixels in (MAX_PIXELS, 14):
            read = told(image_from_compressed_msg, msg, max_pixels)
            assert told(size_of_compressed, bytes(serialize_message(msg)), max_pixels) == read


def test_a_message_that_is_cut_short_is_refused_as_malformed() -> None:
    with pytest.raises(InvalidImageError) as caught:
        size_of_compressed(file_message(b"GIF89a")[:22], MAX_PIXELS)
    assert caught.value.kind == "malformed message"


def file_message(data: bytes) -> bytes:
    return bytes(serialize_message(CompressedImage(data=array.array("B", data))))
