"""The cv_bridge in use turns messages into the right arrays and back, by hand-checked examples."""

import sys
from array import array
from pathlib import Path
from typing import Any

import cv2
import cv_bridge
import numpy as np
import numpy.typing as npt
import pytest
from cv_bridge import CvBridge, CvBridgeError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

Array = npt.NDArray[Any]

stricter_than_upstream = pytest.mark.skipif(
    "standalone" not in Path(cv_bridge.__file__).parts,
    reason="an installed cv_bridge is in use, which answers this case differently",
)

GENERIC_ENCODINGS = [
    f"{depth}C{channels}"
    for depth in ("8U", "8S", "16U", "16S", "32S", "32F", "64F")
    for channels in (1, 2, 3, 4)
]
NAMED_ENCODINGS = {
    "mono8": "8UC1",
    "mono16": "16UC1",
    "rgb8": "8UC3",
    "bgr8": "8UC3",
    "rgb16": "16UC3",
    "bgr16": "16UC3",
    "rgba8": "8UC4",
    "bgra8": "8UC4",
    "rgba16": "16UC4",
    "bgra16": "16UC4",
    "yuv422": "8UC2",
    "yuv422_yuy2": "8UC2",
    **{f"bayer_{pattern}8": "8UC1" for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{pattern}16": "16UC1" for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}
DTYPES = {
    "8U": np.uint8,
    "8S": np.int8,
    "16U": np.uint16,
    "16S": np.int16,
    "32S": np.int32,
    "32F": np.float32,
    "64F": np.float64,
}

BRIDGE = CvBridge()


def message(
    encoding: str, height: int, width: int, step: int, data: bytes, is_bigendian: bool = False
) -> Image:
    """An image message made by hand."""
    result = Image(encoding=encoding, height=height, width=width, step=step, is_bigendian=is_bigendian)
    result.data = array("B", data)
    return result


def image_of(encoding: str, size_hw: tuple[int, int] = (3, 4)) -> Array:
    """An array of a generic encoding with values of the whole range of its type."""
    depth, channels = encoding.split("C")
    values = np.random.default_rng(0).integers(0, 256, (*size_hw, int(channels), 8), dtype=np.uint8)
    image = values.view(DTYPES[depth])[..., 0]
    return np.nan_to_num(image[..., 0] if channels == "1" else image)


def converted(encoding: str, image: Array, target: str) -> Array:
    """The image of a message made from an array, in another encoding."""
    return BRIDGE.imgmsg_to_cv2(BRIDGE.cv2_to_imgmsg(image, encoding), target)


def test_a_message_is_read_row_by_row_and_pixel_by_pixel() -> None:
    rgb = BRIDGE.imgmsg_to_cv2(message("rgb8", 2, 2, 6, bytes(range(1, 13))))
    np.testing.assert_array_equal(rgb, [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]])
    assert rgb.dtype == np.uint8
    mono = BRIDGE.imgmsg_to_cv2(message("mono8", 2, 3, 3, bytes(range(1, 7))))
    np.testing.assert_array_equal(mono, [[1, 2, 3], [4, 5, 6]])


def test_sixteen_bit_values_follow_the_byte_order_of_the_message() -> None:
    data = bytes([0x01, 0x02, 0x03, 0x04])
    little = BRIDGE.imgmsg_to_cv2(message("16UC1", 1, 2, 4, data))
    big = BRIDGE.imgmsg_to_cv2(message("16UC1", 1, 2, 4, data, is_bigendian=True))
    np.testing.assert_array_equal(little, [[0x0201, 0x0403]])
    np.testing.assert_array_equal(big, [[0x0102, 0x0304]])
    assert big.dtype == np.dtype(np.uint16)
    assert big.dtype.isnative


def test_big_endian_floats_and_colours_are_read() -> None:
    depth = message("32FC1", 1, 1, 4, bytes([0x3F, 0xC0, 0, 0]), is_bigendian=True)
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(depth), np.array([[1.5]], np.float32))
    rgb16 = message("rgb16", 1, 1, 6, bytes([0xFF, 0xFF, 0x01, 0x01, 0x00, 0x00]), is_bigendian=True)
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(rgb16, "bgr8"), [[[0, 1, 255]]])


