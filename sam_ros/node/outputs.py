"""What the node publishes on its frames: one row a topic, and the pure function that makes its message.

A new output is a row and a function. A message is made only where somebody has subscribed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from sam_ros.core.objects import SegmentedObject
from sam_ros.core.overlay import draw_everything, draw_overlay
from sam_ros.core.segmenter import Outputs
from sam_ros.masks import BoolMask, Masks, draw_labels, draw_union
from sam_ros.node.conversions import everything_to_msg, segments_to_msg
from sam_ros.node.headers import header_of
from sam_ros.node.images import ImageBuffer
from sam_ros.node.qos import copied

# Reliable, since an answer is not repeated; two, so that a slow subscriber holds little memory.
OUTPUT_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
# The last answer, also for who subscribes later: it took long, and stays true of its frame.
EVERYTHING_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


@dataclass(frozen=True)
class Answer:
    """One set of the engine's outputs, as the rows need it.

    Attributes:
        outputs: what was answered, and on which frame.
        read_image: makes an (H, W, 3) uint8 RGB image of the frame's data.
    """

    outputs: Outputs
    read_image: Callable[[bytes], npt.NDArray[np.uint8]]

    @cached_property
    def header(self) -> Header:
        """Stamp and frame_id of the image that was answered on."""
        return header_of(self.outputs.frame.stamp_ns, self.outputs.frame.frame_id)

    @property
    def objects(self) -> tuple[tuple[SegmentedObject, Masks], ...]:
        """Every object with its masks, best first, in the order of creation."""
        return self.outputs.objects

    @property
    def candidates(self) -> Masks:
        """The three masks of the last single-point prompt.

        Raises:
            ValueError: the answer has none.
        """
        if self.outputs.candidates is None:
            raise ValueError("this answer has no candidates")
        return self.outputs.candidates

    @property
    def masks(self) -> list[BoolMask]:
        """Every object's best mask: (H, W) bool, in the order of the objects."""
        return [masks.masks[0] for _, masks in self.objects]

    @property
    def scores(self) -> list[float]:
        """The predicted IoU of ``masks``, not clamped."""
        return [float(masks.predicted_iou[0]) for _, masks in self.objects]


Converter = Callable[[Answer], Any]
Draw = Callable[[Answer, npt.NDArray[Any]], None]


@dataclass(frozen=True)
class Output:
    """One topic that the node publishes.

    Attributes:
        topic: its name, relative to the node.
        message_type: of its messages.
        new_converter: called once for each publisher; returns the function that makes a message of an
            answer. So the memory that is used again from message to message belongs to one publisher.
        qos: of the publisher; can be overridden by parameters.
        for_late_subscribers: made even while nobody has subscribed.
        reads_image: made of the image's pixels too.
    """

    topic: str
    message_type: Any
    new_converter: Callable[[], Converter]
    qos: QoSProfile
    for_late_subscribers: bool = False
    reads_image: bool = False


def image_output(
    topic: str,
    encoding: str,
    draw: Draw,
    qos: QoSProfile = OUTPUT_QOS,
    *,
    for_late_subscribers: bool = False,
    reads_image: bool = False,
) -> Output:
    """A topic of images: ``draw`` sets every pixel of an array (H, W) or (H, W, C) as the encoding says."""

    def convert(buffer: ImageBuffer, answer: Answer) -> Image:
        msg, pixels = buffer.message(answer.outputs.size_hw, answer.header)
        draw(answer, pixels)
        return msg

    def new_converter() -> Converter:
        return partial(convert, ImageBuffer(encoding))

    return Output(topic, Image, new_converter, qos, for_late_subscribers, reads_image)


def draw_candidates(masks: Masks, image: npt.NDArray[np.uint8]) -> None:
    """Fill an (H, W, 3) image with three masks, 0 or 255, channels best first."""
    cv2.merge([mask.view(np.uint8) for mask in masks.masks[:3]], dst=image)
    np.multiply(image, 255, out=image)


