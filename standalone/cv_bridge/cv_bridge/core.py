"""CvBridge: sensor_msgs/Image and CompressedImage to NumPy arrays and back."""

import sys
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from cv_bridge.encodings import DEPTHS, DTYPE_NAMES, Array, EncodingError, convert, dtype_and_channels

CHANNEL_STEP = cv2.CV_MAKETYPE(0, 2)  # what one more channel adds to an OpenCV type, depending on its version


class CvBridgeError(TypeError):
    """A message or an image cannot be converted."""


class CvBridge:
    """Convert between image messages and the arrays that OpenCV works on.

    Arrays are (H, W) for one channel, else (H, W, C), in this machine's byte order.
    """

    def dtype_with_channels_to_cvtype2(self, dtype: Any, n_channels: int) -> str:
        """Return the generic encoding, such as 8UC3, of arrays of a dtype."""
        if dtype.name not in DEPTHS:
            raise CvBridgeError(f"images of {dtype.name} have no encoding; possible are {', '.join(DEPTHS)}")
        return f"{DEPTHS[dtype.name]}C{n_channels}"

    def cvtype2_to_dtype_with_channels(self, cvtype: int) -> tuple[str, int]:
        """Return the dtype's name and the number of channels of an OpenCV type such as cv2.CV_8UC3."""
        channels, depth = divmod(cvtype, CHANNEL_STEP)
        names = {getattr(cv2, f"CV_{name}"): dtype_name for name, dtype_name in DTYPE_NAMES.items()}
        return names[depth], channels + 1

    def encoding_to_cvtype2(self, encoding: str) -> int:
        """Return the OpenCV type, such as cv2.CV_8UC3, of an encoding's images."""
        dtype_name, channels = self.encoding_to_dtype_with_channels(encoding)
        return int(cv2.CV_MAKETYPE(getattr(cv2, f"CV_{DEPTHS[dtype_name]}"), channels))

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """Return the dtype's name and the number of channels of an encoding's images."""
        try:
            return dtype_and_channels(encoding)
        except EncodingError as error:
            raise CvBridgeError(str(error)) from error

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> Array:
        """Return a message's image, converted to an encoding unless that is 'passthrough'.

        The array may share the message's memory when nothing is converted.

        Raises:
            CvBridgeError: an encoding is unknown or cannot be converted, or the message contradicts itself.
        """
        dtype_name, channels = self.encoding_to_dtype_with_channels(img_msg.encoding)
        dtype = np.dtype(dtype_name).newbyteorder(">" if img_msg.is_bigendian else "<")
        pixels = message_pixels(img_msg, dtype, channels)
        native = np.ascontiguousarray(pixels, dtype=dtype_name)
        if desired_encoding == "passthrough":
            return native
        return converted(native, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: Array, encoding: str = "passthrough", header: Header | None = None
    ) -> Image:
        """Return a message with an image in the given encoding, which has to fit: nothing is converted.

        With 'passthrough' the encoding is the generic one of the array, such as 8UC3.

        Raises:
            CvBridgeError: the encoding is unknown or means other arrays.
            TypeError: the image is no array.
        """
        generic = self._generic_encoding(cvim)
        if encoding != "passthrough":
            expected = self.dtype_with_channels_to_cvtype2(*self._dtype_with_channels(encoding))
            if expected != generic:
                raise CvBridgeError(
                    f"encoding specified as {encoding}, but image has incompatible type {generic}"
                )
        message = Image()
        if header is not None:
            message.header = header
        message.height, message.width = cvim.shape[:2]
        message.encoding = generic if encoding == "passthrough" else encoding
        message.is_bigendian = cvim.dtype.byteorder == ">" or (
            cvim.dtype.byteorder == "=" and sys.byteorder == "big"
        )
        message.step = cvim.nbytes // cvim.shape[0]
        message.data.frombytes(np.ascontiguousarray(cvim).view(np.uint8).data)
        return message

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = "passthrough"
    ) -> Array:
        """Return the decoded image: as it is stored, or converted from bgr8, which upstream takes it for.

        Raises:
            CvBridgeError: the data cannot be decoded, or what was stored is not bgr8 and cannot be converted.
        """
        data = np.frombuffer(cmprs_img_msg.data, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if image is None:
            raise CvBridgeError(f"{data.size} bytes of format [{cmprs_img_msg.format}] cannot be decoded")
        if desired_encoding == "passthrough":
            return np.asarray(image)
        return converted(image, "bgr8", desired_encoding)

    def cv2_to_compressed_imgmsg(self, cvim: Array, dst_format: str = "jpg") -> CompressedImage:
        """Return a message with an image encoded in a format named by its file extension.

        Raises:
            CvBridgeError: OpenCV cannot write such an image in that format.
            TypeError: the image is no array.
        """
        if not isinstance(cvim, np.ndarray | np.generic):
            raise TypeError("Your input type is not a numpy array")
        try:
            encoded, data = cv2.imencode("." + dst_format, cvim)
        except cv2.error as error:
            raise CvBridgeError(str(error)) from error
        if not encoded:
            raise CvBridgeError(f"an image of {cvim.dtype} {cvim.shape} cannot be encoded as {dst_format}")
        message = CompressedImage(format=dst_format)
        message.data.frombytes(data.data)
        return message

    def _dtype_with_channels(self, encoding: str) -> tuple[np.dtype[Any], int]:
        dtype_name, channels = self.encoding_to_dtype_with_channels(encoding)
        return np.dtype(dtype_name), channels

    def _generic_encoding(self, cvim: Array) -> str:
        """Return an array's generic encoding; raise what is wrong with it as an image."""
        if not isinstance(cvim, np.ndarray | np.generic):
            raise TypeError("Your input type is not a numpy array")
        if cvim.ndim not in (2, 3) or cvim.size == 0:
            raise CvBridgeError(
                f"an image is a non-empty (H, W) or (H, W, C) array, not one of shape {cvim.shape}"
            )
        return self.dtype_with_channels_to_cvtype2(cvim.dtype, cvim.shape[2] if cvim.ndim == 3 else 1)


def message_pixels(img_msg: Image, dtype: np.dtype[Any], channels: int) -> Array:
    """Return a message's pixels as (H, W) or (H, W, C), a view of its data without the padding of rows."""
    height, width, step = img_msg.height, img_msg.width, img_msg.step
    if height == 0 or width == 0:
        raise CvBridgeError(f"Image is empty: {width} x {height} pixels")
    row_bytes = width * channels * dtype.itemsize
    if step < row_bytes:
        raise CvBridgeError(
            f"Image is wrongly formed: step < width * byte_depth * num_channels  or  "
            f"{step} < {width} * {dtype.itemsize} * {channels}"
        )
    data = data_bytes(img_msg)
    if data.size < height * step:
        raise CvBridgeError(
            f"Image is wrongly formed: height * step > size  or  {height} * {step} > {data.size}"
        )
    rows = data[: height * step].reshape(height, step)[:, :row_bytes]
    if step % dtype.itemsize:  # a view needs rows that begin at whole values
        rows = np.ascontiguousarray(rows)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return rows.view(dtype).reshape(shape)


def data_bytes(img_msg: Image) -> Array:
    """Return a message's data as (N,) uint8, without a copy unless it is a list."""
    data = img_msg.data
    return np.asarray(data, dtype=np.uint8) if isinstance(data, list) else np.frombuffer(data, dtype=np.uint8)


def converted(image: Array, source: str, target: str) -> Array:
    """Return a converted copy of an image; raise CvBridgeError where that is impossible."""
    try:
        return convert(image, source, target)
    except (EncodingError, cv2.error) as error:
        raise CvBridgeError(str(error)) from error
