"""How the pixels of each encoding lie in an image message, and whether a message holds what it promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import Image

from sam_ros.errors import InvalidImageError, shortened

UNKNOWN = "unknown encoding"  # the kind of an image that is none that the node reads
TOO_LARGE = "image too large"  # the kind of an image that is beyond max_image_pixels
ODD_SIZE = "odd size"  # the kind of an image that ends within a group of pixels that share their colour


@dataclass(frozen=True)
class Packed:
    """How an encoding whose pixels lie one after another is laid out.

    Attributes:
        dtype: name of the type of a value.
        channels: values of a pixel.
        columns: how many pixels beside each other share their colour.
    """

    dtype: str = "uint8"
    channels: int = 1
    columns: int = 1


@dataclass(frozen=True)
class Planar:
    """How an encoding of a plane of Y above a plane of U and V, in turn, is laid out.

    Rows of Y are ``step`` bytes long; those of the other plane are as many bytes for each pair of values.

    Attributes:
        columns, rows: of how many pixels one U and one V are the colour.
        code: OpenCV's conversion to RGB; None where it has none.
    """

    columns: int
    rows: int
    code: int | None


PACKED = {
    "mono8": Packed(),
    "8UC1": Packed(),
    "mono16": Packed("uint16"),
    "16UC1": Packed("uint16"),
    "32FC1": Packed("float32"),
    "rgb8": Packed(channels=3),
    "bgr8": Packed(channels=3),
    "rgba8": Packed(channels=4),
    "bgra8": Packed(channels=4),
    "rgb16": Packed("uint16", 3),
    "bgr16": Packed("uint16", 3),
    "rgba16": Packed("uint16", 4),
    "bgra16": Packed("uint16", 4),
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), Packed(channels=2, columns=2)),
    **{f"bayer_{pattern}8": Packed() for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{pattern}16": Packed("uint16") for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}
PLANAR = {  # upstream's cv_bridge has none of them
    "nv12": Planar(2, 2, cv2.COLOR_YUV2RGB_NV12),
    "nv21": Planar(2, 2, cv2.COLOR_YUV2RGB_NV21),
    "nv24": Planar(1, 1, None),
}


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Before anything is allocated.

    Raises:
        InvalidImageError: no pixel, or more than ``max_pixels``.
    """
    if width < 1 or height < 1:
        raise InvalidImageError(f"an image of {width} x {height} pixels is empty", kind="empty image")
    if width * height > max_pixels:
        raise InvalidImageError(
            f"an image of {width} x {height} pixels is larger than max_image_pixels ({max_pixels})",
            kind=TOO_LARGE,
        )


def packed_values(msg: Image) -> npt.NDArray[Any]:
    """The (H, W * channels) values of a message of a PACKED encoding, as a view, in the message's byte order.

    Which encodings there are is not asked of cv_bridge: it knows some that are no picture, and upstream's
    takes any number of channels for one.

    Raises:
        InvalidImageError: an unknown encoding, an odd size, or size, step and data do not fit together.
    """
    layout = PACKED.get(msg.encoding)
    if layout is None:
        reason = f"an image has the unknown encoding {shortened(msg.encoding)!r}"
        raise InvalidImageError(reason, kind=UNKNOWN)
    dtype = np.dtype(layout.dtype).newbyteorder(">" if msg.is_bigendian else "<")
    row_bytes = int(msg.width) * layout.channels * dtype.itemsize
    _check_groups(msg, layout.columns, 1)
    _check_bytes(msg, row_bytes, msg.step * msg.height)
    rows = np.frombuffer(msg.data, np.uint8, count=msg.step * msg.height).reshape(msg.height, msg.step)
    return rows[:, :row_bytes].view(dtype)


def planar_values(msg: Image) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The planes of a message of a PLANAR encoding: (H, W) Y, and (H / rows, W / columns, 2) pairs, as views.

    Raises:
        InvalidImageError: an odd size where pixels share a colour, or step or data are too short.
    """
    layout = PLANAR[msg.encoding]
    _check_groups(msg, layout.columns, layout.rows)
    height, width = msg.height // layout.rows, msg.width // layout.columns
    step = msg.step * 2 // layout.columns
    num_luma = msg.height * msg.step
    _check_bytes(msg, msg.width, num_luma + height * step)
    data = np.frombuffer(msg.data, np.uint8)
    luma = data[:num_luma].reshape(msg.height, msg.step)[:, : msg.width]
    pairs = data[num_luma : num_luma + height * step].reshape(height, step)[:, : 2 * width]
    return luma, pairs.reshape(height, width, 2)


def _check_groups(msg: Image, columns: int, rows: int) -> None:
    if msg.width % columns or msg.height % rows:
        raise InvalidImageError(
            f"an image of encoding {msg.encoding!r} shares colours between {columns} x {rows} pixels; "
            f"{msg.width} x {msg.height} are no multiple",
            kind=ODD_SIZE,
        )


def _check_bytes(msg: Image, row_bytes: int, num_bytes: int) -> None:
    if msg.step < row_bytes:
        raise InvalidImageError(
            f"an image of {msg.width} {msg.encoding} pixels needs a step of {row_bytes}, it has {msg.step}",
            kind="wrong step",
        )
    if len(msg.data) < num_bytes:
        raise InvalidImageError(
            f"an image of {msg.height} rows of {msg.step} bytes has only {len(msg.data)} bytes of data, "
            f"not the {num_bytes} of {msg.encoding}",
            kind="short data",
        )
