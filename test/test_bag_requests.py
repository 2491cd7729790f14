"""Prompts of the file and of a bag's detections, as the node takes them."""

from __future__ import annotations

import pytest
from bag_rig import LATENCY_NS
from node_rig import FRAME_ID, SECOND, detection, detections, header
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from sam_ros.core.grid import padded_grid
from sam_ros.core.objects import Point, ProgramPrompt, ProgramPrompts, Target
from sam_ros.errors import InvalidPromptError, SamRosError
from sam_ros.tools.bag.arrivals import Arrivals
from sam_ros.tools.bag.laps import Laps
from sam_ros.tools.bag.prompts import FilePrompt
from sam_ros.tools.bag.requests import NEAR_NS, request_of_prompt, requests_of_detections
from sam_ros.tools.bag.source import Recorded

TARGET = Target(1, padded_grid((120, 160), 512))
OWN = (0, 0)
ONE_LAP = Laps(())


def recorded(message: Image | Detection2DArray, time_ns: int = 0) -> Recorded:
    return Recorded(time_ns, serialize_message(message))


def prompt_of(prompt: FilePrompt, prompt_hw: tuple[int, int] = OWN) -> ProgramPrompt:
    update = request_of_prompt(prompt, 100, ONE_LAP, 5, prompt_hw).request.convert(TARGET)
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
    timed = request_of_prompt(FilePrompt("here", 7, False, points=((1.0, 1.0),)), 100, ONE_LAP, 5, OWN)
    assert (timed.request.stamp_ns, timed.tolerance_ns, timed.request.topic) == (107, NEAR_NS, "here")
    timed = request_of_prompt(FilePrompt("here", 7, True, points=((1.0, 1.0),)), 100, ONE_LAP, 5, OWN)
    assert (timed.request.stamp_ns, timed.tolerance_ns) == (7, 5)


def test_a_message_of_detections_is_the_complete_set_of_its_stamp() -> None:
    message = detections(1_000_000_007, detection("a", (50, 60), (10, 20), "cup"), detection("b", (9, 9)))
    (timed,) = requests_of_detections("/found", [recorded(message)], ONE_LAP, 5, OWN)
    assert (timed.request.stamp_ns, timed.tolerance_ns) == (1_000_000_007, 5)
    assert (timed.request.topic, timed.request.frame_id) == ("/found", FRAME_ID)
    assert timed.request.convert(TARGET) == ProgramPrompts(
        (ProgramPrompt("a", "cup", (), (45.0, 50.0, 55.0, 70.0)), ProgramPrompt("b", "", (Point(9, 9, 1),)))
    )


def test_detections_without_a_stamp_or_without_sense_are_an_error() -> None:
    with pytest.raises(SamRosError, match="/found has a message without a stamp"):
        requests_of_detections("/found", [recorded(detections(0))], ONE_LAP, 5, OWN)
    with pytest.raises(SamRosError, match="are no Detection2DArray"):
        requests_of_detections("/found", [Recorded(0, b"\x00\x01")], ONE_LAP, 5, OWN)


def two_laps() -> Laps:
    """Images stamped 10, 11, 12 and again 10, 11, 12, 13; recorded from 100 on, all in seconds."""
    stamps = (10, 11, 12, 10, 11, 12, 13)
    images = (Image(header=header(sec * SECOND)) for sec in stamps)
    return Laps(map(Arrivals().take, [recorded(one, (100 + i) * SECOND) for i, one in enumerate(images)]))


def test_detections_of_one_stamp_are_of_the_lap_in_which_they_were_recorded() -> None:
    messages = [recorded(detections(11 * SECOND), sec * SECOND + LATENCY_NS) for sec in (101, 104)]
    timed = requests_of_detections("/found", messages, two_laps(), 5, OWN)
    assert [(one.request.stamp_ns, one.lap) for one in timed] == [(11 * SECOND, 0), (11 * SECOND, 1)]


def test_prompts_of_the_file_are_of_the_first_lap_that_has_their_stamp() -> None:
    def lap_of(sec: int, *, is_stamp: bool) -> int:
        prompt = FilePrompt("here", sec * SECOND, is_stamp, points=((1.0, 1.0),))
        return request_of_prompt(prompt, 10 * SECOND, two_laps(), 5, OWN).lap

    assert [lap_of(sec, is_stamp=True) for sec in (10, 12, 13)] == [0, 0, 1]
    assert [lap_of(sec, is_stamp=False) for sec in (0, 3)] == [0, 0]
