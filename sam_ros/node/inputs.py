"""What the node takes: one row for each topic of prompts, each service, and each kind of camera.

A new input is a row, and a function in ``conversions`` that says what its message means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point as PointMsg
from geometry_msgs.msg import PointStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header, String, UInt8
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray

from sam_ros.core.everything import EverythingIn
from sam_ros.core.objects import Joining, Point, Target, Update
from sam_ros.errors import InvalidImageError, InvalidPromptError, SamRosError
from sam_ros.node.conversions import (
    box_from_roi,
    check_mask_prompt,
    everything_from_roi,
    mask_prompt_from_msg,
    point_from_msg,
    program_prompts_from_msg,
    prompt_from_msg,
)
from sam_ros.node.engine import Engine
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.images import CameraStream, image_from_compressed_msg, image_from_msg
from sam_ros.node.qos import copied, image_qos
from sam_ros.node.serialized import deserialize, deserialize_image
from sam_ros.node.sizes import check_image, size_of_compressed, size_of_image
from sam_ros.node.waiting import PromptRequest
from sam_ros.prompt import BACKGROUND, FOREGROUND

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
        is_of_program: whether a message is a program's, which ``~/undo`` does not take back; so is what
            changes no object.
        is_complete_set: whether each message lists all objects of a program.
        check: raises InvalidPromptError where a message fits no frame of at most so many pixels, given the
            (H, W) as above: it is not to wait for one.
    """

    topic: str
    message_type: Any
    qos: QoSProfile
    convert: Callable[[Any, Target, tuple[int, int]], Update | EverythingIn]
    is_of_program: Callable[[Any], bool] = lambda _msg: False
    is_complete_set: bool = False
    check: Callable[[Any, tuple[int, int], int], None] = lambda _msg, _prompt_hw, _max_pixels: None

    def problem(self, msg: Any, prompt_hw: tuple[int, int], max_pixels: int) -> InvalidPromptError | None:
        """Why a message is refused as it comes; None where that depends on its frame."""
        try:
            self.check(msg, prompt_hw, max_pixels)
        except InvalidPromptError as error:
            return error
        return None

    def request(self, topic: str, msg: Any, prompt_hw: tuple[int, int]) -> PromptRequest:
        """What the engine is asked by a message that came on a topic of this full name."""
        header = getattr(msg, "header", None) or Header()
        return PromptRequest(
            topic,
            stamp_to_ns(header),
            header.frame_id,
            lambda target: self.convert(msg, target, prompt_hw),
            undoable=not self.is_of_program(msg),
            is_complete_set=self.is_complete_set,
            id=getattr(msg, "id", ""),
        )


def _foreground(msg: PointStamped, target: Target, prompt_hw: tuple[int, int]) -> Point:
    return point_from_msg(msg.point, FOREGROUND, target, prompt_hw)


def _joining(msg: PointStamped, target: Target, prompt_hw: tuple[int, int]) -> Joining:
    return Joining(_foreground(msg, target, prompt_hw))


def _background(msg: PointStamped, target: Target, prompt_hw: tuple[int, int]) -> Point:
    return point_from_msg(msg.point, BACKGROUND, target, prompt_hw)


def _click(msg: PointMsg, target: Target, prompt_hw: tuple[int, int]) -> Point:
    return point_from_msg(msg, FOREGROUND, target, prompt_hw)


PROMPT_INPUTS = (
    PromptInput("~/point", PointStamped, CLICK_QOS, _foreground),
    PromptInput("~/point_foreground", PointStamped, CLICK_QOS, _joining),
    PromptInput("~/point_background", PointStamped, CLICK_QOS, _background),
    PromptInput("~/click", PointMsg, CLICK_QOS, _click),
    PromptInput("~/box", RegionOfInterest, CLICK_QOS, box_from_roi),
    PromptInput("~/mask_prompt", Image, CLICK_QOS, mask_prompt_from_msg, check=check_mask_prompt),
    PromptInput(
        "~/prompts",
        Detection2DArray,
        PROGRAM_QOS,
        program_prompts_from_msg,
        is_of_program=lambda _msg: True,
        is_complete_set=True,
    ),
    PromptInput("~/prompt", Detection2D, CLICK_QOS, prompt_from_msg, is_of_program=lambda msg: bool(msg.id)),
    PromptInput(
        "~/everything", RegionOfInterest, CLICK_QOS, everything_from_roi, is_of_program=lambda _msg: True
    ),
)


