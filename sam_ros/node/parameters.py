"""The node's parameters: each declared once, here, and read as one frozen value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from sam_ros.core.catalogue import MODELS
from sam_ros.errors import InvalidParameterError

INT64_MAX = 2**63 - 1
DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?", re.ASCII)


def _parameter(
    default: Any,
    description: str,
    *,
    choices: Sequence[str] = (),
    range: tuple[float, float] | None = None,
    fixed: bool = False,
    read_only: bool = False,
) -> Any:
    """One parameter: a field that carries its own declaration.

    ``fixed`` parameters can be set only while the node is unconfigured, ``read_only`` ones never.
    """
    metadata = {
        "description": description,
        "choices": choices,
        "range": range,
        "fixed": fixed,
        "read_only": read_only,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Parameters:
    """All parameters of the node ``sam``; ``config/sam.yaml`` mirrors them.

    Raises:
        InvalidParameterError: a value that its range or choices do not allow.
    """

    model_type: str = _parameter(
        "sam_tiny",
        "which Segment Anything model to run",
        choices=tuple(MODELS),
        fixed=True,
    )
    checkpoint: str = _parameter(
        "", "path of the weights; '' takes the shipped sam_tiny, or the verified download", fixed=True
    )
    device: str = _parameter(
        "auto", "where to compute: auto (a GPU where there is one), cpu, cuda or cuda:N", fixed=True
    )
    precision: str = _parameter(
        "auto",
        "of the image encoder; auto is bfloat16 where the device has instructions for it, else float32",
        choices=("auto", "float32", "bfloat16", "float16"),
        fixed=True,
    )
    compile: bool = _parameter(
        False, "compile the image encoder with torch.compile; configuring takes longer", fixed=True
    )
    image_transport: str = _parameter(
        "raw",
        "raw: sensor_msgs/Image; compressed: sensor_msgs/CompressedImage on <image>/compressed",
        choices=("raw", "compressed"),
        fixed=True,
    )
    encode: str = _parameter(
        "always",
        "which frames to encode: always (as many as there is time for) or on_prompt (those prompted on)",
        choices=("always", "on_prompt"),
        fixed=True,
    )
    max_rate: float = _parameter(
        0.0, "most frames to encode in a second, in Hz; 0 is unlimited", range=(0.0, 1000.0), fixed=True
    )
    max_image_pixels: int = _parameter(
        33177600, "larger images are dropped before they are decoded", range=(1, INT64_MAX), fixed=True
    )
    autostart: bool = _parameter(
        True, "configure and activate at the start; false leaves that to a lifecycle manager", read_only=True
    )
    follow: bool = _parameter(
        True,
        "follow the objects and answer on every encoded frame; false answers once for each prompt, on its "
        "frame, as does encode: on_prompt",
    )
    accumulate_clicks: bool = _parameter(
        False, "foreground clicks and boxes join the clicked object instead of replacing it"
    )
    multimask_output: bool = _parameter(
        True, "for a single point, predict three masks (whole, part, subpart) and publish the best"
    )
    min_predicted_iou: float = _parameter(
        0.0, "objects whose predicted IoU is lower are left out of all outputs", range=(0.0, 1.0)
    )
    min_stability_score: float = _parameter(
        0.0, "objects whose stability score is lower are left out of all outputs", range=(0.0, 1.0)
    )
    max_objects: int = _parameter(64, "how many objects may live at once", range=(1, 1024))
    embeddings_kept: int = _parameter(8, "how many embeddings a stamped prompt can refer to", range=(1, 256))
    images_kept: int = _parameter(
        30, "how many images, serialized, a stamped prompt can have encoded on demand", range=(0, 300)
    )
    stamp_tolerance: float = _parameter(
        0.05, "how far a prompt's stamp may be from its frame's, in seconds", range=(0.0, 10.0)
    )
    prompt_image_size: list[int] = _parameter(  # noqa: RUF009 it is a dataclass field
        [0, 0], "width and height of the image that prompts are given on; [0, 0] is the camera image's"
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            _check(one, getattr(self, one.name))
        if not DEVICE.fullmatch(self.device):
            raise InvalidParameterError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        width, height = self.prompt_image_size if len(self.prompt_image_size) == 2 else (-1, -1)
        if width < 0 or height < 0 or (width == 0) != (height == 0):
            raise InvalidParameterError(
                "prompt_image_size must be [width, height] or [0, 0] for the image's own, got "
                f"{list(self.prompt_image_size)}"
            )

    @property
    def prompt_hw(self) -> tuple[int, int]:
        """(H, W) of the image that prompts are given on; (0, 0) is the camera image's own."""
        return self.prompt_image_size[1], self.prompt_image_size[0]


FIXED_NAMES = frozenset(one.name for one in fields(Parameters) if one.metadata["fixed"])


def declare_parameters(node: Node) -> None:
    """Declare all parameters on a node.

    Raises:
        rclpy.exceptions.ParameterException: an override has another type or is out of range.
    """
    node.declare_parameters("", [(one.name, _default(one), _descriptor(one)) for one in fields(Parameters)])


def read_parameters(node: Node, changes: Iterable[Parameter] = ()) -> Parameters:
    """The node's parameters as they are, or as they would be with these changes.

    Raises:
        InvalidParameterError: a value that its range or choices do not allow.
    """
    names = [one.name for one in fields(Parameters)]
    values = {parameter.name: parameter.value for parameter in node.get_parameters(names)}
    values.update((change.name, change.value) for change in changes if change.name in values)
    values["prompt_image_size"] = list(values["prompt_image_size"])
    return Parameters(**values)


def _default(one: Field[Any]) -> Any:
    return getattr(Parameters(), one.name)


def _descriptor(one: Field[Any]) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=one.metadata["description"], read_only=one.metadata["read_only"]
    )
    if one.metadata["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(one.metadata["choices"])
    if one.metadata["fixed"]:
        descriptor.additional_constraints += "; can be set only while the node is unconfigured"
    descriptor.additional_constraints = descriptor.additional_constraints.removeprefix("; ")
    if one.metadata["range"] is not None:
        _set_range(descriptor, _default(one), one.metadata["range"])
    return descriptor


def _set_range(descriptor: ParameterDescriptor, default: Any, range: tuple[float, float]) -> None:
    low, high = range
    if isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    else:
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]


def _check(one: Field[Any], value: Any) -> None:
    choices, range = one.metadata["choices"], one.metadata["range"]
    if choices and value not in choices:
        raise InvalidParameterError(f"{one.name} must be one of {', '.join(choices)}, got {value!r}")
    if range is not None and not range[0] <= value <= range[1]:
        raise InvalidParameterError(f"{one.name} must be from {range[0]} to {range[1]}, got {value!r}")
