"""Prompts as the node takes them, made of what the file of prompts says and of a bag's detections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from sam_ros.core.objects import ProgramPrompt, Target
from sam_ros.errors import InvalidPromptError, SamRosError
from sam_ros.node.conversions import BACKGROUND_CLASS, program_prompts_from_msg
from sam_ros.node.inputs import PROMPT_INPUTS
from sam_ros.node.serialized import deserialize
from sam_ros.node.waiting import PromptRequest
from sam_ros.tools.bag.laps import FIRST_LAP, Laps
from sam_ros.tools.bag.prompts import FilePrompt, PointXY
from sam_ros.tools.bag.source import Recorded

NEAR_NS = 1_000_000_000  # how far the nearest image may be from a prompt's seconds after the first one
UNNAMED = "unnamed"  # holds the detections of one object together; not its id
(PROGRAM,) = (row for row in PROMPT_INPUTS if row.topic == "~/prompts")


@dataclass(frozen=True)
class TimedRequest:
    """A prompt, and what tells its image.

    Attributes:
        request: the prompt.
        tolerance_ns: how far the image may be from its stamp.
        lap: of the image.
    """

    request: PromptRequest
    tolerance_ns: int
    lap: int = FIRST_LAP


def request_of_prompt(
    prompt: FilePrompt, first_stamp_ns: int, laps: Laps, tolerance_ns: int, prompt_hw: tuple[int, int]
) -> TimedRequest:
    """A prompt of the file.

    Seconds after the first image are of the first lap, a stamp is of the first lap that has it.

    Args:
        prompt: the prompt.
        first_stamp_ns: stamp of the bag's first image.
        laps: of the bag's images.
        tolerance_ns: how far an image's stamp may be from the prompt's, where that is a stamp.
        prompt_hw: (H, W) of the image that coordinates refer to; (0, 0) is the bag's own.
    """

    def convert(target: Target) -> ProgramPrompt:
        return _program_prompt(prompt, target, prompt_hw)

    stamp_ns = prompt.time_ns if prompt.is_stamp else first_stamp_ns + prompt.time_ns
    request = PromptRequest(prompt.source, stamp_ns, "", convert, undoable=False)
    if prompt.is_stamp:
        return TimedRequest(request, tolerance_ns, laps.of_stamp(stamp_ns))
    return TimedRequest(request, NEAR_NS)


def _program_prompt(prompt: FilePrompt, target: Target, prompt_hw: tuple[int, int]) -> ProgramPrompt:
    """What the prompt asks for on a frame.

    Raises:
        InvalidPromptError: it does not fit that frame.
    """
    asked = program_prompts_from_msg(Detection2DArray(detections=_detections(prompt)), target, prompt_hw)
    for refused in asked.refused:
        raise InvalidPromptError(refused.reason, kind=refused.kind)
    return replace(asked.prompts[0], id=prompt.id)


def _detections(prompt: FilePrompt) -> list[Detection2D]:
    """The detections of one object, of which a program's message would be made."""
    made = [_detection(prompt, point, prompt.class_id) for point in prompt.points]
    made += [_detection(prompt, point, BACKGROUND_CLASS) for point in prompt.background]
    if prompt.box_xyxy is not None:
        x0, y0, x1, y1 = prompt.box_xyxy
        box = _detection(prompt, ((x0 + x1) / 2, (y0 + y1) / 2), prompt.class_id)
        box.bbox.size_x, box.bbox.size_y = x1 - x0, y1 - y0
        made.append(box)
    return made


def _detection(prompt: FilePrompt, centre: PointXY, class_id: str) -> Detection2D:
    made = Detection2D(id=prompt.id or UNNAMED)
    made.bbox.center.position.x, made.bbox.center.position.y = centre
    made.results = [ObjectHypothesisWithPose()]
    made.results[0].hypothesis.class_id = class_id
    return made


def requests_of_detections(
    topic: str, messages: Iterable[Recorded], laps: Laps, tolerance_ns: int, prompt_hw: tuple[int, int]
) -> list[TimedRequest]:
    """A bag's serialized Detection2DArray messages: each is the complete set of a program's objects.

    Raises:
        SamRosError: one cannot be read, or has no stamp.
    """
    requests = []
    for recorded in messages:
        msg = deserialize(recorded.data, PROGRAM.message_type)
        request = PROGRAM.request(topic, msg, prompt_hw)
        if request.stamp_ns == 0:
            raise SamRosError(
                f"{topic} has a message without a stamp: it cannot be told which image it is of"
            )
        lap = laps.of_message(request.stamp_ns, recorded.time_ns)
        requests.append(TimedRequest(request, tolerance_ns, lap))
    return requests