@dataclass(frozen=True)
class EditInput:
    """One topic whose messages edit the objects as they are, on no frame in particular.

    Attributes:
        topic: its name, relative to the node.
        message_type: of its messages.
        edit: does what a message asks for; the name is that of the topic, for messages to the user.
    """

    topic: str
    message_type: Any
    edit: Callable[[Engine, str, Any], None]


EDIT_INPUTS = (
    EditInput("~/choose", UInt8, lambda engine, topic, msg: engine.choose(topic, msg.data)),
    EditInput("~/select", String, lambda engine, topic, msg: engine.select(topic, msg.data)),
    EditInput("~/remove", String, lambda engine, topic, msg: engine.remove(topic, msg.data)),
)


@dataclass(frozen=True)
class TriggerInput:
    """One service without arguments.

    Attributes:
        name: of the service, relative to the node.
        call: does it; returns whether it was done, and what to tell the caller. It is given the full name of
            the service, for messages to the user.
    """

    name: str
    call: Callable[[Engine, str], tuple[bool, str]]


def _clear(engine: Engine, _name: str) -> tuple[bool, str]:
    engine.clear()
    return True, "all objects are forgotten"


def _undo(engine: Engine, _name: str) -> tuple[bool, str]:
    if engine.undo():
        return True, "the last prompt is undone"
    return False, "there is nothing to undo"


def _segment_everything(engine: Engine, name: str) -> tuple[bool, str]:
    engine.submit(PromptRequest(name, 0, "", lambda _target: EverythingIn(None), undoable=False))
    return True, "the answer comes on ~/everything/segments and ~/everything/labels"


def _keep_everything(engine: Engine, _name: str) -> tuple[bool, str]:
    return engine.keep_everything()


TRIGGER_INPUTS = (
    TriggerInput("~/clear", _clear),
    TriggerInput("~/undo", _undo),
    TriggerInput("~/segment_everything", _segment_everything),
    TriggerInput("~/keep_everything", _keep_everything),
)


@dataclass(frozen=True)
class CameraInput:
    """One way in which camera images come.

    Attributes:
        message_type: of the messages; begins with a header.
        suffix: what is added to the resolved name of the topic ``image``.
        convert: makes an (H, W, 3) uint8 RGB image of a message of at most so many pixels, which is one of a
            stream. Raises InvalidImageError.
        size: (H, W) of a serialized message of at most so many pixels. Raises InvalidImageError, as
            ``convert`` would, as far as that is known without the pixels.
        check: raises InvalidImageError where next to no work tells that a serialized message has more than so
            many pixels, or none. Compressed files are small, and their size is not to be had without a copy.
    """

    message_type: Any
    suffix: str
    convert: Callable[[Any, int, CameraStream], npt.NDArray[np.uint8]]
    size: Callable[[bytes, int], tuple[int, int]]
    check: Callable[[bytes, int], None] = lambda _serialized, _max_pixels: None

    def problem(self, serialized: bytes, max_pixels: int) -> InvalidImageError | None:
        """Why a message need not be kept until it is read; None where it has to be."""
        try:
            self.check(serialized, max_pixels)
        except InvalidImageError as error:
            return error
        return None

    def read(self, serialized: bytes, max_pixels: int, stream: CameraStream) -> npt.NDArray[np.uint8]:
        """An (H, W, 3) uint8 RGB image of a serialized message of a stream.

        Raises:
            InvalidImageError: the message makes no picture, or one of more than ``max_pixels``.
        """
        return self.convert(deserialize_image(serialized, self.message_type), max_pixels, stream)


