"""Image messages to pixels and back, by tiny messages made by hand; what is refused, and how it is named."""

from __future__ import annotations

import io
import struct
import zlib
from array import array
from contextlib import suppress
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cv_bridge import CvBridge
from messages import MAX_PIXELS, header, image_msg
from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image

from sam_ros.errors import InvalidImageError
from sam_ros.node import images
from sam_ros.node.images import (
    MAX_SCANS,
    CameraStream,
    ImageBuffer,
    image_from_compressed_msg,
    image_from_msg,
    image_to_msg,
)

RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]

# In: encodings.


def rgb(msg: Image) -> list[Any]:
    """The RGB values of a message's image."""
    image = image_from_msg(msg, MAX_PIXELS)
    assert image.dtype == np.uint8 and image.shape == (msg.height, msg.width, 3) and image.flags.c_contiguous
    return image.tolist()


def refused_image(msg: Image, max_pixels: int = MAX_PIXELS) -> InvalidImageError:
    with pytest.raises(InvalidImageError) as caught:
        image_from_msg(msg, max_pixels)
    return caught.value


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("rgb8", [255, 0, 0, 0, 0, 255]),
        ("bgr8", [0, 0, 255, 255, 0, 0]),
        ("rgba8", [255, 0, 0, 7, 0, 0, 255, 0]),
        ("bgra8", [0, 0, 255, 7, 255, 0, 0, 0]),
        ("rgb16", [255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]),
        ("bgr16", [0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]),
    ],
)
def test_colours_are_where_the_encoding_says(encoding: str, data: list[int]) -> None:
    assert rgb(image_msg(encoding, 2, 1, bytes(data))) == [[RED, BLUE]]


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_the_same_in_all_channels(encoding: str) -> None:
    grey = rgb(image_msg(encoding, 3, 2, bytes([0, 128, 255, 1, 2, 3])))
    assert grey == [[[0] * 3, [128] * 3, [255] * 3], [[1] * 3, [2] * 3, [3] * 3]]


@pytest.mark.parametrize("is_bigendian", [0, 1])
def test_sixteen_bits_are_scaled_in_the_messages_byte_order(is_bigendian: int) -> None:
    order = ">" if is_bigendian else "<"
    data = struct.pack(f"{order}3H", 0, 100 * 257, 0xFFFF)
    grey = rgb(image_msg("mono16", 3, 1, data, is_bigendian=is_bigendian))
    assert grey == [[[0] * 3, [100] * 3, [255] * 3]]
    colours = struct.pack(f"{order}6H", 0xFFFF, 0, 0, 0, 257, 2 * 257)
    assert rgb(image_msg("rgb16", 2, 1, colours, is_bigendian=is_bigendian)) == [[RED, [0, 1, 2]]]


@pytest.mark.parametrize("encoding", ["rgb8", "bgra8", "mono8", "yuv422"])
def test_bytes_have_no_byte_order(encoding: str) -> None:
    data = bytes(range(0, 96, 2))
    channels = {"rgb8": 3, "bgra8": 4, "mono8": 1, "yuv422": 2}[encoding]
    width = len(data) // channels // 2
    little, big = (image_msg(encoding, width, 2, data, is_bigendian=flag) for flag in (0, 1))
    assert rgb(little) == rgb(big)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("yuv422", [128, 235, 128, 16, 90, 81, 240, 81]),  # U Y V Y
        ("uyvy", [128, 235, 128, 16, 90, 81, 240, 81]),
        ("yuv422_yuy2", [235, 128, 16, 128, 81, 90, 81, 240]),  # Y U Y V
        ("yuyv", [235, 128, 16, 128, 81, 90, 81, 240]),
    ],
)
def test_yuv_422_is_read_in_both_byte_orders(encoding: str, data: list[int]) -> None:
    """White, black and two pixels of red, in the studio range of BT.601."""
    expected = [[[255] * 3, [0] * 3, RED, RED]]
    np.testing.assert_allclose(rgb(image_msg(encoding, 4, 1, bytes(data))), expected, atol=2)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_mosaics_of_one_colour_become_that_colour(pattern: str, bits: int) -> None:
    level = {"r": 200, "g": 100, "b": 50}
    tile = np.array([level[letter] for letter in pattern]).reshape(2, 2)
    mosaic = np.tile(tile, (4, 4)).astype(np.uint8 if bits == 8 else "<u2") * (1 if bits == 8 else 257)
    image = np.array(rgb(image_msg(f"bayer_{pattern}{bits}", 8, 8, mosaic.tobytes())))
    np.testing.assert_array_equal(image[2:-2, 2:-2], np.broadcast_to([200, 100, 50], (4, 4, 3)))


