"""Image messages to pixels and back. Messages that come in are never changed, headers are copied."""

from __future__ import annotations

import io
import math
import sys
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from cv_bridge import CvBridge, CvBridgeError
from PIL import Image as PilImage
from PIL import UnidentifiedImageError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam_ros.errors import InvalidImageError
from sam_ros.node.headers import copied

COMPRESSED_FORMATS = ("JPEG", "PNG")
COMPRESSED_MODES = ("L", "LA", "RGB", "RGBA", "P", "CMYK", "1")  # 8 bits or fewer a channel
PNG_END = b"IEND\xaeB`\x82"  # the last chunk; PIL reads images that lack it
GREY_WITHOUT_A_NAME = "8UC1"  # what some drivers call mono8
GREY_ENCODINGS = ("mono8", GREY_WITHOUT_A_NAME)

_bridge = CvBridge()


# In.


def image_from_msg(msg: Image, max_pixels: int) -> npt.NDArray[np.uint8]:
    """An (H, W, 3) uint8 RGB image of a camera message; one of rgb8 shares its memory and is read-only.

    Raises:
        InvalidImageError: size, step, data and encoding do not fit together or make no picture.
    """
    _check_size(msg.width, msg.height, max_pixels)
    _check_layout(msg)
    msg = _with_plain_rows(msg)
    try:
        if msg.encoding == "rgb8":
            image = np.asarray(_bridge.imgmsg_to_cv2(msg), np.uint8)
            image.flags.writeable = False
            return image
        if msg.encoding == GREY_WITHOUT_A_NAME:
            return np.asarray(cv2.cvtColor(_bridge.imgmsg_to_cv2(msg), cv2.COLOR_GRAY2RGB), np.uint8)
        return np.ascontiguousarray(_bridge.imgmsg_to_cv2(msg, desired_encoding="rgb8"), dtype=np.uint8)
    except CvBridgeError as error:
        raise InvalidImageError(
            f"an image of encoding {msg.encoding!r} cannot become rgb8: {error}", kind="unknown encoding"
        ) from error


def image_from_compressed_msg(msg: CompressedImage, max_pixels: int) -> npt.NDArray[np.uint8]:
    """An (H, W, 3) uint8 RGB image of a compressed camera message; its size is checked before decoding.

    Raises:
        InvalidImageError: not a JPEG or PNG of 8 bits a channel, truncated, or too large.
    """
    data = bytes(msg.data)
    try:
        return _decoded(data, max_pixels)
    except InvalidImageError:
        raise  # it is a ValueError too
    except (PilImage.DecompressionBombError, PilImage.DecompressionBombWarning) as error:
        reason = f"a compressed image is too large: {error}"
        raise InvalidImageError(reason, kind="image too large") from error
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for damaged files
        unknown = isinstance(error, UnidentifiedImageError)
        problem = "it does not begin as a JPEG or PNG does" if unknown else error
        raise InvalidImageError(
            f"a compressed image of format {msg.format!r} and {len(data)} bytes is damaged: {problem}",
            kind="damaged image",
        ) from error