def test_padding_of_rows_is_left_out() -> None:
    padded = message("mono8", 2, 2, 5, bytes([1, 2, 90, 91, 92, 3, 4, 93, 94, 95]))
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(padded), [[1, 2], [3, 4]])
    padded = message("16UC1", 2, 1, 4, bytes([1, 0, 90, 91, 2, 0, 92, 93]), is_bigendian=False)
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(padded), [[1], [2]])
    padded = message("bgr8", 2, 1, 6, bytes([1, 2, 3, 90, 91, 92, 4, 5, 6, 93, 94, 95]))
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(padded, "rgb8"), [[[3, 2, 1]], [[6, 5, 4]]])


@stricter_than_upstream
def test_rows_may_begin_at_any_byte() -> None:
    padded = message("rgb8", 2, 1, 4, bytes([1, 2, 3, 90, 4, 5, 6, 91]))
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(padded), [[[1, 2, 3]], [[4, 5, 6]]])
    padded = message("16UC1", 2, 1, 3, bytes([1, 0, 90, 2, 0, 91]))
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(padded), [[1], [2]])


def test_bytes_behind_the_last_row_are_ignored() -> None:
    np.testing.assert_array_equal(
        BRIDGE.imgmsg_to_cv2(message("mono8", 1, 2, 2, bytes([1, 2, 90]))), [[1, 2]]
    )


@pytest.mark.parametrize("encoding", GENERIC_ENCODINGS)
def test_every_generic_encoding_comes_back_as_it_went(encoding: str) -> None:
    image = image_of(encoding)
    sent = BRIDGE.cv2_to_imgmsg(image)
    assert (sent.encoding, sent.height, sent.width) == (encoding, 3, 4)
    assert sent.step == 4 * image.itemsize * int(encoding[-1])
    received = BRIDGE.imgmsg_to_cv2(sent)
    np.testing.assert_array_equal(received, image)
    assert received.dtype == image.dtype


@pytest.mark.parametrize(("encoding", "generic"), NAMED_ENCODINGS.items())
def test_every_named_encoding_comes_back_as_it_went(encoding: str, generic: str) -> None:
    image = image_of(generic)
    sent = BRIDGE.cv2_to_imgmsg(image, encoding)
    assert sent.encoding == encoding
    for desired in ("passthrough", encoding, ""):
        np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(sent, desired), image)


@pytest.mark.parametrize(
    ("encoding", "generic"), [*NAMED_ENCODINGS.items(), ("8UC3", "8UC3"), ("32F", "32FC1")]
)
def test_an_encoding_means_an_opencv_type(encoding: str, generic: str) -> None:
    assert BRIDGE.encoding_to_cvtype2(encoding) == getattr(cv2, f"CV_{generic}")
    depth, channels = generic.split("C")
    dtype, n_channels = BRIDGE.encoding_to_dtype_with_channels(encoding)
    assert (np.dtype(dtype), n_channels) == (np.dtype(DTYPES[depth]), int(channels))


