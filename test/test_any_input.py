"""Whatever is sent: a picture or a prompt as documented, or an error of this package, never a foreign one.

The suite tries a hundred cases of each property, the same ones every time. For more, and other ones:

    python -m pytest test/test_any_input.py --hypothesis-profile long
"""

from __future__ import annotations

import io
import math
import resource
from array import array
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from geometry_msgs.msg import Point as PointMsg
from geometry_msgs.msg import PointStamped
from hypothesis import given
from hypothesis import strategies as st
from messages import header, image_msg
from PIL import Image as PilImage
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header, String, UInt8
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from sam_ros.core.everything import EverythingIn
from sam_ros.core.grid import padded_grid
from sam_ros.core.objects import (
    Box,
    BoxXYXY,
    Joining,
    MaskPrompt,
    Point,
    ProgramPrompt,
    ProgramPrompts,
    Target,
    Update,
)
from sam_ros.errors import InvalidImageError, SamRosError
from sam_ros.node.headers import SECOND_NS, header_of, stamp_to_ns
from sam_ros.node.images import CameraStream, grey_from_msg, image_from_compressed_msg, image_from_msg
from sam_ros.node.inputs import (
    CAMERAS,
    EDIT_INPUTS,
    PROMPT_INPUTS,
    EditInput,
    PromptInput,
)
from sam_ros.node.layouts import PACKED, PLANAR
from sam_ros.node.serialized import deserialize

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, of damaged files

MAX_PIXELS = 4096
TARGET = Target(sequence=1, grid=padded_grid((48, 64), 64))
PROMPT_HW = st.sampled_from([(0, 0), (96, 32)])

# Messages.

UINT32 = st.integers(0, 2**32 - 1)
FLOATS = st.floats() | st.floats(-2, 70)  # anything, and often what lies about the image
TEXTS = st.text(max_size=20) | st.text("ab_", min_size=1, max_size=2)
STAMPS = st.builds(
    lambda sec, nanosec: header(sec=sec, nanosec=nanosec),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, SECOND_NS - 1) | UINT32,
)
ENCODINGS = st.one_of(
    st.sampled_from([*PACKED, *PLANAR]),
    st.builds("{}{}C{}".format, st.sampled_from([8, 16, 32, 64]), st.sampled_from("USF"), st.integers(0)),
    st.builds(lambda digits: "8UC" + "7" * digits, st.integers(0, 5000)),
    st.text(max_size=20),
)


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Sizes, step and data that often fit together, or nearly, and sometimes not at all."""
    width, height = (draw(st.integers(0, 12) | UINT32) for _ in range(2))
    step = draw(st.integers(0, 8).map(lambda bytes_: min(bytes_ * width, 2**32 - 1)) | st.integers(0, 100))
    num_bytes = min(step * height * draw(st.sampled_from([0, 1, 1, 1.5, 3])), 4000) + draw(st.integers(-2, 2))
    seed = draw(st.binary(min_size=1, max_size=30))
    data = (seed * 4001)[: max(0, int(num_bytes))]
    flag = draw(st.integers(0, 255))
    msg = image_msg(draw(ENCODINGS), width, height, data, step, is_bigendian=flag)
    msg.header = draw(STAMPS)
    return msg


def saved(mode: str, format: str, **options: Any) -> bytes:
    """A small file of a picture of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    picture = PilImage.fromarray(noise[..., :3])
    if mode == "I;16":
        picture = PilImage.fromarray(noise.view(np.uint16)[..., 0])
    elif mode != "RGB":
        picture = picture.convert(mode)
    picture.save(buffer, format, **options)
    return buffer.getvalue()


@cache
def files() -> tuple[bytes, ...]:
    """One of each kind that is decoded, and of some that are not."""
    exif = PilImage.Exif()
    exif[0x0112] = 6
    return (
        saved("RGB", "JPEG", exif=exif),
        saved("L", "JPEG"),
        saved("CMYK", "JPEG"),
        saved("RGB", "JPEG", progressive=True, restart_marker_rows=1),
        saved("RGB", "PNG", exif=exif),
        *(saved(mode, "PNG") for mode in ("RGBA", "LA", "L", "P", "1", "I;16")),
        saved("RGB", "WEBP"),
        saved("RGB", "TIFF"),
    )


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were changed, cut out or put in at a few places."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 4))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(0, 8))
        data = data[:place] + draw(st.binary(max_size=8)) + data[place + length :]
    return data


