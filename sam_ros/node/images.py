"""Image messages to pixels and back. Messages that come in are never changed, headers are copied."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from cv_bridge import CvBridge, CvBridgeError
from PIL import Image as PilImage
from PIL import UnidentifiedImageError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam_ros.errors import InvalidImageError, shortened
from sam_ros.node.brightness import RULES as DEEP_ENCODINGS
from sam_ros.node.brightness import BrightnessRange
from sam_ros.node.headers import copied
from sam_ros.node.layouts import PACKED, PLANAR, TOO_LARGE, UNKNOWN, check_size, packed_values, planar_values

GREY_WITHOUT_A_NAME = "8UC1"  # what some drivers call mono8
GREY_ENCODINGS = ("mono8", GREY_WITHOUT_A_NAME)
_bridge = CvBridge()
_Taken = TypeVar("_Taken")

# Y, U, V of BT.601 in the studio range to R, G, B, as OpenCV converts the other YUV encodings.
RGB_OF_YUV = np.array([[1.164, 0.0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0.0]])
YUV_OF_BLACK = np.array([16.0, 128.0, 128.0])
RGB_OF_YUV1 = np.column_stack([RGB_OF_YUV, -RGB_OF_YUV @ YUV_OF_BLACK])  # (3, 4): of Y, U, V, 1


COMPRESSED_FORMATS = ("JPEG", "PNG")
COMPRESSED_MODES = ("L", "LA", "RGB", "RGBA", "P", "CMYK", "1")  # 8 bits or fewer a channel
DEEP_GREY_MODES = ("I;16", "I;16B", "I")  # of a PNG of 16 bits, in various versions of PIL
PNG_END = b"IEND\xaeB`\x82"  # the last chunk; PIL reads images that lack it
START_OF_SCAN = b"\xff\xda"  # of a JPEG; entropy-coded data never holds these bytes
MAX_SCANS = 32  # libjpeg's own progressive scripts have at most 24
MAX_SCANS_OF_LARGEST = 12  # of an image of max_image_pixels; progressive ones in colour have 10
ORIENTATION = 0x0112  # EXIF's tag of how a picture is to be turned for people
UPRIGHT = 1
# What else is sent as a CompressedImage: the bytes at an offset, and the name that is said.
OTHER_FORMATS = (
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypavis", "image/avif"),
    (4, b"ftyphei", "image/heic"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"BM", "image/bmp"),
    (0, b"GIF8", "image/gif"),
)


class CameraStream:
    """What is kept from one image of a camera to the next; each subscription has its own.

    Args:
        say: called, once each, with what a person should know of all images of the stream.
    """

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        self.brightness = BrightnessRange()
        self._say = say
        self._has_said_orientation = False

    def note_orientation(self, orientation: int) -> None:
        """Say once that images are turned where others show them."""
        if orientation != UPRIGHT and not self._has_said_orientation:
            self._has_said_orientation = True
            self._say(
                f"images have the EXIF orientation {orientation}: viewers of files show them turned; here, "
                "pixels stay where the sensor had them, as its camera_info and depth do"
            )


# In.


def image_from_msg(msg: Image, max_pixels: int, stream: CameraStream | None = None) -> npt.NDArray[np.uint8]:
    """An (H, W, 3) uint8 RGB image of a camera message; one of rgb8 shares its memory and is read-only.

    mono16, 16UC1 and 32FC1 are scaled as ``BrightnessRange`` says.

    Args:
        msg: the message.
        max_pixels: images of more are refused.
        stream: that the image is of; without one it is scaled by itself alone.

    Raises:
        InvalidImageError: size, step, data and encoding do not fit together or make no picture.
    """
    check_size(msg.width, msg.height, max_pixels)
    if msg.encoding in PLANAR:
        return _image_of_planes(msg)
    msg = _with_plain_rows(msg)
    try:
        return _image_of_packed(msg, stream or CameraStream())
    except (CvBridgeError, cv2.error) as error:
        raise InvalidImageError(
            f"an image of encoding {msg.encoding!r} cannot become rgb8: {error}", kind=UNKNOWN
        ) from error


def _image_of_packed(msg: Image, stream: CameraStream) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a message with plain rows."""
    if msg.encoding == "rgb8":
        image = np.asarray(_bridge.imgmsg_to_cv2(msg), np.uint8)
        image.flags.writeable = False
        return image
    if msg.encoding == GREY_WITHOUT_A_NAME:
        return _rgb_of_grey(_bridge.imgmsg_to_cv2(msg))
    if msg.encoding in DEEP_ENCODINGS:
        values = _bridge.imgmsg_to_cv2(msg)
        return _rgb_of_grey(stream.brightness.grey(values, msg.encoding, _key(msg)))
    return np.ascontiguousarray(_bridge.imgmsg_to_cv2(msg, desired_encoding="rgb8"), dtype=np.uint8)


