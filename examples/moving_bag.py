"""Make a small bag to try ``bag`` on: a photograph of a cup of coffee, seen by a camera that moves.

    python3 examples/moving_bag.py moving
    ros2 run sam_ros bag moving --prompts examples/coffee.yaml --output masks --video masks.mp4

It needs rosbags and scikit-image, and nothing of ROS: so one writes bags from any program.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from skimage import data

TOPIC, IMAGE = "/camera/image_raw", "sensor_msgs/msg/Image"
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 100_000_000
LATENCY_NS = 5_000_000  # a message is recorded a little after the stamp of its image
HEIGHT, WIDTH = 360, 560
SWAY_PX = 20
SWAY_IMAGES = 30  # for once around


def pictures(count: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Views (H, W, 3) RGB of a part of the photograph that goes around in a circle."""
    photograph = data.coffee()
    for number in range(count):
        angle = 2 * np.pi * number / SWAY_IMAGES
        x, y = (round(SWAY_PX * (1 + turn)) for turn in (np.sin(angle), np.cos(angle)))
        yield np.ascontiguousarray(photograph[y : y + HEIGHT, x : x + WIDTH])


def write_bag(path: Path, count: int) -> None:
    """Write so many images into a new bag."""
    types = get_typestore(Stores.ROS2_JAZZY)
    image, header, time = (
        types.types[name] for name in (IMAGE, "std_msgs/msg/Header", "builtin_interfaces/msg/Time")
    )
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=types)
        for number, picture in enumerate(pictures(count)):
            stamp_ns = START_NS + number * PERIOD_NS
            stamp = time(*divmod(stamp_ns, 1_000_000_000))
            message = image(header(stamp, "camera"), HEIGHT, WIDTH, "rgb8", 0, 3 * WIDTH, picture.reshape(-1))
            writer.write(connection, stamp_ns + LATENCY_NS, types.serialize_cdr(message, IMAGE))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the bag that the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", type=Path, help="of the bag; must not exist yet")
    parser.add_argument("--images", type=int, default=60, help="how many (%(default)s)")
    arguments = parser.parse_args(argv)
    write_bag(arguments.path, arguments.images)
    print(f"{arguments.images} images are in {arguments.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
