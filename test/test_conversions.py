"""Messages to core values and back, by tiny messages made by hand; what is refused, and how it is named."""

from __future__ import annotations

import io
import math
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
from geometry_msgs.msg import Point as PointMsg
from PIL import Image as PilImage
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from sam_ros.core.grid import logits_from_mask, padded_grid
from sam_ros.core.objects import Point, ProgramPrompts, SegmentedObject, Target
from sam_ros.errors import InvalidImageError, InvalidPromptError
from sam_ros.masks import MASK_PROMPT_LOGIT, Masks
from sam_ros.node import conversions
from sam_ros.node.conversions import (
    ImageBuffer,
    box_from_roi,
    draw_candidates,
    image_from_compressed_msg,
    image_from_msg,
    image_to_msg,
    mask_prompt_from_msg,
    point_from_msg,
    program_prompts_from_msg,
    segments_to_msg,
    stamp_to_ns,
)

MAX_PIXELS = 33_177_600
SAME = (0, 0)  # prompts are given on the image itself
TARGET = Target(sequence=1, grid=padded_grid((48, 64), 64))
RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]


def header(frame_id: str = "camera", sec: int = 12, nanosec: int = 34) -> Header:
    result = Header(frame_id=frame_id)
    result.stamp.sec, result.stamp.nanosec = sec, nanosec
    return result


def image_msg(
    encoding: str, width: int, height: int, data: bytes, step: int | None = None, is_bigendian: int = 0
) -> Image:
    msg = Image(header=header(), encoding=encoding, width=width, height=height, is_bigendian=is_bigendian)
    msg.step = len(data) // height if step is None else step
    msg.data = array("B", data)
    return msg


def rgb(msg: Image) -> list[Any]:
    """The RGB values of a message's image."""
    image = image_from_msg(msg, MAX_PIXELS)
    assert image.dtype == np.uint8 and image.shape == (msg.height, msg.width, 3) and image.flags.c_contiguous
    return image.tolist()


def refused_image(msg: Image, max_pixels: int = MAX_PIXELS) -> InvalidImageError:
    with pytest.raises(InvalidImageError) as caught:
        image_from_msg(msg, max_pixels)
    return caught.value


# Images in: encodings.


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
def test_both_orders_of_yuv_422(encoding: str, data: list[int]) -> None:
    """White, black and two pixels of red, in the studio range of BT.601."""
    expected = [[[255] * 3, [0] * 3, RED, RED]]
    np.testing.assert_allclose(rgb(image_msg(encoding, 4, 1, bytes(data))), expected, atol=2)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_patterns_of_one_colour(pattern: str, bits: int) -> None:
    level = {"r": 200, "g": 100, "b": 50}
    tile = np.array([level[letter] for letter in pattern]).reshape(2, 2)
    mosaic = np.tile(tile, (4, 4)).astype(np.uint8 if bits == 8 else "<u2") * (1 if bits == 8 else 257)
    image = np.array(rgb(image_msg(f"bayer_{pattern}{bits}", 8, 8, mosaic.tobytes())))
    np.testing.assert_array_equal(image[2:-2, 2:-2], np.broadcast_to([200, 100, 50], (4, 4, 3)))


