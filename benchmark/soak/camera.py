"""A camera of 30 Hz over a photograph that pans, and changes its resolution when told to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from benchmark.images import SIZES_HW, photograph
from benchmark.messages import filled_image
from benchmark.node import CAMERA_HZ, CAMERA_QOS
from sam_ros.tools.camera import PAN_PERIOD_SEC, panned

SIZES = ("1280 x 720", "640 x 480")  # the first one most of the time
PAN = 30  # pixels
FRAMES = 24  # of one swing; 66 MB of 720p


class Camera:
    """Publishes on ``image``.

    Args:
        node: publishes.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(Image, "image", CAMERA_QOS)
        self._swings = {size: list(_swing(SIZES_HW[size])) for size in SIZES}
        self._frames = itertools.cycle(self._swings[SIZES[0]])
        self.header = Header()
        """Of the newest image."""
        self.size_hw = SIZES_HW[SIZES[0]]
        node.create_timer(1 / CAMERA_HZ, self._publish)

    def change_size(self) -> None:
        """Publish images of the other size from now on."""
        other = next(size for size in SIZES if SIZES_HW[size] != self.size_hw)
        self._frames, self.size_hw = itertools.cycle(self._swings[other]), SIZES_HW[other]

    @property
    def is_small(self) -> bool:
        """Whether the images are of the smaller size."""
        return self.size_hw != SIZES_HW[SIZES[0]]

    def _publish(self) -> None:
        image = next(self._frames)
        image.header.stamp = self._node.get_clock().now().to_msg()
        self.header = Header(stamp=image.header.stamp, frame_id=image.header.frame_id)
        self._publisher.publish(image)


def _swing(size_hw: tuple[int, int]) -> Iterator[Image]:
    """The images of one swing to and fro, each of (H, W) pixels."""
    whole = photograph((size_hw[0] + PAN, size_hw[1] + 2 * PAN))
    for index in range(FRAMES):
        window = panned(whole, index * PAN_PERIOD_SEC / FRAMES, PAN)
        yield filled_image(np.ascontiguousarray(window), "rgb8")
