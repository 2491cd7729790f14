"""The example of docs/offline.md: the bag that it makes, and what its prompts find there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from threading import Event
from types import ModuleType
from typing import Any

import numpy as np
from bag_rig import read_bag
from node_rig import pixels_of, stamp_ns

from sam_ros.node.parameters import Parameters
from sam_ros.tools.bag.arguments import Job
from sam_ros.tools.bag.job import run

EXAMPLES = Path(__file__).parents[1] / "examples"
PROMPTS = EXAMPLES / "coffee.yaml"
COUNT = 6


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("moving_bag", EXAMPLES / "moving_bag.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


moving_bag = load_example()


def test_the_bag_holds_the_moving_picture(tmp_path: Path) -> None:
    assert moving_bag.main([str(tmp_path / "in"), "--images", str(COUNT)]) == 0
    (messages,) = read_bag(tmp_path / "in").values()
    for number, ((time_ns, message), picture) in enumerate(
        zip(messages, moving_bag.pictures(COUNT), strict=True)
    ):
        assert stamp_ns(message) == moving_bag.START_NS + number * moving_bag.PERIOD_NS
        assert time_ns == stamp_ns(message) + moving_bag.LATENCY_NS
        assert (message.encoding, message.header.frame_id) == ("rgb8", "camera")
        np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(picture.shape), picture)


def test_its_prompts_find_the_coffee_and_the_spoon(tmp_path: Path) -> None:
    moving_bag.write_bag(tmp_path / "in", COUNT)
    job = Job(tmp_path / "in", tmp_path / "out", PROMPTS, "", "/sam", False, None, Parameters())
    report = run(job, Event())
    assert report is not None and "coffee  drink  6 of 6" in report and "3 of 3" in report
    found: dict[str, list[Any]] = {
        topic: [m for _, m in some] for topic, some in read_bag(job.output).items()
    }
    for number, labels in enumerate(map(pixels_of, found["/sam/labels"])):
        sway = [moving_bag.SWAY_PX * (1 + f(2 * np.pi * number / 30)) for f in (np.sin, np.cos)]
        coffee = (
            round(287 - sway[0]),
            round(145 - sway[1]),
        )  # where it is on the photograph, less the window
        assert labels[coffee[1], coffee[0]] == 1
        assert labels[10, 10] == 0 and (labels == 2).any() == (number >= 3)
