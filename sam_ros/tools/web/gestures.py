"""What a person did on the page, read from its JSON; nothing that comes from outside is trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sam_ros.errors import SamRosError

ClickKind = Literal["foreground", "more", "background"]
CommandName = Literal["undo", "clear"]

LONGEST_TEXT = 256
NUM_CANDIDATES = 3
INT32_MAX = 2**31 - 1


class GestureError(SamRosError, ValueError):
    """A message of a page that is no gesture; names the field, what was expected and what came."""

    kind = "invalid gesture"


@dataclass(frozen=True)
class Moment:
    """The frame that the person saw: the header of its image."""

    sec: int
    nanosec: int
    frame_id: str


@dataclass(frozen=True)
class Click:
    """A click, in pixels of the image; (0, 0) is the centre of the first pixel."""

    kind: ClickKind
    x: float
    y: float
    moment: Moment


@dataclass(frozen=True)
class Drag:
    """A box, XYXY in pixel edges of the image; both sides are positive."""

    box_xyxy: tuple[float, float, float, float]
    moment: Moment


@dataclass(frozen=True)
class Choose:
    """The k-th best candidate, 0 first."""

    index: int


@dataclass(frozen=True)
class Select:
    """The object with this id is to be the clicked one."""

    id: str


@dataclass(frozen=True)
class Remove:
    """The object with this id is to be forgotten; '' is the clicked one."""

    id: str


@dataclass(frozen=True)
class Command:
    """One of the node's services."""

    name: CommandName


@dataclass(frozen=True)
class Drawn:
    """The page has drawn the frame with this number and is ready for another."""

    sequence: int


Gesture = Click | Drag | Choose | Select | Remove | Command | Drawn


def gesture_from_json(text: str) -> Gesture:
    """Read one message of the page.

    Raises:
        GestureError: it is none of the gestures above.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GestureError(f"a gesture must be JSON: {error}") from error
    if not isinstance(values, dict):
        raise GestureError(f"a gesture must be a JSON object, got {_shown(values)}")
    make = READERS.get(str(values.get("type")))
    if make is None:
        raise GestureError(f"type must be one of {', '.join(READERS)}, got {_shown(values.get('type'))}")
    return make(values)


def _click(values: Mapping[str, Any]) -> Click:
    kind = _one_of(values, "kind", get_args(ClickKind))
    return Click(kind, _number(values, "x"), _number(values, "y"), _moment(values))


def _drag(values: Mapping[str, Any]) -> Drag:
    x0, y0, x1, y1 = (_number(values, name) for name in ("x0", "y0", "x1", "y1"))
    if not (x0 < x1 and y0 < y1):
        raise GestureError(f"a box must have x0 < x1 and y0 < y1, got ({x0:g}, {y0:g}, {x1:g}, {y1:g})")
    return Drag((x0, y0, x1, y1), _moment(values))


def _moment(values: Mapping[str, Any]) -> Moment:
    sec = _integer(values, "sec", 0, INT32_MAX)
    return Moment(sec, _integer(values, "nanosec", 0, 999_999_999), _text(values, "frame_id"))


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < INT32_MAX:
        raise GestureError(f"{name} must be a finite number, got {_shown(value)}")
    return float(value)


def _integer(values: Mapping[str, Any], name: str, smallest: int, largest: int) -> int:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise GestureError(f"{name} must be an integer from {smallest} to {largest}, got {_shown(value)}")
    return value


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise GestureError(f"{name} must be text of at most {LONGEST_TEXT} characters, got {_shown(value)}")
    return value


def _one_of(values: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> Any:
    value = values.get(name)
    if value not in allowed:
        raise GestureError(f"{name} must be one of {', '.join(allowed)}, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


READERS: Mapping[str, Callable[[Mapping[str, Any]], Gesture]] = {
    "click": _click,
    "drag": _drag,
    "choose": lambda values: Choose(_integer(values, "index", 0, NUM_CANDIDATES - 1)),
    "select": lambda values: Select(_text(values, "id")),
    "remove": lambda values: Remove(_text(values, "id")),
    "command": lambda values: Command(_one_of(values, "name", get_args(CommandName))),
    "drawn": lambda values: Drawn(_integer(values, "sequence", 0, 2**53)),
}