CAMERAS = {  # by the parameter image_transport
    "raw": CameraInput(Image, "", image_from_msg, size_of_image, check_image),
    "compressed": CameraInput(CompressedImage, "/compressed", image_from_compressed_msg, size_of_compressed),
}


class PromptTopics:
    """The subscriptions and services of all rows.

    Args:
        node: whose they are.
        take: called with every request that a message makes.
        edit: called with every message of a topic of edits: its row, the full name of the topic, and it.
        refuse: called where a message cannot be used: the full name of the topic, the kind of problem,
            what it is, and the id of the object that the message names, if it does.
        serve: called with every service that is called; answers whether it was done and what to tell.
        prompt_hw: (H, W) of the image that prompts are given on by now.
        max_pixels: that an image may have by now.
    """

    def __init__(
        self,
        node: LifecycleNode,
        take: Callable[[PromptRequest], None],
        edit: Callable[[EditInput, str, Any], None],
        refuse: Callable[[str, str, str, str], None],
        serve: Callable[[TriggerInput], tuple[bool, str]],
        prompt_hw: Callable[[], tuple[int, int]],
        max_pixels: Callable[[], int],
    ) -> None:
        self._node, self._prompt_hw, self._max_pixels = node, prompt_hw, max_pixels
        self._take, self._edit, self._refuse, self._serve = take, edit, refuse, serve
        self._subscriptions: list[Any] = []
        self._services: list[Any] = []

    def open(self) -> None:
        """Subscribe to all topics and offer all services."""
        for prompt_input in PROMPT_INPUTS:
            self._subscriptions.append(self._subscribe_to_prompts(prompt_input))
        for edit_input in EDIT_INPUTS:
            self._subscriptions.append(self._subscribe_to_edits(edit_input))
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

    def _subscribe_to_prompts(self, row: PromptInput) -> Any:
        topic = self._node.resolve_topic_name(row.topic)

        def take(msg: Any) -> None:
            prompt_hw = self._prompt_hw()
            problem = row.problem(msg, prompt_hw, self._max_pixels())
            self._take(replace(row.request(topic, msg, prompt_hw), problem=problem))

        return self._subscribe(row.topic, row.message_type, row.qos, take)

    def _subscribe_to_edits(self, row: EditInput) -> Any:
        topic = self._node.resolve_topic_name(row.topic)
        return self._subscribe(
            row.topic, row.message_type, CLICK_QOS, lambda msg: self._edit(row, topic, msg)
        )

    def _subscribe(self, topic: str, message_type: Any, qos: QoSProfile, use: Callable[[Any], None]) -> Any:
        def take(serialized: bytes) -> None:
            msg = None
            try:
                msg = deserialize(serialized, message_type)
                use(msg)
            except SamRosError as error:
                name, id = self._node.resolve_topic_name(topic), getattr(msg, "id", "")
                self._refuse(name, error.kind, str(error), id)

        return self._node.create_subscription(
            message_type,
            topic,
            take,
            copied(qos),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            raw=True,
        )

    def _offer(self, row: TriggerInput) -> Any:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success, response.message = self._serve(row)
            return response

        return self._node.create_service(Trigger, row.name, answer)


def subscribe_to_camera(
    node: LifecycleNode, camera: CameraInput, take: Callable[[bytes], None], durability: str = "volatile"
) -> Any:
    """Take camera images still serialized: those that will be dropped are never deserialized.

    Args:
        node: subscribes.
        camera: how the images come.
        take: called with each.
        durability: with transient_local an image that was published before is taken too, if its publisher
            keeps it for late subscribers.
    """
    # Only a suffix needs the resolved name: what is remapped is ``image``, however the images come.
    topic = node.resolve_topic_name("image") + camera.suffix if camera.suffix else "image"
    return node.create_subscription(
        camera.message_type,
        topic,
        take,
        image_qos(durability),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        raw=True,
    )