FILES = damaged(st.sampled_from(range(len(files()))).map(lambda number: files()[number]))
FORMATS = st.sampled_from(["jpeg", "mono16; png compressed ", "16UC1; compressedDepth png"]) | TEXTS
COMPRESSED = st.builds(
    lambda data, format, header: CompressedImage(header=header, format=format, data=array("B", data)),
    FILES | st.binary(max_size=100),
    FORMATS,
    STAMPS,
)
POINTS = st.builds(lambda x, y, z: PointMsg(x=x, y=y, z=z), FLOATS, FLOATS, st.just(0.0) | FLOATS)
ROIS = st.builds(
    lambda x, y, w, h, rectify: RegionOfInterest(
        x_offset=x, y_offset=y, width=w, height=h, do_rectify=rectify
    ),
    *[st.integers(0, 70) | UINT32] * 4,
    st.booleans(),
)


@st.composite
def detections(draw: st.DrawFn) -> Detection2D:
    msg = Detection2D(header=draw(STAMPS), id=draw(TEXTS))
    msg.bbox.center.position.x, msg.bbox.center.position.y = draw(FLOATS), draw(FLOATS)
    msg.bbox.center.theta = draw(st.just(0.0) | FLOATS)
    msg.bbox.size_x, msg.bbox.size_y = (draw(st.just(0.0) | FLOATS) for _ in range(2))
    for class_id in draw(st.lists(st.just("background") | TEXTS, max_size=2)):
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id = class_id
        msg.results = [*msg.results, result]
    return msg


@st.composite
def mask_prompts(draw: st.DrawFn) -> Image:
    """Often grey and of the image's size."""
    width, height = draw(st.sampled_from([(64, 48), (32, 96), (3, 2)]))
    data = (draw(st.binary(min_size=1, max_size=9)) * width * height)[: width * height]
    return image_msg(draw(st.just("mono8") | ENCODINGS), width, height, data, step=width)


PROMPTS = {
    PointStamped: st.builds(lambda header, point: PointStamped(header=header, point=point), STAMPS, POINTS),
    PointMsg: POINTS,
    RegionOfInterest: ROIS,
    Image: mask_prompts(),
    Detection2D: detections(),
    Detection2DArray: st.builds(
        lambda header, found: Detection2DArray(header=header, detections=found),
        STAMPS,
        st.lists(detections(), max_size=4),
    ),
}
BY_TOPIC = pytest.mark.parametrize("row", PROMPT_INPUTS, ids=lambda row: row.topic)

# What comes of them.


def assert_picture(image: npt.NDArray[Any], size_hw: tuple[int, int]) -> None:
    assert image.dtype == np.uint8 and image.shape == (*size_hw, 3) and image.size


def assert_usable(update: Update | EverythingIn) -> None:
    """Whether a prompt's coordinates lie in the image, which is what the core relies on."""
    if isinstance(update, Joining):
        assert_usable(update.point)
    elif isinstance(update, Point):
        assert 0 <= update.x <= 63 and 0 <= update.y <= 47 and update.label in (0, 1)
    elif isinstance(update, Box):
        assert is_box(update.box_xyxy)
    elif isinstance(update, MaskPrompt):
        assert update.low_res_logits.dtype == np.float32 and np.isfinite(update.low_res_logits).all()
    elif isinstance(update, ProgramPrompts):
        for prompt in update.prompts:
            assert_program_prompt(prompt)
    elif isinstance(update, EverythingIn):
        assert update.region is None or is_box(update.region)
    else:
        assert isinstance(update, ProgramPrompt)
        assert_program_prompt(update)


def assert_program_prompt(prompt: ProgramPrompt) -> None:
    assert prompt.points or prompt.box_xyxy
    for point in prompt.points:
        assert_usable(point)
    if prompt.box_xyxy is not None:
        assert is_box(prompt.box_xyxy)


def is_box(box_xyxy: BoxXYXY) -> bool:
    x0, y0, x1, y1 = box_xyxy
    return all(map(math.isfinite, box_xyxy)) and 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 48


def assert_named(error: SamRosError) -> None:
    """Whether it has a kind of its own, and says no more than a person reads."""
    assert error.kind not in ("error", "invalid image", "invalid prompt")
    assert len(str(error)) < 1000


def outcome(action: Callable[[], Any]) -> Any:
    """What it returns, or the error of this package that it raises; others get out."""
    try:
        return action()
    except SamRosError as error:
        return error


