"""Definitions of message types as recorders put them into bags, taken from the installed interfaces."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory

SEPARATOR = "=" * 80


@dataclass(frozen=True)
class Definition:
    """What a reader needs to know of a message type.

    Attributes:
        type_name: such as sensor_msgs/msg/Image.
        text: its .msg file, followed by those of all types that it is made of.
        type_hash: REP 2016's, as publishers announce it.
    """

    type_name: str
    text: str
    type_hash: str


def type_name_of(message_type: Any) -> str:
    """The name of a message class, such as sensor_msgs/msg/Image."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"


def definition_of(message_type: Any) -> Definition:
    """The definition of a message class."""
    type_name = type_name_of(message_type)
    described = json.loads(_file(type_name, ".json").read_text())
    hashes = {one["type_name"]: one["hash_string"] for one in described["type_hashes"]}
    others = [one["type_name"] for one in described["type_description_msg"]["referenced_type_descriptions"]]
    parts = [_file(type_name, ".msg").read_text(), *map(_section, others)]
    return Definition(type_name, "\n".join(parts), hashes[type_name])


def _section(type_name: str) -> str:
    package, _, name = type_name.split("/")
    return f"{SEPARATOR}\nMSG: {package}/{name}\n{_file(type_name, '.msg').read_text()}"


def _file(type_name: str, suffix: str) -> Path:
    package, kind, name = type_name.split("/")
    return Path(get_package_share_directory(package), kind, f"{name}{suffix}")
