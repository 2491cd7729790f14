"""The node's parameters: each declared once, here, and read as one frozen value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterNotDeclaredException
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
        "which frames to encode: always (as many as there is time for), with_objects (only while there are "
        "objects or prompts) or on_prompt (those prompted on)",
        choices=("always", "with_objects", "on_prompt"),
        fixed=True,
    )
    max_rate: float = _parameter(
        0.0, "most frames to encode in a second, in Hz; 0 is unlimited", range=(0.0, 1000.0), fixed=True
    )
    image_durability: str = _parameter(
        "volatile",
        "of the subscription to images: with transient_local an image is taken that was published once, "
        "before the node started, by a publisher that keeps it (reliable and transient_local)",
        choices=("volatile", "transient_local"),
        fixed=True,
    )
    threads: int = _parameter(
        0,
        "how many threads torch uses on the CPU, which other nodes need too; 0 is torch's own choice",
        range=(0, 256),
        fixed=True,
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
    follower: str = _parameter(
        "auto",
        "by what objects are followed: motion, or memory, that of models that have one; auto is the memory "
        "where the model has one",
        choices=("auto", "motion", "memory"),
    )
    click_mode: str = _parameter(
        "replace",
        "what a foreground click or a box does to the clicked object: replace it, join it, or add another "
        "one beside it",
        choices=("replace", "add", "join"),
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

    everything_points_per_side: int = _parameter(
        16,
        "of ~/segment_everything and ~/everything: a grid of so many points a side is asked for",
        range=(1, 64),
    )
    everything_min_predicted_iou: float = _parameter(
        0.8, "of everything, what has a lower predicted IoU is left out", range=(0.0, 1.0)
    )
    everything_min_stability_score: float = _parameter(
        0.9, "of everything, what has a lower stability score is left out", range=(0.0, 1.0)
    )
    everything_nms_iou: float = _parameter(
        0.7,
        "of everything, what has a box whose IoU with that of a better mask is higher is left out as a "
        "duplicate",
        range=(0.0, 1.0),
    )
    everything_min_area: int = _parameter(
        100,
        "of everything, what has fewer pixels is left out, smaller holes in masks are filled, and smaller "
        "islands removed",
        range=(0, INT64_MAX),
    )

    def __post_init__(self) -> None:
        for parameter in fields(self):
            _check(parameter, getattr(self, parameter.name))
        if not DEVICE.fullmatch(self.device):
            raise InvalidParameterError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.follower == "memory" and not MODELS[self.model_type].has_memory:
            raise InvalidParameterError(
                f"follower memory needs a model that has one, model_type {self.model_type} has none; set auto"
            )
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


FIXED_NAMES = frozenset(parameter.name for parameter in fields(Parameters) if parameter.metadata["fixed"])
FLOAT_NAMES = frozenset(
    parameter.name for parameter in fields(Parameters) if isinstance(parameter.default, float)
)


def declare_parameters(node: Node) -> None:
    """Declare all parameters on a node, which takes a whole number for a float from then on.

    Raises:
        rclpy.exceptions.ParameterException: an override has another type or is out of range.
    """
    # rclpy itself would refuse these.
    whole = {name: float(given.value) for name, given in _overrides(node).items() if _is_whole_float(given)}
    for parameter in fields(Parameters):
        name, descriptor = parameter.name, _descriptor(parameter)
        value = whole.get(name, _default(parameter))
        node.declare_parameter(name, value, descriptor, ignore_override=name in whole)
    node.add_pre_set_parameters_callback(lambda changes: [_as_declared(change) for change in changes])


def unknown_overrides(node: Node) -> dict[str, str]:
    """Overrides that name no parameter of the node, each with the nearest name that does, or ''.

    Those of QoS become parameters with the publisher or subscription that they are for.
    """
    return _unknown(node, _overrides(node))


def check_known(node: Node, changes: Iterable[Parameter]) -> None:
    """Refuse to set what is no parameter of the node; rclpy would do so without the name.

    Raises:
        rclpy.exceptions.ParameterNotDeclaredException: names it, and the nearest that is one.
    """
    unknown = _unknown(node, [change.name for change in changes])
    if unknown:
        raise ParameterNotDeclaredException(
            [f"{name}, did you mean {nearest}?" if nearest else name for name, nearest in unknown.items()]
        )


def _unknown(node: Node, names: Iterable[str]) -> dict[str, str]:
    """The names that are no parameters of the node, each with the nearest that is one, or ''."""
    known = node.list_parameters([], 0).names
    unknown = [name for name in names if not node.has_parameter(name)]
    return {name: next(iter(difflib.get_close_matches(name, known, 1)), "") for name in unknown}


def _overrides(node: Node) -> dict[str, Parameter]:
    """From the command line, files and the constructor, by name; rclpy has no public way to them."""
    return dict(node._parameter_overrides)


def _is_whole_float(parameter: Parameter) -> bool:
    """Whether it is an integer where a float is declared: people write ``max_rate: 5``."""
    return parameter.name in FLOAT_NAMES and parameter.type_ == Parameter.Type.INTEGER


def _as_declared(parameter: Parameter) -> Parameter:
    if _is_whole_float(parameter):
        return Parameter(parameter.name, value=float(parameter.value))
    return parameter


def read_parameters(node: Node, changes: Iterable[Parameter] = ()) -> Parameters:
    """The node's parameters as they are, or as they would be with these changes.

    Raises:
        InvalidParameterError: a value that its range or choices do not allow.
    """
    names = [parameter.name for parameter in fields(Parameters)]
    values = {parameter.name: parameter.value for parameter in node.get_parameters(names)}
    values.update((change.name, change.value) for change in changes if change.name in values)
    values["prompt_image_size"] = list(values["prompt_image_size"])
    return Parameters(**values)


def _default(parameter: Field[Any]) -> Any:
    return getattr(Parameters(), parameter.name)


def _descriptor(parameter: Field[Any]) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=parameter.metadata["description"], read_only=parameter.metadata["read_only"]
    )
    if parameter.metadata["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(parameter.metadata["choices"])
    if parameter.metadata["fixed"]:
        descriptor.additional_constraints += "; can be set only while the node is unconfigured"
    descriptor.additional_constraints = descriptor.additional_constraints.removeprefix("; ")
    if parameter.metadata["range"] is not None:
        _set_range(descriptor, _default(parameter), parameter.metadata["range"])
    return descriptor


def _set_range(descriptor: ParameterDescriptor, default: Any, range: tuple[float, float]) -> None:
    low, high = range
    if isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    else:
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]


def _check(parameter: Field[Any], value: Any) -> None:
    choices, range = parameter.metadata["choices"], parameter.metadata["range"]
    if choices and value not in choices:
        raise InvalidParameterError(f"{parameter.name} must be one of {', '.join(choices)}, got {value!r}")
    if range is not None and not range[0] <= value <= range[1]:
        raise InvalidParameterError(f"{parameter.name} must be from {range[0]} to {range[1]}, got {value!r}")
