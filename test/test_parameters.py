"""Parameters: declared on a real node, mirrored in sam.yaml, refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from rclpy.context import Context
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sam_ros.errors import InvalidParameterError
from sam_ros.node.parameters import (
    FIXED_NAMES,
    Parameters,
    declare_parameters,
    read_parameters,
    unknown_overrides,
)
from sam_ros.tools.domain import claimed_domain_id

YAML = Path(__file__).parents[1] / "config" / "sam.yaml"
NAMES = [field.name for field in fields(Parameters)]

# The tables of the design.
FIXED_DEFAULTS = {
    "model_type": "sam_tiny",
    "checkpoint": "",
    "device": "auto",
    "precision": "auto",
    "compile": False,
    "image_transport": "raw",
    "encode": "always",
    "max_rate": 0.0,
    "image_durability": "volatile",
    "threads": 0,
    "max_image_pixels": 33177600,
}
READ_ONLY_DEFAULTS = {"autostart": True}
CHANGING_DEFAULTS = {
    "follow": True,
    "follower": "auto",
    "click_mode": "replace",
    "multimask_output": True,
    "min_predicted_iou": 0.0,
    "min_stability_score": 0.0,
    "max_objects": 64,
    "embeddings_kept": 8,
    "images_kept": 30,
    "stamp_tolerance": 0.05,
    "prompt_image_size": [0, 0],
    "everything_points_per_side": 16,
    "everything_min_predicted_iou": 0.8,
    "everything_min_stability_score": 0.9,
    "everything_nms_iou": 0.7,
    "everything_min_area": 100,
}
DEFAULTS = FIXED_DEFAULTS | READ_ONLY_DEFAULTS | CHANGING_DEFAULTS
RANGES = {
    "max_rate": (0.0, 1000.0),
    "threads": (0, 256),
    "max_image_pixels": (1, 2**63 - 1),
    "min_predicted_iou": (0.0, 1.0),
    "min_stability_score": (0.0, 1.0),
    "max_objects": (1, 1024),
    "embeddings_kept": (1, 256),
    "images_kept": (0, 300),
    "stamp_tolerance": (0.0, 10.0),
    "everything_points_per_side": (1, 64),
    "everything_min_predicted_iou": (0.0, 1.0),
    "everything_min_stability_score": (0.0, 1.0),
    "everything_nms_iou": (0.0, 1.0),
    "everything_min_area": (0, 2**63 - 1),
}
CHOICES = {
    "model_type": (
        *("sam_tiny", "vit_b", "vit_l", "vit_h", "mobile_sam"),
        *("sam2.1_tiny", "sam2.1_small", "sam2.1_base_plus", "sam2.1_large", "edgetam"),
    ),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "image_transport": ("raw", "compressed"),
    "encode": ("always", "with_objects", "on_prompt"),
    "image_durability": ("volatile", "transient_local"),
    "click_mode": ("replace", "add", "join"),
    "follower": ("auto", "motion", "memory"),
}
TYPES = {
    str: Parameter.Type.STRING,
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    list: Parameter.Type.INTEGER_ARRAY,
}

MakeNode = Callable[..., Node]


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    """A context of its own, in a domain that no other test uses."""
    with claimed_domain_id() as domain_id:
        result = Context()
        result.init(args=[], domain_id=domain_id)
        yield result
        result.try_shutdown()


@pytest.fixture
def make_node(context: Context) -> Iterator[MakeNode]:
    """Make a node with all parameters declared, given overrides and command line arguments."""
    nodes: list[Node] = []

    def make(*cli_args: str, **overrides: Any) -> Node:
        node = Node(
            "sam",
            context=context,
            cli_args=["--ros-args", *cli_args],
            parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()],
        )
        nodes.append(node)
        declare_parameters(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def test_there_are_exactly_the_documented_parameters_with_their_defaults() -> None:
    assert vars(Parameters()) == DEFAULTS


def test_the_parameters_of_the_left_column_are_fixed() -> None:
    assert set(FIXED_DEFAULTS) == FIXED_NAMES


def test_the_file_has_every_parameter_with_its_default_and_type() -> None:
    mirrored = yaml.safe_load(YAML.read_text())["/**"]["ros__parameters"]
    assert mirrored == DEFAULTS
    assert {name: type(value) for name, value in mirrored.items()} == {
        name: type(value) for name, value in DEFAULTS.items()
    }


def test_the_file_has_a_comment_above_every_parameter() -> None:
    lines = [line.strip() for line in YAML.read_text().splitlines()]
    for name in NAMES:
        (number,) = (i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[number - 1].startswith("# "), name


def test_the_file_tells_every_range_and_choice() -> None:
    text = YAML.read_text()
    for name in CHOICES:
        comment = text.split(f"\n    {name}:")[0].splitlines()[-1]
        assert all(choice in comment for choice in CHOICES[name]), name
    for name, (_, high) in RANGES.items():
        comment = text.split(f"\n    {name}:")[0].splitlines()[-1]
        assert high >= 2**63 - 1 or f"{high:g}" in comment, name


def test_a_node_declares_the_parameters_as_documented(make_node: MakeNode) -> None:
    node = make_node()
    for name, default in DEFAULTS.items():
        parameter, descriptor = node.get_parameter(name), node.describe_parameter(name)
        value = list(parameter.value) if isinstance(default, list) else parameter.value
        assert value == default and parameter.type_ == TYPES[type(default)], name
        assert descriptor.description, name
        assert descriptor.read_only == (name in READ_ONLY_DEFAULTS), name
        assert not descriptor.dynamic_typing, name


def test_descriptors_tell_ranges_and_choices(make_node: MakeNode) -> None:
    node = make_node()
    for name in NAMES:
        descriptor = node.describe_parameter(name)
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert [(limits.from_value, limits.to_value) for limits in ranges] == (
            [RANGES[name]] if name in RANGES else []
        )
        for choice in CHOICES.get(name, ()):
            assert choice in descriptor.additional_constraints, name
        assert ("unconfigured" in descriptor.additional_constraints) == (name in FIXED_NAMES), name


def test_a_node_reads_its_defaults(make_node: MakeNode) -> None:
    assert read_parameters(make_node()) == Parameters()


def test_a_node_started_with_the_file_is_as_without(make_node: MakeNode) -> None:
    assert read_parameters(make_node("--params-file", str(YAML))) == Parameters()


def test_overrides_of_a_node_are_read(make_node: MakeNode) -> None:
    node = make_node(max_objects=3, encode="on_prompt", prompt_image_size=[640, 480], stamp_tolerance=0.5)
    read = read_parameters(node)
    assert (read.max_objects, read.encode, read.stamp_tolerance) == (3, "on_prompt", 0.5)
    assert read.prompt_image_size == [640, 480] and read.prompt_hw == (480, 640)


def test_changes_are_read_before_they_are_made(make_node: MakeNode) -> None:
    node = make_node()
    changes = [Parameter("max_objects", value=3), Parameter("use_sim_time", value=True)]
    assert read_parameters(node, changes) == Parameters(max_objects=3)
    assert read_parameters(node) == Parameters()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_rate", -0.1),
        ("max_rate", 1000.5),
        ("max_image_pixels", 0),
        ("min_predicted_iou", 1.01),
        ("min_predicted_iou", float("nan")),
        ("min_stability_score", -0.01),
        ("max_objects", 0),
        ("max_objects", 1025),
        ("embeddings_kept", 0),
        ("embeddings_kept", 257),
        ("images_kept", -1),
        ("images_kept", 301),
        ("stamp_tolerance", -1.0),
        ("stamp_tolerance", 10.1),
        ("stamp_tolerance", float("inf")),
        ("model_type", "vit_x"),
        ("model_type", ""),
        ("precision", "int8"),
        ("image_transport", "theora"),
        ("encode", "never"),
        ("device", ""),
        ("device", "tpu"),
        ("device", "cuda:"),
        ("device", "cuda:-1"),
        ("device", "cpu:0"),
        ("prompt_image_size", []),
        ("prompt_image_size", [640]),
        ("prompt_image_size", [640, 480, 3]),
        ("prompt_image_size", [640, 0]),
        ("prompt_image_size", [0, 480]),
        ("prompt_image_size", [-640, -480]),
    ],
)
def test_values_out_of_range_are_refused_by_name(make_node: MakeNode, name: str, value: Any) -> None:
    with pytest.raises(InvalidParameterError, match=name) as caught:
        Parameters(**{name: value})
    assert str(value) in str(caught.value)
    changed = Parameter(name, TYPES[type(DEFAULTS[name])], value)
    with pytest.raises(InvalidParameterError, match=name):
        read_parameters(make_node(), [changed])


def test_memory_is_refused_where_the_model_has_none() -> None:
    with pytest.raises(InvalidParameterError, match="model_type vit_b has none; set auto"):
        Parameters(model_type="vit_b", follower="memory")
    assert Parameters(model_type="edgetam", follower="memory").follower == "memory"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_a_device_is_named_as_torch_names_it(device: str) -> None:
    assert Parameters(device=device).device == device


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_are_allowed(make_node: MakeNode, name: str) -> None:
    ends: tuple[Any, Any] = RANGES[name]
    for end in ends:
        assert getattr(Parameters(**{name: end}), name) == end
        node = make_node()
        (result,) = node.set_parameters([Parameter(name, value=end)])
        assert result.successful, result.reason


@pytest.mark.parametrize(("name", "value"), [("max_objects", 0), ("stamp_tolerance", -0.5)])
def test_the_node_itself_keeps_to_the_ranges(make_node: MakeNode, name: str, value: Any) -> None:
    (result,) = make_node().set_parameters([Parameter(name, value=value)])
    assert not result.successful and name in result.reason
    with pytest.raises(InvalidParameterValueException, match=name):
        make_node(**{name: value})


def test_a_read_only_parameter_can_only_be_overridden(make_node: MakeNode) -> None:
    (result,) = make_node().set_parameters([Parameter("autostart", value=False)])
    assert not result.successful
    assert read_parameters(make_node(autostart=False)).autostart is False


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_objects", "many"), ("max_rate", "5"), ("max_rate", True), ("max_objects", 5.0), ("compile", 1)],
)
def test_a_value_of_another_type_is_refused(make_node: MakeNode, name: str, value: Any) -> None:
    with pytest.raises(InvalidParameterTypeException, match=name):
        make_node(**{name: value})


@pytest.mark.parametrize("name", ["max_rate", "min_predicted_iou", "min_stability_score", "stamp_tolerance"])
def test_an_integer_is_taken_for_a_float(make_node: MakeNode, name: str) -> None:
    node = make_node(**{name: 1})
    assert node.get_parameter(name).type_ == Parameter.Type.DOUBLE
    assert getattr(read_parameters(node), name) == 1.0
    (result,) = node.set_parameters([Parameter(name, value=0)])
    assert result.successful, result.reason
    assert node.get_parameter(name).type_ == Parameter.Type.DOUBLE
    assert getattr(read_parameters(node), name) == 0.0


def test_an_integer_from_the_command_line_is_taken_for_a_float(make_node: MakeNode) -> None:
    assert read_parameters(make_node("-p", "max_rate:=5")) == Parameters(max_rate=5.0)


def test_an_integer_for_a_float_must_be_in_its_range(make_node: MakeNode) -> None:
    with pytest.raises(InvalidParameterValueException, match="max_rate"):
        make_node(max_rate=1001)
    node = make_node()
    (result,) = node.set_parameters([Parameter("max_rate", value=-1)])
    assert not result.successful and "max_rate" in result.reason
    assert read_parameters(node) == Parameters()


def test_an_override_without_a_parameter_is_found_with_the_nearest_name(make_node: MakeNode) -> None:
    node = make_node("-p", "max_object:=3", "-p", "zzz:=1", click_moad="add", max_rate=5)
    assert unknown_overrides(node) == {
        "max_object": "max_objects",
        "zzz": "",
        "click_moad": "click_mode",
    }


def test_known_overrides_are_not_unknown(make_node: MakeNode) -> None:
    node = make_node("-p", "use_sim_time:=true", "--params-file", str(YAML), max_objects=3)
    assert unknown_overrides(node) == {}