def _rgb_of_grey(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)  # (H, W) -> (H, W, 3)


def _key(msg: Image | CompressedImage) -> tuple[int, int]:
    """What tells an image from the others of its stream."""
    return msg.header.stamp.sec, msg.header.stamp.nanosec


def _image_of_planes(msg: Image) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a message of one of the PLANAR encodings."""
    luma, pairs = planar_values(msg)
    code = PLANAR[msg.encoding].code
    if code is None:
        return np.asarray(cv2.transform(np.dstack([luma, pairs]), RGB_OF_YUV1), np.uint8)
    return np.asarray(
        cv2.cvtColorTwoPlane(np.ascontiguousarray(luma), np.ascontiguousarray(pairs), code), np.uint8
    )


def image_from_compressed_msg(
    msg: CompressedImage, max_pixels: int, stream: CameraStream | None = None
) -> npt.NDArray[np.uint8]:
    """An (H, W, 3) uint8 RGB image of a compressed camera message; its work is bounded before decoding.

    A grey PNG of 16 bits is scaled as an Image of mono16 where its format begins so, else as one of 16UC1.
    Pixels stay as they lie in the file, whatever EXIF says of showing them.

    Args:
        msg: the message.
        max_pixels: images of more are refused.
        stream: that the image is of; without one it is scaled by itself alone, and nothing is said of it.

    Raises:
        InvalidImageError: not a JPEG or PNG, truncated, or too large.
    """
    stream = stream or CameraStream()
    return _of_file(msg, max_pixels, lambda image: _decoded(msg, image, stream))


def size_from_compressed_msg(msg: CompressedImage, max_pixels: int) -> tuple[int, int]:
    """(H, W) of a compressed camera message, which is not decoded.

    Raises:
        InvalidImageError: as of ``image_from_compressed_msg``, but for what only decoding shows.
    """
    return _of_file(msg, max_pixels, lambda image: (image.height, image.width))


def _of_file(msg: CompressedImage, max_pixels: int, take: Callable[[PilImage.Image], _Taken]) -> _Taken:
    """What is taken of a JPEG or PNG file, whose header is judged first; a problem of any sort is named."""
    data = bytes(msg.data)
    try:
        with PilImage.open(io.BytesIO(data), formats=COMPRESSED_FORMATS) as image:
            _check_file(image, data, max_pixels)
            return take(image)
    except (InvalidImageError, MemoryError):
        raise  # named already, and no fault of the file
    except (PilImage.DecompressionBombError, PilImage.DecompressionBombWarning) as error:
        reason = f"a compressed image is too large: {error}"
        raise InvalidImageError(reason, kind=TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise _unread(msg.format, data) from error
    except Exception as error:  # no promise bounds what decoders raise for damaged files
        raise _damaged(msg.format, data, str(error)) from error


def _check_file(image: PilImage.Image, data: bytes, max_pixels: int) -> None:
    """What can be known of a file before it is decoded."""
    check_size(image.width, image.height, max_pixels)
    if image.format != "PNG":
        _check_scans(data, image.width * image.height, max_pixels)
    elif PNG_END not in data:
        raise ValueError("its end is missing")
    if image.mode not in (*COMPRESSED_MODES, *DEEP_GREY_MODES):
        raise InvalidImageError(f"a compressed image has the unknown mode {image.mode!r}", kind=UNKNOWN)


def _decoded(msg: CompressedImage, image: PilImage.Image, stream: CameraStream) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a file that is worth decoding."""
    rgb = _pixels(msg, image, stream)
    stream.note_orientation(_orientation(image))
    return rgb


