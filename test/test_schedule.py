"""Which frame is encoded next."""

from __future__ import annotations

from typing import Any

import pytest

from sam_ros.core.frames import Frame
from sam_ros.node.schedule import MAX_WAIT_SEC, frame_to_encode
from sam_ros.node.settings import Settings


@pytest.mark.parametrize(
    ("case", "chosen", "wait_sec"),
    [
        ({}, "newest", None),
        ({"wanted": True}, "wanted", None),
        ({"wanted": True, "is_behind": True, "encode": "on_prompt"}, "wanted", None),
        ({"is_behind": True}, None, None),
        ({"encode": "on_prompt"}, None, None),
        ({"encode": "with_objects"}, "newest", None),
        ({"newest": False}, None, None),
        ({"max_rate_hz": 2.0, "idle_sec": 0.5}, "newest", None),
        ({"max_rate_hz": 2.0, "idle_sec": 0.2}, None, 0.3),
        ({"max_rate_hz": 1e-12, "idle_sec": 0.2}, None, MAX_WAIT_SEC),
    ],
)
def test_which_frame_is_encoded_next(
    case: dict[str, Any], chosen: str | None, wait_sec: float | None
) -> None:
    frames = {name: Frame(1, 1, name, b"") for name in ("wanted", "newest")}
    frame, wait = frame_to_encode(
        frames["wanted"] if case.get("wanted") else None,
        frames["newest"] if case.get("newest", True) else None,
        Settings(encode=case.get("encode", "always"), max_rate_hz=case.get("max_rate_hz", 0.0)),
        is_behind=case.get("is_behind", False),
        idle_sec=case.get("idle_sec", 0.0),
    )
    assert (frame and frame.frame_id) == chosen and wait == pytest.approx(wait_sec)
