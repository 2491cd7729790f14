"""Messages of their bytes: subscriptions take those, so that bad ones raise where it is caught."""

from __future__ import annotations

from typing import Any

from rclpy.serialization import deserialize_message
from std_msgs.msg import Header

from sam_ros.errors import InvalidImageError, SamRosError
from sam_ros.node.headers import stamp_to_ns

MALFORMED = "malformed message"  # the kind of what cannot be deserialized


def deserialize(serialized: bytes, message_type: Any) -> Any:
    """A message of its bytes.

    Subscriptions of the node take messages serialized: rclpy deserializes others before any callback, where
    what another program sent would raise in the executor.

    Raises:
        SamRosError: the bytes are no message of that type, or its stamp is no time.
    """
    try:
        return deserialize_message(serialized, message_type)
    except Exception as error:
        raise SamRosError(
            f"{len(serialized)} bytes are no {message_type.__name__}: {error}", MALFORMED
        ) from error


def deserialize_image(serialized: bytes, message_type: Any) -> Any:
    """An image message of its bytes.

    Raises:
        InvalidImageError: the bytes are no message of that type.
    """
    try:
        return deserialize(serialized, message_type)
    except SamRosError as error:
        raise InvalidImageError(str(error), error.kind) from error


def header_of_serialized(serialized: bytes) -> Header:
    """The header alone, of a serialized message that begins with it, as both kinds of image do.

    Raises:
        SamRosError: there is none.
    """
    return deserialize(serialized, Header)


def stamp_of_serialized(serialized: bytes) -> int:
    """The stamp of a serialized message that begins with its header, in nanoseconds.

    Raises:
        SamRosError: there is no header, or its stamp is no time.
    """
    return stamp_to_ns(header_of_serialized(serialized))
