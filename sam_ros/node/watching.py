"""Why no images come: what a person needs to hear who mistyped a topic or whose QoS does not match."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from sensor_msgs.msg import Image

from sam_ros.errors import SamRosError, shortened
from sam_ros.node.serialized import deserialize

RATE_SEC = 1.5  # of images, after which their rate is told
WAIT_SEC = 5.0  # without an image, after which the cause is said
PERIODS = 3  # of a slow camera, that it may be silent for
TOPICS_SHOWN = 5  # of other image topics


@dataclass(frozen=True)
class Offer:
    """What a publisher offers on a topic: its node, the type of its messages, and its QoS."""

    node_name: str
    message_type: str
    qos: QoSProfile


def why_no_images(
    topic: str,
    message_type: str,
    wanted: QoSProfile,
    offers: Sequence[Offer],
    topics: Mapping[str, Sequence[str]],
) -> str:
    """The cause, as far as the graph tells it, and what would mend it.

    Args:
        topic: on which images are awaited, its full name.
        message_type: of them, as sensor_msgs/msg/Image.
        wanted: QoS of the subscription.
        offers: of the publishers on that topic.
        topics: all topics that there are, with their types.
    """
    if not offers:
        return f"nothing publishes on {topic} ({message_type}); {_elsewhere(topic, message_type, topics)}"
    causes = [_mismatch(offer, message_type, wanted) for offer in offers]
    if not all(causes):
        return (
            f"no image comes on {topic}, though {_names(offers)} would publish there; if another user or a "
            "container does, set FASTDDS_BUILTIN_TRANSPORTS=UDPv4: shared memory does not get through"
        )
    return f"the publishers on {topic} do not fit: " + "; ".join(causes)


def _mismatch(offer: Offer, message_type: str, wanted: QoSProfile) -> str:
    """Why messages of a publisher do not reach the subscription; '' if they would."""
    if offer.message_type != message_type:
        hint = ", set image_transport:=compressed" if offer.message_type.endswith("CompressedImage") else ""
        return f"{offer.node_name} publishes {offer.message_type}, not {message_type}{hint}"
    compatibility, reason = qos_check_compatible(offer.qos, wanted)
    if compatibility != QoSCompatibility.ERROR:
        return ""
    return (
        f"{offer.node_name} offers {_qos(offer.qos)}, the node asks for {_qos(wanted)} "
        f"({reason.strip(';')}); change image_durability or qos_overrides"
    )


def _qos(qos: QoSProfile) -> str:
    return (
        f"{ReliabilityPolicy(qos.reliability).name.lower()}, {DurabilityPolicy(qos.durability).name.lower()}"
    )


def _names(offers: Sequence[Offer]) -> str:
    return ", ".join(sorted({offer.node_name for offer in offers}))


def _elsewhere(topic: str, message_type: str, topics: Mapping[str, Sequence[str]]) -> str:
    others = sorted(name for name, types in topics.items() if message_type in types and name != topic)
    if not others:
        return "there is no other topic of that type either"
    more = f" and {len(others) - TOPICS_SHOWN} more" if len(others) > TOPICS_SHOWN else ""
    return f"topics of that type are {', '.join(others[:TOPICS_SHOWN])}{more}: remap image to one of them"


class Notes(Protocol):
    """What says things to people, as ``Reporter`` does."""

    def note(self, text: str) -> None:
        """Say what a person should know."""

    def warn(self, kind: str, text: str) -> None:
        """Warn of something, each kind once in a while."""


class CameraWatch:
    """Says when images come, when they stop, and after a while without any why none do.

    Args:
        node: whose subscription it is.
        subscription: to the camera.
        reporter: says it.
        clock: seconds that never jump back; tests hand in their own.
    """

    def __init__(
        self, node: Node, subscription: Any, reporter: Notes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node, self._subscription, self._reporter, self._clock = node, subscription, reporter, clock
        self._since = clock()
        self._first: bytes | None = None  # serialized, until it is told
        self._first_sec = self._last_sec = self._since  # when the first and the last image came
        self._num_images = 0
        self._is_told = self._is_silent = False
        reporter.note(f"active, waiting for images on {self._topic} ({self._message_type})")

    def saw(self, serialized: bytes) -> None:
        """To be called with every image that comes."""
        now = self._clock()
        if not self._num_images:
            self._first, self._first_sec = serialized, now
        if self._is_silent:
            self._is_silent = False
            self._reporter.note(
                f"images come again on {self._topic}, after {now - self._last_sec:.1f} s without any"
            )
        self._num_images += 1
        self._last_sec = now

    def look(self) -> None:
        """To be called now and then."""
        if not self._num_images:
            if self._clock() - self._since > WAIT_SEC:
                self._reporter.warn("no images", self._why())
            return
        watched_sec = self._clock() - self._first_sec
        if not self._is_told and watched_sec > RATE_SEC:
            self._tell_images(watched_sec)
        self._look_for_silence()

    def _tell_images(self, watched_sec: float) -> None:
        """Say once what comes, and how often."""
        serialized, self._first, self._is_told = self._first or b"", None, True
        rate = f", {(self._num_images - 1) / watched_sec:.1f} Hz" if self._num_images > 1 else ""
        self._reporter.note(f"images come on {self._topic}: {self._described(serialized)}{rate}")

    def _look_for_silence(self) -> None:
        """Say once that a camera stopped; a still image, which came alone, has not."""
        if self._is_silent or self._num_images < 2:
            return
        silent_sec = self._clock() - self._last_sec
        period_sec = (self._last_sec - self._first_sec) / (self._num_images - 1)
        if silent_sec > max(WAIT_SEC, PERIODS * period_sec):
            self._is_silent = True
            self._reporter.warn("no images", f"no image for {silent_sec:.1f} s: {self._why()}")

    def _described(self, serialized: bytes) -> str:
        """Size and encoding of an image, as far as its message tells."""
        try:
            msg = deserialize(serialized, self._subscription.msg_type)
        except SamRosError as error:
            return str(error)
        if isinstance(msg, Image):
            return f"{msg.width} x {msg.height}, {shortened(msg.encoding)}"
        return f"{shortened(msg.format)}, {len(msg.data) / 1000:.0f} kB"

    def _why(self) -> str:
        topic = self._topic
        return why_no_images(
            topic,
            self._message_type,
            self._subscription.qos_profile,
            offers_on(self._node, topic),
            topics_with_publishers(self._node),
        )

    @property
    def _topic(self) -> str:
        name: str = self._subscription.topic_name
        return name

    @property
    def _message_type(self) -> str:
        package, module, *_ = self._subscription.msg_type.__module__.split(".")
        return f"{package}/{module}/{self._subscription.msg_type.__name__}"


def offers_on(node: Node, topic: str) -> list[Offer]:
    """What the publishers on a topic offer, its full name."""
    return [
        Offer(f"{info.node_namespace.rstrip('/')}/{info.node_name}", info.topic_type, info.qos_profile)
        for info in node.get_publishers_info_by_topic(topic)
    ]


def topics_with_publishers(node: Node) -> dict[str, list[Any]]:
    """The topics on which somebody publishes, with their types; without the node's own."""
    own = f"{node.get_fully_qualified_name()}/"
    return {
        name: types
        for name, types in node.get_topic_names_and_types()
        if not name.startswith(own) and node.count_publishers(name) > 0
    }
