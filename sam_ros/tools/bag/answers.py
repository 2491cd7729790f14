"""The topics that the node would publish, written into a bag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.serialization import serialize_message

from sam_ros.core.segmenter import Outputs
from sam_ros.node.outputs import FRAME_OUTPUTS, Answer
from sam_ros.tools.bag.definitions import definition_of
from sam_ros.tools.bag.output import OutputBag, OutputTopic
from sam_ros.tools.bag.preparing import ReadImage

LABELS, SEGMENTS = "~/labels", "~/segments"
ROWS = tuple(row for row in FRAME_OUTPUTS if row.topic in ("~/mask", LABELS, SEGMENTS))


def resolved(topic: str, node: str) -> str:
    """The full name of a topic of a node with that full name, such as /sam."""
    return f"{node}/{topic.removeprefix('~/')}"


def output_topics(node: str) -> list[OutputTopic]:
    """The topics of all answers."""
    return [OutputTopic(resolved(row.topic, node), definition_of(row.message_type)) for row in ROWS]


class AnswerWriter:
    """Writes sets of answers, each recorded at the time of its image.

    Args:
        bag: takes them.
        node: full name of the node whose topics they have.
        read_image: of the camera.
    """

    def __init__(self, bag: OutputBag, node: str, read_image: ReadImage) -> None:
        self._bag, self._read_image = bag, read_image
        self._converters: list[tuple[str, Callable[[Answer], Any]]] = [
            (resolved(row.topic, node), row.new_converter()) for row in ROWS
        ]

    def write(self, outputs: Outputs, time_ns: int) -> None:
        """Write one set."""
        answer = Answer(outputs, self._read_image)
        for topic, convert in self._converters:
            self._bag.write(topic, time_ns, serialize_message(convert(answer)))
