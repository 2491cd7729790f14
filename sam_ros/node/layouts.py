"""How the pixels of each encoding lie in an image message, and whether a message holds what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

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
        columns, rows: how many pixels beside and above each other share their colour.
    """

    dtype: str = "uint8"
    channels: int = 1
    columns: int = 1
    rows: ClassVar[int] = 1

    def row_bytes(self, width: int) -> int:
        """The least step of an image of this width."""
        return width * self.channels * np.dtype(self.dtype).itemsize

    def num_bytes(self, height: int, step: int) -> int:
        """What the data of an image takes."""
        return height * step


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

    def row_bytes(self, width: int) -> int:
        """The least step of an image of this width."""
        return width

    def num_bytes(self, height: int, step: int) -> int:
        """What the data of an image takes."""
        return height * step + height // self.rows * self.pair_step(step)

    def pair_step(self, step: int) -> int:
        """Bytes of a row of pairs."""
        return step * 2 // self.columns


class Fields(NamedTuple):
    """What an image message says of its data.

    Attributes:
        num_bytes: of its data.
    """

    height: int
    width: int
    encoding: str
    step: int
    num_bytes: int


_Layout = TypeVar("_Layout", bound="Packed | Planar")

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
LAYOUTS: Mapping[str, Packed | Planar] = {**PACKED, **PLANAR}


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


def check_layout(fields: Fields) -> None:
    """Whether an image may be read, without its data.

    Which encodings there are is not asked of cv_bridge: it knows some that are no picture, and upstream's
    takes any number of channels for one.

    Raises:
        InvalidImageError: an unknown encoding, an odd size where pixels share a colour, or size, step and
            data do not fit together.
    """
    _check_fit(fields, _known(fields.encoding, LAYOUTS))


def packed_values(msg: Image) -> npt.NDArray[Any]:
    """The (H, W * channels) values of a message of a PACKED encoding, as a view, in the message's byte order.

    Raises:
        InvalidImageError: as ``check_layout``.
    """
    layout = _known(msg.encoding, PACKED)
    _check_fit(_fields_of(msg), layout)
    rows = np.frombuffer(msg.data, np.uint8, count=msg.step * msg.height).reshape(msg.height, msg.step)
    dtype = np.dtype(layout.dtype).newbyteorder(">" if msg.is_bigendian else "<")
    return rows[:, : layout.row_bytes(msg.width)].view(dtype)


def planar_values(msg: Image) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The planes of a message of a PLANAR encoding: (H, W) Y, and (H / rows, W / columns, 2) pairs, as views.

    Raises:
        InvalidImageError: as ``check_layout``.
    """
    layout = _known(msg.encoding, PLANAR)
    _check_fit(_fields_of(msg), layout)
    height, width = msg.height // layout.rows, msg.width // layout.columns
    num_luma = msg.height * msg.step
    data = np.frombuffer(msg.data, np.uint8)[: layout.num_bytes(msg.height, msg.step)]
    luma = data[:num_luma].reshape(msg.height, msg.step)[:, : msg.width]
    pairs = data[num_luma:].reshape(height, layout.pair_step(msg.step))[:, : 2 * width]
    return luma, pairs.reshape(height, width, 2)


def _fields_of(msg: Image) -> Fields:
    return Fields(msg.height, msg.width, msg.encoding, msg.step, len(msg.data))


def _known(encoding: str, layouts: Mapping[str, _Layout]) -> _Layout:
    try:
        return layouts[encoding]
    except KeyError:
        reason = f"an image has the unknown encoding {shortened(encoding)!r}"
        raise InvalidImageError(reason, kind=UNKNOWN) from None


def _check_fit(fields: Fields, layout: Packed | Planar) -> None:
    """Size, step and data, in this order."""
    height, width, encoding, step, num_bytes = fields
    if width % layout.columns or height % layout.rows:
        raise InvalidImageError(
            f"an image of encoding {encoding!r} shares colours between {layout.columns} x {layout.rows} "
            f"pixels; {width} x {height} are no multiple",
            kind=ODD_SIZE,
        )
    if step < layout.row_bytes(width):
        raise InvalidImageError(
            f"an image of {width} {encoding} pixels needs a step of {layout.row_bytes(width)}, it has {step}",
            kind="wrong step",
        )
    if num_bytes < layout.num_bytes(height, step):
        raise InvalidImageError(
            f"an image of {height} rows of {step} bytes has only {num_bytes} bytes of data, "
            f"not the {layout.num_bytes(height, step)} of {encoding}",
            kind="short data",
        )
