"""Messages to core values and back: pure functions. Inputs are never changed, headers are copied."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from cv_bridge import CvBridge, CvBridgeError
from geometry_msgs.msg import Point as PointMsg
from PIL import Image as PilImage
from PIL import UnidentifiedImageError
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesisWithPose,
)

from sam_ros.core.grid import logits_from_mask
from sam_ros.core.objects import (
    Box,
    BoxXYXY,
    MaskPrompt,
    Point,
    ProgramPrompt,
    ProgramPrompts,
    RefusedObject,
    SegmentedObject,
    Target,
)
from sam_ros.errors import InvalidImageError, InvalidPromptError
from sam_ros.masks import Masks, tight_box_xyxy
from sam_ros.prompt import BACKGROUND, FOREGROUND

BACKGROUND_CLASS = "background"  # a point of this class in ~/prompts is a background point
POINT_SLACK_PX = 1.0  # rqt_image_view rounds a click at the edge to one pixel outside
COMPRESSED_FORMATS = ("JPEG", "PNG")
COMPRESSED_MODES = ("L", "LA", "RGB", "RGBA", "P", "CMYK", "1")  # 8 bits or fewer a channel
PNG_END = b"IEND\xaeB`\x82"  # the last chunk; PIL reads images that lack it
GREY_WITHOUT_A_NAME = "8UC1"  # what some drivers call mono8

_bridge = CvBridge()


def stamp_to_ns(header: Header) -> int:
    """The header's stamp in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


