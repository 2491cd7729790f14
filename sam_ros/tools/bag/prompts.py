"""The file of prompts: which objects are meant, when and by what; errors name the line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NoReturn

import yaml

from sam_ros.core.objects import BoxXYXY
from sam_ros.errors import SamRosError, shortened

FILE_FIELDS = ("topic", "image_size", "prompts")
PROMPT_FIELDS = ("at", "stamp", "id", "class", "points", "background", "box")
LATEST_SEC = 4_294_967_295  # a stamp's seconds are 32 bits

PointXY = tuple[float, float]


class PromptFileError(SamRosError):
    """A file of prompts that cannot be used; the message names the file, the line and what would do."""

    kind = "prompt file"


@dataclass(frozen=True)
class FilePrompt:
    """One object, prompted on one image.

    Attributes:
        source: file and line, for messages.
        time_ns: nanoseconds after the stamp of the first image or, where ``is_stamp``, of a stamp itself.
        is_stamp: whether the time is a stamp.
        id: of the object, '' for a new one that is named by its number.
        class_id: what it is called, or ''.
        points, background: pixels of the image that are on the object, and that are not.
        box_xyxy: around it, pixel edges; None where there is none.
    """

    source: str
    time_ns: int
    is_stamp: bool
    id: str = ""
    class_id: str = ""
    points: tuple[PointXY, ...] = ()
    background: tuple[PointXY, ...] = ()
    box_xyxy: BoxXYXY | None = None


@dataclass(frozen=True)
class PromptFile:
    """What a file says.

    Attributes:
        topic: of the bag whose vision_msgs/Detection2DArray messages prompt too; '' for none.
        size_hw: (H, W) of the image that coordinates refer to; (0, 0) is the bag's own.
        prompts: in the order of the file.
    """

    topic: str
    size_hw: tuple[int, int]
    prompts: tuple[FilePrompt, ...]


def read_prompt_file(path: Path) -> PromptFile:
    """Read a file of prompts.

    Raises:
        PromptFileError: it cannot be read, or something in it is not understood.
    """
    try:
        with path.open(encoding="utf-8") as file:
            root = yaml.compose(file, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise PromptFileError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise PromptFileError(f"{path} is no YAML: {_yaml_problem(error)}") from error
    if root is None:
        raise PromptFileError(f"{path} is empty; it needs prompts or a topic")
    return _prompt_file(root)


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


def _prompt_file(root: yaml.Node) -> PromptFile:
    given = _fields(root, FILE_FIELDS, "the file")
    prompts = tuple(map(_prompt, _items(given["prompts"], "prompts"))) if "prompts" in given else ()
    topic = _text(given["topic"], "topic") if "topic" in given else ""
    if not prompts and not topic:
        _fail(root, "there is nothing to segment; give prompts or a topic")
    return PromptFile(topic, _size_hw(given["image_size"]) if "image_size" in given else (0, 0), prompts)


def _size_hw(node: yaml.Node) -> tuple[int, int]:
    width, height = _numbers(node, "image_size", ("width", "height"))
    if min(width, height) < 1 or width % 1 or height % 1:
        _fail(node, f"image_size must be [width, height] in whole pixels, got [{width:g}, {height:g}]")
    return int(height), int(width)


def _prompt(node: yaml.Node) -> FilePrompt:
    given = _fields(node, PROMPT_FIELDS, "a prompt")
    if ("at" in given) == ("stamp" in given):
        _fail(node, "a prompt needs either at (seconds after the first image) or stamp (of an image)")
    if "points" not in given and "box" not in given:
        _fail(node, "a prompt needs points, such as [[320, 240]], or a box, such as [200, 150, 440, 330]")
    when = "at" if "at" in given else "stamp"
    return FilePrompt(
        source=f"{_place(node)}",
        time_ns=_nanoseconds(given[when], when),
        is_stamp=when == "stamp",
        id=_text(given["id"], "id") if "id" in given else "",
        class_id=_text(given["class"], "class") if "class" in given else "",
        points=_points(given["points"], "points") if "points" in given else (),
        background=_points(given["background"], "background") if "background" in given else (),
        box_xyxy=_box(given["box"]) if "box" in given else None,
    )


def _points(node: yaml.Node, name: str) -> tuple[PointXY, ...]:
    items = _items(node, name)
    if any(isinstance(item, yaml.ScalarNode) for item in items):
        _fail(node, f"{name} must be a list of points, such as [[320, 240]]")
    found = []
    for item in items:
        x, y = _numbers(item, f"a point of {name}", ("x", "y"))
        found.append((x, y))
    return tuple(found)


def _box(node: yaml.Node) -> BoxXYXY:
    left, top, right, bottom = _numbers(node, "box", ("left", "top", "right", "bottom"))
    if left >= right or top >= bottom:
        _fail(
            node,
            f"box must be [left, top, right, bottom], got [{left:g}, {top:g}, {right:g}, {bottom:g}], which "
            "is empty",
        )
    return left, top, right, bottom


def _nanoseconds(node: yaml.Node, name: str) -> int:
    """Seconds as they are written, exactly: a stamp has more digits than a float."""
    written = _text(node, name)
    try:
        seconds = Decimal(written)
    except InvalidOperation:
        _fail(node, f"{name} must be a number of seconds, got {shortened(written)!r}")
    if not seconds.is_finite() or not 0 <= seconds <= LATEST_SEC:
        _fail(node, f"{name} must be seconds from 0 on, got {shortened(written)}")
    return int((seconds * 1_000_000_000).to_integral_value())


# What YAML is made of.


def _fields(node: yaml.Node, known: Collection[str], what: str) -> dict[str, yaml.Node]:
    """The values of a mapping by their names, all of which are known."""
    if not isinstance(node, yaml.MappingNode):
        _fail(node, f"{what} must be made of fields, such as {next(iter(known))}: ...")
    given: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
            _fail(key, f"{what} has no field {shortened(name)!r}; {hint}")
        if name in given:
            _fail(key, f"{what} has the field {name} twice")
        given[name] = value
    return given


def _items(node: yaml.Node, name: str) -> list[yaml.Node]:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        _fail(node, f"{name} must be a list with something in it")
    return list(node.value)


def _numbers(node: yaml.Node, what: str, names: tuple[str, ...]) -> list[float]:
    """As many finite numbers as there are names."""
    if not isinstance(node, yaml.SequenceNode) or len(node.value) != len(names):
        _fail(node, f"{what} must be [{', '.join(names)}]")
    return [_number(item, name) for item, name in zip(node.value, names, strict=True)]


def _number(node: yaml.Node, name: str) -> float:
    written = _text(node, name)
    try:
        number = float(written)
    except ValueError:
        _fail(node, f"{name} must be a number, got {shortened(written)!r}")
    if not math.isfinite(number):
        _fail(node, f"{name} must be finite, got {written}")
    return number


def _text(node: yaml.Node, name: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        _fail(node, f"{name} must be a single value")
    return str(node.value)


def _place(node: yaml.Node) -> str:
    return f"{node.start_mark.name}, line {node.start_mark.line + 1}"


def _fail(node: yaml.Node, reason: str) -> NoReturn:
    raise PromptFileError(f"{_place(node)}: {reason}")
