"""Gestures become messages on the prompted node's topics; without a node the reason is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import RosSession, ros_session

pytest.importorskip("aiohttp")

from web_rig import StandIn

from sam_ros.tools.web.gestures import Choose, Click, Command, Drag, Drawn, Gesture, Moment, Remove, Select
from sam_ros.tools.web.prompter import Prompter

MOMENT = Moment(7, 8, "lens")


class Prompting:
    """A prompter on the tester's own node, and what it was told."""

    def __init__(self, ros: RosSession) -> None:
        self.refused: list[tuple[str, str]] = []
        self.answered: list[tuple[str, bool, str]] = []
        self.prompter = Prompter(
            ros.node,
            lambda name: f"sam/{name}",
            on_refusal=lambda topic, reason: self.refused.append((topic, reason)),
            on_answer=lambda name, is_done, text: self.answered.append((name, is_done, text)),
        )


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


@pytest.mark.parametrize(
    ("gesture", "name", "content"),
    [
        (Click("foreground", 1.0, 2.0, MOMENT), "point", (7, 1.0)),
        (Click("more", 1.0, 2.0, MOMENT), "point_foreground", (7, 1.0)),
        (Click("background", 1.0, 2.0, MOMENT), "point_background", (7, 1.0)),
        (Drag((1.0, 2.0, 3.0, 4.0), MOMENT), "prompt", (7, 2.0)),
        (Choose(2), "choose", 2),
        (Select("_1"), "select", "_1"),
        (Remove(""), "remove", ""),
    ],
)
def test_each_gesture_has_its_topic(ros: RosSession, gesture: Gesture, name: str, content: Any) -> None:
    prompting, sam = Prompting(ros), StandIn(ros)
    topic = f"/sam/{name}"
    ros.wait_until(lambda: prompting.prompter.has_listener(name), topic)
    prompting.prompter.publish(gesture)
    got, msg = sam.next_prompt()
    assert got == name
    assert content_of(msg) == content
    assert prompting.refused == []


def content_of(msg: Any) -> Any:
    """The stamp and x of what has them, else the data."""
    if hasattr(msg, "point"):
        return msg.header.stamp.sec, msg.point.x
    if hasattr(msg, "bbox"):
        return msg.header.stamp.sec, msg.bbox.center.position.x
    return msg.data


@pytest.mark.parametrize("name", ["undo", "clear"])
def test_each_command_is_a_service_whose_answer_is_told(ros: RosSession, name: Any) -> None:
    prompting, sam = Prompting(ros), StandIn(ros)
    ros.wait_until(lambda: prompting.prompter.has_listener(name), name)
    prompting.prompter.publish(Command(name))
    ros.wait_until(lambda: bool(prompting.answered), "the answer")
    assert (prompting.answered, sam.calls) == ([(name, True, f"{name} it is")], [name])


def test_without_a_node_each_gesture_is_refused_by_the_name_of_where_it_would_go(ros: RosSession) -> None:
    prompting = Prompting(ros)
    for gesture in (Choose(0), Command("undo"), Drawn(1)):
        prompting.prompter.publish(gesture)
    assert prompting.refused == [
        ("/sam/choose", "nobody listens on this topic: is the node running?"),
        ("/sam/undo", "nobody offers this service: is the node running?"),
    ]
