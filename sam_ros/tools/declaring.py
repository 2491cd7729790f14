"""Parameters of the tools: read-only, described, and read where they are declared."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from sam_ros.errors import InvalidParameterError


def declared(node: Node, name: str, default: Any, description: str) -> Any:
    """Declare a parameter on a node and return its value, of the default's type.

    People write ``rate:=30`` where 30.0 is meant and ``source:=0`` where "0" is, so a number is taken for a
    float, and a whole number for text.

    Raises:
        InvalidParameterError: a value of another type where a float or text is meant.
        rclpy.exceptions.ParameterException: such a value elsewhere.
    """
    descriptor = ParameterDescriptor(description=description, read_only=True)
    descriptor.dynamic_typing = isinstance(default, (float, str))
    value = node.declare_parameter(name, default, descriptor).value
    if not descriptor.dynamic_typing or type(value) is type(default):
        return value
    if type(value) is int:
        return type(default)(value)
    expected = "text" if isinstance(default, str) else "a number"
    raise InvalidParameterError(f"parameter {name} must be {expected}, got {value!r}")
