"""A client that comes, subscribes to some outputs, clicks now and then, and goes: a process of its own."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

import rclpy
from geometry_msgs.msg import Point
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from sam_ros.signals import event_set_by_signals

OUTPUTS = {
    "mask": Image,
    "labels": Image,
    "candidates": Image,
    "overlay": Image,
    "segments": Detection2DArray,
}
CLICK_PERIOD_SEC = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Stay for a while; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args(argv)
    ends = event_set_by_signals()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node(f"visitor_{arguments.seed}")
    _take_part(node, random.Random(arguments.seed))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    until = time.monotonic() + arguments.seconds
    while time.monotonic() < until and not ends.is_set():
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


def _take_part(node: Node, dice: random.Random) -> None:
    """Subscribe to some outputs, with a QoS of one's own, and click."""
    for name in dice.sample(list(OUTPUTS), dice.randint(1, len(OUTPUTS))):
        qos = QoSProfile(
            depth=dice.randint(1, 10),
            reliability=dice.choice((ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)),
        )
        node.create_subscription(OUTPUTS[name], f"sam/{name}", lambda _: None, qos, raw=True)
    click = node.create_publisher(Point, "sam/click", 10)
    node.create_timer(
        CLICK_PERIOD_SEC, lambda: click.publish(Point(x=dice.uniform(0, 639), y=dice.uniform(0, 479)))
    )


if __name__ == "__main__":
    sys.exit(main())
