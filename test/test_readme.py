"""README.md and the page of parameters say what is so: every parameter, files that are linked to."""

import re
from dataclasses import fields
from pathlib import Path

import yaml

from sam_ros.node.parameters import Parameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PARAMETERS = (ROOT / "docs/parameters.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| `(.+?)` \|", re.MULTILINE)


def test_the_tables_hold_every_parameter_with_its_default() -> None:
    documented = {name: yaml.safe_load(default) for name, default in ROW.findall(PARAMETERS)}
    defaults = Parameters()
    assert documented == {field.name: getattr(defaults, field.name) for field in fields(Parameters)}


def test_what_can_change_at_run_time_is_in_the_second_table() -> None:
    fixed, changing = PARAMETERS.split("\nThese can be changed at any time:\n")
    names = {True: set[str](), False: set[str]()}
    for field in fields(Parameters):
        names[field.metadata["fixed"] or field.metadata["read_only"]].add(field.name)
    assert {name for name, _ in ROW.findall(fixed)} == names[True]
    assert {name for name, _ in ROW.findall(changing)} == names[False]


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {link.split("#")[0] for link in re.findall(r"\]\((?!http|#)([^)]+)\)", README)}
    assert {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")} <= linked
