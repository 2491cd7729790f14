"""The parameters of ``sam_web``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.node import Node

from sam_ros.errors import InvalidParameterError
from sam_ros.tools.web.pairing import IMAGES_KEPT, IMAGES_KEPT_MB

CHOICES = {
    "image_transport": ("raw", "compressed"),
    "image_durability": ("volatile", "transient_local"),
}
LARGEST_RATE_HZ = 1000.0


@dataclass(frozen=True)
class Settings:
    """What can be set, all of it at the start.

    Raises:
        InvalidParameterError: a value that no range could refuse.
    """

    host: str
    port: int
    allowed_hosts: tuple[str, ...]
    max_viewers: int
    node: str
    image_transport: str
    image_durability: str
    max_rate: float
    longest_side: int
    jpeg_quality: int
    images_kept: int
    images_kept_mb: int

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidParameterError(
                    f"parameter {name} must be {' or '.join(choices)}, got {getattr(self, name)!r}"
                )
        for name in ("host", "node"):
            if not getattr(self, name):
                raise InvalidParameterError(f"parameter {name} is empty")


def declare_settings(node: Node) -> Settings:
    """Declare every parameter and read it.

    Raises:
        InvalidParameterError: see ``Settings``.
        rclpy.exceptions.ParameterException: a value of another type or outside its range.
    """
    declared = partial(_declared, node)
    images_kept, images_kept_mb = declare_images_kept(node)
    return Settings(
        host=declared("host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets the whole network in."),
        port=declared("port", 8080, "Port to listen on; 0 takes any free one.", 0, 65535),
        allowed_hosts=tuple(
            declared("allowed_hosts", [""], "Further names under which browsers may open the page.")
        ),
        max_viewers=declared("max_viewers", 8, "How many pages may be open at once.", 1, 1000),
        node=declared("node", "sam", "Name of the node to talk to, with its namespace if it has one."),
        image_transport=declared("image_transport", "raw", "raw: image; compressed: <image>/compressed."),
        image_durability=declared(
            "image_durability", "volatile", "transient_local: a still image that came before is shown, too."
        ),
        max_rate=_rate("max_rate", declared("max_rate", 15.0, "Most pictures in a second; 0 is unlimited.")),
        longest_side=declared(
            "longest_side", 1280, "Pictures are made smaller until no side is longer.", 16, 16384
        ),
        jpeg_quality=declared("jpeg_quality", 80, "Of the pictures.", 1, 100),
        images_kept=images_kept,
        images_kept_mb=images_kept_mb,
    )


def declare_images_kept(node: Node) -> tuple[int, int]:
    """Declare how many images wait for their masks, and how many MB of them; whoever shows images has both.

    Raises:
        rclpy.exceptions.ParameterException: a value of another type or outside its range.
    """
    megabytes = "How many MB the images may have that wait for their masks."
    return (
        _declared(node, "images_kept", IMAGES_KEPT, "How many images wait for their masks.", 1, 10000),
        _declared(node, "images_kept_mb", IMAGES_KEPT_MB, megabytes, 1, 1_000_000),
    )


def _declared(
    node: Node, name: str, default: Any, description: str, smallest: int = 0, largest: int = 0
) -> Any:
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if isinstance(default, float):
        descriptor.dynamic_typing = True  # an integer will do; no range holds for both
    elif isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=smallest, to_value=largest, step=1)]
    return node.declare_parameter(name, default, descriptor).value


def _rate(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LARGEST_RATE_HZ:
        raise InvalidParameterError(
            f"parameter {name} must be a number from 0 to {LARGEST_RATE_HZ:g} Hz, got {value!r}"
        )
    return float(value)
