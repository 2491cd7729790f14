"""Arguments of the launch files: one for each parameter of the node, checked before anything starts."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument
from launch.conditions import evaluate_condition_expression
from launch.substitutions import LaunchConfiguration
from launch_ros.parameter_descriptions import ParameterValue

from sam_ros.errors import InvalidParameterError
from sam_ros.node.parameters import Parameters

# Those that launch itself takes.
OF_LAUNCH = ("launch-prefix", "launch-prefix-filter", "sigterm_timeout", "sigkill_timeout", "emulate_tty")


def parameter_arguments() -> list[DeclareLaunchArgument]:
    """An argument for each parameter of the node; '' leaves it to the file of parameters."""
    return [
        DeclareLaunchArgument(
            parameter.name,
            default_value="",
            description=f"Parameter: {parameter.metadata['description']}. '' leaves it to params_file",
        )
        for parameter in fields(Parameters)
    ]


def given_parameters(context: LaunchContext) -> dict[str, Any]:
    """The parameters that were given as arguments, for a launch_ros node.

    Raises:
        InvalidParameterError: one of another type, or outside its range.
    """
    texts = {one.name: context.launch_configurations.get(one.name, "") for one in fields(Parameters)}
    values = {one.name: _value(one, texts[one.name]) for one in fields(Parameters) if texts[one.name]}
    Parameters(**values)  # refuses by name what is out of range, before anything has started
    # launch_ros would read text that looks like a number as one.
    return {
        name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for name, value in values.items()
    }


def _value(parameter: Field[Any], text: str) -> Any:
    """A parameter's value of its text, which is YAML but for strings; a whole number may be a float."""
    kind = type(getattr(Parameters(), parameter.name))
    if kind is str:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or (kind is list and not all(type(one) is int for one in value)):
        raise InvalidParameterError(f"{parameter.name} must be of type {kind.__name__}, got {text!r}")
    return value


def check_arguments(file_name: str, known: Iterable[str], command_line: Sequence[str] | None = None) -> None:
    """Refuse arguments that a launch file does not have, where a person has given them to it.

    What another launch file includes is handed all arguments of that, so only the command line tells.

    Args:
        file_name: of the launch file.
        known: its arguments.
        command_line: of this process, by default.

    Raises:
        InvalidParameterError: there are such; the message has the nearest names.
    """
    words = sys.argv if command_line is None else command_line
    if not any(Path(word).name == file_name for word in words):
        return
    names = list(known)
    given = [name for name, is_argument, _ in (word.partition(":=") for word in words) if is_argument]
    unknown = [name for name in given if name not in (*names, *OF_LAUNCH)]
    if unknown:
        told = "; ".join(f"no argument {name!r}{_hint(name, names)}" for name in unknown)
        raise InvalidParameterError(f"{file_name} has {told}; --show-args lists all")


def check_file(argument: str, path: str) -> None:
    """Refuse the path of a file that is not there: launch_ros would go on without it.

    Raises:
        InvalidParameterError: there is none.
    """
    if not Path(path).is_file():
        raise InvalidParameterError(f"{argument}: there is no file {path!r}")


def check_package(package: str, argument: str) -> None:
    """Refuse an argument that needs a package that is not installed.

    Raises:
        InvalidParameterError: it is not.
    """
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        debian = f"ros-{os.environ.get('ROS_DISTRO', '$ROS_DISTRO')}-{package.replace('_', '-')}"
        raise InvalidParameterError(
            f"{argument} needs {package}: sudo apt install {debian}; or see and click in a browser: web:=true"
        ) from None


def full_topic(namespace: str, topic: str) -> str:
    """The full name of a topic of a node in a namespace: a name with a leading slash has it already."""
    if topic.startswith("/"):
        return topic
    return "/" + "/".join(filter(None, (namespace.strip("/"), topic)))


def is_true(context: LaunchContext, argument: str) -> bool:
    """Whether an argument that is true or false is true.

    Raises:
        launch.conditions.InvalidConditionExpressionError: it is neither.
    """
    return bool(evaluate_condition_expression(context, [LaunchConfiguration(argument)]))


def _hint(name: str, names: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
