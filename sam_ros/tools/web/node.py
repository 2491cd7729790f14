"""``sam_web``: shows the camera and the answers of the node ``sam`` in a browser; sends it what is clicked.

It talks to that node through its public topics and services only, so it may run on another machine.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from sam_ros.errors import InvalidImageError, SamRosError, in_words
from sam_ros.node.guards import guarded_take, spin_once, told
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.images import image_from_compressed_msg, image_from_msg
from sam_ros.node.qos import image_qos
from sam_ros.node.reporting import SAY_AGAIN_SEC, Throttle
from sam_ros.node.startup import init_rclpy
from sam_ros.signals import event_set_by_signals
from sam_ros.tools.web import messages
from sam_ros.tools.web.colours import Colours
from sam_ros.tools.web.gestures import Choose, Gesture
from sam_ros.tools.web.pairing import Pair, Pairing
from sam_ros.tools.web.pictures import candidates_png, envelope, jpeg, labels_png
from sam_ros.tools.web.prompter import Prompter
from sam_ros.tools.web.server import Server
from sam_ros.tools.web.settings import Settings, declare_settings

# As the node publishes: two halves of an answer are to meet.
ANSWER_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
DIAGNOSTICS_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

MAX_PIXELS = 33_177_600  # 8K; the node's own limit by default
STATUS_PERIOD_SEC = 1.0
SILENT_SEC = 3.0  # the node reports once a second; after so long it is not running
GESTURES_WAITING = 64
SPIN_SEC = 0.1

Answers = Pair[bytes, Detection2DArray]


class SamWeb(Node):
    """Pairs images with answers, makes pictures of them while somebody looks, and publishes gestures.

    The server's thread only puts gestures into a queue and wakes this node's.
    """

    def __init__(self) -> None:
        super().__init__("sam_web")
        self.settings: Settings = declare_settings(self)
        self._node_name = str(self.resolve_topic_name(self.settings.node)).strip("/")
        self._gestures: queue.Queue[Gesture] = queue.Queue(GESTURES_WAITING)
        self._num_viewers = 0  # as the server last said
        self._subscriptions_of_viewers: list[Subscription] = []
        self._pairing = self._new_pairing()
        self._colours = Colours()
        self._sequence = 0
        self._shown: tuple[int, int] | None = None  # what the last picture was made of
        self._shown_sec = float("-inf")
        self._num_images = self._images_since_status = 0
        self._figures: dict[str, float] = {}
        self._node_status: dict[str, Any] = {}
        self._node_status_sec = float("-inf")
        self._image_problem = ""
        self._throttle = Throttle(SAY_AGAIN_SEC)
        self._prompter = Prompter(self, self._name, on_refusal=self._refuse, on_answer=self._say)
        self._wake = self.create_guard_condition(self._take_news)
        # Of the machine, not of ROS: with use_sim_time a bag that is paused stops the latter.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(STATUS_PERIOD_SEC, self._send_status, clock=steady)
        self._server = self._start_server()

    def _start_server(self) -> Server:
        server = Server(
            self.settings.host,
            self.settings.port,
            allowed_hosts=self.settings.allowed_hosts,
            max_viewers=self.settings.max_viewers,
            on_gesture=self._put_gesture,
            on_viewers=self._put_viewers,
            on_ready=self._wake.trigger,
        )
        port = server.start()
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        self.get_logger().info(f"open http://{host}:{port} in a browser; it shows {self._image_topic}")
        return server

    def stop(self) -> None:
        """Close the page's connections."""
        self._server.stop()

    @property
    def _image_topic(self) -> str:
        topic = str(self.resolve_topic_name("image"))
        return topic if self.settings.image_transport == "raw" else f"{topic}/compressed"

    def _name(self, name: str) -> str:
        """A topic or service of the node ``sam``, as absolute or relative as its name was given."""
        return f"{self.settings.node.rstrip('/')}/{name}"

    # From the server's thread.

    def _put_gesture(self, gesture: Gesture) -> None:
        with suppress(queue.Full):  # a flood: nobody clicks so fast
            self._gestures.put_nowait(gesture)
        self._wake.trigger()

    def _put_viewers(self, num_viewers: int) -> None:
        self._num_viewers = num_viewers
        self._wake.trigger()

    def _take_news(self) -> None:
        if bool(self._num_viewers) != bool(self._subscriptions_of_viewers):
            self._stop_looking() if self._subscriptions_of_viewers else self._look()
        while not self._gestures.empty():
            gesture = self._gestures.get_nowait()
            if not isinstance(gesture, Choose):  # of another object, or none: no page may offer them any more
                self._server.send({"type": "candidates_void"})
            self._prompter.publish(gesture)

    # What is subscribed to while somebody looks.

    def _look(self) -> None:
        """Subscribe to what the page shows."""
        is_raw = self.settings.image_transport == "raw"
        segments = self._name("segments")

        def subscribed(kind: Any, topic: str, take: Any, qos: QoSProfile, *, raw: bool) -> Subscription:
            take = guarded_take(take, str(self.resolve_topic_name(topic)), self.on_failure)
            return self.create_subscription(kind, topic, take, qos, raw=raw)

        # Serialized where most messages are not looked at any further.
        self._subscriptions_of_viewers = [
            subscribed(Image, self._name("labels"), self._take_labels, ANSWER_QOS, raw=True),
            subscribed(Detection2DArray, segments, self._take_segments, ANSWER_QOS, raw=False),
            subscribed(Image, self._name("candidates"), self._take_candidates, ANSWER_QOS, raw=False),
            subscribed(DiagnosticArray, "/diagnostics", self._take_diagnostics, DIAGNOSTICS_QOS, raw=False),
            subscribed(
                Image if is_raw else CompressedImage,
                self._image_topic,
                self._take_image,
                image_qos(self.settings.image_durability),
                raw=True,
            ),
        ]

    def _stop_looking(self) -> None:
        """Unsubscribe, and forget what was kept."""
        for subscription in self._subscriptions_of_viewers:
            self.destroy_subscription(subscription)
        self._subscriptions_of_viewers = []
        self._pairing, self._shown, self._num_images = self._new_pairing(), None, 0

    def _new_pairing(self) -> Pairing[bytes, Detection2DArray]:
        return Pairing(self.settings.images_kept, self.settings.images_kept_mb)

    def _take_image(self, serialized: bytes) -> None:
        self._num_images += 1
        self._images_since_status += 1
        try:
            self._pairing.add_image(_stamp_ns(serialized), serialized)
        except Exception as error:  # noqa: BLE001 the next image may be better
            self._tell_image_problem(error)

    def _take_labels(self, serialized: bytes) -> None:
        self._pairing.add_labels(_stamp_ns(serialized), serialized, time.monotonic())

    def _take_segments(self, msg: Detection2DArray) -> None:
        num_objects = len(msg.detections)
        self._pairing.add_segments(stamp_to_ns(msg.header), msg, num_objects, time.monotonic())
        for detection in msg.detections:  # colours go by the order in which objects appear, seen or not
            self._colours.of(detection.id)

    def _take_candidates(self, msg: Image) -> None:
        header = {"type": "candidates", **messages.moment_values(msg.header)}
        try:
            png = candidates_png(messages.candidates_of(msg))
        except InvalidImageError as error:
            self._server.send({"type": "failed", "reason": f"candidates: {error}"})
        else:
            self._server.send(envelope(header, png))

    def _take_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            name, _, what = status.name.rpartition(": ")
            if name == self._node_name:
                self._take_status(what, status)

    def _take_status(self, what: str, status: DiagnosticStatus) -> None:
        values = messages.status_values(status)
        if what == "segmentation":
            self._node_status, self._node_status_sec = values, time.monotonic()
            with suppress(ValueError):  # no report of the node
                self._pairing.encode_sec = messages.encode_sec(values["values"])
        elif what == "prompt refused":
            self._server.send({"type": "refused", **messages.refusal_values(values["values"])})
        elif what == "candidates":
            with suppress(ValueError):  # no report of the node
                iou = messages.candidate_values(values["values"])
                self._server.send({"type": "candidate_iou", **iou})
        else:
            self._server.send({"type": "failed", "reason": status.message})

    # Pictures.

    def show_newest(self) -> float:
        """Send a picture if there is a new one and a viewer with room for it.

        Returns:
            how many seconds may pass until this is worth calling again, if nothing comes before.
        """
        now_sec = time.monotonic()
        pair = self._pairing.newest(now_sec) if self._server.wants_frame() else None
        if pair is None or pair.key == self._shown:
            return SPIN_SEC
        wait_sec = self._shown_sec + self._period_sec - now_sec
        if wait_sec > 0:
            return min(wait_sec, SPIN_SEC)
        self._shown, self._shown_sec = pair.key, now_sec
        try:
            self._server.show(self._sequence + 1, self._frame(pair, self._sequence + 1))
            self._sequence, self._image_problem = self._sequence + 1, ""
        except Exception as error:  # noqa: BLE001 the next image may be better
            self._tell_image_problem(error)
        return SPIN_SEC

    @property
    def _period_sec(self) -> float:
        return 1.0 / self.settings.max_rate if self.settings.max_rate else 0.0

    def _frame(self, pair: Answers, sequence: int) -> bytes:
        """A picture with its answer, as it travels to the page.

        Raises:
            InvalidImageError: the image cannot be shown; the reason is in the message.
        """
        start_sec = time.monotonic()
        header, image_rgb = self._read_image(pair.image)
        height, width = image_rgb.shape[:2]
        objects, png = self._answer(pair, (height, width))
        picture = jpeg(image_rgb, self.settings.longest_side, self.settings.jpeg_quality)
        self._figures = {
            "picture_ms": 1000 * (time.monotonic() - start_sec),
            "picture_kb": (len(picture) + len(png)) / 1000,
            "age_ms": (self.get_clock().now().nanoseconds - pair.stamp_ns) / 1e6,
        }
        values = {
            "type": "frame",
            "sequence": sequence,
            **messages.moment_values(header),
            "size": [width, height],
            "answered": pair.answer is not None,
            "has_objects": self._pairing.has_objects,
            "objects": objects,
        }
        return envelope(values, picture, png)

    def _read_image(self, serialized: bytes) -> tuple[Header, Any]:
        if self.settings.image_transport == "raw":
            msg = deserialize_message(serialized, Image)
            return msg.header, image_from_msg(msg, MAX_PIXELS)
        msg = deserialize_message(serialized, CompressedImage)
        return msg.header, image_from_compressed_msg(msg, MAX_PIXELS)

    def _answer(self, pair: Answers, size_hw: tuple[int, int]) -> tuple[list[dict[str, Any]], bytes]:
        """The objects of a frame, and their label image as PNG: none without objects."""
        if pair.answer is None or not pair.answer.num_objects:
            return [], b""
        labels = messages.labels_of(deserialize_message(pair.answer.labels, Image))
        if labels.shape != size_hw:
            raise InvalidImageError(f"labels of {labels.shape} belong to an image of {size_hw} (H, W)")
        return messages.objects_of(pair.answer.segments, labels, self._colours), labels_png(labels)

    # What fails: said once in a while.

    def _tell_image_problem(self, error: Exception) -> None:
        self._image_problem = in_words(error)
        if self._throttle.lets_pass(f"image: {type(error).__name__}"):
            self.get_logger().warning(told(f"showing {self._image_topic}", error))

    def on_failure(self, what: str, error: Exception) -> None:
        """Something failed that does not keep images from being shown."""
        if self._throttle.lets_pass(f"{what}: {type(error).__name__}"):
            self.get_logger().error(told(what, error))
            self._server.send({"type": "failed", "reason": f"{what} failed: {in_words(error)}"})

    # Answers to gestures.

    def _refuse(self, topic: str, reason: str) -> None:
        self._server.send({"type": "refused", "topic": topic, "id": "", "reason": reason})

    def _say(self, name: str, is_done: bool, text: str) -> None:
        self._server.send({"type": "said", "good": is_done, "text": f"{name}: {text}"})

    # What the page says of the robot.

    def _send_status(self) -> None:
        images, self._images_since_status = self._images_since_status, 0
        if not self._num_viewers:
            return
        now_sec = time.monotonic()
        seen = now_sec - self._node_status_sec < SILENT_SEC
        self._server.send(
            {
                "type": "status",
                "image_topic": self._image_topic,
                "image_publishers": self.count_publishers(self._image_topic),
                "image_hz": images / STATUS_PERIOD_SEC,
                "image_is_still": self._num_images == 1,
                "image_problem": self._image_problem,
                "node": f"/{self._node_name}",
                "node_status": self._node_status if seen else None,
                "unpaired": self._pairing.num_unpaired,
                "late": self._pairing.late(now_sec),
                "viewers": self._num_viewers,
                **{name: round(value, 1) for name, value in self._figures.items()},
            }
        )


def _stamp_ns(serialized: bytes) -> int:
    """The stamp of a serialized message that begins with its header, as every kind of image does."""
    return stamp_to_ns(deserialize_message(serialized, Header))


def main(argv: Sequence[str] | None = None) -> int:
    """The ``web`` executable; returns the exit code."""
    stop = event_set_by_signals()
    init_rclpy(argv)
    try:
        _run(SamWeb, stop)
    except (SamRosError, ParameterException) as error:
        rclpy.logging.get_logger("sam_web").fatal(str(error))
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


def _run(make_node: Callable[[], SamWeb], stop: Event) -> None:
    node = make_node()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    wait_sec = SPIN_SEC
    while not stop.is_set():
        spin_once(executor, wait_sec, node.on_failure)
        wait_sec = node.show_newest()
    node.stop()
    executor.shutdown()
    node.destroy_node()


if __name__ == "__main__":
    sys.exit(main())
