"""The encodings of sensor_msgs/Image: which array an encoding means, and conversion between encodings.

The rules are those of upstream's src/cv_bridge.cpp and of sensor_msgs/image_encodings.hpp.
"""

import re
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPE_NAMES = {
    "8U": "uint8",
    "8S": "int8",
    "16U": "uint16",
    "16S": "int16",
    "32S": "int32",
    "32F": "float32",
    "64F": "float64",
}
DEPTHS = {dtype_name: depth for depth, dtype_name in DTYPE_NAMES.items()}
GENERIC = re.compile(r"(8U|8S|16U|16S|32S|32F|64F)(?:C([1-9][0-9]{0,2}))?")  # OpenCV has at most 512 channels

# Named encodings: OpenCV's name of their colours, and the generic encoding of the same arrays.
NAMED = {
    "mono8": ("GRAY", "8UC1"),
    "mono16": ("GRAY", "16UC1"),
    "rgb8": ("RGB", "8UC3"),
    "rgb16": ("RGB", "16UC3"),
    "bgr8": ("BGR", "8UC3"),
    "bgr16": ("BGR", "16UC3"),
    "rgba8": ("RGBA", "8UC4"),
    "rgba16": ("RGBA", "16UC4"),
    "bgra8": ("BGRA", "8UC4"),
    "bgra16": ("BGRA", "16UC4"),
    "uyvy": ("UYVY", "8UC2"),
    "yuv422": ("UYVY", "8UC2"),
    "yuyv": ("YUY2", "8UC2"),
    "yuv422_yuy2": ("YUY2", "8UC2"),
    "bayer_rggb8": ("BayerBG", "8UC1"),
    "bayer_bggr8": ("BayerRG", "8UC1"),
    "bayer_gbrg8": ("BayerGR", "8UC1"),
    "bayer_grbg8": ("BayerGB", "8UC1"),
    "bayer_rggb16": ("BayerBG", "16UC1"),
    "bayer_bggr16": ("BayerRG", "16UC1"),
    "bayer_gbrg16": ("BayerGR", "16UC1"),
    "bayer_grbg16": ("BayerGB", "16UC1"),
}
REDUCIBLE = ("GRAY", "RGB", "BGR")  # what Bayer patterns can become


class EncodingError(ValueError):
    """An encoding is unknown, or there is no way from one to the other."""


def dtype_and_channels(encoding: str) -> tuple[str, int]:
    """Return the dtype's name and the number of channels of an encoding's arrays, or raise EncodingError."""
    generic = GENERIC.fullmatch(NAMED[encoding][1] if encoding in NAMED else encoding)
    if generic is None:
        raise EncodingError(f"Unrecognized image encoding [{encoding}]")
    depth, channels = generic.groups(default="1")
    return DTYPE_NAMES[depth], int(channels)


def colors(encoding: str) -> str | None:
    """Return OpenCV's name of what an encoding's channels are, None for generic encodings such as 8UC3."""
    return NAMED[encoding][0] if encoding in NAMED else None


def convert(image: Array, source: str, target: str) -> Array:
    """Return a copy of an image with its colours and depth converted.

    Args:
        image: (H, W) or (H, W, C) array in the source encoding.
        source: encoding of the image.
        target: encoding to convert to; empty for none.

    Raises:
        EncodingError: an encoding is unknown or not the array's, or upstream does not convert to the other.
        cv2.error: OpenCV cannot convert such an array, for example YUV 4:2:2 of an odd width.
    """
    if target in ("", source):
        return np.array(image)
    source_dtype, source_channels = dtype_and_channels(source)
    target_dtype, target_channels = dtype_and_channels(target)
    source_colors, target_colors = colors(source), colors(target)
    if source_channels != (image.shape[2] if image.ndim == 3 else 1):
        raise EncodingError(f"an image of shape {image.shape} is not [{source}]")
    if source_colors is None and target_colors is not None:
        raise EncodingError(f"[{source}] is not a color format, but [{target}] is: no conversion")
    if source_colors is None or target_colors is None:
        if source_channels != target_channels:
            raise EncodingError(f"[{source}] and [{target}] do not have the same number of channels")
    elif source_colors != target_colors or source_colors.startswith("Bayer"):
        image = cv2.cvtColor(image, color_conversion(source, target))
    return change_depth(image, source_dtype, target_dtype)


def color_conversion(source: str, target: str) -> int:
    """Return OpenCV's conversion code; raise EncodingError where upstream has none.

    OpenCV names Bayer patterns after the second row's second and third pixel: RGGB is its BayerBG.
    """
    source_colors, target_colors = NAMED[source][0], NAMED[target][0]
    possible = REDUCIBLE if source_colors.startswith("Bayer") else (*REDUCIBLE, "RGBA", "BGRA")
    if target_colors not in possible:
        raise EncodingError(f"Unsupported conversion from [{source}] to [{target}]")
    if source_colors in ("UYVY", "YUY2"):
        return int(getattr(cv2, f"COLOR_YUV2{target_colors}_{source_colors}"))
    return int(getattr(cv2, f"COLOR_{source_colors}2{target_colors}"))


def change_depth(image: Array, source_dtype: str, target_dtype: str) -> Array:
    """Return a copy with values of another type, rounded and saturated; 8 and 16 bit scale to each other."""
    if source_dtype == target_dtype:
        return np.array(image)
    bits = np.dtype(source_dtype).itemsize * 8, np.dtype(target_dtype).itemsize * 8
    scale = {(8, 16): 65535 / 255, (16, 8): 255 / 65535}.get(bits, 1.0)
    values = image.astype(np.float64) * scale
    if np.issubdtype(target_dtype, np.floating):
        return values.astype(target_dtype)
    limits = np.iinfo(target_dtype)
    return np.nan_to_num(np.rint(values), nan=0.0).clip(limits.min, limits.max).astype(target_dtype)