@pytest.mark.parametrize(
    ("source", "pixel", "target", "expected"),
    [
        ("rgb8", [1, 2, 3], "bgr8", [3, 2, 1]),
        ("bgr8", [1, 2, 3], "rgb8", [3, 2, 1]),
        ("rgb8", [1, 2, 3], "rgba8", [1, 2, 3, 255]),
        ("rgb8", [1, 2, 3], "bgra8", [3, 2, 1, 255]),
        ("rgba8", [1, 2, 3, 4], "rgb8", [1, 2, 3]),
        ("rgba8", [1, 2, 3, 4], "bgra8", [3, 2, 1, 4]),
        ("bgra8", [1, 2, 3, 4], "rgb8", [3, 2, 1]),
        ("bgra8", [1, 2, 3, 4], "bgr8", [1, 2, 3]),
        ("rgb8", [255, 0, 0], "mono8", 76),  # 0.299 of 255
        ("bgr8", [255, 0, 0], "mono8", 29),  # 0.114 of 255
        ("rgba8", [0, 255, 0, 9], "mono8", 150),  # 0.587 of 255
        ("mono8", 7, "rgb8", [7, 7, 7]),
        ("mono8", 7, "bgra8", [7, 7, 7, 255]),
        ("mono8", 2, "mono16", 514),  # 65535 / 255 is 257
        ("mono16", 65535, "mono8", 255),
        ("mono16", 128, "mono8", 0),
        ("mono16", 129, "mono8", 1),
        ("rgb16", [65535, 514, 0], "bgr8", [0, 2, 255]),
        ("rgb8", [1, 2, 3], "bgr16", [771, 514, 257]),
        ("mono8", 2, "8UC1", 2),
        ("mono8", 2, "16UC1", 514),
        ("rgb8", [1, 2, 3], "8UC3", [1, 2, 3]),
        ("32FC1", 1.5, "64FC1", 1.5),
        ("32FC1", 2.6, "16UC1", 3),
        ("32FC1", -7.0, "16UC1", 0),
        ("32FC1", 1e9, "16UC1", 65535),
        ("16UC1", 257, "8UC1", 1),
        ("16SC1", -5, "32SC1", -5),
    ],
)
def test_a_pixel_is_converted(source: str, pixel: Any, target: str, expected: Any) -> None:
    dtype, _ = BRIDGE.encoding_to_dtype_with_channels(source)
    image = np.full((2, 3, *np.shape(pixel)), pixel, dtype)
    result = converted(source, image, target)
    np.testing.assert_array_equal(result, np.broadcast_to(expected, (2, 3, *np.shape(expected))))
    assert result.dtype == np.dtype(BRIDGE.encoding_to_dtype_with_channels(target)[0])


def mosaic(pattern: str, red: int, green: int, blue: int) -> Array:
    """A Bayer image of one colour; the pattern names the upper left 2 x 2 pixels, row by row."""
    values = {"r": red, "g": green, "b": blue}
    return np.tile(np.reshape([values[letter] for letter in pattern], (2, 2)), (4, 4))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_mosaic_of_one_colour_becomes_that_colour(pattern: str) -> None:
    image = mosaic(pattern, red=200, green=100, blue=50)
    rgb = converted(f"bayer_{pattern}8", image.astype(np.uint8), "rgb8")
    np.testing.assert_array_equal(rgb, np.full((8, 8, 3), [200, 100, 50]))
    bgr = converted(f"bayer_{pattern}16", (image * 257).astype(np.uint16), "bgr8")
    np.testing.assert_array_equal(bgr, np.full((8, 8, 3), [50, 100, 200]))
    gray = converted(f"bayer_{pattern}8", image.astype(np.uint8), "mono8")
    np.testing.assert_allclose(gray, np.full((8, 8), 0.299 * 200 + 0.587 * 100 + 0.114 * 50), atol=1)


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", "UYVY"), ("yuv422_yuy2", "YUYV")])
def test_yuv_becomes_the_colour_it_means(encoding: str, order: str) -> None:
    red = {"Y": 81, "U": 90, "V": 240}  # BT.601 in video range
    image = np.tile(np.array([red[letter] for letter in order], np.uint8).reshape(1, 2, 2), (2, 2, 1))
    np.testing.assert_allclose(converted(encoding, image, "rgb8"), np.full((2, 4, 3), [255, 0, 0]), atol=2)
    np.testing.assert_allclose(converted(encoding, image, "bgr8"), np.full((2, 4, 3), [0, 0, 255]), atol=2)
    np.testing.assert_array_equal(converted(encoding, image, "mono8"), np.full((2, 4), 81))