@pytest.mark.parametrize(
    "encoding",
    [
        "64FC1",
        "64FC3",
        "8UC3",
        "8UC2",
        "32SC1",
        "nv16",
        "jpeg",
        "",
        "rgb",
        "RGB8",
        "8UC0",
        "\U0001f4f7",
    ],
)
def test_encodings_that_are_no_picture_are_refused_by_name(encoding: str) -> None:
    error = refused_image(image_msg(encoding, 2, 2, bytes(200), step=100))
    assert error.kind == "unknown encoding"
    assert repr(encoding) in str(error)


@pytest.mark.parametrize("encoding", ["8UC" + "1" * 5000, "x" * 100_000])
def test_a_long_encoding_is_refused_and_shortened(encoding: str) -> None:
    error = refused_image(image_msg(encoding, 2, 2, bytes(200), step=100))
    assert error.kind == "unknown encoding" and f"({len(encoding)} characters)" in str(error)
    assert len(str(error)) < 200


def planes(
    luma: list[list[int]], pairs: list[list[int]], encoding: str, padding: int = 0, pair_padding: int = 0
) -> Image:
    """A message of a plane of Y, and of one of pairs of U and V, with bytes that mean nothing behind rows."""
    rows = [bytes(row) + bytes([77] * padding) for row in luma]
    rows += [bytes(row) + bytes([99] * pair_padding) for row in pairs]
    step = len(luma[0]) + padding
    return image_msg(encoding, len(luma[0]), len(luma), b"".join(rows), step=step)


@pytest.mark.parametrize("padding", [0, 2, 3])
@pytest.mark.parametrize(("encoding", "red"), [("nv12", [90, 240]), ("nv21", [240, 90])])
def test_yuv_420_shares_a_colour_between_two_by_two_pixels(
    encoding: str, red: list[int], padding: int
) -> None:
    """White and black on the left, red on the right, in the studio range of BT.601."""
    luma = [[235, 16, 81, 81], [16, 235, 81, 81]]
    image = rgb(planes(luma, [[128, 128, *red]], encoding, padding, padding))
    expected = [[[255] * 3, [0] * 3, RED, RED], [[0] * 3, [255] * 3, RED, RED]]
    np.testing.assert_allclose(image, expected, atol=2)


@pytest.mark.parametrize("padding", [0, 1])
def test_yuv_444_has_a_colour_for_each_pixel_of_any_size(padding: int) -> None:
    pairs = [[128, 128, 128, 128, 90, 240]]
    image = rgb(planes([[235, 16, 81]], pairs, "nv24", padding, 2 * padding))
    np.testing.assert_allclose(image, [[[255] * 3, [0] * 3, RED]], atol=2)


