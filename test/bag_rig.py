"""Small bags, written and read without the code that is tested, and a ball that rolls through them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from node_rig import FRAME_ID, SECOND, header
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

TYPES = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "vision_msgs/msg/Detection2DArray": Detection2DArray,
}
VISION_MSGS = Path(__file__).parents[1] / "standalone" / "vision_msgs" / "msg"
START_NS = 1_700_000_000 * SECOND + 123_456_789
PERIOD_NS = SECOND // 10
LATENCY_NS = 7_000_000  # from an image's stamp to its recording
SIZE_HW = (120, 160)
RADIUS = 22

Written = tuple[str, int, Any]
"""Topic, time of recording, message."""


def typestore() -> Typestore:
    """The types of rosbags, and vision_msgs as the repository has them."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted(VISION_MSGS.glob("*.msg")):
        store.register(get_types_from_msg(path.read_text(), f"vision_msgs/msg/{path.stem}"))
    return store


def write_bag(
    path: Path,
    messages: Iterable[Written],
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A bag in a new folder, which is returned."""
    writer = Writer(path, version=8, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    store, names = typestore(), {kind: name for name, kind in TYPES.items()}
    with writer:
        connections: dict[str, Any] = {}
        for topic, time_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, names[type(message)], typestore=store)
            writer.write(connections[topic], time_ns, serialize_message(message))
    return path


def read_bag(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Time of recording and message, by topic."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with Reader(path) as reader:
        for connection, time_ns, data in reader.messages():
            message = deserialize_message(data, TYPES[connection.msgtype])
            found.setdefault(connection.topic, []).append((time_ns, message))
    return found


def stamp_of(number: int) -> int:
    """The stamp of an image of ``images``."""
    return START_NS + number * PERIOD_NS


def place(number: int) -> tuple[int, int]:
    """Where the ball's centre is, XY."""
    return 40 + 5 * number, 50 + 2 * number


def truth(number: int) -> npt.NDArray[np.bool_]:
    rows, columns = np.ogrid[: SIZE_HW[0], : SIZE_HW[1]]
    x, y = place(number)
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2)


def noise(seed: int, low: Sequence[int], high: Sequence[int]) -> npt.NDArray[np.uint8]:
    """(H, W, 3): blotches between two colours."""
    share = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 1, SIZE_HW), (0, 0), 2)
    share = np.clip(0.5 + 4 * (share - 0.5), 0, 1)[..., None]
    return np.asarray(np.array(low) + share * (np.array(high) - np.array(low)), np.uint8)


GRASS, BALL = noise(1, (40, 90, 30), (80, 140, 60)), noise(2, (150, 30, 20), (250, 120, 90))


def scene(number: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB: the ball on the grass."""
    shift = (2 * number, 5 * number)
    return np.where(truth(number)[..., None], np.roll(BALL, shift, axis=(0, 1)), GRASS)


def images(messages: Sequence[Any], topic: str = "/camera/image") -> list[Written]:
    """Messages, each recorded a little after its stamp."""
    return [
        (topic, message.header.stamp.sec * SECOND + message.header.stamp.nanosec + LATENCY_NS, message)
        for message in messages
    ]


def mono16_msg(number: int) -> Image:
    """An image of 16 bits that gets brighter with its number."""
    grey = cv2.cvtColor(scene(number), cv2.COLOR_RGB2GRAY).astype(np.uint16) * (4 + 3 * number)
    message = Image(header=header(stamp_of(number), FRAME_ID), encoding="mono16")
    message.height, message.width = grey.shape
    message.step = grey.strides[0]
    message.data.frombytes(grey.tobytes())
    return message