# Images in.


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
    except InvalidImageError:
        raise
    except (PilImage.DecompressionBombError, PilImage.DecompressionBombWarning) as error:
        raise InvalidImageError(
            f"a compressed image is too large: {error}", kind="image too large"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        problem = "it does not begin as a JPEG or PNG does" if unknown else error
        raise InvalidImageError(
            f"a compressed image of format {msg.format!r} and {len(data)} bytes is damaged: {problem}",
            kind="damaged image",
        ) from error


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


# Prompts in.


def point_from_msg(msg: PointMsg, label: int, target: Target, prompt_hw: tuple[int, int]) -> Point:
    """A click in pixels of the image.

    Args:
        msg: pixels of the prompted image, x right, y down, z 0.
        label: FOREGROUND or BACKGROUND.
        target: the frame that was clicked on.
        prompt_hw: (H, W) of the image that the coordinates refer to; (0, 0) for the target's own.

    Raises:
        InvalidPromptError: a coordinate is not finite, z is not 0, or it is more than 1 px outside.
    """
    if msg.z != 0:
        raise InvalidPromptError(
            f"a click is in pixels, with z = 0; got z = {msg.z}: is it a 3D point?", kind="z not 0"
        )
    return _point(msg.x, msg.y, label, target, prompt_hw)


def box_from_roi(msg: RegionOfInterest, target: Target, prompt_hw: tuple[int, int]) -> Box:
    """A box (x, y, x + w, y + h), clipped to the image.

    Raises:
        InvalidPromptError: no area, outside the image, or do_rectify is set.
    """
    if msg.do_rectify:
        raise InvalidPromptError("do_rectify must be false; give the box on the image as it is", "do_rectify")
    if msg.width == 0 or msg.height == 0:
        raise InvalidPromptError(
            f"a box needs a width and a height, got {msg.width} x {msg.height}", kind="empty box"
        )
    x, y = msg.x_offset, msg.y_offset
    return Box(_clipped_box((x, y, x + msg.width, y + msg.height), target, prompt_hw))


def mask_prompt_from_msg(msg: Image, target: Target, prompt_hw: tuple[int, int]) -> MaskPrompt:
    """A mask image, nonzero is foreground, as low-res logits.

    Raises:
        InvalidPromptError: another encoding or size than mono8 of the image's size, or empty.
    """
    expected_hw = _prompted_hw(target, prompt_hw)
    if msg.encoding not in ("mono8", GREY_WITHOUT_A_NAME):
        raise InvalidPromptError(
            f"a mask prompt must be mono8, got {msg.encoding!r}", kind="mask prompt encoding"
        )
    if (msg.height, msg.width) != expected_hw:
        raise InvalidPromptError(
            f"a mask prompt must have the image's size, {expected_hw[1]} x {expected_hw[0]}, got "
            f"{msg.width} x {msg.height}",
            kind="mask prompt size",
        )
    try:
        _check_layout(msg)
    except InvalidImageError as error:
        raise InvalidPromptError(str(error), kind=error.kind) from error
    mask = _rows(msg)[:, : msg.width]
    if not mask.any():
        raise InvalidPromptError("a mask prompt has no foreground pixel", kind="empty mask prompt")
    return MaskPrompt(logits_from_mask(mask, target.grid))


def program_prompts_from_msg(
    msg: Detection2DArray, target: Target, prompt_hw: tuple[int, int]
) -> ProgramPrompts:
    """The objects of a program's message; detections of one id are one object.

    What is wrong with one object is told in ``refused`` and leaves the others alone.
    """
    prompts: list[ProgramPrompt] = []
    refused: list[RefusedObject] = []
    for id, detections in _grouped(msg.detections):
        try:
            prompts.append(_program_prompt(id, detections, target, prompt_hw))
        except InvalidPromptError as error:
            refused.append(RefusedObject(id, str(error), error.kind))
    return ProgramPrompts(tuple(prompts), tuple(refused))


def _grouped(detections: Sequence[Detection2D]) -> list[tuple[str, list[Detection2D]]]:
    """Detections by id in order of appearance; each without an id is a group of its own."""
    groups: list[tuple[str, list[Detection2D]]] = []
    by_id: dict[str, list[Detection2D]] = {}
    for detection in detections:
        if detection.id and detection.id in by_id:
            by_id[detection.id].append(detection)
            continue
        group = [detection]
        groups.append((detection.id, group))
        if detection.id:
            by_id[detection.id] = group
    return groups


def _program_prompt(
    id: str, detections: Sequence[Detection2D], target: Target, prompt_hw: tuple[int, int]
) -> ProgramPrompt:
    points: list[Point] = []
    box_xyxy: BoxXYXY | None = None
    for detection in detections:
        is_background = _class_of(detection) == BACKGROUND_CLASS
        if _is_point(detection.bbox):
            centre = detection.bbox.center.position
            label = BACKGROUND if is_background else FOREGROUND
            points.append(_point(centre.x, centre.y, label, target, prompt_hw))
        elif is_background:
            raise InvalidPromptError("a box cannot be background; give a point", kind="background box")
        elif box_xyxy is not None:
            raise InvalidPromptError("an object can have one box, not two", kind="second box")
        else:
            box_xyxy = _clipped_box(_enclosing_box(detection.bbox), target, prompt_hw)
    if box_xyxy is None and all(point.label == BACKGROUND for point in points):
        raise InvalidPromptError(
            "an object needs a foreground point or a box; it has only background points",
            kind="only background",
        )
    classes = (_class_of(detection) for detection in detections)
    class_id = next((name for name in classes if name not in ("", BACKGROUND_CLASS)), "")
    return ProgramPrompt(id, class_id, tuple(points), box_xyxy)


def _class_of(detection: Detection2D) -> str:
    return str(detection.results[0].hypothesis.class_id) if detection.results else ""


def _is_point(bbox: BoundingBox2D) -> bool:
    return bool(bbox.size_x == 0 and bbox.size_y == 0)


def _enclosing_box(bbox: BoundingBox2D) -> BoxXYXY:
    """The axis-parallel box around a possibly rotated one.

    Raises:
        InvalidPromptError: a size is not positive, or a value is not finite.
    """
    values = (bbox.center.position.x, bbox.center.position.y, bbox.center.theta, bbox.size_x, bbox.size_y)
    if not np.isfinite(values).all():
        raise InvalidPromptError(f"a bbox must be finite, got {values}", kind="not finite")
    x, y, theta, width, height = values
    if width <= 0 or height <= 0:
        raise InvalidPromptError(
            f"bbox sizes must both be positive (a box) or both 0 (a point), got {width} x {height}",
            kind="empty box",
        )
    cos, sin = abs(math.cos(theta)), abs(math.sin(theta))
    half_w, half_h = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return x - half_w, y - half_h, x + half_w, y + half_h


def _prompted_hw(target: Target, prompt_hw: tuple[int, int]) -> tuple[int, int]:
    return prompt_hw if all(prompt_hw) else target.size_hw


def _point(x: float, y: float, label: int, target: Target, prompt_hw: tuple[int, int]) -> Point:
    prompted_h, prompted_w = _prompted_hw(target, prompt_hw)
    if not np.isfinite((x, y)).all():
        raise InvalidPromptError(f"a point must be finite, got ({x}, {y})", kind="not finite")
    last_x, last_y = prompted_w - 1, prompted_h - 1
    slack = POINT_SLACK_PX
    if not (-slack <= x <= last_x + slack and -slack <= y <= last_y + slack):
        raise InvalidPromptError(
            f"the point ({x:g}, {y:g}) is outside the image of {prompted_w} x {prompted_h} pixels",
            kind="point outside",
        )
    image_h, image_w = target.size_hw
    return Point(
        _rescaled_point(min(max(x, 0.0), last_x), image_w, prompted_w),
        _rescaled_point(min(max(y, 0.0), last_y), image_h, prompted_h),
        label,
    )


def _rescaled_point(coordinate: float, image_length: int, prompted_length: int) -> float:
    """Pixel centres are integers, so edges lie at -0.5; stays inside the first and last pixel's centres."""
    if image_length == prompted_length:
        return coordinate
    rescaled = (coordinate + 0.5) * image_length / prompted_length - 0.5
    return min(max(rescaled, 0.0), image_length - 1.0)


def _clipped_box(box_xyxy: BoxXYXY, target: Target, prompt_hw: tuple[int, int]) -> BoxXYXY:
    prompted_h, prompted_w = _prompted_hw(target, prompt_hw)
    image_h, image_w = target.size_hw
    x0, x1 = (min(max(x * image_w / prompted_w, 0.0), float(image_w)) for x in (box_xyxy[0], box_xyxy[2]))
    y0, y1 = (min(max(y * image_h / prompted_h, 0.0), float(image_h)) for y in (box_xyxy[1], box_xyxy[3]))
    if x0 >= x1 or y0 >= y1:
        shown = ", ".join(f"{edge:g}" for edge in box_xyxy)
        raise InvalidPromptError(
            f"the box ({shown}) is outside the image of {prompted_w} x {prompted_h} pixels",
            kind="box outside",
        )
    return x0, y0, x1, y1


# Outputs.


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
    msg = Image(header=_copied(header), height=height, width=width, encoding=encoding)
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.step = num_bytes // height  # strides of a single row may be anything
    return msg


def _copied(header: Header) -> Header:
    """What ``deepcopy`` makes, in a fifth of its time: there is one for each object of a frame."""
    copy = Header(frame_id=header.frame_id)
    copy.stamp.sec, copy.stamp.nanosec = header.stamp.sec, header.stamp.nanosec
    return copy


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
        msg.header = _copied(header)
        return msg, np.frombuffer(msg.data, self._dtype).reshape(shape)


def draw_candidates(masks: Masks, image: npt.NDArray[np.uint8]) -> None:
    """Fill an (H, W, 3) image with three masks, 0 or 255, channels best first."""
    cv2.merge([mask.view(np.uint8) for mask in masks.masks[:3]], dst=image)
    np.multiply(image, 255, out=image)


def segments_to_msg(objects: Sequence[tuple[SegmentedObject, Masks]], header: Header) -> Detection2DArray:
    """Every object's id, tight box and scores, in the given order."""
    detections = [_detection(one, masks, header) for one, masks in objects]
    return Detection2DArray(header=_copied(header), detections=detections)


def _detection(one: SegmentedObject, masks: Masks, header: Header) -> Detection2D:
    detection = Detection2D(header=_copied(header), id=one.id)
    box_xyxy = tight_box_xyxy(masks.masks[0])
    if box_xyxy is not None:
        _fill_bbox(detection.bbox, box_xyxy)
    scores = (*masks.predicted_iou, *masks.other_predicted_iou)
    detection.results = [_hypothesis(one.class_id, float(score)) for score in scores]
    return detection


def _fill_bbox(bbox: BoundingBox2D, box_xyxy: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = box_xyxy
    bbox.center.position.x, bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
    bbox.size_x, bbox.size_y = float(x1 - x0), float(y1 - y0)


def _hypothesis(class_id: str, predicted_iou: float) -> ObjectHypothesisWithPose:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = class_id
    result.hypothesis.score = min(max(predicted_iou, 0.0), 1.0)
    return result