def _decoded(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """An (H, W, 3) uint8 RGB image of a JPEG or PNG file, whose header is judged before it is decoded."""
    with PilImage.open(io.BytesIO(data), formats=COMPRESSED_FORMATS) as image:
        _check_size(image.width, image.height, max_pixels)
        if image.mode not in COMPRESSED_MODES:
            raise InvalidImageError(
                f"a compressed image of mode {image.mode!r} has more than 8 bits a channel",
                kind="unknown encoding",
            )
        if image.format == "PNG" and PNG_END not in data:
            raise ValueError("its end is missing")
        return np.array(image.convert("RGB"))


def grey_from_msg(msg: Image) -> npt.NDArray[np.uint8]:
    """The (H, W) uint8 pixels of a message of one of GREY_ENCODINGS, shared with it, without padding.

    Raises:
        InvalidImageError: size, step and data do not fit together.
    """
    _check_layout(msg)
    return _rows(msg)[:, : msg.width]


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise InvalidImageError(f"an image of {width} x {height} pixels is empty", kind="empty image")
    if width * height > max_pixels:
        raise InvalidImageError(
            f"an image of {width} x {height} pixels is larger than max_image_pixels ({max_pixels})",
            kind="image too large",
        )


def _check_layout(msg: Image) -> None:
    try:
        dtype, channels = _bridge.encoding_to_dtype_with_channels(msg.encoding)
    except CvBridgeError as error:
        raise InvalidImageError(
            f"an image has the unknown encoding {msg.encoding!r}", kind="unknown encoding"
        ) from error
    row_bytes = msg.width * channels * np.dtype(dtype).itemsize
    if msg.step < row_bytes:
        raise InvalidImageError(
            f"an image of {msg.width} {msg.encoding} pixels needs a step of {row_bytes}, it has {msg.step}",
            kind="wrong step",
        )
    if len(msg.data) < msg.step * msg.height:
        raise InvalidImageError(
            f"an image of {msg.height} rows of {msg.step} bytes has only {len(msg.data)} bytes of data",
            kind="short data",
        )


def _with_plain_rows(msg: Image) -> Image:
    """The same pixels without padding, in this machine's byte order; the message itself if it is so already.

    Upstream's cv_bridge takes padded rows for whole pixels, which shears the picture where they are not, and
    changes the byte order by a method that NumPy 2 lacks (vision_opencv, cv_bridge/core.py).
    """
    name, channels = _bridge.encoding_to_dtype_with_channels(msg.encoding)
    dtype = np.dtype(name).newbyteorder(">" if msg.is_bigendian else "<")
    row_bytes = msg.width * channels * dtype.itemsize
    if msg.step == row_bytes and bool(msg.is_bigendian) == (sys.byteorder == "big"):
        return msg
    values = np.ascontiguousarray(_rows(msg)[:, :row_bytes]).view(dtype).astype(name)
    return image_to_msg(values.reshape(msg.height, msg.width, channels), msg.encoding, msg.header)


def _rows(msg: Image) -> npt.NDArray[np.uint8]:
    """(height, step) uint8: the bytes of every row with its padding, shared with the message."""
    return np.frombuffer(msg.data, np.uint8, count=msg.step * msg.height).reshape(msg.height, msg.step)


# Out.


def image_to_msg(image: npt.NDArray[Any], encoding: str, header: Header) -> Image:
    """An (H, W) or (H, W, C) array as a message of that encoding, with a copy of the header.

    The bytes are put into the array that the message has: what is assigned to ``data`` is copied once more,
    a list element by element, and so are bytes checked where ROS_PYTHON_CHECK_FIELDS is set
    (ros2/rosidl_python#156).
    """
    contiguous = np.ascontiguousarray(image)
    msg = _image_msg(contiguous.shape, contiguous.nbytes, encoding, header)
    msg.data.frombytes(contiguous.data.cast("B"))
    return msg


def _image_msg(shape: tuple[int, ...], num_bytes: int, encoding: str, header: Header) -> Image:
    """A message still without its bytes, which are to be in this machine's order and without padding."""
    height, width = shape[:2]
    msg = Image(header=copied(header), height=height, width=width, encoding=encoding)
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.step = num_bytes // height  # strides of a single row may be anything
    return msg


class ImageBuffer:
    """One message of an encoding that is filled in place, again for every image.

    Getting megabytes from the system for each, and filling what is then copied into a message, costs several
    times what the filling does.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._dtype, self._channels = _bridge.encoding_to_dtype_with_channels(encoding)
        self._msg: Image | None = None

    def message(self, size_hw: tuple[int, int], header: Header) -> tuple[Image, npt.NDArray[Any]]:
        """The message with a copy of the header, and its pixels, (H, W) or (H, W, C), to be filled."""
        shape = size_hw if self._channels == 1 else (*size_hw, self._channels)
        msg = self._msg
        if msg is None or (msg.height, msg.width) != size_hw:
            num_bytes = math.prod(shape) * np.dtype(self._dtype).itemsize
            self._msg = msg = _image_msg(shape, num_bytes, self._encoding, header)
            msg.data.frombytes(bytes(num_bytes))
        msg.header = copied(header)
        return msg, np.frombuffer(msg.data, self._dtype).reshape(shape)
