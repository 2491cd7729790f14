"""What the node takes: one row for each topic of prompts, each service, and each kind of camera.

A new input is a row, and a function in ``conversions`` that says what its message means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point as PointMsg
from geometry_msgs.msg import PointStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray

from sam_ros.core.objects import Point, Target, Update
from sam_ros.node.conversions import (
    box_from_roi,
    mask_prompt_from_msg,
    point_from_msg,
    program_prompts_from_msg,
)
from sam_ros.node.engine import Engine
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.images import image_from_compressed_msg, image_from_msg
from sam_ros.node.waiting import PromptRequest
from sam_ros.prompt import BACKGROUND, FOREGROUND

# Best effort takes from every camera driver; only the newest frame matters.
IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# A lost click would have to be clicked again.
CLICK_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# Best effort matches any detector, and its next message replaces a lost one.
PROGRAM_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass(frozen=True)
class PromptInput:
    """One topic of prompts.

    Attributes:
        topic: its name, relative to the node.
        message_type: of its messages; one without a header is meant for the newest frame.
        qos: of the subscription; can be overridden by parameters.
        convert: what a message asks for on a frame, given the (H, W) of the image that its coordinates refer
            to; (0, 0) is the frame's own. Raises InvalidPromptError.
        undoable: whether ``~/undo`` takes it back.
    """

    topic: str
    message_type: Any
    qos: QoSProfile
    convert: Callable[[Any, Target, tuple[int, int]], Update]
    undoable: bool = True

    def request(self, topic: str, msg: Any, prompt_hw: tuple[int, int]) -> PromptRequest:
        """What the engine is asked by a message that came on a topic of this full name."""
        header = getattr(msg, "header", None) or Header()
        return PromptRequest(
            topic,
            stamp_to_ns(header),
            header.frame_id,
            lambda target: self.convert(msg, target, prompt_hw),
            self.undoable,
        )


def _foreground(msg: PointStamped, target: Target, prompt_hw: tuple[int, int]) -> Point:
    return point_from_msg(msg.point, FOREGROUND, target, prompt_hw)


def _background(msg: PointStamped, target: Target, prompt_hw: tuple[int, int]) -> Point:
    return point_from_msg(msg.point, BACKGROUND, target, prompt_hw)


def _click(msg: PointMsg, target: Target, prompt_hw: tuple[int, int]) -> Point:
    return point_from_msg(msg, FOREGROUND, target, prompt_hw)


PROMPT_INPUTS = (
    PromptInput("~/point", PointStamped, CLICK_QOS, _foreground),
    PromptInput("~/point_background", PointStamped, CLICK_QOS, _background),
    PromptInput("~/click", PointMsg, CLICK_QOS, _click),
    PromptInput("~/box", RegionOfInterest, CLICK_QOS, box_from_roi),
    PromptInput("~/mask_prompt", Image, CLICK_QOS, mask_prompt_from_msg),
    PromptInput("~/prompts", Detection2DArray, PROGRAM_QOS, program_prompts_from_msg, undoable=False),
)


@dataclass(frozen=True)
class TriggerInput:
    """One service without arguments.

    Attributes:
        name: of the service, relative to the node.
        call: does it; returns whether it was done, and what to tell the caller.
    """

    name: str
    call: Callable[[Engine], tuple[bool, str]]


def _clear(engine: Engine) -> tuple[bool, str]:
    engine.clear()
    return True, "all objects are forgotten"


def _undo(engine: Engine) -> tuple[bool, str]:
    if engine.undo():
        return True, "the last prompt is undone"
    return False, "there is nothing to undo"


TRIGGER_INPUTS = (TriggerInput("~/clear", _clear), TriggerInput("~/undo", _undo))


@dataclass(frozen=True)
class CameraInput:
    """One way in which camera images come.

    Attributes:
        message_type: of the messages; begins with a header.
        suffix: what is added to the resolved name of the topic ``image``.
        convert: makes an (H, W, 3) uint8 RGB image of a message of at most so many pixels. Raises
            InvalidImageError.
    """

    message_type: Any
    suffix: str
    convert: Callable[[Any, int], npt.NDArray[np.uint8]]

    def read(self, serialized: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
        """An (H, W, 3) uint8 RGB image of a serialized message.

        Raises:
            InvalidImageError: the message makes no picture, or one of more than ``max_pixels``.
        """
        return self.convert(deserialize_message(serialized, self.message_type), max_pixels)


CAMERAS = {  # by the parameter image_transport
    "raw": CameraInput(Image, "", image_from_msg),
    "compressed": CameraInput(CompressedImage, "/compressed", image_from_compressed_msg),
}


class PromptTopics:
    """The subscriptions and services of all rows.

    Args:
        node: whose they are.
        take: called with every request that a message makes.
        serve: called with every service that is called; answers whether it was done and what to tell.
        prompt_hw: (H, W) of the image that prompts are given on by now.
    """

    def __init__(
        self,
        node: LifecycleNode,
        take: Callable[[PromptRequest], None],
        serve: Callable[[TriggerInput], tuple[bool, str]],
        prompt_hw: Callable[[], tuple[int, int]],
    ) -> None:
        self._node, self._take, self._serve, self._prompt_hw = node, take, serve, prompt_hw
        self._subscriptions: list[Any] = []
        self._services: list[Any] = []

    def open(self) -> None:
        """Subscribe to all topics and offer all services."""
        for prompt_input in PROMPT_INPUTS:
            self._subscriptions.append(self._subscribe(prompt_input))
        for trigger_input in TRIGGER_INPUTS:
            self._services.append(self._offer(trigger_input))

    def close(self) -> None:
        """Take the topics and services back."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for service in self._services:
            self._node.destroy_service(service)
        self._subscriptions.clear()
        self._services.clear()

    def _subscribe(self, row: PromptInput) -> Any:
        topic = self._node.resolve_topic_name(row.topic)
        return self._node.create_subscription(
            row.message_type,
            row.topic,
            lambda msg: self._take(row.request(topic, msg, self._prompt_hw())),
            row.qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _offer(self, row: TriggerInput) -> Any:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success, response.message = self._serve(row)
            return response

        return self._node.create_service(Trigger, row.name, answer)


def subscribe_to_camera(node: LifecycleNode, camera: CameraInput, take: Callable[[bytes], None]) -> Any:
    """Take camera images still serialized: those that will be dropped are never deserialized."""
    # Only a suffix needs the resolved name: what is remapped is ``image``, however the images come.
    topic = node.resolve_topic_name("image") + camera.suffix if camera.suffix else "image"
    return node.create_subscription(
        camera.message_type,
        topic,
        take,
        IMAGE_QOS,
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        raw=True,
    )


def header_of_serialized(serialized: bytes) -> Header:
    """The header alone, of a serialized message that begins with it, as both kinds of image do."""
    return deserialize_message(serialized, Header)
