"""Prompts of the file and of a bag's detections, as the node takes them."""

from __future__ import annotations

import pytest
from node_rig import FRAME_ID, detection, detections
from rclpy.serialization import serialize_message

from sam_ros.core.grid import padded_grid
from sam_ros.core.objects import Point, ProgramPrompt, ProgramPrompts, Target
from sam_ros.errors import InvalidPromptError, SamRosError
from sam_ros.tools.bag.prompts import FilePrompt
from sam_ros.tools.bag.requests import NEAR_NS, request_of_prompt, requests_of_detections

TARGET = Target(1, padded_grid((120, 160), 512))
OWN = (0, 0)


def prompt_of(prompt: FilePrompt, prompt_hw: tuple[int, int] = OWN) -> ProgramPrompt:
    update = request_of_prompt(prompt, 100, 5, prompt_hw).request.convert(TARGET)
    assert isinstance(update, ProgramPrompt)
    return update


def test_points_and_a_box_of_one_prompt_are_one_object() -> None:
    prompt = FilePrompt(
        "here", 0, False, "cup", "crockery", ((3.0, 4.0),), ((5.0, 6.0),), (10.0, 20.0, 31.0, 40.0)
    )
    expected = ProgramPrompt("cup", "crockery", (Point(3, 4, 1), Point(5, 6, 0)), (10.0, 20.0, 31.0, 40.0))
    assert prompt_of(prompt) == expected


def test_without_an_id_it_is_still_one_object_and_the_core_names_it() -> None:
    prompt = FilePrompt("here", 0, False, points=((3.0, 4.0), (5.0, 6.0)))
    assert prompt_of(prompt) == ProgramPrompt("", "", (Point(3, 4, 1), Point(5, 6, 1)))


def test_coordinates_of_a_smaller_image_are_scaled() -> None:
    prompt = FilePrompt("here", 0, False, box_xyxy=(10.0, 20.0, 30.0, 40.0))
    assert prompt_of(prompt, (60, 80)).box_xyxy == (20.0, 40.0, 60.0, 80.0)


def test_what_the_node_refuses_is_refused_with_its_reason() -> None:
    with pytest.raises(InvalidPromptError, match=r"the point \(400, 4\) is outside the image of 160 x 120"):
        prompt_of(FilePrompt("here", 0, False, points=((400.0, 4.0),)))


def test_seconds_count_from_the_first_image_and_take_one_that_is_near() -> None:
    timed = request_of_prompt(FilePrompt("here", 7, False, points=((1.0, 1.0),)), 100, 5, OWN)
    assert (timed.request.stamp_ns, timed.tolerance_ns, timed.request.topic) == (107, NEAR_NS, "here")
    timed = request_of_prompt(FilePrompt("here", 7, True, points=((1.0, 1.0),)), 100, 5, OWN)
    assert (timed.request.stamp_ns, timed.tolerance_ns) == (7, 5)


def test_a_message_of_detections_is_the_complete_set_of_its_stamp() -> None:
    message = detections(1_000_000_007, detection("a", (50, 60), (10, 20), "cup"), detection("b", (9, 9)))
    (timed,) = requests_of_detections("/found", [serialize_message(message)], 5, OWN)
    assert (timed.request.stamp_ns, timed.tolerance_ns) == (1_000_000_007, 5)
    assert (timed.request.topic, timed.request.frame_id) == ("/found", FRAME_ID)
    assert timed.request.convert(TARGET) == ProgramPrompts(
        (ProgramPrompt("a", "cup", (), (45.0, 50.0, 55.0, 70.0)), ProgramPrompt("b", "", (Point(9, 9, 1),)))
    )


def test_detections_without_a_stamp_or_without_sense_are_an_error() -> None:
    with pytest.raises(SamRosError, match="/found has a message without a stamp"):
        requests_of_detections("/found", [serialize_message(detections(0))], 5, OWN)
    with pytest.raises(SamRosError, match="are no Detection2DArray"):
        requests_of_detections("/found", [b"\x00\x01"], 5, OWN)
