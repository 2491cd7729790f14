"""How large a serialized image is, without reading its pixels: for frames that are not encoded."""

from __future__ import annotations

import io
import struct

from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage

from sam_ros.errors import InvalidImageError
from sam_ros.node.images import COMPRESSED_FORMATS
from sam_ros.node.layouts import check_size
from sam_ros.node.serialized import deserialize_image

ENCAPSULATION_BYTES = 4  # before the message; alignment counts from their end
LITTLE_ENDIAN = 1  # a bit of the second of them


def size_of_image(serialized: bytes, max_pixels: int) -> tuple[int, int]:
    """(H, W) of a serialized sensor_msgs/Image, as CDR lays it out: the fields before its data.

    Raises:
        InvalidImageError: it is cut short, has no pixels or more than ``max_pixels``.
    """
    order = "<" if serialized[1] & LITTLE_ENDIAN else ">"
    try:
        (length,) = struct.unpack_from(f"{order}I", serialized, ENCAPSULATION_BYTES + 8)  # of frame_id
        at = _aligned(ENCAPSULATION_BYTES + 12 + length)
        height, width, length = struct.unpack_from(f"{order}3I", serialized, at)  # of the encoding
        at = _aligned(at + 12 + length + 1)  # and is_bigendian
        step, num_bytes = struct.unpack_from(f"{order}2I", serialized, at)
    except struct.error as error:
        raise InvalidImageError(f"{len(serialized)} bytes are no Image: {error}") from error
    check_size(width, height, max_pixels)
    there = min(num_bytes, len(serialized) - at - 8)
    if there < step * height:
        raise InvalidImageError(f"an image of {height} rows of {step} bytes has only {there} bytes")
    return height, width


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