def _segments(answer: Answer) -> Detection2DArray:
    return segments_to_msg(answer.objects, answer.header)


def _draw_overlay(answer: Answer, image: npt.NDArray[np.uint8]) -> None:
    """Fill an (H, W, 3) RGB image with the frame's own and what was found on it."""
    frame = answer.outputs.frame
    np.copyto(image, draw_overlay(answer.read_image(frame.data), answer.objects, frame.sequence))


def _everything(answer: Answer) -> Detection2DArray:
    return everything_to_msg(answer.objects, answer.header)


def _draw_everything(answer: Answer, image: npt.NDArray[np.uint16]) -> None:
    """Label an (H, W) image: what is smaller lies on what is larger."""
    draw_labels(answer.masks, [-np.count_nonzero(mask) for mask in answer.masks], image)


def _draw_everything_overlay(answer: Answer, image: npt.NDArray[np.uint8]) -> None:
    """Fill an (H, W, 3) RGB image with the frame's own and everything on it."""
    np.copyto(image, draw_everything(answer.read_image(answer.outputs.frame.data), answer.masks))


# Of every answered frame.
FRAME_OUTPUTS = (
    image_output("~/mask", "mono8", lambda answer, image: draw_union(answer.masks, image)),
    image_output("~/labels", "16UC1", lambda answer, image: draw_labels(answer.masks, answer.scores, image)),
    Output("~/segments", Detection2DArray, lambda: _segments, OUTPUT_QOS),
    image_output("~/overlay", "rgb8", _draw_overlay, reads_image=True),
)
# Of a single-point prompt, on the frame that it was given on.
CANDIDATE_OUTPUTS = (
    image_output("~/candidates", "8UC3", lambda answer, image: draw_candidates(answer.candidates, image)),
)


# Of everything that was asked for, on its frame.
EVERYTHING_OUTPUTS = (
    image_output("~/everything/labels", "16UC1", _draw_everything, EVERYTHING_QOS, for_late_subscribers=True),
    Output(
        "~/everything/segments",
        Detection2DArray,
        lambda: _everything,
        EVERYTHING_QOS,
        for_late_subscribers=True,
    ),
    image_output("~/everything/overlay", "rgb8", _draw_everything_overlay, EVERYTHING_QOS, reads_image=True),
)


class OutputPublishers:
    """The publishers of some rows, which are published together.

    Args:
        node: publishes them; while it is not active, nothing goes out.
        rows: one for each topic.
    """

    def __init__(self, node: LifecycleNode, rows: Sequence[Output]) -> None:
        self._node = node
        self._rows = rows
        self._publishers: list[tuple[Output, Any, Converter]] = []

    def open(self) -> None:
        """Announce the topics."""
        for row in self._rows:
            self._publishers.append((row, _create_publisher(self._node, row), row.new_converter()))

    def close(self) -> None:
        """Take the topics back."""
        for _, publisher, _ in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    @property
    def are_wanted(self) -> bool:
        """Whether anybody has subscribed to one of them."""
        return any(_is_wanted(publisher) for _, publisher, _ in self._publishers)

    @property
    def need_image(self) -> bool:
        """Whether anybody has subscribed to one that is made of the image's pixels too."""
        return any(row.reads_image and _is_wanted(publisher) for row, publisher, _ in self._publishers)

    def publish(self, answer: Answer) -> None:
        """Make and publish the messages that somebody has subscribed to, or may yet."""
        for row, publisher, convert in self._publishers:
            if row.for_late_subscribers or _is_wanted(publisher):
                publisher.publish(convert(answer))


def _create_publisher(node: LifecycleNode, output: Output) -> Any:
    overrides = QoSOverridingOptions.with_default_policies()
    return node.create_lifecycle_publisher(
        output.message_type, output.topic, copied(output.qos), qos_overriding_options=overrides
    )


def _is_wanted(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count())
