"""One frame's work without threads: what is asked of the model, what of its answers is shown."""

from __future__ import annotations

import numpy as np
import pytest
from fake_model import FakeModel, FakeRememberingModel, embedded_frame

from sam_ros.core.frames import EmbeddedFrame
from sam_ros.core.objects import (
    Box,
    Choice,
    MaskPrompt,
    ObjectTable,
    Point,
    ProgramPrompt,
    ProgramPrompts,
    RefusedObject,
    Update,
)
from sam_ros.core.segmenter import Options, Outputs, Segmented, Segmenter
from sam_ros.errors import InvalidPromptError

OPTIONS = Options()
FRAME, NEXT = embedded_frame(1, 100), embedded_frame(2, 200)
FOREGROUND, OTHER, BACKGROUND = Point(3, 1, 1), Point(4, 2, 1), Point(5, 2, 0)


class Rig:
    """A segmenter with a fake model, and the table that its results lead to."""

    def __init__(self, model: FakeModel) -> None:
        self.model = model
        self.recorded: list[str] = []
        self.segmenter = Segmenter(self.model, lambda name, _: self.recorded.append(name))
        for frame in (FRAME, NEXT):
            self.segmenter.see(frame.sequence, np.full((6, 8, 3), 90, np.uint8))
        self.table = ObjectTable()

    def prompt(self, update: Update, frame: EmbeddedFrame = FRAME, options: Options = OPTIONS) -> Segmented:
        return self._prompt(update, frame, options, follows=False)

    def prompt_following(self, update: Update, frame: EmbeddedFrame = FRAME) -> Segmented:
        return self._prompt(update, frame, OPTIONS, follows=True)

    def _prompt(self, update: Update, frame: EmbeddedFrame, options: Options, follows: bool) -> Segmented:
        result = self.segmenter.prompted(
            self.table, update, frame, options, follows=follows, wants_candidates=lambda: True
        )
        self.table = result.table
        return result

    def follow(self, frame: EmbeddedFrame = NEXT) -> Segmented:
        result = self.segmenter.followed(self.table, OPTIONS, frame)
        self.table = result.table
        return result


