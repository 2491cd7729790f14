"""The documents say what is so: links, modules, import rules, topics, parameters and sizes."""

import ast
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import safetensors
import yaml
from test_imports import ARROWS

from sam_ros.node.parameters import Parameters

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sam_ros"
FOLDERS = ("docs", "standalone", "benchmark", "training", "examples")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(p for folder in FOLDERS for p in ROOT.glob(f"{folder}/**/*.md"))])
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
DESIGN = (ROOT / "docs/design.md").read_text()
NEW = "*new*"  # marks in the contract what is not built yet

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
PATH = re.compile(r"\b((?:sam_ros|test|config|launch|standalone|benchmark|training|docs)/[\w/]*(?:\.\w+)?)")


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level."""
    return text.split(f"\n## {title}")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def anchors(document: Path) -> set[str]:
    """What links to headings of a document may name, as GitHub forms it."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(document.read_text()):
        path = document.parent / target if target else document
        assert path.exists(), f"{document.name} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(path), f"{document.name} links to {target}#{anchor}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_modules_and_folders_that_are_named_exist(name: str) -> None:
    named = PATH.findall((ROOT / name).read_text())
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_module_has_its_place_in_the_list() -> None:
    modules = [path.relative_to(ROOT) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    listed = [cells[0] for cells in rows(ARCHITECTURE)]
    places = {place for cell in listed for place in re.findall(r"`(sam_ros/[^`]+)`", cell)}
    folders = tuple(place for place in places if place.endswith("/"))
    assert [
        str(path) for path in modules if str(path) not in places and not str(path).startswith(folders)
    ] == []


def test_the_printed_import_rules_are_those_that_are_tested() -> None:
    rules = section(ARCHITECTURE, "What may import what").split("What is where:")[0]
    printed = {
        "" if cells[0] == "`sam_ros`" else cells[0].strip("`"): {
            "" if folder == "sam_ros" else folder for folder in re.findall(r"`(\w+)`", cells[1].split(";")[0])
        }
        for cells in rows(rules)[2:]
    }
    assert printed == ARROWS


def test_the_drawn_import_rules_are_those_that_are_tested() -> None:
    drawing = section(ARCHITECTURE, "What may import what").split("```mermaid")[1].split("```")[0]
    drawn = set(re.findall(r"^  (\w+) --> (\w+)$", drawing, re.MULTILINE))
    rules = [(importer, imported) for importer, others in ARROWS.items() for imported in others]
    assert drawn == {(one or "top", other or "top") for one, other in rules if one != other}


def test_the_contract_marks_as_new_what_the_node_has_not() -> None:
    topics = rows(section(DESIGN, "Topics and services"))
    promised = {
        topic: NEW in cells[0]
        for cells in topics
        for topic in re.findall(r"`((?:~|/diagnostics)[\w/]*)`", cells[0])
    }
    trees = [ast.parse(path.read_text()) for path in PACKAGE.glob("node/*.py")]
    built = {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert len(promised) > 15
    assert {topic for topic, is_new in promised.items() if is_new} == set(promised) - built


def test_the_contract_has_every_parameter_with_its_default() -> None:
    table = rows(section(DESIGN, "Parameters"))[2:]
    cells = [cell for row in table for cell in (row[:2], row[4:6]) if cell[0] and NEW not in cell[0]]
    defaults = {name: re.match(r"\[.*?\]|''|[\w.]+", default) for name, default in cells}
    built = Parameters()
    assert {name: found and yaml.safe_load(found[0]) for name, found in defaults.items()} == {
        field.name: getattr(built, field.name) for field in fields(Parameters)
    }


def test_the_sizes_of_sam_tiny_are_those_of_its_file() -> None:
    with safetensors.safe_open(PACKAGE / "sam_tiny.safetensors", framework="numpy") as file:
        sizes = json.loads(file.metadata()["architecture"])
    (row,) = [cells for cells in rows(ARCHITECTURE) if cells[0] == "`sam_tiny`"]
    side, channels = sizes["image_size"], sizes["prompt_embed_dim"]
    assert row[1:4] == [str(side), str(channels), str(side // 4)]
