"""Messages to core values and back: prompts in, segments out; messages are never changed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point as PointMsg
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesisWithPose,
)

from sam_ros.core.everything import EverythingIn
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
    Update,
)
from sam_ros.errors import InvalidImageError, InvalidPromptError, shortened
from sam_ros.masks import Masks, tight_box_xyxy
from sam_ros.node.headers import copied
from sam_ros.node.images import GREY_ENCODINGS, grey_from_msg
from sam_ros.prompt import BACKGROUND, FOREGROUND

BACKGROUND_CLASS = "background"  # a point of this class in ~/prompts is a background point
AREA_CLASS = "area"  # of the result in ~/everything/segments that has the area instead of a score
POINT_SLACK_PX = 1.0  # rqt_image_view rounds a click at the edge to one pixel outside
MASK_SIZE = "mask prompt size"  # the kind of a mask prompt that has another size than the image
MASK_PIXEL_BYTES = 2  # of a mask prompt's pixel at most: rows may be padded


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


def everything_from_roi(msg: RegionOfInterest, target: Target, prompt_hw: tuple[int, int]) -> EverythingIn:
    """A region as ``box_from_roi`` reads it; one of no size is the whole image.

    Raises:
        InvalidPromptError: a width or a height alone is 0, it is outside the image, or do_rectify is set.
    """
    if msg.width == msg.height == 0 and not msg.do_rectify:
        return EverythingIn(None)
    return EverythingIn(box_from_roi(msg, target, prompt_hw).box_xyxy)


def check_mask_prompt(msg: Image, prompt_hw: tuple[int, int], max_pixels: int) -> None:
    """Before a mask image waits for its frame.

    Raises:
        InvalidPromptError: another encoding than mono8, or larger than any image that it may be of.
    """
    _check_grey(msg)
    most = max(max_pixels, math.prod(prompt_hw))
    if msg.width * msg.height > most or len(msg.data) > MASK_PIXEL_BYTES * most:
        raise InvalidPromptError(
            f"a mask prompt of {msg.width} x {msg.height} pixels in {len(msg.data)} bytes is larger than any "
            f"image's; possible are {most} pixels of {MASK_PIXEL_BYTES} bytes",
            kind=MASK_SIZE,
        )


def mask_prompt_from_msg(msg: Image, target: Target, prompt_hw: tuple[int, int]) -> MaskPrompt:
    """A mask image, nonzero is foreground, as low-res logits.

    Raises:
        InvalidPromptError: another encoding or size than mono8 of the image's size, or empty.
    """
    expected_hw = _prompted_hw(target, prompt_hw)
    _check_grey(msg)
    if (msg.height, msg.width) != expected_hw:
        raise InvalidPromptError(
            f"a mask prompt must have the image's size, {expected_hw[1]} x {expected_hw[0]}, got "
            f"{msg.width} x {msg.height}",
            kind=MASK_SIZE,
        )
    try:
        mask = grey_from_msg(msg)
    except InvalidImageError as error:
        raise InvalidPromptError(str(error), kind=error.kind) from error
    if not mask.any():
        raise InvalidPromptError("a mask prompt has no foreground pixel", kind="empty mask prompt")
    return MaskPrompt(logits_from_mask(mask, target.grid))


def _check_grey(msg: Image) -> None:
    if msg.encoding not in GREY_ENCODINGS:
        raise InvalidPromptError(
            f"a mask prompt must be mono8, got {shortened(msg.encoding)!r}", kind="mask prompt encoding"
        )


def prompt_from_msg(msg: Detection2D, target: Target, prompt_hw: tuple[int, int]) -> Update:
    """One detection: with an id an object of a program, without one a click or box of a person.

    Raises:
        InvalidPromptError: it is neither a point nor a box, outside the image, or a background box.
    """
    if msg.id:
        return _program_prompt(msg.id, [msg], target, prompt_hw)
    if _is_point(msg.bbox):
        return _program_point(msg, target, prompt_hw)
    _check_boxes([msg])
    return Box(_clipped_box(_enclosing_box(msg.bbox), target, prompt_hw))


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
    """One object of all detections that have its id."""
    points = [_program_point(found, target, prompt_hw) for found in detections if _is_point(found.bbox)]
    boxes = [found for found in detections if not _is_point(found.bbox)]
    _check_boxes(boxes)
    if not boxes and all(point.label == BACKGROUND for point in points):
        raise InvalidPromptError(
            "an object needs a foreground point or a box; it has only background points",
            kind="only background",
        )
    box_xyxy = _clipped_box(_enclosing_box(boxes[0].bbox), target, prompt_hw) if boxes else None
    return ProgramPrompt(id, _name_of(detections), tuple(points), box_xyxy)


def _check_boxes(boxes: Sequence[Detection2D]) -> None:
    if any(_is_background(box) for box in boxes):
        raise InvalidPromptError("a box cannot be background; give a point", kind="background box")
    if len(boxes) > 1:
        raise InvalidPromptError("an object can have one box, not two", kind="second box")


def _program_point(detection: Detection2D, target: Target, prompt_hw: tuple[int, int]) -> Point:
    centre = detection.bbox.center.position
    label = BACKGROUND if _is_background(detection) else FOREGROUND
    return _point(centre.x, centre.y, label, target, prompt_hw)


def _name_of(detections: Sequence[Detection2D]) -> str:
    """The first class that names an object, or ''."""
    classes = (_class_of(detection) for detection in detections)
    return next((name for name in classes if name not in ("", BACKGROUND_CLASS)), "")


def _is_background(detection: Detection2D) -> bool:
    return _class_of(detection) == BACKGROUND_CLASS


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


# Segments out.


def segments_to_msg(objects: Sequence[tuple[SegmentedObject, Masks]], header: Header) -> Detection2DArray:
    """Every object's id, tight box and scores, in the given order."""
    detections = [_detection(segmented, masks, header) for segmented, masks in objects]
    return Detection2DArray(header=copied(header), detections=detections)


def everything_to_msg(objects: Sequence[tuple[SegmentedObject, Masks]], header: Header) -> Detection2DArray:
    """As ``segments_to_msg``; a second result of class ``area`` has the pixels of the mask for a score."""
    msg = segments_to_msg(objects, header)
    for detection, (_, masks) in zip(msg.detections, objects, strict=True):
        area = ObjectHypothesisWithPose()
        area.hypothesis.class_id = AREA_CLASS
        area.hypothesis.score = float(np.count_nonzero(masks.masks[0]))
        detection.results = [*detection.results, area]
    return msg


def _detection(segmented: SegmentedObject, masks: Masks, header: Header) -> Detection2D:
    detection = Detection2D(header=copied(header), id=segmented.id)
    box_xyxy = tight_box_xyxy(masks.masks[0])
    if box_xyxy is not None:
        _fill_bbox(detection.bbox, box_xyxy)
    scores = (*masks.predicted_iou, *masks.other_predicted_iou)
    detection.results = [_hypothesis(segmented.class_id, float(score)) for score in scores]
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