@stricter_than_upstream  # older releases do not know the new names of these encodings
@pytest.mark.parametrize(("new", "old"), [("uyvy", "yuv422"), ("yuyv", "yuv422_yuy2")])
def test_yuv_encodings_have_two_names(new: str, old: str) -> None:
    image = image_of("8UC2")
    np.testing.assert_array_equal(converted(new, image, "rgb8"), converted(old, image, "rgb8"))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("8UC3", "rgb8"),  # no colours to convert from
        ("16UC1", "mono8"),
        ("rgb8", "8UC1"),  # not the same number of channels
        ("8UC2", "8UC1"),
        ("mono8", "bayer_rggb8"),  # no way there
        ("bayer_rggb8", "rgba8"),
        ("rgb8", "yuv422"),
        ("rgb8", "nonsense"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(source: str, target: str) -> None:
    generic = NAMED_ENCODINGS.get(source, source)
    with pytest.raises(CvBridgeError, match=target):
        converted(source, image_of(generic), target)


def test_an_unknown_encoding_is_refused_by_name() -> None:
    for encoding in ("nonsense", "8UC0", "RGB8", "8UC3 "):
        with pytest.raises(CvBridgeError, match=encoding):
            BRIDGE.imgmsg_to_cv2(message(encoding, 1, 1, 3, bytes(3)))
        with pytest.raises(CvBridgeError, match=encoding):
            BRIDGE.cv2_to_imgmsg(np.zeros((1, 1, 3), np.uint8), encoding)


def test_an_error_is_a_type_error() -> None:
    assert issubclass(CvBridgeError, TypeError)


def test_short_data_is_refused() -> None:
    with pytest.raises(TypeError):
        BRIDGE.imgmsg_to_cv2(message("rgb8", 2, 2, 6, bytes(11)))
    with pytest.raises(TypeError):
        BRIDGE.imgmsg_to_cv2(message("mono8", 100000, 100000, 100000, bytes(1)))


@stricter_than_upstream
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (message("rgb8", 2, 2, 6, bytes(11)), "2 \\* 6 > 11"),
        (message("rgb8", 2, 2, 5, bytes(12)), "5 < 2 \\* 1 \\* 3"),
        (message("32FC1", 1, 2, 4, bytes(8)), "4 < 2 \\* 4 \\* 1"),
        (message("mono8", 0, 2, 2, b""), "2 x 0"),
        (message("mono8", 2, 0, 0, b""), "0 x 2"),
        (message("8UC512", 1, 1, 4, bytes(4)), "step < width"),
        (message("8UC1000", 1, 1, 1000, bytes(1000)), "8UC1000"),
        (message("8UC" + "9" * 5000, 1, 1, 4, bytes(4)), "Unrecognized image encoding"),
        (message("yuv422", 1, 3, 6, bytes(6)), None),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(wrong: Image, reason: str | None) -> None:
    with pytest.raises(CvBridgeError, match=reason):
        BRIDGE.imgmsg_to_cv2(wrong, "passthrough" if reason else "rgb8")


def test_the_header_is_kept() -> None:
    header = Header(frame_id="camera")
    header.stamp.sec = 5
    assert BRIDGE.cv2_to_imgmsg(np.zeros((1, 1), np.uint8), "mono8", header).header == header
    assert BRIDGE.cv2_to_imgmsg(np.zeros((1, 1), np.uint8), "mono8").header == Header()


def test_an_array_in_another_order_of_memory_is_sent_in_the_order_of_pixels() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for view in (image.T, image[:, ::2], image[::-1]):
        assert BRIDGE.cv2_to_imgmsg(view, "mono8").data.tobytes() == view.tobytes()
        assert BRIDGE.cv2_to_imgmsg(view, "mono8").step == view.shape[1]


def test_an_array_of_the_other_byte_order_says_so() -> None:
    sent = BRIDGE.cv2_to_imgmsg(np.array([[0x0102]], dtype=">u2"), "16UC1")
    assert sent.is_bigendian
    assert sent.data.tobytes() == bytes([0x01, 0x02])
    np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(sent), [[0x0102]])
    assert not BRIDGE.cv2_to_imgmsg(np.array([[1]], dtype="<u2")).is_bigendian
    assert BRIDGE.cv2_to_imgmsg(np.array([[1]], dtype="=u2")).is_bigendian == (sys.byteorder == "big")