def _pixels(msg: CompressedImage, image: PilImage.Image, stream: CameraStream) -> npt.NDArray[np.uint8]:
    if image.mode in DEEP_GREY_MODES:
        encoding = "mono16" if msg.format.startswith("mono16") else "16UC1"
        values = np.asarray(image).astype(np.uint16)
        return _rgb_of_grey(stream.brightness.grey(values, encoding, _key(msg)))
    return np.array(image.convert("RGB"))


def _check_scans(data: bytes, num_pixels: int, max_pixels: int) -> None:
    """Each scan of a JPEG may touch every pixel anew, however few bytes it has."""
    num_scans = data.count(START_OF_SCAN)  # those of a thumbnail included
    if num_scans > MAX_SCANS or num_scans * num_pixels > MAX_SCANS_OF_LARGEST * max_pixels:
        raise InvalidImageError(
            f"a JPEG of {num_pixels} pixels in {num_scans} scans is too much work; possible are {MAX_SCANS} "
            f"scans, and {MAX_SCANS_OF_LARGEST} of max_image_pixels ({max_pixels})",
            kind="too many scans",
        )


def _orientation(image: PilImage.Image) -> int:
    """How EXIF would have the image turned, 1 to 8; 1 where it does not say so."""
    try:
        orientation = image.getexif().get(ORIENTATION, UPRIGHT)
    except Exception:  # noqa: BLE001 the block may be anything, and the picture is good without it
        return UPRIGHT
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT


def _unread(format: str, data: bytes) -> InvalidImageError:
    """What is said of a file that is neither JPEG nor PNG."""
    names = [name for offset, magic, name in OTHER_FORMATS if data[offset:].startswith(magic)]
    if "compressedDepth" in format:
        names = ["compressedDepth"]  # a header of its own comes before the PNG
    if not names:
        return _damaged(format, data, "it does not begin as a JPEG or PNG does")
    return InvalidImageError(f"{names[0]}: JPEG and PNG are accepted", kind=UNKNOWN)


def _damaged(format: str, data: bytes, problem: str) -> InvalidImageError:
    return InvalidImageError(
        f"a compressed image of format {shortened(format)!r} and {len(data)} bytes is damaged: {problem}",
        kind="damaged image",
    )


def grey_from_msg(msg: Image) -> npt.NDArray[np.uint8]:
    """The (H, W) uint8 pixels of a message of one of GREY_ENCODINGS, shared with it, without padding.

    Raises:
        InvalidImageError: size, step and data do not fit together.
    """
    return packed_values(msg)


def _with_plain_rows(msg: Image) -> Image:
    """The same pixels without padding, in this machine's byte order; the message itself if it is so already.

    Upstream's cv_bridge takes padded rows for whole pixels, which shears the picture where they are not, and
    changes the byte order by a method that NumPy 2 lacks (vision_opencv, cv_bridge/core.py).

    Raises:
        InvalidImageError: size, step, data and encoding do not fit together or make no picture.
    """
    values = packed_values(msg)
    if msg.step == values.shape[1] * values.itemsize and bool(msg.is_bigendian) == (sys.byteorder == "big"):
        return msg
    layout = PACKED[msg.encoding]
    native = np.ascontiguousarray(values, layout.dtype)
    return image_to_msg(native.reshape(msg.height, msg.width, layout.channels), msg.encoding, msg.header)


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
