"""A publisher of 500 Hz, as a motor's controller might be, which tells how late it was: one process."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from std_msgs.msg import Header

RATE_HZ = 500.0


def main(argv: Sequence[str] | None = None) -> int:
    """Publish for a while, then write the delays in seconds, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    rclpy.init(args=[])
    node = rclpy.create_node("metronome")
    publisher = node.create_publisher(Header, "tick", 1)
    message = Header(frame_id="metronome")
    delays: list[float] = []
    start = time.perf_counter()
    for tick in range(round(arguments.seconds * RATE_HZ)):
        due = start + tick / RATE_HZ
        time.sleep(max(0.0, due - time.perf_counter()))
        publisher.publish(message)
        delays.append(time.perf_counter() - due)
    node.destroy_node()
    rclpy.try_shutdown()
    arguments.output.write_text(json.dumps([round(delay, 7) for delay in delays]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
