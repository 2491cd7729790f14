"""Messages to images and masks to messages, without transport: each conversion, and a whole frame."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from cv_bridge import CvBridge
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from benchmark.contest import Options
from benchmark.images import SIZES_HW, ImageRGB, photograph
from benchmark.results import Result
from benchmark.timing import Action, Effort, interleaved
from sam_ros.core.objects import SegmentedObject
from sam_ros.core.overlay import draw_everything
from sam_ros.masks import Masks, draw_labels, draw_union
from sam_ros.node.conversions import segments_to_msg
from sam_ros.node.images import (
    CameraStream,
    ImageBuffer,
    image_from_compressed_msg,
    image_from_msg,
    image_to_msg,
)
from sam_ros.node.outputs import draw_candidates

MAX_PIXELS = 33177600  # the default of max_image_pixels
OBJECTS = 8
MANY = 100  # masks, as everything in view may have
FRAME = "a frame in, its masks out"
HOST = torch.device("cpu")

Answers = Sequence[tuple[SegmentedObject, Masks]]


@dataclass(frozen=True)
class Row:
    """A conversion, the other way of doing it, if there is one, and what that is called."""

    conversion: str
    ours: Action
    theirs: Action | None = None
    against: str = ""


def measure(options: Options) -> list[Result]:
    """One result for each conversion and each size of image."""
    effort = replace(options.effort, budget_sec=options.effort.budget_sec / 10)
    return [_measure(row, size, effort) for size in SIZES_HW for row in _rows(photograph(SIZES_HW[size]))]


def _measure(row: Row, size: str, effort: Effort) -> Result:
    actions = {"ours": row.ours} | ({} if row.theirs is None else {"theirs": row.theirs})
    timings = interleaved(actions, effort, HOST)
    theirs = timings["theirs"].seconds if "theirs" in timings else ()
    case = {"image": size, "conversion": row.conversion, "against": row.against}
    return Result("messages", case, timings["ours"].seconds, theirs)


def _rows(image_rgb: ImageRGB) -> list[Row]:
    return [
        *_image_rows(image_rgb),
        *_mask_rows(image_rgb.shape[:2]),
        _everything_row(image_rgb),
        *_frame_rows(image_rgb),
    ]


def _image_rows(image_rgb: ImageRGB) -> list[Row]:
    """What a camera sends, as an image."""
    bridge = CvBridge()
    rgb, bgr = filled_image(image_rgb, "rgb8"), filled_image(image_rgb, "bgr8")
    jpeg, deep, stream = _jpeg(image_rgb), _twelve_bits(image_rgb), CameraStream()
    serialized = serialize_message(rgb)
    return [
        Row("deserialize_message of an Image", lambda: deserialize_message(serialized, Image)),
        Row(
            "image_from_msg, rgb8",
            lambda: image_from_msg(rgb, MAX_PIXELS),
            lambda: bridge.imgmsg_to_cv2(rgb, "rgb8"),
            "cv_bridge",
        ),
        Row(
            "image_from_msg, bgr8",
            lambda: image_from_msg(bgr, MAX_PIXELS),
            lambda: bridge.imgmsg_to_cv2(bgr, "rgb8"),
            "cv_bridge",
        ),
        Row(
            "image_from_msg, mono16",
            lambda: image_from_msg(deep, MAX_PIXELS, stream),
            lambda: bridge.imgmsg_to_cv2(deep, "rgb8"),
            "cv_bridge, which takes 12 bits for black",
        ),
        Row(
            "image_from_compressed_msg, JPEG",
            lambda: image_from_compressed_msg(jpeg, MAX_PIXELS),
            lambda: bridge.compressed_imgmsg_to_cv2(jpeg, "rgb8"),
            "cv_bridge",
        ),
    ]


def _mask_rows(size_hw: tuple[int, ...]) -> list[Row]:
    """Masks as what the node publishes."""
    bridge, header = CvBridge(), Header(frame_id="camera")
    answers = discs(OBJECTS, size_hw)
    outputs = _Outputs(size_hw)
    union, labels = np.zeros(size_hw, np.uint8), np.zeros(size_hw, np.uint16)
    return [
        Row(
            "image_to_msg, mono8",
            lambda: image_to_msg(union, "mono8", header),
            lambda: _image_with(union, "mono8", union.tobytes()),
            "bytes assigned to data",
        ),
        Row(
            "image_to_msg, mono8",
            lambda: image_to_msg(union, "mono8", header),
            lambda: _image_with(union, "mono8", union.ravel().tolist()),
            "a list assigned to data",
        ),
        Row(
            "image_to_msg, mono8",
            lambda: image_to_msg(union, "mono8", header),
            lambda: bridge.cv2_to_imgmsg(union, "mono8"),
            "cv_bridge",
        ),
        Row(
            "image_to_msg, 16UC1",
            lambda: image_to_msg(labels, "16UC1", header),
            lambda: _image_with(labels, "16UC1", labels.tobytes()),
            "bytes assigned to data",
        ),
        Row("candidates drawn", lambda: outputs.candidates(answers[0][1], header)),
        Row(f"segments_to_msg, {OBJECTS} objects", lambda: segments_to_msg(answers, header)),
        Row(f"mask and labels drawn, {OBJECTS} objects", lambda: outputs.mask_and_labels(answers, header)),
    ]


def _everything_row(image_rgb: ImageRGB) -> Row:
    """Everything that was found, drawn for people."""
    masks = [answer.masks[0] for _, answer in discs(MANY, image_rgb.shape[:2])]
    return Row(f"everything drawn, {MANY} masks", lambda: draw_everything(image_rgb, masks))


def _frame_rows(image_rgb: ImageRGB) -> list[Row]:
    """Everything that the node does beside encoding and decoding for one frame, one set of answers."""
    serialized, header = serialize_message(filled_image(image_rgb, "rgb8")), Header(frame_id="camera")

    def row(count: int, with_candidates: bool) -> Row:
        answers, outputs = discs(count, image_rgb.shape[:2]), _Outputs(image_rgb.shape[:2])
        ending = f", {count} object{'s' if count > 1 else ''}{', candidates' if with_candidates else ''}"
        return Row(FRAME + ending, lambda: _frame(serialized, answers, header, outputs, with_candidates))

    return [row(1, False), row(1, True), row(OBJECTS, False)]


def _frame(
    serialized: bytes, answers: Answers, header: Header, outputs: _Outputs, with_candidates: bool
) -> list[Any]:
    """As ``SamNode`` takes an image, reads it and publishes answers, without the transport."""
    deserialize_message(serialized, Header)
    image_from_msg(deserialize_message(serialized, Image), MAX_PIXELS)
    messages = [*outputs.mask_and_labels(answers, header), segments_to_msg(answers, header)]
    return [*messages, outputs.candidates(answers[0][1], header)] if with_candidates else messages


class _Outputs:
    """Images of one size (H, W) that are filled as ``SamNode`` fills its own."""

    def __init__(self, size_hw: tuple[int, ...]) -> None:
        self._size_hw = (size_hw[0], size_hw[1])
        self._buffers = [ImageBuffer(encoding) for encoding in ("mono8", "16UC1", "8UC3")]

    def mask_and_labels(self, answers: Answers, header: Header) -> list[Image]:
        """Two messages of all answers."""
        masks = [one.masks[0] for _, one in answers]
        scores = [float(one.predicted_iou[0]) for _, one in answers]
        union_msg, union = self._buffers[0].message(self._size_hw, header)
        draw_union(masks, union)
        labels_msg, labels = self._buffers[1].message(self._size_hw, header)
        draw_labels(masks, scores, labels)
        return [union_msg, labels_msg]

    def candidates(self, masks: Masks, header: Header) -> Image:
        """A message of three masks."""
        msg, image = self._buffers[2].message(self._size_hw, header)
        draw_candidates(masks, image)
        return msg


def discs(count: int, size_hw: tuple[int, ...]) -> list[tuple[SegmentedObject, Masks]]:
    """Objects that are discs side by side, a quarter of the image high, of three masks each."""
    height, width = size_hw[:2]
    rows, columns = np.ogrid[:height, :width]
    made = []
    for index in range(count):
        x = (index + 0.5) * width / count
        distance = np.hypot(rows - height / 2, columns - x)
        masks = np.stack([distance < height / 8 * share for share in (1, 0.8, 0.6)])
        scores = np.array([0.9, 0.8, 0.7], np.float32)
        logits = np.zeros((3, 64, 64), np.float32)
        segmented = SegmentedObject(f"_{index + 1}", "disc", index, 1, (height, width))
        made.append((segmented, Masks(masks, scores, scores, logits)))
    return made


def filled_image(pixels: ImageRGB, encoding: str) -> Image:
    """An (H, W, 3) uint8 camera image as a driver would send it; the pixels are taken as they are."""
    height, width = pixels.shape[:2]
    message = Image(header=Header(frame_id="camera"), height=height, width=width, encoding=encoding)
    message.step = 3 * width
    message.data = array("B", pixels.tobytes())
    return message


def _image_with(pixels: npt.NDArray[Any], encoding: str, data: Any) -> Image:
    """A message whose data is assigned as it is; rclpy makes an array of it, and may look at every byte."""
    height, width = pixels.shape[:2]
    message = Image(header=Header(frame_id="camera"), height=height, width=width, encoding=encoding)
    message.step = pixels.nbytes // height
    message.data = data
    return message


def _twelve_bits(image_rgb: ImageRGB) -> Image:
    """The image as an industrial camera sends it."""
    return image_to_msg(image_rgb[..., 1].astype(np.uint16) * 16, "mono16", Header(frame_id="camera"))


def _jpeg(image_rgb: ImageRGB) -> CompressedImage:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    return CompressedImage(format="rgb8; jpeg compressed bgr8", data=array("B", data.tobytes()))