def assert_prompt(row: PromptInput, msg: Any, prompt_hw: tuple[int, int]) -> None:
    """What the node does with a message of prompts."""
    made = outcome(lambda: row.request(row.topic, msg, prompt_hw).convert(TARGET))
    if isinstance(made, SamRosError):
        assert_named(made)
    else:
        assert_usable(made)


# The properties.


@given(st.lists(images(), min_size=1, max_size=3))
def test_any_image_is_a_picture_or_refused(msgs: list[Image]) -> None:
    stream = CameraStream()
    for msg in msgs:
        made = outcome(partial(image_from_msg, msg, MAX_PIXELS, stream))
        if isinstance(made, InvalidImageError):
            assert_named(made)
        else:
            assert_picture(made, (msg.height, msg.width))


@given(images())
def test_any_grey_image_is_read_or_refused(msg: Image) -> None:
    msg.encoding = "mono8"
    made = outcome(lambda: grey_from_msg(msg))
    if isinstance(made, InvalidImageError):
        assert_named(made)
    else:
        assert made.dtype == np.uint8 and made.shape == (msg.height, msg.width)


@given(COMPRESSED)
def test_any_compressed_image_is_a_picture_or_refused(msg: CompressedImage) -> None:
    said: list[str] = []
    made = outcome(lambda: image_from_compressed_msg(msg, MAX_PIXELS, CameraStream(said.append)))
    if isinstance(made, InvalidImageError):
        assert_named(made)
    else:
        assert_picture(made, made.shape[:2])
        assert made.shape[0] * made.shape[1] <= MAX_PIXELS and len(said) <= 1


@given(STAMPS)
def test_any_stamp_comes_back_or_is_refused(given_header: Header) -> None:
    made = outcome(lambda: header_of(stamp_to_ns(given_header), given_header.frame_id))
    if given_header.stamp.nanosec < SECOND_NS:
        assert made == given_header
    else:
        assert made.kind == "invalid header"


@BY_TOPIC
@given(data=st.data(), prompt_hw=PROMPT_HW)
def test_any_prompt_is_usable_or_refused(
    row: PromptInput, data: st.DataObject, prompt_hw: tuple[int, int]
) -> None:
    assert_prompt(row, data.draw(PROMPTS[row.message_type]), prompt_hw)


@BY_TOPIC
@given(data=st.data())
def test_any_bytes_are_a_usable_prompt_or_refused(row: PromptInput, data: st.DataObject) -> None:
    serialized = data.draw(damaged(PROMPTS[row.message_type].map(serialize_message)))
    msg = outcome(lambda: deserialize(serialized, row.message_type))
    if isinstance(msg, SamRosError):
        assert_named(msg)
    else:
        assert_prompt(row, msg, (0, 0))


@pytest.mark.parametrize("row", EDIT_INPUTS, ids=lambda row: row.topic)
@given(data=st.data())
def test_any_bytes_are_an_edit_or_refused(row: EditInput, data: st.DataObject) -> None:
    whole = TEXTS.map(lambda text: String(data=text)) if row.message_type is String else st.just(UInt8())
    serialized = data.draw(damaged(whole.map(serialize_message)))
    msg = outcome(lambda: deserialize(serialized, row.message_type))
    if isinstance(msg, SamRosError):
        assert_named(msg)
    else:
        assert isinstance(msg, row.message_type)


@pytest.mark.parametrize("transport", CAMERAS)
@given(data=st.data())
def test_any_bytes_are_a_picture_or_refused(transport: str, data: st.DataObject) -> None:
    whole = {"raw": images(), "compressed": COMPRESSED}[transport].map(serialize_message)
    serialized = data.draw(damaged(whole))
    made = outcome(lambda: CAMERAS[transport].read(serialized, MAX_PIXELS, CameraStream()))
    if isinstance(made, InvalidImageError):
        assert_named(made)
    else:
        assert_picture(made, made.shape[:2])


def peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("message_type", [*PROMPTS, CompressedImage, String, Header])
def test_a_length_that_lies_is_refused_without_memory_for_it(message_type: Any) -> None:
    """Put at every place where one could stand; what is no length there is any other number."""
    before_mb, whole = peak_memory_mb(), serialize_message(message_type())
    for length in (0x000FFFFF, 0x10000000, 0x7FFFFFFF, 0xFFFFFFFF):
        for place in range(4, len(whole) - 3, 4):
            serialized = whole[:place] + length.to_bytes(4, "little") + whole[place + 4 :]
            made = outcome(partial(deserialize, serialized, message_type))
            assert isinstance(made, (SamRosError, message_type))
    assert peak_memory_mb() - before_mb < 200
