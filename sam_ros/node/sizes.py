"""How large a serialized image is, without reading its pixels: for frames that are not encoded."""

from __future__ import annotations

import struct

from sensor_msgs.msg import CompressedImage

from sam_ros.errors import InvalidImageError
from sam_ros.node.images import size_from_compressed_msg
from sam_ros.node.layouts import TOO_LARGE, Fields, check_layout, check_size
from sam_ros.node.serialized import MALFORMED, deserialize_image

ENCAPSULATION_BYTES = 4  # before the message; alignment counts from their end
LITTLE_ENDIAN = 1  # a bit of the second of them
MAX_PIXEL_BYTES = 16  # of a pixel; four values of 16 bits are 8, and rows may be padded


def size_of_image(serialized: bytes, max_pixels: int) -> tuple[int, int]:
    """(H, W) of a serialized sensor_msgs/Image, as CDR lays it out: the fields before its data.

    Raises:
        InvalidImageError: it is cut short, has no pixels or more than ``max_pixels``, or its encoding, size,
            step and data do not fit together.
    """
    fields, data_at = _fields(serialized)
    check_size(fields.width, fields.height, max_pixels)
    num_bytes = min(fields.num_bytes, len(serialized) - data_at)
    check_layout(fields._replace(num_bytes=num_bytes))
    return fields.height, fields.width


def check_image(serialized: bytes, max_pixels: int) -> None:
    """Before a serialized sensor_msgs/Image is kept: reads what lies before its data.

    Raises:
        InvalidImageError: it is no such message, has no pixels, more than ``max_pixels``, or more bytes than
            so many have of any encoding.
    """
    fields, _ = _fields(serialized)
    check_size(fields.width, fields.height, max_pixels)
    if fields.num_bytes > MAX_PIXEL_BYTES * max_pixels:
        raise InvalidImageError(
            f"an image of {fields.width} x {fields.height} pixels has {fields.num_bytes} bytes; possible are "
            f"{MAX_PIXEL_BYTES} for each of max_image_pixels ({max_pixels})",
            kind=TOO_LARGE,
        )


def _fields(serialized: bytes) -> tuple[Fields, int]:
    """What a serialized image says of its data, and where that begins."""
    order = "<" if serialized[1] & LITTLE_ENDIAN else ">"
    try:
        (length,) = struct.unpack_from(f"{order}I", serialized, ENCAPSULATION_BYTES + 8)  # of frame_id
        at = _aligned(ENCAPSULATION_BYTES + 12 + length)
        height, width, length = struct.unpack_from(f"{order}3I", serialized, at)  # of the encoding
        encoding = serialized[at + 12 : at + 12 + length].removesuffix(b"\0")
        at = _aligned(at + 12 + length + 1)  # and is_bigendian
        step, num_bytes = struct.unpack_from(f"{order}2I", serialized, at)
    except struct.error as error:
        raise InvalidImageError(f"{len(serialized)} bytes are no Image: {error}", MALFORMED) from error
    return Fields(height, width, encoding.decode(errors="replace"), step, num_bytes), at + 8


def size_of_compressed(serialized: bytes, max_pixels: int) -> tuple[int, int]:
    """(H, W) of a serialized sensor_msgs/CompressedImage, as the header of its file tells.

    Raises:
        InvalidImageError: no such message, or one whose file is refused without being decoded.
    """
    return size_from_compressed_msg(deserialize_image(serialized, CompressedImage), max_pixels)


def _aligned(at: int) -> int:
    """The next place of a number of four bytes."""
    return at + -(at - ENCAPSULATION_BYTES) % 4
