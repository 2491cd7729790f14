"""README.md says what is so: its parameter tables, the files it links to, the commands it names."""

import re
from dataclasses import fields
from pathlib import Path

import yaml

from sam_ros.node.parameters import Parameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| `(.+?)` \|", re.MULTILINE)


def test_the_tables_hold_every_parameter_with_its_default() -> None:
    section = README.split("\n## Parameters\n")[1].split("\n## ")[0]
    documented = {name: yaml.safe_load(default) for name, default in ROW.findall(section)}
    defaults = Parameters()
    assert documented == {field.name: getattr(defaults, field.name) for field in fields(Parameters)}


def test_what_can_change_at_run_time_is_in_the_second_table() -> None:
    fixed, changing = README.split("\n## Parameters\n")[1].split("\nThese can be changed at any time:\n")
    names = {True: set[str](), False: set[str]()}
    for field in fields(Parameters):
        names[field.metadata["fixed"] or field.metadata["read_only"]].add(field.name)
    assert {name for name, _ in ROW.findall(fixed)} == names[True]
    assert {name for name, _ in ROW.findall(changing.split("\n## ")[0])} == names[False]


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []
