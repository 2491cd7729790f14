"""A sam_node in a process of its own, and everything a test needs to talk to it over DDS."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Point, PointStamped
from lifecycle_msgs.srv import ChangeState, GetState
from processes import START_SEC, RosSession, RunningProcess
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header, String, UInt8
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

FRAME_ID = "camera_optical"
SECOND = 1_000_000_000
TRIES = 20
PATIENCE_SEC = 15.0  # a set that comes after it has been asked for again is taken for another one

OUTPUT_TYPES = {
    "mask": Image,
    "labels": Image,
    "segments": Detection2DArray,
    "candidates": Image,
    "overlay": Image,
}
ALWAYS_PUBLISHED = ("mask", "labels", "segments", "overlay")  # the overlay while subscribed, as here
INPUT_TYPES = {
    "point": PointStamped,
    "point_foreground": PointStamped,
    "point_background": PointStamped,
    "click": Point,
    "box": RegionOfInterest,
    "mask_prompt": Image,
    "prompts": Detection2DArray,
    "prompt": Detection2D,
    "choose": UInt8,
    "select": String,
    "remove": String,
    "everything": RegionOfInterest,
}


def header(stamp_ns: int, frame_id: str = FRAME_ID) -> Header:
    made = Header(frame_id=frame_id)
    made.stamp.sec, made.stamp.nanosec = divmod(stamp_ns, SECOND)
    return made


def stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * SECOND + int(message.header.stamp.nanosec)


def of_stamp(messages: Sequence[Any], stamp: int) -> list[Any]:
    """Those of the messages that have this stamp."""
    return [message for message in messages if stamp_ns(message) == stamp]


def image_msg(pixels: npt.NDArray[np.uint8], encoding: str, stamp_ns: int) -> Image:
    """Any uint8 pixels; filled without conversions.py, which is what is tested."""
    message = Image(header=header(stamp_ns), encoding=encoding)
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.strides[0]
    message.data = array("B", np.ascontiguousarray(pixels).tobytes())
    return message


def rgb_msg(image_rgb: npt.NDArray[np.uint8], stamp_ns: int) -> Image:
    return image_msg(image_rgb, "rgb8", stamp_ns)


def compressed_msg(image_rgb: npt.NDArray[np.uint8], suffix: str, stamp_ns: int) -> CompressedImage:
    success, data = cv2.imencode(suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    assert success
    kind = suffix.removeprefix(".")
    message = CompressedImage(header=header(stamp_ns), format=f"rgb8; {kind} compressed bgr8")
    message.data = array("B", data.tobytes())
    return message


def pixels_of(message: Image) -> npt.NDArray[Any]:
    """The pixels of one of the node's image messages, whose layout is checked."""
    dtype, channels = {
        "mono8": (np.uint8, 1),
        "16UC1": (np.uint16, 1),
        "8UC3": (np.uint8, 3),
        "rgb8": (np.uint8, 3),
    }[message.encoding]
    assert message.step == message.width * channels * np.dtype(dtype).itemsize
    assert len(message.data) == message.step * message.height
    assert not message.is_bigendian
    pixels = np.frombuffer(message.data, dtype)
    shape = (message.height, message.width) if channels == 1 else (message.height, message.width, channels)
    return pixels.reshape(shape)


def detection(
    id: str, centre: tuple[float, float], size: tuple[float, float] = (0, 0), class_id: str = ""
) -> Detection2D:
    made = Detection2D(id=id)
    made.bbox.center.position.x, made.bbox.center.position.y = map(float, centre)
    made.bbox.size_x, made.bbox.size_y = map(float, size)
    if class_id:
        made.results = [ObjectHypothesisWithPose()]
        made.results[0].hypothesis.class_id = class_id
    return made


def detections(stamp_ns: int, *made: Detection2D) -> Detection2DArray:
    return Detection2DArray(header=header(stamp_ns), detections=list(made))


def point(x: float, y: float, stamp_ns: int = 0, frame_id: str = FRAME_ID) -> PointStamped:
    return PointStamped(header=header(stamp_ns, frame_id), point=Point(x=float(x), y=float(y)))


@dataclass
class OutputSet:
    """The messages of one prompt, by the topic's last name."""

    messages: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.messages[name]

    def __contains__(self, name: str) -> bool:
        return name in self.messages


