"""What the page may say, and that nothing else gets through."""

import json
from typing import Any

import pytest

from sam_ros.tools.web.gestures import (
    Choose,
    Click,
    Command,
    Drag,
    Drawn,
    Gesture,
    GestureError,
    Moment,
    Remove,
    Select,
    gesture_from_json,
)

SEEN = {"sec": 7, "nanosec": 8, "frame_id": "lens"}
MOMENT = Moment(7, 8, "lens")
CLICK = {"type": "click", "kind": "more", "x": 1.5, "y": 2, **SEEN}
DRAG = {"type": "drag", "x0": 1, "y0": 2, "x1": 3.5, "y1": 4, **SEEN}


@pytest.mark.parametrize(
    ("said", "gesture"),
    [
        (CLICK, Click("more", 1.5, 2.0, MOMENT)),
        (DRAG, Drag((1.0, 2.0, 3.5, 4.0), MOMENT)),
        ({"type": "choose", "index": 2}, Choose(2)),
        ({"type": "select", "id": "_1"}, Select("_1")),
        ({"type": "remove", "id": ""}, Remove("")),
        ({"type": "command", "name": "undo"}, Command("undo")),
        ({"type": "drawn", "sequence": 12}, Drawn(12)),
    ],
)
def test_each_gesture_is_read(said: dict[str, Any], gesture: Gesture) -> None:
    assert gesture_from_json(json.dumps(said)) == gesture


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be JSON"),
        ("[" * 3000, "must be JSON"),
        ("[]", r"must be a JSON object, got \[\]"),
        ('{"type": "shutdown"}', "type must be one of click, drag.*got 'shutdown'"),
        ('{"type": ["click"]}', "type must be one of"),
        (
            json.dumps({**CLICK, "kind": "left"}),
            "one of foreground, more, background, got 'left'",
        ),
        (json.dumps({**CLICK, "x": "1"}), "x must be a finite number, got '1'"),
        (json.dumps({**CLICK, "x": True}), "x must be a finite number, got True"),
        (json.dumps({**CLICK, "y": float("nan")}), "y must be a finite number, got nan"),
        (json.dumps({**CLICK, "y": float("-inf")}), "y must be a finite number"),
        (json.dumps({**CLICK, "sec": -1}), "sec must be an integer from 0"),
        (json.dumps({**CLICK, "sec": 2**31}), "sec must be an integer"),
        (json.dumps({**CLICK, "nanosec": 10**9}), "nanosec must be an integer from 0 to 999999999"),
        (json.dumps({**CLICK, "frame_id": "a" * 257}), "frame_id must be text of at most 256"),
        (json.dumps({**CLICK, "frame_id": "a\x00b"}), "frame_id must be text"),
        (json.dumps({**DRAG, "x1": 1}), r"x0 < x1 and y0 < y1, got \(1, 2, 1, 4\)"),
        ('{"type": "choose", "index": 3}', "index must be an integer from 0 to 2, got 3"),
        ('{"type": "choose", "index": 0.5}', "index must be an integer"),
        ('{"type": "select", "id": 5}', "id must be text"),
        ('{"type": "command", "name": "shutdown"}', "name must be one of undo, clear"),
        ('{"type": "drawn"}', "sequence must be an integer.*got None"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(GestureError, match=reason):
        gesture_from_json(text)


def test_what_came_is_quoted_in_short() -> None:
    with pytest.raises(GestureError) as caught:
        gesture_from_json(json.dumps({"type": "a" * 4000}))
    assert len(str(caught.value)) < 200