def test_all_yuv_encodings_are_the_same_colours() -> None:
    rng = np.random.default_rng(0)
    y, uv = rng.integers(30, 220, (8, 8)), rng.integers(100, 156, (4, 4, 2))
    full = uv.repeat(2, axis=0).repeat(2, axis=1)
    of_pairs = full[:, ::2].reshape(8, 8)  # U V U V ... of each row
    packed = np.dstack([y, of_pairs]).reshape(8, 16)  # Y U Y V
    reference = rgb(image_msg("yuyv", 8, 8, packed.astype(np.uint8).tobytes()))
    images = {
        "nv12": planes(y.tolist(), uv.reshape(4, 8).tolist(), "nv12"),
        "nv21": planes(y.tolist(), uv[..., ::-1].reshape(4, 8).tolist(), "nv21"),
        "nv24": planes(y.tolist(), full.reshape(8, 16).tolist(), "nv24"),
    }
    for encoding, msg in images.items():
        np.testing.assert_allclose(rgb(msg), reference, atol=2, err_msg=encoding)


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuyv", "yuv422_yuy2", "nv12", "nv21"])
def test_an_odd_size_of_pixels_that_share_their_colour_is_refused(
    encoding: str, size: tuple[int, int]
) -> None:
    width, height = size
    error = refused_image(image_msg(encoding, width, height, bytes(100), step=2 * width))
    assert error.kind == "odd size" and f"{width} x {height} are no multiple" in str(error)


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("size", [(4, 3), (3, 4)])
def test_yuv_420_is_refused_where_either_side_is_odd(encoding: str, size: tuple[int, int]) -> None:
    assert refused_image(image_msg(encoding, *size, bytes(100), step=4)).kind == "odd size"


@pytest.mark.parametrize(("encoding", "needed"), [("nv12", 24), ("nv21", 24), ("nv24", 48)])
def test_planes_that_are_cut_are_refused(encoding: str, needed: int) -> None:
    assert image_from_msg(image_msg(encoding, 4, 4, bytes(needed), step=4), MAX_PIXELS).shape == (4, 4, 3)
    error = refused_image(image_msg(encoding, 4, 4, bytes(needed - 1), step=4))
    assert error.kind == "short data" and f"not the {needed} of {encoding}" in str(error)
    assert refused_image(image_msg(encoding, 4, 4, bytes(99), step=3)).kind == "wrong step"
    assert (
        refused_image(image_msg(encoding, 4, 4, bytes(99), step=4), max_pixels=15).kind == "image too large"
    )


