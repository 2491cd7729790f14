"""The engine's listener: the node is one, to the last argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam_ros.node.listener import Listener
from sam_ros.node.sam_node import SamNode

NODE = Path(__file__).parents[1] / "sam_ros" / "node"
METHODS = {
    name: method
    for name, method in inspect.getmembers(Listener, inspect.isfunction)
    if not name.startswith("_")
}


@pytest.mark.parametrize("name", METHODS)
def test_the_node_takes_what_the_engine_tells(name: str) -> None:
    def parameters(method: Callable[..., Any]) -> list[str]:
        return list(inspect.signature(method).parameters)

    assert parameters(getattr(SamNode, name)) == parameters(METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_asked_of_a_listener_that_the_engine_never_tells(name: str) -> None:
    tellers = [path for path in NODE.glob("*.py") if path.name not in ("listener.py", "sam_node.py")]
    assert any(f"listener.{name}" in path.read_text() for path in tellers)
