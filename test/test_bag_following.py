"""Prompts and images, one after the other, with a model whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from fake_model import FakeModel, embedded_frame

from sam_ros.core.everything import EverythingIn
from sam_ros.core.frames import EmbeddedFrame, Frame
from sam_ros.core.objects import Point, ProgramPrompt, ProgramPrompts, RefusedObject, Target, Update
from sam_ros.core.segmenter import Options, Outputs
from sam_ros.errors import DeviceError, InvalidPromptError, SamRosError
from sam_ros.node.waiting import PromptRequest
from sam_ros.tools.bag.arrivals import Arrived
from sam_ros.tools.bag.following import Following
from sam_ros.tools.bag.plan import Plan
from sam_ros.tools.bag.preparing import Prepared
from sam_ros.tools.bag.progress import Progress
from sam_ros.tools.bag.requests import TimedRequest
from sam_ros.tools.bag.source import Recorded

PIXELS = np.full((6, 8, 3), 90, np.uint8)


def image(number: int, *, begins_anew: bool = False, lap: int = 0, next_number: int | None = 0) -> Prepared:
    """An image stamped with a hundred times its number."""
    embedded: EmbeddedFrame = embedded_frame(number, 100 * number)
    following = number + 1 if next_number == 0 else next_number
    stamp_ns = None if following is None else 100 * following
    recorded = Recorded(0, b"")
    arrived = Arrived(number - 1, recorded, embedded.frame, None, begins_anew, lap, stamp_ns)
    return Prepared(arrived, PIXELS, embedded)


def unreadable(number: int) -> Prepared:
    arrived = Arrived(number - 1, Recorded(0, b""), Frame(number, 100 * number, "", b""))
    return Prepared(arrived, problem=SamRosError("it is damaged", "damaged image"))


def program(ids: str) -> ProgramPrompts:
    """Objects, of which the model makes the mask that the point says; b has no cell of the others."""
    return ProgramPrompts(tuple(ProgramPrompt(id, "", (Point(0 if id == "b" else 3, 1, 1),)) for id in ids))


def prompt(
    id: str, stamp_ns: int, frame_id: str = "", update: Update | None = None, lap: int = 0
) -> TimedRequest:
    given = update or program(id).prompts[0]
    request = PromptRequest(f"line {id}", stamp_ns, frame_id, lambda _: given)
    return TimedRequest(request, 10, lap)


class Rig:
    def __init__(self, *requests: TimedRequest) -> None:
        self.model, self.progress = FakeModel(), Progress()
        self.following = Following(self.model, Options(), Plan(requests), self.progress)

    def ids(self, one: Prepared) -> list[str] | None:
        outputs: Outputs | None = self.following.answer(one)
        return None if outputs is None else [o.id for o, _ in outputs.objects]


def test_an_object_shows_from_the_image_of_its_prompt_on() -> None:
    rig = Rig(prompt("a", 200), prompt("b", 300))
    assert [rig.ids(image(number)) for number in (1, 2, 3)] == [[], ["a"], ["a", "b"]]
    assert rig.progress.position == 3 and rig.progress.prompts_taken == 2
    assert [record.images_seen for record in rig.progress.records.all] == [2, 1]


def test_a_message_of_a_program_lists_all_its_objects() -> None:
    sets = [program("ab"), program("c")]
    rig = Rig(*(prompt("", 100 * (i + 1), update=one) for i, one in enumerate(sets)))
    assert [rig.ids(image(number)) for number in (1, 2)] == [["a", "b"], ["c"]]


def test_what_is_refused_is_told_with_where_it_came_from() -> None:
    def refuse(_: Target) -> Update:
        raise InvalidPromptError("it is outside")

    outside = TimedRequest(PromptRequest("line 7", 100, "", refuse), 10)
    some = ProgramPrompts(
        (ProgramPrompt("z", "", (Point(3, 1, 1),)),),
        (RefusedObject("x", "no area", "empty box"), RefusedObject("y", "no area", "empty box")),
    )
    rig = Rig(
        outside, prompt("d", 100, "other"), prompt("e", 150), prompt("f", 900), prompt("g", 100, update=some)
    )
    assert rig.ids(image(1)) == ["z"]
    assert rig.ids(image(2, next_number=None)) == ["z"]
    rig.following.finish()
    assert rig.progress.refused == [
        "line e: no image is near enough to its time",
        "line 7: it is outside",
        "line d: its frame_id is 'other', the image's is 'camera'",
        "line g: no area (and 1 more objects)",
        "line f: no image is near enough to its time",
    ]
    assert rig.progress.prompts_taken == 5


def test_everything_is_refused() -> None:
    request = PromptRequest("line 3", 100, "", lambda _: EverythingIn(None))
    rig = Rig(TimedRequest(request, 10))
    assert rig.ids(image(1)) == []
    assert rig.progress.refused == ["line 3: everything can be asked of the node only"]


def test_an_image_without_answer_is_counted_and_its_prompts_are_refused() -> None:
    rig = Rig(prompt("a", 100))
    assert rig.ids(unreadable(1)) is None and rig.ids(unreadable(2)) is None
    assert rig.progress.dropped == {"damaged image": 2} and rig.progress.position == 2
    assert rig.progress.refused == ["line a: its image is left out: it is damaged"]


def test_where_stamps_jump_back_all_objects_are_forgotten() -> None:
    rig = Rig(prompt("a", 9000))
    assert rig.ids(image(90, next_number=1)) == ["a"]
    assert rig.ids(image(1, begins_anew=True, lap=1)) == []


def test_where_stamps_jump_back_prompts_of_each_lap_are_applied_in_it() -> None:
    rig = Rig(prompt("b", 200, lap=1), prompt("a", 200), prompt("c", 250))
    assert [rig.ids(image(1)), rig.ids(image(2, next_number=1))] == [[], ["a"]]
    assert rig.progress.prompts_taken == 1
    assert [rig.ids(image(1, begins_anew=True, lap=1)), rig.ids(image(2, lap=1))] == [[], ["b"]]
    assert rig.progress.refused == ["line c: no image is near enough to its time"]
    assert rig.progress.prompts_taken == 3


def test_a_failure_leaves_the_objects_as_they_were() -> None:
    rig = Rig(prompt("a", 100), prompt("b", 200))
    assert rig.ids(image(1)) == ["a"]
    before = rig.progress.table
    rig.model.failures.append(DeviceError("gone"))
    with pytest.raises(DeviceError):
        rig.following.answer(image(2))
    assert rig.progress.table is before
    assert (rig.progress.position, rig.progress.prompts_taken) == (1, 1)
