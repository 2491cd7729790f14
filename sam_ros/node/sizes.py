"""How large a serialized image is, without reading its pixels: for frames that are not encoded."""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage

from sam_ros.errors import InvalidImageError
from sam_ros.node.images import COMPRESSED_FORMATS
from sam_ros.node.layouts import TOO_LARGE, check_size
from sam_ros.node.serialized import MALFORMED, deserialize_image

ENCAPSULATION_BYTES = 4  # before the message; alignment counts from their end
LITTLE_ENDIAN = 1  # a bit of the second of them
MAX_PIXEL_BYTES = 16  # of a pixel; four values of 16 bits are 8, and rows may be padded


def size_of_image(serialized: bytes, max_pixels: int) -> tuple[int, int]:
    """(H, W) of a serialized sensor_msgs/Image, as CDR lays it out: the fields before its data.

    Raises:
        InvalidImageError: it is cut short, has no pixels or more than ``max_pixels``.
    """
    fields = _fields(serialized)
    check_size(fields.width, fields.height, max_pixels)
    there = min(fields.num_bytes, len(serialized) - fields.data_at)
    if there < fields.step * fields.height:
        raise InvalidImageError(
            f"an image of {fields.height} rows of {fields.step} bytes has only {there} bytes"
        )
    return fields.height, fields.width


def check_image(serialized: bytes, max_pixels: int) -> None:
    """Before a serialized sensor_msgs/Image is kept: reads what lies before its data.

    Raises:
        InvalidImageError: it is no such message, has no pixels, more than ``max_pixels``, or more bytes than
            so many have of any encoding.
    """
    fields = _fields(serialized)
    check_size(fields.width, fields.height, max_pixels)
    if fields.num_bytes > MAX_PIXEL_BYTES * max_pixels:
        raise InvalidImageError(
            f"an image of {fields.width} x {fields.height} pixels has {fields.num_bytes} bytes; possible are "
            f"{MAX_PIXEL_BYTES} for each of max_image_pixels ({max_pixels})",
            kind=TOO_LARGE,
        )


class _Fields(NamedTuple):
    """What a serialized image says of its data, and where that begins."""

    height: int
    width: int
    step: int
    num_bytes: int
    data_at: int


def _fields(serialized: bytes) -> _Fields:
    order = "<" if serialized[1] & LITTLE_ENDIAN else ">"
    try:
        (length,) = struct.unpack_from(f"{order}I", serialized, ENCAPSULATION_BYTES + 8)  # of frame_id
        at = _aligned(ENCAPSULATION_BYTES + 12 + length)
        height, width, length = struct.unpack_from(f"{order}3I", serialized, at)  # of the encoding
        at = _aligned(at + 12 + length + 1)  # and is_bigendian
        step, num_bytes = struct.unpack_from(f"{order}2I", serialized, at)
    except struct.error as error:
        raise InvalidImageError(f"{len(serialized)} bytes are no Image: {error}", MALFORMED) from error
    return _Fields(height, width, step, num_bytes, at + 8)


def size_of_compressed(serialized: bytes, max_pixels: int) -> tuple[int, int]:
    """(H, W) of a serialized sensor_msgs/CompressedImage, as the header of its file tells.

    Raises:
        InvalidImageError: no such message, not a JPEG or PNG, or one of more than ``max_pixels``.
    """
    msg = deserialize_image(serialized, CompressedImage)
    try:
        with PilImage.open(io.BytesIO(bytes(msg.data)), formats=COMPRESSED_FORMATS) as image:
            check_size(image.width, image.height, max_pixels)
            return image.height, image.width
    except InvalidImageError:
        raise
    except Exception as error:  # no promise bounds what decoders raise for damaged files
        raise InvalidImageError(f"a compressed image cannot be read: {error}") from error


def _aligned(at: int) -> int:
    """The next place of a number of four bytes."""
    return at + -(at - ENCAPSULATION_BYTES) % 4