@pytest.fixture(params=[FakeModel, FakeRememberingModel], ids=["motion", "memory"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Whichever way objects are followed, all of this holds."""
    return Rig(request.param())


def ids(outputs: Outputs) -> list[str]:
    return [o.id for o, _ in outputs.objects]


def program(*ids: str) -> ProgramPrompts:
    return ProgramPrompts(tuple(ProgramPrompt(id, "", (Point(i, 0, 1),)) for i, id in enumerate(ids, 1)))


def test_a_prompt_answers_for_all_objects_on_its_frame(rig: Rig) -> None:
    rig.prompt(program("a"))
    result = rig.prompt(FOREGROUND)
    assert ids(result.outputs) == ["a", "_1"] and result.outputs.frame is FRAME.frame
    assert result.outputs.size_hw == (6, 8) and rig.recorded == ["decode"] * 2
    (_, click) = result.table.objects
    np.testing.assert_array_equal(click.low_res_logits, np.full((4, 4), 3, np.float32))


def test_on_another_frame_other_objects_are_asked_for_by_their_logits_and_keep_them(rig: Rig) -> None:
    rig.prompt(FOREGROUND)
    before = rig.table.objects[0].low_res_logits
    result = rig.prompt(program("a"), NEXT)
    assert ids(result.outputs) == ["_1", "a"]
    number, (by_logits, by_point), _ = rig.model.decoded[-1]
    assert number == 2 and by_logits.point_coords is None and by_point.point_coords is not None
    assert rig.table.objects[0].low_res_logits is before


def test_while_following_only_what_was_prompted_is_asked_for(rig: Rig) -> None:
    rig.prompt_following(program("a", "b"))
    result = rig.prompt_following(FOREGROUND)
    assert ids(result.outputs) == ["_1"] and [o.id for o in result.table.objects] == ["a", "b", "_1"]


def test_while_following_a_late_click_refines_the_object_where_it_was_then(rig: Rig) -> None:
    rig.prompt_following(FOREGROUND)
    rig.follow(NEXT)
    rig.prompt_following(BACKGROUND, FRAME)
    _, (prompt,), _ = rig.model.decoded[-1]
    assert prompt.point_labels is not None and prompt.point_labels.tolist() == [1, 0]
    rig.follow(NEXT)
    rig.prompt_following(BACKGROUND, NEXT)
    _, (prompt,), _ = rig.model.decoded[-1]
    assert prompt.point_labels is not None and prompt.point_labels.tolist() == [0]
    assert prompt.low_res_logits is not None


def test_a_followed_frame_shows_what_is_confirmed_and_marks_the_rest_as_lost(rig: Rig) -> None:
    rig.prompt_following(FOREGROUND)
    assert ids(rig.follow(NEXT).outputs) == ["_1"] and "follow" in rig.recorded
    rig.model.next_logits = [np.full((4, 4), -1, np.float32)]
    assert ids(rig.follow(embedded_frame(3, 300)).outputs) == []
    assert [o.is_lost for o in rig.table.objects] == [True]


def test_a_frame_without_objects_asks_nothing_and_shows_nothing(rig: Rig) -> None:
    result = rig.follow(FRAME)
    assert result.outputs.objects == () and result.outputs.frame is FRAME.frame
    assert not rig.model.decoded and not rig.recorded


def test_objects_are_repeated_as_they_are(rig: Rig) -> None:
    rig.prompt(FOREGROUND)
    for frame, three in ((FRAME, True), (NEXT, False)):  # by its click, and by its logits
        result = rig.segmenter.repeated(rig.table, OPTIONS, frame)
        assert result.table is rig.table and ids(result.outputs) == ["_1"]
        assert result.outputs.candidates is None and rig.model.decoded[-1][2] == [three]


def test_a_prompt_that_is_refused_as_a_whole_raises(rig: Rig) -> None:
    with pytest.raises(InvalidPromptError, match="needs a clicked object"):
        rig.prompt(BACKGROUND)


def test_when_every_object_of_a_prompt_is_refused_nothing_changes(rig: Rig) -> None:
    table = rig.table
    result = rig.prompt(ProgramPrompts((), (RefusedObject("bad", "no", "box"),)))
    assert result.change is None and result.table is table and len(result.refused) == 1
    assert not rig.model.decoded


@pytest.mark.parametrize(
    ("update", "three"),
    [(FOREGROUND, True), (Box((0, 0, 2, 2)), False), (MaskPrompt(np.ones((4, 4), np.float32)), False)],
    ids=["point", "box", "mask"],
)
def test_three_masks_are_asked_for_only_for_a_single_point(rig: Rig, update: Update, three: bool) -> None:
    result = rig.prompt(update)
    assert rig.model.decoded[-1][2] == [three]
    assert (result.outputs.candidates is not None) == three
    rig.prompt(update, options=Options(multimask_output=False))
    assert rig.model.decoded[-1][2] == [False]


def test_candidates_nobody_wants_are_not_made(rig: Rig) -> None:
    result = rig.segmenter.prompted(
        ObjectTable(), FOREGROUND, FRAME, OPTIONS, follows=False, wants_candidates=lambda: False
    )
    assert result.outputs.candidates is None
    ((_, masks),) = result.outputs.objects
    assert len(masks.masks) == 1 and len(masks.other_predicted_iou) == 2


def test_objects_below_the_thresholds_live_on_but_are_not_shown(rig: Rig) -> None:
    strict = Options(min_predicted_iou=0.95)
    assert ids(rig.prompt(FOREGROUND, options=strict).outputs) == []
    assert ids(rig.prompt(OTHER, options=Options(min_stability_score=0.5)).outputs) == []
    assert len(rig.table.objects) == 1


def test_objects_of_another_resolution_are_dropped(rig: Rig) -> None:
    rig.prompt(FOREGROUND)
    result = rig.follow(embedded_frame(3, 300, size_hw=(12, 4)))
    assert ids(result.outputs) == [] and result.table.objects == ()


def test_another_of_three_masks_can_be_chosen_and_stands(rig: Rig) -> None:
    rig.prompt(FOREGROUND)
    result = rig.prompt(Choice(1))
    ((one, masks),) = result.outputs.objects
    assert one.id == "_1" and masks.predicted_iou.tolist() == pytest.approx([0.8])
    assert masks.other_predicted_iou.tolist() == pytest.approx([0.9, 0.7])
    asked = len(rig.model.decoded)
    again = rig.segmenter.repeated(rig.table, OPTIONS, FRAME)
    assert again.outputs.objects[0][1] is masks and len(rig.model.decoded) == asked
    rig.prompt(Choice(2))
    rig.prompt(BACKGROUND)
    _, (prompt,), _ = rig.model.decoded[-1]
    assert prompt.num_points == 2 and prompt.low_res_logits is not None
    assert result.change is not None and rig.table.undone(result.change).objects[0].chosen is None


@pytest.mark.parametrize(
    ("before", "choice", "reason"),
    [
        ([], 0, "no clicked object"),
        ([Box((0, 0, 2, 2))], 0, "only a single click has three masks"),
        ([FOREGROUND, BACKGROUND], 0, "only a single click has three masks"),
        ([FOREGROUND], 3, "there is no 3"),
    ],
)
def test_what_cannot_be_chosen_is_refused(rig: Rig, before: list[Update], choice: int, reason: str) -> None:
    for update in before:
        rig.prompt(update)
    with pytest.raises(InvalidPromptError, match=reason):
        rig.prompt(Choice(choice))


def test_one_object_of_a_program_leaves_all_others_untouched(rig: Rig) -> None:
    rig.prompt(program("a", "b"))
    before = rig.table
    result = rig.prompt_following(ProgramPrompt("b", "cup", (OTHER,)))
    assert [o.id for o in rig.table.objects] == ["a", "b"] and ids(result.outputs) == ["b"]
    assert rig.table.objects[0] is before.objects[0] and rig.table.objects[1].class_id == "cup"
