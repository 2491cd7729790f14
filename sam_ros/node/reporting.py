"""What the node tells people: on /diagnostics at once, in its log each kind only once in a while."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from sam_ros.errors import shortened
from sam_ros.node import diagnostics
from sam_ros.node.statistics import Refusal, Snapshot

DIAGNOSTICS_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
SAY_AGAIN_SEC = 5.0  # the same kind of complaint is logged at most so often
ANSWER_AGAIN_SEC = 1.0  # and how the prompts of one topic are answered


class Throttle:
    """Decides what is said again; safe to use from several threads.

    Args:
        period_sec: what was said is not said again for so long.
        clock: seconds that never jump back; tests hand in their own.
    """

    def __init__(self, period_sec: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_sec = period_sec
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}

    def lets_pass(self, kind: str) -> bool:
        """Whether to say something of this kind now; if so, it counts as said."""
        now = self._clock()
        with self._lock:
            if now - self._said.get(kind, float("-inf")) < self._period_sec:
                return False
            self._said[kind] = now
            return True


class Reporter:
    """Logs and publishes diagnostics in the name of a node; safe to use from several threads.

    Args:
        node: whose logger, clock and name are used.
        throttle: decides what is logged again.
    """

    def __init__(self, node: Node, throttle: Throttle | None = None) -> None:
        self._node = node
        self._throttle = throttle or Throttle(SAY_AGAIN_SEC)
        self._answers = Throttle(ANSWER_AGAIN_SEC)
        self._publisher = node.create_publisher(
            DiagnosticArray,
            "/diagnostics",
            DIAGNOSTICS_QOS,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def status(self, state: str, snapshot: Snapshot, facts: Mapping[str, str]) -> None:
        """Publish the periodic report."""
        self._publisher.publish(diagnostics.status_msg(self._name, self._now(), state, snapshot, facts))

    def candidates(self, frame_stamp_ns: int, id: str, scores: Sequence[float]) -> None:
        """Publish whose masks ``~/candidates`` has, and their predicted IoUs."""
        message = diagnostics.candidates_msg(self._name, self._now(), frame_stamp_ns, id, scores)
        self._publisher.publish(message)

    def refusal(self, refusal: Refusal) -> None:
        """Tell that a prompt was refused."""
        self._publisher.publish(diagnostics.refusal_msg(self._name, self._now(), refusal))
        of_object = f", object {shortened(refusal.id)!r}" if refusal.id else ""
        on = f" on {refusal.topic}" if refusal.topic else ""
        self.warn(refusal.kind, f"refused a prompt{on}{of_object}: {refusal.reason}")

    def drop(self, kind: str, reason: str) -> None:
        """Tell that an image was dropped."""
        self.warn(kind, f"dropped an image: {reason}")

    def flush(self, reason: str) -> None:
        """Tell that all frames and objects were forgotten."""
        self.warn("flush", reason)

    def failure(self, what: str, error: Exception) -> None:
        """Tell of a failure that no input explains, with its traceback."""
        reason = f"{what} failed: {type(error).__name__}: {error}"
        self._publisher.publish(diagnostics.error_msg(self._name, self._now(), reason))
        if self._throttle.lets_pass(type(error).__name__):
            trace = "".join(traceback.format_exception(error))
            self._node.get_logger().error(f"{reason}\n{trace}")

    def note(self, text: str) -> None:
        """Say what a person should know."""
        self._node.get_logger().info(text)

    def answer(self, topic: str, text: str) -> None:
        """Say how a prompt was answered; of many on one topic, only some."""
        if self._answers.lets_pass(topic):
            self._node.get_logger().info(text)

    def warn(self, kind: str, text: str) -> None:
        """Warn of something, each kind once in a while."""
        if self._throttle.lets_pass(kind):
            self._node.get_logger().warning(text)

    @property
    def _name(self) -> str:
        return str(self._node.get_fully_qualified_name()).removeprefix("/")

    def _now(self) -> Any:
        return self._node.get_clock().now().to_msg()
