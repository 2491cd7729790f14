"""What ``bag`` writes is what the node publishes, value for value, on the same images and prompts."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest
from bag_rig import LATENCY_NS, RADIUS, SIZE_HW, Written, images, place, read_bag, scene, write_bag
from node_rig import SECOND, NodeRig, OutputSet, detection, detections, header, image_msg
from processes import ros_session
from vision_msgs.msg import Detection2D

from sam_ros.node.parameters import Parameters
from sam_ros.tools.bag.arguments import Job
from sam_ros.tools.bag.job import run

COUNT = 12
OUTPUTS = ("mask", "labels", "segments")
TRIES = 3
"""A box for the ball on the first image, a point on the grass beside it later."""
FILE = """\
prompts:
  - {at: 0, id: ball, class: toy, box: [18, 28, 62, 72]}
  - {at: 5, id: grass, points: [[140, 100]]}
"""


def prompts() -> dict[int, Detection2D]:
    """The same as messages, by the number of their image."""
    return {
        0: detection("ball", (40, 50), (44, 44), "toy"),
        5: detection("grass", (140, 100)),
    }


def shown(number: int) -> Any:
    """The image of that number; in the middle something hides the ball."""
    image = scene(number)
    if number in (7, 8):
        image[:, : SIZE_HW[1] // 2 + 20] = 90
    return image


def one_by_one(rig: NodeRig) -> tuple[list[Any], list[OutputSet]]:
    """Images, and what the node publishes on each; a prompt comes before its image."""
    given = prompts()
    messages, answers = [], []
    for number in range(COUNT):
        stamp = rig.next_stamp_ns()
        if number in given:
            given[number].header = header(stamp)
            rig.send("prompt", given[number])
            assert rig.state() == "active"  # asked after the prompt was sent: it has come by now
        outputs = rig.next_set(shown(number), stamp)
        messages.append(image_msg(shown(number), "rgb8", stamp))
        answers.append(outputs)
    return messages, answers


def ids(outputs: OutputSet) -> list[str]:
    return [one.id for one in outputs["segments"].detections]


def has_both_objects_in_time(answers: list[OutputSet]) -> bool:
    """Whether no prompt was overtaken by its image on the way."""
    return "ball" in ids(answers[0]) and "grass" in ids(answers[5])


@pytest.fixture
def live(tmp_path: Path) -> tuple[list[Any], list[OutputSet]]:
    with ros_session(tmp_path) as ros:
        rig = NodeRig(ros, follow=True)
        for _ in range(TRIES):
            messages, answers = one_by_one(rig)
            if has_both_objects_in_time(answers):
                return messages, answers
            assert rig.trigger("clear").success
    raise AssertionError("a prompt was overtaken by its image each time")


def check_same(folder: Path, prompts: str, written: list[Written], answers: list[OutputSet]) -> None:
    """Run ``bag`` on what was recorded: it has the messages that the node published on each image."""
    path = folder / "prompts.yaml"
    path.write_text(prompts)
    write_bag(folder / "in", written)
    run(Job(folder / "in", folder / "out", path, "", "/sam", False, None, Parameters()), Event())
    found = read_bag(folder / "out")
    for name in OUTPUTS:
        assert [message for _, message in found[f"/sam/{name}"]] == [one[name] for one in answers], name


def test_bag_and_node_give_the_same(tmp_path: Path, live: tuple[list[Any], list[OutputSet]]) -> None:
    messages, answers = live
    assert ids(answers[7]) == ["grass"] and ids(answers[11]) == ["ball", "grass"]  # lost, and found again
    check_same(tmp_path, FILE, images(messages), answers)


LOOP = ((1, 0), (2, 1), (3, 2), (4, 3), (1, 12), (2, 13), (3, 14))
"""Of each image: the second of its stamp, which jumps back once, and the number of its scene."""
PROMPTED = (1, 5)
"""Images on which a detector finds the ball, one in each lap; by position, with the same stamp."""


def looped(rig: NodeRig) -> tuple[list[Written], list[OutputSet]]:
    """Images and detections as they would be recorded, and what the node publishes on each image."""
    written: list[Written] = []
    answers = []
    for position, (second, number) in enumerate(LOOP):
        stamp, recorded_ns = (100 + second) * SECOND, position * SECOND
        if second == 1:
            rig.forget_outputs()  # those of the lap before have the same stamps
        written.append(("/image", recorded_ns, image_msg(scene(number), "rgb8", stamp)))
        if position in PROMPTED:
            box = detections(stamp, detection("ball", place(number), (2 * RADIUS, 2 * RADIUS)))
            written.append(("/found", recorded_ns + LATENCY_NS, box))
            rig.send("prompts", box)
            assert rig.state() == "active"  # asked after the prompt was sent: it has come by now
        answers.append(rig.next_set(scene(number), stamp))
    return written, answers


@pytest.fixture
def live_loop(tmp_path: Path) -> tuple[list[Written], list[OutputSet]]:
    with ros_session(tmp_path) as ros:
        rig = NodeRig(ros, follow=True)
        for _ in range(TRIES):
            written, answers = looped(rig)
            if all("ball" in ids(answers[position]) for position in PROMPTED):
                return written, answers
    raise AssertionError("a prompt was overtaken by its image each time")


def test_where_stamps_jump_back_bag_and_node_give_the_same(
    tmp_path: Path, live_loop: tuple[list[Written], list[OutputSet]]
) -> None:
    written, answers = live_loop
    assert [ids(one) for one in answers] == [[], ["ball"], ["ball"], ["ball"], [], ["ball"], ["ball"]]
    check_same(tmp_path, "topic: /found\n", written, answers)