class NodeRig:
    """Starts the node with the given ROS arguments and waits until it takes images and prompts.

    ``prefix`` comes before its command, ``environment`` is added to the test's own.
    """

    def __init__(
        self,
        ros: RosSession,
        *arguments: str,
        name: str = "/sam",
        image_topic: str = "/image",
        image_type: Any = Image,
        image_qos: QoSProfile | int = 10,
        outputs: Sequence[str] = tuple(OUTPUT_TYPES),
        follow: bool = False,
        wait: bool = True,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.ros = ros
        self.name = name
        following = ("-p", f"follow:={str(follow).lower()}")
        module = "sam_ros.node.sam_node"
        command = [*prefix, sys.executable, "-m", module, "--ros-args", *following, *arguments]
        self.process: RunningProcess = ros.start_command(module, command, environment)
        self.received: dict[str, list[Any]] = {output: [] for output in OUTPUT_TYPES}
        self.diagnostics: list[DiagnosticStatus] = []
        node = ros.node
        self._image = node.create_publisher(image_type, image_topic, image_qos)
        self._inputs = {
            topic: node.create_publisher(kind, f"{name}/{topic}", 10) for topic, kind in INPUT_TYPES.items()
        }
        self._subscriptions = [
            node.create_subscription(
                OUTPUT_TYPES[topic], f"{name}/{topic}", self.received[topic].append, QoSProfile(depth=10)
            )
            for topic in outputs
        ]
        self._subscriptions.append(
            node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)
        )
        self._clients: dict[str, Any] = {}
        self._last_stamp_ns = 100 * SECOND
        self._answered = False
        if wait:
            self.wait_until_connected()

    def wait_until_connected(self) -> None:
        """Until both sides know of each other."""
        publishers = [self._image, *self._inputs.values()]
        self.wait_until(lambda: all(p.get_subscription_count() for p in publishers), "the node's inputs", 90)
        outputs = [f"{self.name}/{topic}" for topic in OUTPUT_TYPES]
        node = self.ros.node
        self.wait_until(lambda: all(node.count_publishers(topic) for topic in outputs), "the node's outputs")

    def wait_until(self, condition: Callable[[], object], what: str, timeout_sec: float = START_SEC) -> None:
        self.ros.wait_until(lambda: bool(condition()), what, timeout_sec)

    def next_stamp_ns(self) -> int:
        self._last_stamp_ns += SECOND
        return self._last_stamp_ns

    def show(self, image_rgb: npt.NDArray[np.uint8]) -> int:
        """Let the node embed an rgb8 image with a new stamp, which is returned."""
        stamp = self.next_stamp_ns()
        self.deliver(image_msg(image_rgb, "rgb8", stamp))
        return stamp

    def deliver(self, image: Any) -> dict[str, str]:
        """Publish an image until the node has got it: images are best effort, and some are lost.

        Asks for it by an empty ~/prompts message, which may be lost too while both sides still get to know
        each other. Returns the refusal if the image is bad, else nothing.
        """
        for _ in range(TRIES):
            self.forget_outputs()
            self.diagnostics.clear()
            self.send_image(image)
            self.send("prompts", detections(stamp_ns(image)))
            if not self.comes_true(
                lambda: self._statuses("prompt refused") or self._is_complete(ALWAYS_PUBLISHED), PATIENCE_SEC
            ):
                continue
            refusal = self.next_refusal() if self._statuses("prompt refused") else {}
            if refusal.get("kind") not in ("no image", "too new", "stale"):
                self._answered = not refusal or self._answered
                self.forget_outputs()
                return refusal
        raise AssertionError(f"{TRIES} images in a row were lost:\n{self.process.output()}")

    def next_set(
        self,
        image_rgb: npt.NDArray[np.uint8],
        stamp: int | None = None,
        made: Callable[..., Any] = rgb_msg,
    ) -> OutputSet:
        """While the node follows: show an image with a new stamp and return the set of outputs on it."""
        stamp = self.next_stamp_ns() if stamp is None else stamp
        for _ in range(TRIES):  # images are best effort, and some are lost
            self.send_image(made(image_rgb, stamp))
            if self.comes_true(lambda: all(of_stamp(self.received[n], stamp) for n in ALWAYS_PUBLISHED)):
                return OutputSet({n: of_stamp(self.received[n], stamp)[0] for n in ALWAYS_PUBLISHED})
        raise AssertionError(f"no outputs of {TRIES} images:\n{self.process.output()}")

    def comes_true(self, condition: Callable[[], object], timeout_sec: float = 5.0) -> bool:
        """Whether the condition holds within the time."""
        return self.ros.comes_true(condition, "a condition", timeout_sec)

    def send_image(self, message: Any) -> None:
        self._image.publish(message)

    def send(self, topic: str, message: Any) -> None:
        self._inputs[topic].publish(message)

    def outputs_for(self, topic: str, message: Any, expected: Sequence[str] = ALWAYS_PUBLISHED) -> OutputSet:
        """Send a prompt and wait for one complete set of outputs.

        Where the next set is looked at as well, ``expected`` has to name all that this one consists of: what
        is not waited for may come later, and would be taken for a part of the next.
        """
        self.forget_outputs()
        self.send(topic, message)
        return self.next_outputs(expected)

    def next_outputs(self, expected: Sequence[str] = ALWAYS_PUBLISHED) -> OutputSet:
        self.wait_until(lambda: self._is_complete(expected), f"outputs {expected}")
        self._answered = True
        return OutputSet({name: messages[0] for name, messages in self.received.items() if messages})

    def clear(self) -> OutputSet | None:
        """Call ~/clear and wait for the empty set that it publishes, if there was any frame."""
        self.forget_outputs()
        assert self.trigger("clear").success
        return self.next_outputs() if self._answered else None

    def forget_outputs(self) -> None:
        for messages in self.received.values():
            messages.clear()

    def refusal_of(self, topic: str, message: Any) -> dict[str, str]:
        """Send a prompt and wait for its refusal; its values by key."""
        self.diagnostics.clear()
        self.send(topic, message)
        return self.next_refusal()

    def next_refusal(self) -> dict[str, str]:
        return self.next_report("prompt refused")

    def next_report(self, kind: str) -> dict[str, str]:
        """Wait for an immediate report on /diagnostics; its values by key."""
        self.wait_until(lambda: self._statuses(kind), f"a report: {kind}")
        return {pair.key: pair.value for pair in self._statuses(kind)[0].values}

    def status(self, key: str) -> str:
        """A value of the newest periodic diagnostics; '' if it is not there."""
        statuses = self._statuses("segmentation")
        values = {pair.key: pair.value for pair in statuses[-1].values} if statuses else {}
        return values.get(key, "")

    def wait_for_status(self, key: str, accept: Callable[[str], bool] = bool) -> str:
        """Wait until the periodic diagnostics have an acceptable value."""
        self.wait_until(lambda: self.status(key) and accept(self.status(key)), f"diagnostics to report {key}")
        return self.status(key)

    def trigger(self, service: str) -> Trigger.Response:
        return self.call(Trigger, f"{self.name}/{service}", Trigger.Request())

    def set_parameter(self, name: str, value: Any) -> tuple[bool, str]:
        made: ParameterMsg = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[made])
        name = f"{self.name}/set_parameters"
        (result,) = self.call(SetParameters, name, request, is_repeatable=True).results
        return result.successful, result.reason

    def change_state(self, transition_id: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition_id
        return bool(self.call(ChangeState, f"{self.name}/change_state", request).success)

    def state(self) -> str:
        answer = self.call(GetState, f"{self.name}/get_state", GetState.Request(), is_repeatable=True)
        return str(answer.current_state.label)

    def call(self, kind: Any, name: str, request: Any, is_repeatable: bool = False) -> Any:
        """The answer of a service.

        An answer is lost where the node does not know the client yet. So a client is kept for all calls, and
        what may be asked twice is asked anew where no answer comes.
        """
        client = self._clients.get(name) or self.ros.node.create_client(kind, name)
        self._clients[name] = client
        self.wait_until(client.service_is_ready, f"service {name}", 90)
        futures = [client.call_async(request)]

        def answers() -> list[Any]:
            return [future.result() for future in futures if future.done()]

        while is_repeatable and not self.comes_true(answers):
            assert len(futures) < TRIES, (
                f"{TRIES} calls of {name} without an answer:\n{self.process.output()}"
            )
            futures.append(client.call_async(request))
        self.wait_until(answers, f"an answer of {name}", 90)
        return answers()[0]

    def _is_complete(self, expected: Sequence[str]) -> bool:
        return all(self.received[name] for name in expected)

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += message.status

    def _statuses(self, what: str) -> list[DiagnosticStatus]:
        return [s for s in self.diagnostics if s.name == f"{self.name.removeprefix('/')}: {what}"]