def test_a_received_image_can_be_written_to() -> None:
    for encoding in ("mono8", "16UC1", "rgb8"):
        sent = BRIDGE.cv2_to_imgmsg(image_of(NAMED_ENCODINGS.get(encoding, encoding)), encoding)
        BRIDGE.imgmsg_to_cv2(sent)[0, 0] = 1


@pytest.mark.parametrize(
    ("encoding", "image"),
    [
        ("rgb8", np.zeros((2, 2), np.uint8)),
        ("rgb8", np.zeros((2, 2, 4), np.uint8)),
        ("mono8", np.zeros((2, 2), np.uint16)),
        ("32FC1", np.zeros((2, 2), np.float64)),
    ],
)
def test_an_array_that_does_not_fit_the_encoding_is_refused(encoding: str, image: Array) -> None:
    with pytest.raises(CvBridgeError, match=f"{encoding}.*{BRIDGE.cv2_to_imgmsg(image).encoding}"):
        BRIDGE.cv2_to_imgmsg(image, encoding)


@stricter_than_upstream
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((2, 2), bool), "bool"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.zeros((0, 2), np.uint8), "\\(0, 2\\)"),
        (np.zeros(4, np.uint8), "\\(4,\\)"),
        (np.zeros((1, 1, 1, 1), np.uint8), "\\(1, 1, 1, 1\\)"),
    ],
)
def test_an_array_that_is_no_image_is_refused(image: Array, reason: str) -> None:
    with pytest.raises(CvBridgeError, match=reason):
        BRIDGE.cv2_to_imgmsg(image)


def test_what_is_no_array_is_refused() -> None:
    no_image: Any = [[1, 2]]
    with pytest.raises(TypeError):
        BRIDGE.cv2_to_imgmsg(no_image)
    with pytest.raises(TypeError):
        BRIDGE.cv2_to_compressed_imgmsg(no_image)


@pytest.mark.parametrize("encoding", ["8UC1", "8UC3", "8UC4", "16UC1"])
def test_png_comes_back_as_it_went(encoding: str) -> None:
    image = image_of(encoding)
    sent = BRIDGE.cv2_to_compressed_imgmsg(image, "png")
    assert sent.format == "png"
    received = BRIDGE.compressed_imgmsg_to_cv2(sent)
    np.testing.assert_array_equal(received, image)
    assert received.dtype == image.dtype


def test_a_compressed_colour_image_is_blue_green_red() -> None:
    sent = BRIDGE.cv2_to_compressed_imgmsg(np.full((8, 8, 3), [200, 100, 50], np.uint8))
    assert sent.format == "jpg"
    np.testing.assert_allclose(BRIDGE.compressed_imgmsg_to_cv2(sent, "bgr8")[0, 0], [200, 100, 50], atol=3)
    np.testing.assert_allclose(BRIDGE.compressed_imgmsg_to_cv2(sent, "rgb8")[0, 0], [50, 100, 200], atol=3)


def test_an_image_is_not_compressed_to_an_unknown_format() -> None:
    with pytest.raises((CvBridgeError, cv2.error)):
        BRIDGE.cv2_to_compressed_imgmsg(np.zeros((8, 8), np.uint8), "nonsense")


@stricter_than_upstream
@pytest.mark.parametrize("data", [b"", b"no picture at all"])
def test_compressed_data_that_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(CvBridgeError, match=f"{len(data)} bytes of format \\[jpeg\\]"):
        BRIDGE.compressed_imgmsg_to_cv2(CompressedImage(format="jpeg", data=array("B", data)))


@stricter_than_upstream
def test_a_compressed_image_without_colours_is_not_converted_to_other_colours() -> None:
    sent = BRIDGE.cv2_to_compressed_imgmsg(np.zeros((8, 8), np.uint8), "png")
    with pytest.raises(CvBridgeError):
        BRIDGE.compressed_imgmsg_to_cv2(sent, "rgb8")