@pytest.mark.parametrize("encoding", ["bayer_rggb8", "bayer_grbg16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 3), (3, 3)])
def test_odd_sizes_of_mosaics_are_read_or_refused(encoding: str, size: tuple[int, int]) -> None:
    width, height = size
    msg = image_msg(encoding, width, height, bytes(2 * width * height), step=2 * width)
    with suppress(InvalidImageError):
        assert image_from_msg(msg, MAX_PIXELS).shape == (height, width, 3)


# In: more than 8 bits.


def deep_msg(encoding: str, values: npt.NDArray[Any], sec: int = 1) -> Image:
    order = {"mono16": "<u2", "16UC1": "<u2", "32FC1": "<f4"}[encoding]
    msg = image_msg(encoding, values.shape[1], values.shape[0], values.astype(order).tobytes())
    msg.header.stamp.sec = sec
    return msg


def grey_of(msg: Image, stream: CameraStream) -> list[Any]:
    image = image_from_msg(msg, MAX_PIXELS, stream)
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    return image[..., 0].tolist()


def test_twelve_bits_of_a_mono16_camera_fill_eight() -> None:
    assert grey_of(deep_msg("mono16", np.array([[0, 1365, 4095]])), CameraStream()) == [[0, 85, 255]]


def test_images_of_a_stream_share_one_scale_in_whatever_order_they_are_read() -> None:
    stream = CameraStream()
    bright = deep_msg("mono16", np.array([[0, 4095]]), sec=1)
    dark = deep_msg("mono16", np.array([[0, 100]]), sec=2)
    first = grey_of(bright, stream)
    assert grey_of(dark, stream) == [[0, 6]]  # not stretched to white
    assert grey_of(bright, stream) == first
    assert grey_of(dark, CameraStream()) == [[0, 100]]


def test_a_thermal_image_shows_what_differs() -> None:
    kelvin = np.linspace(29_000, 30_000, 100).reshape(10, 10)  # hundredths, a room
    grey = np.array(grey_of(deep_msg("16UC1", kelvin), CameraStream()))
    assert grey.min() < 40 and grey.max() > 215 and (np.diff(grey.ravel()) >= 0).all()


def test_holes_of_a_depth_image_are_black_and_count_for_nothing() -> None:
    metres = np.array([[1.0, 2.0, 3.0, np.nan, np.inf, -np.inf]])
    grey = grey_of(deep_msg("32FC1", metres), CameraStream())
    assert grey[0][3:] == [0, 0, 0] and 0 < grey[0][0] < grey[0][1] < grey[0][2] < 255
    assert grey_of(deep_msg("32FC1", np.full((2, 2), np.nan)), CameraStream()) == [[0, 0], [0, 0]]


# In: layout.


@pytest.mark.parametrize("padding", [1, 2, 3, 4, 64])
@pytest.mark.parametrize("encoding", ["rgb8", "bgra8", "mono8", "mono16", "rgb16", "yuyv"])
def test_padding_of_rows_is_left_out(encoding: str, padding: int) -> None:
    rng = np.random.default_rng(0)
    row_bytes = {"rgb8": 12, "bgra8": 16, "mono8": 4, "mono16": 8, "rgb16": 24, "yuyv": 8}[encoding]
    rows = rng.integers(0, 256, (3, row_bytes), dtype=np.uint8)
    padded = np.full((3, row_bytes + padding), 99, np.uint8)
    padded[:, :row_bytes] = rows
    expected = rgb(image_msg(encoding, 4, 3, rows.tobytes()))
    assert rgb(image_msg(encoding, 4, 3, padded.tobytes())) == expected


class PlainRowsOnly(CvBridge):  # type: ignore[misc]
    """As upstream's: right only for rows of whole pixels, and in this machine's byte order with NumPy 2."""

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> Any:
        dtype, channels = self.encoding_to_dtype_with_channels(img_msg.encoding)
        assert img_msg.step == img_msg.width * channels * np.dtype(dtype).itemsize
        assert not img_msg.is_bigendian
        return super().imgmsg_to_cv2(img_msg, desired_encoding)


def test_any_cv_bridge_gets_plain_rows_in_native_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_bridge", PlainRowsOnly())
    assert rgb(image_msg("rgb8", 1, 2, bytes([255, 0, 0, 9, 0, 0, 255, 9]))) == [[RED], [BLUE]]
    assert rgb(image_msg("rgb16", 1, 1, bytes([1, 1, 2, 2, 3, 3]), is_bigendian=1)) == [[[1, 2, 3]]]
    assert rgb(image_msg("mono8", 1, 1, bytes([1]), is_bigendian=1)) == [[[1, 1, 1]]]


def test_data_beyond_the_last_row_is_ignored() -> None:
    assert rgb(image_msg("mono8", 2, 1, bytes([1, 2, 99, 99]), step=2)) == [[[1] * 3, [2] * 3]]


@pytest.mark.parametrize(
    ("msg", "kind", "said"),
    [
        (image_msg("rgb8", 4, 3, bytes(35), step=12), "short data", "3 rows of 12 bytes has only 35"),
        (image_msg("rgb8", 4, 3, b"", step=12), "short data", "only 0 bytes"),
        (image_msg("mono16", 4, 3, bytes(29), step=10), "short data", "3 rows of 10 bytes has only 29"),
        (
            image_msg("rgb8", 4, 3, bytes(36), step=11),
            "wrong step",
            "4 rgb8 pixels needs a step of 12, .* 11",
        ),
        (image_msg("mono16", 4, 3, bytes(36), step=7), "wrong step", "needs a step of 8, it has 7"),
        (image_msg("mono8", 4, 3, bytes(36), step=0), "wrong step", "needs a step of 4, it has 0"),
        (image_msg("rgb8", 0, 3, b"", step=0), "empty image", "0 x 3 pixels is empty"),
        (image_msg("rgb8", 3, 0, b"", step=9), "empty image", "3 x 0 pixels is empty"),
        (image_msg("rgb8", 0, 0, b"", step=0), "empty image", "0 x 0 pixels is empty"),
        (image_msg("mono8", 2**32 - 1, 2**32 - 1, b"", step=0), "image too large", "max_image_pixels"),
        (image_msg("mono8", 7681, 4320, b"", step=7681), "image too large", "7681 x 4320"),
    ],
)
def test_an_image_whose_size_step_and_data_disagree_is_refused(msg: Image, kind: str, said: str) -> None:
    with pytest.raises(InvalidImageError, match=said) as caught:
        image_from_msg(msg, MAX_PIXELS)
    assert caught.value.kind == kind


def test_the_limit_of_pixels_is_inclusive() -> None:
    msg = image_msg("mono8", 4, 3, bytes(12))
    assert image_from_msg(msg, 12).shape == (3, 4, 3)
    assert refused_image(msg, 11).kind == "image too large"


@pytest.mark.parametrize(
    "msg",
    [
        image_msg("bgr8", 2, 2, bytes(range(12))),
        image_msg("8UC1", 2, 2, bytes(range(4))),
        image_msg("mono16", 2, 2, bytes(range(10)), is_bigendian=1),
    ],
)
def test_reading_an_image_neither_changes_nor_shares_the_message(msg: Image) -> None:
    before = deepcopy(msg)
    image = image_from_msg(msg, MAX_PIXELS)
    image += 1
    assert msg == before


def test_an_image_that_shares_the_messages_memory_is_read_only() -> None:
    msg = image_msg("rgb8", 2, 2, bytes(range(12)))
    image = image_from_msg(msg, MAX_PIXELS)
    assert np.shares_memory(image, np.frombuffer(msg.data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        image += 1


# In: compressed.


def encoded(image: npt.NDArray[np.uint8], format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(image).save(buffer, format, **options)
    return buffer.getvalue()


def compressed_msg(data: bytes, format: str = "jpeg") -> CompressedImage:
    return CompressedImage(header=header(), format=format, data=array("B", data))


def refused_compressed(msg: CompressedImage) -> InvalidImageError:
    with pytest.raises(InvalidImageError) as caught:
        image_from_compressed_msg(msg, MAX_PIXELS)
    return caught.value


def quarters() -> npt.NDArray[np.uint8]:
    """(32, 48, 3): red, green, blue, white."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :24], image[:16, 24:], image[16:, :24], image[16:, 24:] = RED, GREEN, BLUE, [255] * 3
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims that size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    ihdr = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + ihdr + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    """A small JPEG whose frame header claims another size."""
    data = bytearray(encoded(quarters(), "JPEG"))
    struct.pack_into(">2H", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def test_a_png_is_decoded_to_the_pixels_that_were_encoded() -> None:
    image = image_from_compressed_msg(compressed_msg(encoded(quarters(), "PNG"), "png"), MAX_PIXELS)
    np.testing.assert_array_equal(image, quarters())
    assert image.dtype == np.uint8 and image.flags.c_contiguous


def test_jpeg_keeps_colours_in_their_channels() -> None:
    data = encoded(quarters(), "JPEG", quality=95, subsampling=0)
    image = image_from_compressed_msg(compressed_msg(data), MAX_PIXELS)
    np.testing.assert_allclose(image.astype(int), quarters(), atol=12)


@pytest.mark.parametrize(
    "format", ["jpeg", "rgb8; jpeg compressed bgr8", "bgr8; png compressed bgr8", "", "webp"]
)
def test_the_bytes_decide_not_what_the_format_says(format: str) -> None:
    msg = compressed_msg(encoded(quarters(), "PNG"), format)
    np.testing.assert_array_equal(image_from_compressed_msg(msg, MAX_PIXELS), quarters())


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_compressed_grey_is_the_same_in_all_channels(format: str) -> None:
    grey = np.full((16, 16), 77, np.uint8)
    image = image_from_compressed_msg(compressed_msg(encoded(grey, format)), MAX_PIXELS)
    np.testing.assert_allclose(image.astype(int), np.full((16, 16, 3), 77), atol=1)


@pytest.mark.parametrize("channels", [2, 4])
def test_the_alpha_channel_of_a_png_is_ignored(channels: int) -> None:
    image = np.full((3, 4, channels), 200, np.uint8)
    image[..., -1] = 0
    decoded = image_from_compressed_msg(compressed_msg(encoded(image, "PNG")), MAX_PIXELS)
    np.testing.assert_array_equal(decoded, np.full((3, 4, 3), 200))


def test_a_png_with_a_palette_becomes_its_colours() -> None:
    buffer = io.BytesIO()
    PilImage.fromarray(quarters()).quantize(4).save(buffer, "PNG")
    image = image_from_compressed_msg(compressed_msg(buffer.getvalue()), MAX_PIXELS)
    np.testing.assert_array_equal(image, quarters())


def test_the_pixels_stay_as_they_lie_whatever_the_camera_noted_of_its_pose() -> None:
    """Outputs must fit the image, its camera_info and depth."""
    exif = PilImage.Exif()
    exif[0x0112] = 6  # Orientation: rotate by 90 degrees to show
    data = encoded(quarters(), "JPEG", exif=exif)
    assert image_from_compressed_msg(compressed_msg(data), MAX_PIXELS).shape == (32, 48, 3)


@pytest.mark.parametrize("orientation", [6, 3])
def test_an_orientation_is_said_once(orientation: int) -> None:
    said: list[str] = []
    stream = CameraStream(said.append)
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    msgs = [compressed_msg(encoded(quarters(), format, exif=exif)) for format in ("JPEG", "PNG")]
    for msg in (compressed_msg(encoded(quarters(), "JPEG")), *msgs, *msgs):
        image_from_compressed_msg(msg, MAX_PIXELS, stream)
    assert len(said) == 1 and f"orientation {orientation}" in said[0]


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"MM\0*" * 9])
@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, of damaged EXIF
def test_a_damaged_exif_block_spoils_no_picture(exif: bytes) -> None:
    said: list[str] = []
    msg = compressed_msg(encoded(quarters(), "JPEG", exif=exif))
    assert image_from_compressed_msg(msg, MAX_PIXELS, CameraStream(said.append)).shape == (32, 48, 3)
    assert not said


@pytest.mark.parametrize(
    ("format", "encoding"), [("16UC1; png compressed ", "16UC1"), ("mono16; png compressed ", "mono16")]
)
def test_a_grey_png_of_sixteen_bits_is_scaled_as_its_raw_image_is(format: str, encoding: str) -> None:
    values = np.linspace(1_000, 4_000, 40).astype(np.uint16).reshape(5, 8)
    buffer = io.BytesIO()
    PilImage.fromarray(values).save(buffer, "PNG")
    image = image_from_compressed_msg(compressed_msg(buffer.getvalue(), format), MAX_PIXELS)
    np.testing.assert_array_equal(image, image_from_msg(deep_msg(encoding, values), MAX_PIXELS))
    assert image[..., 0].max() > 200


def progressive(extra_scans: int, size_hw: tuple[int, int] = (16, 16)) -> bytes:
    """A progressive JPEG, its last scan, of few bytes, repeated."""
    data = encoded(np.zeros((*size_hw, 3), np.uint8), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * extra_scans + data[-2:]


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded() -> None:
    num_scans = progressive(0).count(b"\xff\xda")
    allowed = progressive(MAX_SCANS - num_scans)
    assert image_from_compressed_msg(compressed_msg(allowed), MAX_PIXELS).shape == (16, 16, 3)
    error = refused_compressed(compressed_msg(progressive(MAX_SCANS - num_scans + 1)))
    assert error.kind == "too many scans" and f"{MAX_SCANS + 1} scans" in str(error)


def test_fewer_scans_are_possible_for_the_largest_images() -> None:
    max_pixels = 16 * 16
    data = progressive(0)
    assert image_from_compressed_msg(compressed_msg(data), max_pixels).shape == (16, 16, 3)
    with pytest.raises(InvalidImageError, match="12 of max_image_pixels") as caught:
        image_from_compressed_msg(compressed_msg(progressive(10)), max_pixels)
    assert caught.value.kind == "too many scans"


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_file_truncated_at_any_byte_is_refused(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    data = encoded(noise, format)
    for length in range(len(data)):
        error = refused_compressed(compressed_msg(data[:length], format))
        assert error.kind == "damaged image", length
        assert repr(format) in str(error) and f"{length} bytes" in str(error)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_flipped_bytes_are_refused_or_read_as_some_picture(format: str) -> None:
    rng = np.random.default_rng(0)
    data = encoded(quarters(), format)
    for _ in range(500):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        with suppress(InvalidImageError):
            assert image_from_compressed_msg(compressed_msg(damaged.tobytes()), MAX_PIXELS).shape[2] == 3


@pytest.mark.parametrize("data", [b"", b"\x00", b"no picture at all", b"\xff\xd8\xff", bytes(10_000)])
def test_data_that_is_no_picture_is_refused(data: bytes) -> None:
    error = refused_compressed(compressed_msg(data, "h264"))
    assert error.kind == "damaged image"
    assert "'h264'" in str(error) and "object at" not in str(error)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_formats_other_than_jpeg_and_png_are_named(format: str) -> None:
    error = refused_compressed(compressed_msg(encoded(quarters(), format), "jpeg"))
    assert error.kind == "unknown encoding"
    assert str(error) == f"image/{format.lower()}: JPEG and PNG are accepted"


def test_the_depth_of_image_transport_is_named() -> None:
    data = bytes(12) + encoded(quarters(), "PNG")
    error = refused_compressed(compressed_msg(data, "16UC1; compressedDepth png"))
    assert error.kind == "unknown encoding"
    assert str(error) == "compressedDepth: JPEG and PNG are accepted"


def test_a_long_format_is_shortened() -> None:
    error = refused_compressed(compressed_msg(b"nothing", "x" * 100_000))
    assert "(100000 characters)" in str(error) and len(str(error)) < 300


@pytest.mark.parametrize(
    "data",
    [
        png_header(60000, 60000),
        png_header(12000, 12000),
        png_header(2**31 - 1, 2**31 - 1),
        png_header(7681, 4320),
        jpeg_header(65500, 65500),
        jpeg_header(7681, 4320),
    ],
    ids=["60000", "12000", "2^31", "png", "65500", "jpeg"],
)
@pytest.mark.filterwarnings("ignore")  # as in production, where PIL's warning of a bomb is no error
def test_a_decompression_bomb_is_refused_from_its_header(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    assert refused_compressed(compressed_msg(data)).kind == "image too large"


def test_a_decompression_bomb_is_refused_where_warnings_are_errors() -> None:
    assert refused_compressed(compressed_msg(png_header(12000, 12000))).kind == "image too large"


# Out.


def test_an_image_message_holds_the_bytes_row_by_row() -> None:
    msg = image_to_msg(np.array([[1, 2, 3], [4, 5, 6]], np.uint8), "mono8", header())
    assert (msg.width, msg.height, msg.step, msg.encoding, msg.is_bigendian) == (3, 2, 3, "mono8", 0)
    assert msg.data == array("B", [1, 2, 3, 4, 5, 6])
    msg = image_to_msg(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), "rgb8", header())
    assert (msg.width, msg.height, msg.step) == (2, 1, 6)
    assert msg.data == array("B", range(6))


def test_sixteen_bits_go_out_in_this_machines_order() -> None:
    msg = image_to_msg(np.array([[1, 0x0203]], np.uint16), "16UC1", header())
    assert msg.step == 4
    order = ">" if msg.is_bigendian else "<"
    assert struct.unpack(f"{order}2H", bytes(msg.data)) == (1, 0x0203)
    bridged = CvBridge().imgmsg_to_cv2(msg)
    np.testing.assert_array_equal(bridged, [[1, 0x0203]])


@pytest.mark.parametrize(
    "view",
    [
        np.arange(48, dtype=np.uint8).reshape(6, 8)[::2, ::-1],
        np.arange(48, dtype=np.uint8).reshape(6, 8).T,
        np.arange(48, dtype=np.uint8).reshape(6, 8)[::6],
        np.arange(48, dtype=np.uint16).reshape(6, 8)[2:3, :5],
        np.arange(48, dtype=np.uint16).reshape(6, 8)[::5, :1],
        np.moveaxis(np.arange(24, dtype=np.uint8).reshape(3, 1, 8), 0, -1),
        np.moveaxis(np.arange(24, dtype=np.uint8).reshape(3, 8, 1), 0, -1),
    ],
)
def test_any_view_of_an_array_goes_out_with_plain_rows(view: npt.NDArray[Any]) -> None:
    encoding = {np.dtype(np.uint8): "8U", np.dtype(np.uint16): "16U"}[view.dtype] + f"C{view[0, 0].size}"
    msg = image_to_msg(view, encoding, header())
    assert msg.step == view[0].size * view.itemsize
    assert len(msg.data) == msg.step * msg.height
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(msg), view)


def test_an_image_written_to_a_message_is_read_back_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(image_from_msg(image_to_msg(image, "rgb8", header()), MAX_PIXELS), image)


def test_an_image_message_does_not_share_the_arrays_memory() -> None:
    image = np.zeros((2, 2), np.uint8)
    msg = image_to_msg(image, "mono8", header())
    msg.data[0] = 9
    assert not image.any()


def test_a_buffer_makes_messages_that_are_filled_in_place() -> None:
    given = header()
    msg, pixels = ImageBuffer("8UC3").message((2, 4), given)
    assert (msg.encoding, msg.width, msg.height, msg.step, len(msg.data)) == ("8UC3", 4, 2, 12, 24)
    assert msg.header == given and msg.header is not given and msg.header.stamp is not given.stamp
    pixels[...] = np.arange(24).reshape(2, 4, 3)
    assert msg == image_to_msg(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "8UC3", given)


def test_a_buffer_takes_images_of_changing_sizes() -> None:
    buffer = ImageBuffer("16UC1")
    for size_hw in ((2, 3), (3, 2), (5, 1), (1, 1), (5, 1)):
        msg, pixels = buffer.message(size_hw, header())
        image = np.random.default_rng(0).integers(0, 1 << 16, size_hw, dtype=np.uint16)
        pixels[...] = image
        assert msg == image_to_msg(image, "16UC1", header())


def test_a_buffer_uses_its_memory_again() -> None:
    buffer = ImageBuffer("mono8")
    _, pixels = buffer.message((2, 3), header())
    pixels[...] = 9
    _, again = buffer.message((2, 3), header())
    assert np.shares_memory(pixels, again)


def test_an_image_message_copies_the_header() -> None:
    given = header()
    msg = image_to_msg(np.zeros((2, 2), np.uint8), "mono8", given)
    assert msg.header == given and msg.header is not given and msg.header.stamp is not given.stamp
    msg.header.stamp.sec, msg.header.frame_id = 99, "changed"
    assert given == header()
