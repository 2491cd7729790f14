"""``sam_click``: the page's gestures in an OpenCV window, for who has no browser."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from sam_ros.core.overlay import BACKGROUND_RGB, FOREGROUND_RGB, MASK_OPACITY, ColourRgb
from sam_ros.errors import InvalidImageError, SamRosError
from sam_ros.node.guards import guarded_take, spin_once, told
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.images import image_from_msg
from sam_ros.node.qos import image_qos
from sam_ros.node.reporting import SAY_AGAIN_SEC, Throttle
from sam_ros.node.startup import init_rclpy
from sam_ros.signals import event_set_by_signals
from sam_ros.tools.web.colours import Colours
from sam_ros.tools.web.gestures import (
    NUM_CANDIDATES,
    Choose,
    Click,
    ClickKind,
    Command,
    Drag,
    Gesture,
    Moment,
    Remove,
)
from sam_ros.tools.web.messages import labels_of
from sam_ros.tools.web.pairing import Pairing
from sam_ros.tools.web.prompter import Prompter
from sam_ros.tools.web.settings import declare_images_kept

ImageRgb = npt.NDArray[np.uint8]  # (H, W, 3)

# As the node publishes: two halves of an answer are to meet.
ANSWER_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)

WINDOW = "sam_click"
MAX_PIXELS = 33_177_600
DRAG_PX = 4  # a shorter way is a click with an unsteady hand
KEY_WAIT_MS = 10
QUIT_KEYS = (ord("q"), 27)  # 27 is Escape
HELP = (
    "left: object   shift+left: more of it   right: not this   drag: box   "
    "n or 1-3: mask   u: undo   c: clear   x: remove   space: pause   q: quit"
)


class WindowError(SamRosError):
    """There can be no window; the message says what would do."""

    kind = "window"


@dataclass(frozen=True)
class Picture:
    """What the window shows: an image as it is drawn, and the header of the frame."""

    image_rgb: ImageRgb
    moment: Moment


class Hand:
    """Turns OpenCV's mouse events into gestures; places are pixels of the image.

    The picture of the first event counts: a click belongs to the frame on which the button went down.
    """

    def __init__(self) -> None:
        self.box_xyxy: tuple[int, int, int, int] | None = None  # while one is dragged
        self._start: tuple[int, int] | None = None
        self._moment = Moment(0, 0, "")

    @property
    def is_down(self) -> bool:
        """Whether a button is down, so that the picture should stand still."""
        return self._start is not None

    def take(self, event: int, x: int, y: int, flags: int, moment: Moment) -> Gesture | None:
        """Take an event of ``cv2.setMouseCallback``; the gesture that it completes, if it does."""
        if event == cv2.EVENT_RBUTTONDOWN:
            return Click("background", float(x), float(y), moment)
        if event == cv2.EVENT_LBUTTONDOWN:
            self._start, self._moment = (x, y), moment
        elif event == cv2.EVENT_MOUSEMOVE and self._start is not None:
            self.box_xyxy = _box(self._start, (x, y))
        elif event == cv2.EVENT_LBUTTONUP and self._start is not None:
            return self._completed(self._start, (x, y), bool(flags & cv2.EVENT_FLAG_SHIFTKEY))
        return None

    def _completed(self, start: tuple[int, int], end: tuple[int, int], with_shift: bool) -> Gesture:
        self._start, self.box_xyxy = None, None
        box_xyxy = _box(start, end)
        if box_xyxy is None:
            kind: ClickKind = "more" if with_shift else "foreground"
            return Click(kind, float(start[0]), float(start[1]), self._moment)
        x0, y0, x1, y1 = map(float, box_xyxy)
        return Drag((x0, y0, x1, y1), self._moment)


class Keys:
    """Turns keys into gestures; knows which of the three masks comes next."""

    def __init__(self) -> None:
        self._chosen = 0

    def prompted(self) -> None:
        """A new prompt has three masks of its own: the best one is shown."""
        self._chosen = 0

    def take(self, key: int) -> Gesture | None:
        """The gesture of a key, if it has one."""
        commands: dict[int, Gesture] = {
            ord("u"): Command("undo"),
            ord("c"): Command("clear"),
            ord("x"): Remove(""),
        }
        if key in commands:
            return commands[key]
        if key == ord("n"):
            return self._choose((self._chosen + 1) % NUM_CANDIDATES)
        index = key - ord("1")
        return self._choose(index) if 0 <= index < NUM_CANDIDATES else None

    def _choose(self, index: int) -> Choose:
        self._chosen = index
        return Choose(index)


class SamClick(Node):
    """Pairs images with answers, and publishes gestures."""

    def __init__(self) -> None:
        super().__init__("sam_click")
        description = "Name of the node to talk to, with its namespace if it has one."
        descriptor = ParameterDescriptor(description=description, read_only=True)
        self._sam = str(self.declare_parameter("node", "sam", descriptor).value).rstrip("/")
        self._diagnostics_name = str(self.resolve_topic_name(self._sam)).strip("/") + ": prompt refused"
        self._pairing: Pairing[bytes, Detection2DArray] = Pairing(*declare_images_kept(self))
        self._colours = Colours()
        self._shown: tuple[int, int] | None = None
        self._throttle = Throttle(SAY_AGAIN_SEC)
        self._prompter = Prompter(self, self._name, on_refusal=self._refuse, on_answer=self._say)
        self.publish: Callable[[Gesture], None] = self._prompter.publish
        self._subscribe()
        self.get_logger().info(HELP)

    def newest(self) -> Picture | None:
        """The picture to show next; None as long as the one before is still the newest."""
        pair = self._pairing.newest(time.monotonic())
        if pair is None or pair.key == self._shown:
            return None
        self._shown = pair.key
        try:
            msg = deserialize_message(pair.image, Image)
            image_rgb = image_from_msg(msg, MAX_PIXELS)
            if pair.answer is not None and pair.answer.num_objects:
                labels = labels_of(deserialize_message(pair.answer.labels, Image))
                ids = [detection.id for detection in pair.answer.segments.detections]
                image_rgb = blended(image_rgb, labels, [self._colours.of(id) for id in ids])
        except Exception as error:  # noqa: BLE001 the next image may be better
            self.on_failure("showing an image", error)
            return None
        stamp = msg.header.stamp
        return Picture(image_rgb, Moment(stamp.sec, stamp.nanosec, msg.header.frame_id))

    def on_failure(self, what: str, error: Exception) -> None:
        """Something failed; it is said once in a while, and the window lives on."""
        if self._throttle.lets_pass(f"{what}: {type(error).__name__}"):
            self.get_logger().error(told(what, error))

    def _name(self, name: str) -> str:
        return f"{self._sam}/{name}"

    def _subscribe(self) -> None:
        def subscribe(kind: Any, topic: str, take: Any, qos: QoSProfile | int, *, raw: bool) -> None:
            take = guarded_take(take, str(self.resolve_topic_name(topic)), self.on_failure)
            self.create_subscription(kind, topic, take, qos, raw=raw)

        subscribe(Image, "image", self._take_image, image_qos("volatile"), raw=True)
        subscribe(Image, self._name("labels"), self._take_labels, ANSWER_QOS, raw=True)
        subscribe(Detection2DArray, self._name("segments"), self._take_segments, ANSWER_QOS, raw=False)
        subscribe(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10, raw=False)

    def _take_image(self, serialized: bytes) -> None:
        self._pairing.add_image(stamp_to_ns(deserialize_message(serialized, Header)), serialized)

    def _take_labels(self, serialized: bytes) -> None:
        stamp_ns = stamp_to_ns(deserialize_message(serialized, Header))
        self._pairing.add_labels(stamp_ns, serialized, time.monotonic())

    def _take_segments(self, msg: Detection2DArray) -> None:
        now_sec = time.monotonic()
        self._pairing.add_segments(stamp_to_ns(msg.header), msg, len(msg.detections), now_sec)
        late = self._pairing.late(now_sec)
        if late and self._throttle.lets_pass("late"):
            self.get_logger().warning(f"images only: {late}")

    def _take_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name == self._diagnostics_name:
                self.get_logger().warning(f"refused: {status.message}")

    def _refuse(self, topic: str, reason: str) -> None:
        self.get_logger().warning(f"{topic}: {reason}")

    def _say(self, name: str, is_done: bool, text: str) -> None:
        self.get_logger().info(f"{name}: {text}" if is_done else f"{name} was not done: {text}")


class Window:
    """The window: shows pictures, and turns mouse and keys into gestures."""

    def __init__(self, publish: Callable[[Gesture], None]) -> None:
        self.is_closed = False
        self.is_paused = False
        self._publish = publish
        self._hand, self._keys = Hand(), Keys()
        self._picture: Picture | None = None
        if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            raise WindowError("there is no display for a window (DISPLAY is not set): use the executable web")
        try:
            # Without Qt's toolbar, whose context menu would take the right click.
            cv2.namedWindow(WINDOW, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
            cv2.setMouseCallback(WINDOW, self._take_mouse)
        except cv2.error as error:
            raise WindowError(
                "this OpenCV has no windows: install opencv-python in place of opencv-python-headless, or "
                f"use the executable web ({str(error).strip()})"
            ) from error

    @property
    def stands_still(self) -> bool:
        """Whether the picture must not change: it is paused, or a button is down."""
        return self._picture is not None and (self.is_paused or self._hand.is_down)

    def show(self, picture: Picture | None) -> None:
        """Show a picture, or the present one again; then take the keys."""
        self._picture = picture or self._picture
        if self._picture is not None:
            cv2.imshow(WINDOW, cv2.cvtColor(self._drawn(self._picture.image_rgb), cv2.COLOR_RGB2BGR))
        self._take_key(cv2.waitKey(KEY_WAIT_MS) & 0xFF)
        if self._picture is not None and not self._is_visible():
            self.is_closed = True

    def close(self) -> None:
        """Remove the window, if it is still there."""
        if self._is_visible():
            cv2.destroyWindow(WINDOW)

    def _is_visible(self) -> bool:
        try:
            return bool(cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) >= 1)
        except cv2.error:  # Qt's way to say that there is no window any more
            return False

    def _drawn(self, image_rgb: ImageRgb) -> ImageRgb:
        if self._hand.box_xyxy is None:
            return image_rgb
        drawn = image_rgb.copy()
        x0, y0, x1, y1 = self._hand.box_xyxy
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), FOREGROUND_RGB, 1)
        return drawn

    def _take_mouse(self, event: int, x: int, y: int, flags: int, _: Any) -> None:
        if self._picture is None:
            return
        height, width = self._picture.image_rgb.shape[:2]
        inside = min(max(x, 0), width - 1), min(max(y, 0), height - 1)  # a drag may leave the window
        gesture = self._hand.take(event, *inside, flags, self._picture.moment)
        if gesture is not None:
            self._keys.prompted()
            self._publish(gesture)

    def _take_key(self, key: int) -> None:
        if key in QUIT_KEYS:
            self.is_closed = True
        elif key == ord(" "):
            self.is_paused = not self.is_paused
        elif (gesture := self._keys.take(key)) is not None:
            self._publish(gesture)


def blended(image_rgb: ImageRgb, labels: npt.NDArray[np.uint16], colours: Sequence[ColourRgb]) -> ImageRgb:
    """A copy of an (H, W, 3) image with label k of (H, W) in the k-th colour, 1 first, and its outline.

    Raises:
        InvalidImageError: the labels are of another size, or of more objects.
    """
    if labels.shape != image_rgb.shape[:2] or int(labels.max(initial=0)) > len(colours):
        raise InvalidImageError(
            f"labels of {labels.shape} up to {labels.max(initial=0)} do not belong to an image of "
            f"{image_rgb.shape[:2]} (H, W) with {len(colours)} objects"
        )
    palette = np.array([BACKGROUND_RGB, *colours], np.float32)  # (K + 1, 3); the first is never seen
    drawn = image_rgb.copy()
    inside = labels > 0  # (H, W)
    drawn[inside] = drawn[inside] * (1 - MASK_OPACITY) + palette[labels[inside]] * MASK_OPACITY
    edge = inside & (cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0)
    drawn[edge] = palette[labels[edge]]
    return drawn


def _box(start: tuple[int, int], end: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Around two pixels and all between, XYXY half-open; None if only an unsteady hand tells them apart."""
    (x0, x1), (y0, y1) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return (x0, y0, x1 + 1, y1 + 1) if max(x1 - x0, y1 - y0) > DRAG_PX else None


def main(argv: Sequence[str] | None = None) -> int:
    """The ``click`` executable; returns the exit code."""
    stop = event_set_by_signals()
    init_rclpy(argv)
    try:
        _run(stop)
    except (SamRosError, ParameterException) as error:
        rclpy.logging.get_logger("sam_click").fatal(str(error))
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


def _run(stop: Event) -> None:
    node = SamClick()
    window = Window(node.publish)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not (stop.is_set() or window.is_closed):
        spin_once(executor, 0.01, node.on_failure)
        window.show(None if window.stands_still else node.newest())
    window.close()
    executor.shutdown()
    node.destroy_node()


if __name__ == "__main__":
    sys.exit(main())