@pytest.mark.parametrize(
    "encoding",
    [
        "32FC1",
        "16UC1",
        "64FC3",
        "8UC3",
        "8UC2",
        "32SC1",
        "nv12",
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


@pytest.mark.parametrize("encoding", ["yuv422", "yuyv", "bayer_rggb8", "bayer_grbg16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 3), (3, 3)])
def test_odd_sizes_of_paired_pixels_are_read_or_refused(encoding: str, size: tuple[int, int]) -> None:
    width, height = size
    msg = image_msg(encoding, width, height, bytes(2 * width * height), step=2 * width)
    with suppress(InvalidImageError):
        assert image_from_msg(msg, MAX_PIXELS).shape == (height, width, 3)


# Images in: layout.


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
    monkeypatch.setattr(conversions, "_bridge", PlainRowsOnly())
    assert rgb(image_msg("rgb8", 1, 2, bytes([255, 0, 0, 9, 0, 0, 255, 9]))) == [[RED], [BLUE]]
    assert rgb(image_msg("mono16", 1, 1, bytes([1, 1]), is_bigendian=1)) == [[[1, 1, 1]]]
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
def test_what_does_not_fit_together_is_refused(msg: Image, kind: str, said: str) -> None:
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
def test_the_message_is_neither_changed_nor_shared(msg: Image) -> None:
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


# Compressed images in.


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


def test_png_comes_out_as_it_went_in() -> None:
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
def test_opacity_is_ignored(channels: int) -> None:
    image = np.full((3, 4, channels), 200, np.uint8)
    image[..., -1] = 0
    decoded = image_from_compressed_msg(compressed_msg(encoded(image, "PNG")), MAX_PIXELS)
    np.testing.assert_array_equal(decoded, np.full((3, 4, 3), 200))


def test_a_palette_becomes_its_colours() -> None:
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


def test_sixteen_bits_in_a_png_are_refused_by_name() -> None:
    buffer = io.BytesIO()
    PilImage.fromarray(np.zeros((4, 4), np.uint16)).save(buffer, "PNG")
    error = refused_compressed(compressed_msg(buffer.getvalue(), "16UC1; png compressed "))
    assert error.kind == "unknown encoding" and "I;16" in str(error)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_truncated_at_any_byte_is_refused(format: str) -> None:
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
def test_garbage_is_refused(data: bytes) -> None:
    error = refused_compressed(compressed_msg(data, "h264"))
    assert error.kind == "damaged image"
    assert "'h264'" in str(error) and "object at" not in str(error)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_refused(format: str) -> None:
    assert refused_compressed(compressed_msg(encoded(quarters(), format))).kind == "damaged image"


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
def test_a_bomb_is_refused_from_its_header(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    assert refused_compressed(compressed_msg(data)).kind == "image too large"


def test_warnings_that_are_errors_do_not_let_a_bomb_pass() -> None:
    assert refused_compressed(compressed_msg(png_header(12000, 12000))).kind == "image too large"


# Stamps and points.


def test_stamps_are_nanoseconds() -> None:
    assert stamp_to_ns(header(sec=0, nanosec=0)) == 0
    assert stamp_to_ns(header(sec=2**31 - 1, nanosec=999_999_999)) == 2_147_483_647_999_999_999
    assert stamp_to_ns(header(sec=-1, nanosec=1)) == -999_999_999


def point(x: float, y: float, z: float = 0.0) -> PointMsg:
    return PointMsg(x=x, y=y, z=z)


@pytest.mark.parametrize(
    ("xy", "clamped"),
    [
        ((0.0, 0.0), (0, 0)),
        ((10.25, 20.75), (10.25, 20.75)),
        ((63.0, 47.0), (63, 47)),
        ((64.0, 48.0), (63, 47)),  # x == width: how rqt_image_view rounds the last half pixel
        ((-1.0, -1.0), (0, 0)),
        ((-0.5, 47.5), (0, 47)),
    ],
)
def test_points_up_to_one_pixel_outside_are_clamped(
    xy: tuple[float, float], clamped: tuple[float, float]
) -> None:
    assert point_from_msg(point(*xy), 1, TARGET, SAME) == Point(*clamped, 1)


@pytest.mark.parametrize(
    ("x", "y", "z", "kind"),
    [
        (64.01, 10, 0, "point outside"),
        (10, 48.01, 0, "point outside"),
        (-1.01, 10, 0, "point outside"),
        (10, -1.01, 0, "point outside"),
        (1e300, 10, 0, "point outside"),
        (math.nan, 10, 0, "not finite"),
        (10, math.inf, 0, "not finite"),
        (-math.inf, 10, 0, "not finite"),
        (10, 10, 1e-9, "z not 0"),
        (10, 10, -5, "z not 0"),
        (10, 10, math.nan, "z not 0"),
        (10, 10, math.inf, "z not 0"),
    ],
)
def test_points_that_cannot_be_meant_are_refused(x: float, y: float, z: float, kind: str) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        point_from_msg(point(float(x), float(y), float(z)), 1, TARGET, SAME)
    assert caught.value.kind == kind


@pytest.mark.parametrize("label", [0, 1])
def test_the_label_and_negative_zero_pass(label: int) -> None:
    assert point_from_msg(point(3.0, 4.0, -0.0), label, TARGET, SAME) == Point(3, 4, label)


def test_points_given_on_a_smaller_image_keep_their_pixels_centres() -> None:
    """On half the size, pixel 0 covers pixels 0 and 1, whose middle is 0.5."""
    half = (24, 32)
    assert point_from_msg(point(0.0, 0.0), 1, TARGET, half) == Point(0.5, 0.5, 1)
    assert point_from_msg(point(15.5, 11.5), 1, TARGET, half) == Point(31.5, 23.5, 1)  # the centre
    assert point_from_msg(point(31.0, 23.0), 1, TARGET, half) == Point(62.5, 46.5, 1)
    assert point_from_msg(point(32.0, 24.0), 1, TARGET, half) == Point(62.5, 46.5, 1)  # clamped first
    with pytest.raises(InvalidPromptError, match="outside the image of 32 x 24"):
        point_from_msg(point(33.5, 10.0), 1, TARGET, half)


def test_points_given_on_a_larger_image_stay_inside() -> None:
    double = (96, 128)
    assert point_from_msg(point(0.5, 0.5), 1, TARGET, double) == Point(0, 0, 1)
    assert point_from_msg(point(0.0, 0.0), 1, TARGET, double) == Point(0, 0, 1)
    assert point_from_msg(point(127.0, 95.0), 1, TARGET, double) == Point(63, 47, 1)
    assert point_from_msg(point(63.5, 47.5), 1, TARGET, double) == Point(31.5, 23.5, 1)


def test_width_and_height_are_rescaled_each_by_its_own_factor() -> None:
    assert point_from_msg(point(31.5, 95.5), 1, TARGET, (192, 64)) == Point(31.5, 23.5, 1)


# Boxes and mask prompts.


def roi(x: int, y: int, width: int, height: int, do_rectify: bool = False) -> RegionOfInterest:
    return RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height, do_rectify=do_rectify)


@pytest.mark.parametrize(
    ("msg", "box_xyxy"),
    [
        (roi(1, 2, 3, 4), (1, 2, 4, 6)),
        (roi(0, 0, 64, 48), (0, 0, 64, 48)),
        (roi(63, 47, 1, 1), (63, 47, 64, 48)),
        (roi(60, 40, 100, 100), (60, 40, 64, 48)),
        (roi(0, 0, 2**32 - 1, 2**32 - 1), (0, 0, 64, 48)),
    ],
)
def test_a_region_is_a_box_of_half_open_edges_clipped_to_the_image(
    msg: RegionOfInterest, box_xyxy: tuple[float, ...]
) -> None:
    assert box_from_roi(msg, TARGET, SAME).box_xyxy == box_xyxy


@pytest.mark.parametrize(
    ("msg", "kind"),
    [
        (roi(1, 2, 0, 4), "empty box"),
        (roi(1, 2, 3, 0), "empty box"),
        (roi(0, 0, 0, 0), "empty box"),
        (roi(64, 0, 5, 5), "box outside"),
        (roi(0, 48, 5, 5), "box outside"),
        (roi(2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1), "box outside"),
        (roi(1, 2, 3, 4, do_rectify=True), "do_rectify"),
    ],
)
def test_regions_that_are_no_box_are_refused(msg: RegionOfInterest, kind: str) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        box_from_roi(msg, TARGET, SAME)
    assert caught.value.kind == kind


def test_boxes_given_on_another_size_are_rescaled_by_their_edges() -> None:
    assert box_from_roi(roi(1, 2, 3, 4), TARGET, (24, 32)).box_xyxy == (2, 4, 8, 12)
    assert box_from_roi(roi(0, 0, 128, 96), TARGET, (96, 128)).box_xyxy == (0, 0, 64, 48)
    assert box_from_roi(roi(20, 20, 100, 100), TARGET, (24, 32)).box_xyxy == (40, 40, 64, 48)
    with pytest.raises(InvalidPromptError, match="outside the image of 32 x 24"):
        box_from_roi(roi(40, 2, 3, 4), TARGET, (24, 32))


def mask_msg(mask: npt.NDArray[np.uint8], encoding: str = "mono8", padding: int = 0) -> Image:
    padded = np.pad(mask, ((0, 0), (0, padding)), constant_values=255)
    return image_msg(encoding, mask.shape[1], mask.shape[0], padded.tobytes())


def half_mask(size_hw: tuple[int, int] = (48, 64)) -> npt.NDArray[np.uint8]:
    """Foreground, of whatever value, on the left half."""
    mask = np.zeros(size_hw, np.uint8)
    mask[:, : size_hw[1] // 2] = 1
    return mask


def test_a_mask_prompt_becomes_logits() -> None:
    logits = mask_prompt_from_msg(mask_msg(half_mask()), TARGET, SAME).low_res_logits
    assert logits.shape == (16, 16)
    np.testing.assert_allclose(logits[:12, :8], MASK_PROMPT_LOGIT)
    np.testing.assert_allclose(logits[:, 8:], -MASK_PROMPT_LOGIT)
    np.testing.assert_allclose(logits[12:], -MASK_PROMPT_LOGIT)


def test_padding_of_a_mask_prompt_is_left_out() -> None:
    plain, padded = (
        mask_prompt_from_msg(mask_msg(half_mask(), padding=padding), TARGET, SAME).low_res_logits
        for padding in (0, 5)
    )
    np.testing.assert_array_equal(plain, padded)


def test_a_mask_prompt_is_given_on_the_prompted_size() -> None:
    half = half_mask((24, 32))
    logits = mask_prompt_from_msg(mask_msg(half), TARGET, (24, 32)).low_res_logits
    np.testing.assert_array_equal(logits, logits_from_mask(half, TARGET.grid))
    with pytest.raises(InvalidPromptError, match="32 x 24, got 64 x 48"):
        mask_prompt_from_msg(mask_msg(half_mask()), TARGET, (24, 32))


def test_a_channel_of_the_candidates_can_be_sent_back() -> None:
    masks = np.stack([half_mask() > 0, half_mask() == 0, np.ones((48, 64), bool)])
    candidates = np.empty((48, 64, 3), np.uint8)
    draw_candidates(answer(masks), candidates)
    msg = image_to_msg(candidates[..., 1], "mono8", header())
    logits = mask_prompt_from_msg(msg, TARGET, SAME).low_res_logits
    np.testing.assert_array_equal(logits, logits_from_mask(masks[1], TARGET.grid))


@pytest.mark.parametrize(
    ("msg", "kind"),
    [
        (image_msg("rgb8", 64, 48, bytes(64 * 48 * 3)), "mask prompt encoding"),
        (image_msg("16UC1", 64, 48, bytes(64 * 48 * 2)), "mask prompt encoding"),
        (image_msg("", 64, 48, bytes(64 * 48)), "mask prompt encoding"),
        (mask_msg(half_mask((64, 48))), "mask prompt size"),
        (mask_msg(half_mask((47, 64))), "mask prompt size"),
        (image_msg("mono8", 0, 0, b"", step=0), "mask prompt size"),
        (image_msg("mono8", 64, 48, bytes(64 * 48 - 1), step=64), "short data"),
        (image_msg("mono8", 64, 48, bytes(64 * 48), step=63), "wrong step"),
        (mask_msg(np.zeros((48, 64), np.uint8)), "empty mask prompt"),
        (mask_msg(np.zeros((48, 64), np.uint8), padding=3), "empty mask prompt"),
    ],
)
def test_mask_prompts_that_do_not_fit_are_refused(msg: Image, kind: str) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        mask_prompt_from_msg(msg, TARGET, SAME)
    assert caught.value.kind == kind


# Programs.


def detection(
    id: str,
    x: float,
    y: float,
    size: tuple[float, float] = (0.0, 0.0),
    classes: tuple[str, ...] = (),
    theta: float = 0.0,
) -> Detection2D:
    msg = Detection2D(id=id)
    msg.bbox.center.position.x, msg.bbox.center.position.y, msg.bbox.center.theta = float(x), float(y), theta
    msg.bbox.size_x, msg.bbox.size_y = (float(length) for length in size)
    for name in classes:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id = name
        msg.results.append(result)
    return msg


def read(*detections: Detection2D, prompt_hw: tuple[int, int] = SAME) -> ProgramPrompts:
    return program_prompts_from_msg(Detection2DArray(detections=detections), TARGET, prompt_hw)


def test_an_empty_array_is_an_empty_set() -> None:
    assert read() == ProgramPrompts((), ())


def test_detections_of_one_id_are_one_object() -> None:
    update = read(
        detection("a", 10, 20),
        detection("b", 30, 20, (4, 6), ("cup",)),
        detection("a", 5, 6, classes=("background",)),
        detection("a", 20, 20, (10, 10)),
    )
    assert update.refused == ()
    first, second = update.prompts
    assert (first.id, first.class_id, first.box_xyxy) == ("a", "", (15, 15, 25, 25))
    assert first.points == (Point(10, 20, 1), Point(5, 6, 0))
    assert (second.id, second.class_id, len(second.points)) == ("b", "cup", 0)
    assert second.box_xyxy == (28, 17, 32, 23)


def test_each_without_an_id_is_an_object_of_its_own() -> None:
    update = read(detection("", 10, 20), detection("", 30, 20, (4, 6)))
    assert [prompt.id for prompt in update.prompts] == ["", ""]
    assert [len(prompt.points) for prompt in update.prompts] == [1, 0]


def test_the_first_class_that_is_not_background_names_the_object() -> None:
    update = read(
        detection("a", 10, 20, classes=("background",)),
        detection("a", 11, 20),
        detection("a", 12, 20, classes=("cup", "dog")),
        detection("a", 13, 20, classes=("cat",)),
    )
    (prompt,) = update.prompts
    assert prompt.class_id == "cup"
    assert [point.label for point in prompt.points] == [0, 1, 1, 1]


def test_only_the_first_result_says_what_is_background() -> None:
    (prompt,) = read(detection("a", 10, 20, classes=("cup", "background"))).prompts
    assert prompt.points == (Point(10, 20, 1),) and prompt.class_id == "cup"
    (prompt,) = read(detection("a", 10, 20, classes=("Background",))).prompts
    assert prompt.points == (Point(10, 20, 1),) and prompt.class_id == "Background"


@pytest.mark.parametrize(
    ("detections", "kind"),
    [
        ([detection("a", 10, 20, (5, 5)), detection("a", 30, 20, (5, 5))], "second box"),
        ([detection("a", 10, 20, (5, 5), ("background",))], "background box"),
        ([detection("a", 10, 20), detection("a", 10, 20, (5, 5), ("background",))], "background box"),
        ([detection("a", 10, 20, classes=("background",))] * 2, "only background"),
        ([detection("a", 10, 20, (5, 0))], "empty box"),
        ([detection("a", 10, 20, (0, 5))], "empty box"),
        ([detection("a", 10, 20, (-5, -5))], "empty box"),
        ([detection("a", 10, 20, (math.nan, 5))], "not finite"),
        ([detection("a", 10, 20, (math.inf, math.inf))], "not finite"),
        ([detection("a", math.nan, 20, (5, 5))], "not finite"),
        ([detection("a", 10, 20, (5, 5), theta=math.nan)], "not finite"),
        ([detection("a", 10, 20, (5, 5), theta=math.inf)], "not finite"),
        ([detection("a", math.nan, 20)], "not finite"),
        ([detection("a", 10, math.inf)], "not finite"),
        ([detection("a", 65.5, 20)], "point outside"),
        ([detection("a", 10, 20), detection("a", 10, 490)], "point outside"),
        ([detection("a", 100, 20, (5, 5))], "box outside"),
        ([detection("a", -2.5, 20, (5, 5))], "box outside"),
    ],
)
def test_a_bad_object_is_refused_and_the_others_stay(detections: list[Detection2D], kind: str) -> None:
    update = read(detection("before", 1, 1), *detections, detection("", 2, 2))
    assert [prompt.id for prompt in update.prompts] == ["before", ""]
    (refused,) = update.refused
    assert (refused.id, refused.kind) == ("a", kind)
    assert refused.reason


def test_background_points_refine_a_box() -> None:
    (prompt,) = read(detection("a", 1, 2, classes=("background",)), detection("a", 20, 20, (4, 4))).prompts
    assert prompt.points == (Point(1, 2, 0),) and prompt.box_xyxy == (18, 18, 22, 22)


@pytest.mark.parametrize(
    ("theta", "box_xyxy"),
    [
        (0.0, (22, 22, 38, 26)),
        (math.pi / 2, (28, 16, 32, 32)),
        (-math.pi / 2, (28, 16, 32, 32)),
        (math.pi, (22, 22, 38, 26)),
        (math.pi / 4, (30 - 20 / 8**0.5, 24 - 20 / 8**0.5, 30 + 20 / 8**0.5, 24 + 20 / 8**0.5)),
    ],
)
def test_a_rotated_box_becomes_the_box_around_it(theta: float, box_xyxy: tuple[float, ...]) -> None:
    (prompt,) = read(detection("a", 30, 24, (16, 4), theta=theta)).prompts
    np.testing.assert_allclose(np.array(prompt.box_xyxy), box_xyxy, atol=1e-9)


def test_the_box_around_a_rotated_one_is_the_box_around_its_corners() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        (w, h), theta = rng.uniform(1, 20, 2), float(rng.uniform(-10, 10))
        turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn.T + (30, 24)
        (prompt,) = read(detection("a", 30, 24, (w, h), theta=theta)).prompts
        expected = np.clip([*corners.min(axis=0), *corners.max(axis=0)], 0, [64, 48, 64, 48])
        np.testing.assert_allclose(np.array(prompt.box_xyxy), expected, atol=1e-9)


def test_boxes_of_any_size_are_clipped_to_the_image() -> None:
    for size in (1e6, 1e300, 1.7e308):
        (prompt,) = read(detection("a", 30, 24, (size, size), theta=0.7)).prompts
        assert prompt.box_xyxy == (0, 0, 64, 48)


def test_a_programs_points_and_boxes_are_rescaled() -> None:
    update = read(detection("a", 0, 0), detection("b", 8, 6, (4, 4)), prompt_hw=(24, 32))
    assert update.prompts[0].points == (Point(0.5, 0.5, 1),)
    assert update.prompts[1].box_xyxy == (12, 8, 20, 16)


def test_ten_thousand_detections_are_read() -> None:
    update = read(*[detection(f"{i}", 10, 20, (5, 5)) for i in range(10_000)])
    assert len(update.prompts) == 10_000
    update = read(*[detection("one", 10, 20) for _ in range(10_000)])
    assert [len(prompt.points) for prompt in update.prompts] == [10_000]


def test_the_message_of_a_program_is_not_changed() -> None:
    msg = Detection2DArray(
        header=header(), detections=[detection("a", 64.0, 48.0), detection("b", 3, 3, (90, 9))]
    )
    before = deepcopy(msg)
    program_prompts_from_msg(msg, TARGET, SAME)
    assert msg == before


# Outputs.


def answer(masks: npt.NDArray[np.bool_], *predicted_iou: float) -> Masks:
    scores = np.array(predicted_iou or [0.5] * len(masks), np.float32)
    return Masks(masks, scores, scores, np.zeros((len(masks), 4, 4), np.float32))


def segmented(id: str, class_id: str = "", created: int = 0) -> SegmentedObject:
    return SegmentedObject(id, class_id, created, 1, (48, 64))


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
def test_any_view_goes_out_with_plain_rows(view: npt.NDArray[Any]) -> None:
    encoding = {np.dtype(np.uint8): "8U", np.dtype(np.uint16): "16U"}[view.dtype] + f"C{view[0, 0].size}"
    msg = image_to_msg(view, encoding, header())
    assert msg.step == view[0].size * view.itemsize
    assert len(msg.data) == msg.step * msg.height
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(msg), view)


def test_an_image_comes_back_as_it_went() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(image_from_msg(image_to_msg(image, "rgb8", header()), MAX_PIXELS), image)


def test_headers_are_copied_not_shared() -> None:
    given = header()
    image = image_to_msg(np.zeros((2, 2), np.uint8), "mono8", given)
    segments = segments_to_msg([(segmented("a"), answer(np.ones((1, 2, 2), bool)))], given)
    for copy in (image.header, segments.header, segments.detections[0].header):
        assert copy == given and copy is not given and copy.stamp is not given.stamp
        copy.stamp.sec, copy.frame_id = 99, "changed"
        assert given == header()


def test_the_image_given_is_neither_changed_nor_shared() -> None:
    image = np.zeros((2, 2), np.uint8)
    msg = image_to_msg(image, "mono8", header())
    msg.data[0] = 9
    assert not image.any()


def test_candidates_are_channels_in_their_order() -> None:
    masks = np.zeros((3, 2, 4), bool)
    masks[0, 0, 0] = masks[1, 0, 1] = masks[2, 1] = True
    image = np.full((2, 4, 3), 77, np.uint8)
    draw_candidates(answer(masks), image)
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], masks[channel] * 255)


def test_a_buffer_makes_messages_that_are_filled_in_place() -> None:
    given = header()
    msg, pixels = ImageBuffer("8UC3").message((2, 4), given)
    assert (msg.encoding, msg.width, msg.height, msg.step, len(msg.data)) == ("8UC3", 4, 2, 12, 24)
    assert msg.header == given and msg.header is not given and msg.header.stamp is not given.stamp
    pixels[...] = np.arange(24).reshape(2, 4, 3)
    assert msg == image_to_msg(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "8UC3", given)


def test_a_buffer_follows_the_size() -> None:
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


def test_segments_tell_ids_boxes_and_scores() -> None:
    masks = np.zeros((3, 48, 64), bool)
    masks[0, 10:12, 20:25] = True
    masks[1] = True
    msg = segments_to_msg(
        [
            (segmented("a", "cup"), answer(masks, 0.75, 0.5, 0.25)),
            (segmented("_1"), answer(masks[1:2], 0.875)),
        ],
        header(),
    )
    first, second = msg.detections
    assert msg.header == first.header == second.header == header()
    assert (first.id, second.id) == ("a", "_1")
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (22.5, 11)
    assert (first.bbox.size_x, first.bbox.size_y, first.bbox.center.theta) == (5, 2, 0)
    hypotheses = [result.hypothesis for result in first.results]
    assert [(one.class_id, one.score) for one in hypotheses] == [("cup", 0.75), ("cup", 0.5), ("cup", 0.25)]
    assert (second.bbox.center.position.x, second.bbox.center.position.y) == (32, 24)
    assert (second.bbox.size_x, second.bbox.size_y) == (64, 48)
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in second.results] == [("", 0.875)]


def test_one_pixel_is_size_one() -> None:
    mask = np.zeros((1, 48, 64), bool)
    mask[0, 5, 3] = True
    (one,) = segments_to_msg([(segmented("a"), answer(mask))], header()).detections
    assert (one.bbox.center.position.x, one.bbox.center.position.y) == (3.5, 5.5)
    assert (one.bbox.size_x, one.bbox.size_y) == (1, 1)


def test_scores_are_clamped_and_stay_in_their_order() -> None:
    masks = np.ones((4, 2, 2), bool)
    (one,) = segments_to_msg([(segmented("a"), answer(masks, 1.25, 1.0, 0.5, -0.25))], header()).detections
    assert [result.hypothesis.score for result in one.results] == [1, 1, 0.5, 0]


def test_scores_of_masks_that_were_left_out_are_told() -> None:
    scores = np.array([0.75, 0.5, 0.25], np.float32)
    best = Masks(
        np.ones((1, 2, 2), bool), scores[:1], scores[:1], np.zeros((1, 4, 4), np.float32), scores[1:]
    )
    (one,) = segments_to_msg([(segmented("a", "cup"), best)], header()).detections
    hypotheses = [result.hypothesis for result in one.results]
    assert [(h.class_id, h.score) for h in hypotheses] == [("cup", 0.75), ("cup", 0.5), ("cup", 0.25)]


def test_a_box_that_went_out_comes_in_as_the_same_edges() -> None:
    mask = np.zeros((1, 48, 64), bool)
    mask[0, 10:12, 20:25] = True
    segments = segments_to_msg([(segmented("a", "cup"), answer(mask))], header())
    (prompt,) = program_prompts_from_msg(segments, TARGET, SAME).prompts
    assert (prompt.id, prompt.class_id, prompt.box_xyxy) == ("a", "cup", (20, 10, 25, 12))


def test_without_objects_the_segments_are_empty() -> None:
    msg = segments_to_msg([], header())
    assert msg.header == header() and len(msg.detections) == 0
