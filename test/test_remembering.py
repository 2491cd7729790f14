"""Following by memory: whose memory it is, what is remembered of which frame, and that it never grows on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from fake_model import FakeRememberingModel, embedded_frame
from moving_pictures import GRID, IMAGE_SIZE, SIZE_HW, Image, ellipse, iou, low_res
from random_models import MINIATURE_REP_VIT, save_random_sam
from test_follower import panned
from test_memory import frame
from test_segmenter import BACKGROUND, FOREGROUND, OTHER, Rig, ids, program
from upstream_sam2 import needs_transformers

from sam_ros.core.bank import POINTERS_RECALLED, Bank
from sam_ros.core.edits import keep_masks
from sam_ros.core.frames import EmbeddedFrame, Frame
from sam_ros.core.history import ObjectHistory
from sam_ros.core.objects import ObjectTable, Point, ProgramPrompts, SegmentedObject, Target
from sam_ros.core.remembering import Steps
from sam_ros.core.segmenter import Options, Segmenter
from sam_ros.masks import Masks
from sam_ros.predictor import load_predictor
from sam_ros.prompt import Prompt

HIDDEN = np.full((4, 4), -1, np.float32)


class RememberingRig(Rig):
    """Frames 1 to 9, of which so many are followed."""

    model: FakeRememberingModel

    def __init__(self) -> None:
        super().__init__(FakeRememberingModel())
        self.frames = {number: embedded_frame(number, number * 100) for number in range(1, 10)}
        for number in self.frames:
            self.segmenter.see(number, np.full((6, 8, 3), 90, np.uint8))

    def follow_to(self, last: int, first: int = 2) -> list[list[str]]:
        """The ids shown on each frame."""
        return [ids(self.follow(self.frames[number]).outputs) for number in range(first, last + 1)]

    def bank(self, index: int = 0) -> Bank:
        return self.table.objects[index].tracking.bank


@pytest.fixture
def rig() -> RememberingRig:
    return RememberingRig()


def steps(bank: Bank) -> tuple[list[int], list[int]]:
    return [one.step for one in bank.prompted], [one.step for one in bank.followed]


def test_every_followed_frame_is_remembered(rig: RememberingRig) -> None:
    rig.prompt_following(FOREGROUND, rig.frames[1])
    assert steps(rig.bank()) == ([0], [])
    assert rig.follow_to(4) == [["_1"]] * 3
    assert steps(rig.bank()) == ([0], [1, 2, 3])
    assert rig.model.recalled[0].kind == (3, 3)  # the prompt and the two frames before


def test_the_model_is_not_prompted_where_it_remembers(rig: RememberingRig) -> None:
    rig.prompt_following(FOREGROUND, rig.frames[1])
    asked = len(rig.model.decoded)
    rig.follow_to(4)
    assert len(rig.model.decoded) == asked


def test_what_is_out_of_sight_is_left_out_remembered_and_found_again(rig: RememberingRig) -> None:
    rig.prompt_following(FOREGROUND, rig.frames[1])
    rig.follow_to(2)
    seen = rig.table.objects[0].low_res_logits
    rig.model.next_logits = [HIDDEN]
    assert rig.follow_to(3, 3) == [[]]
    (lost,) = rig.table.objects
    assert lost.is_lost and lost.low_res_logits is seen and steps(rig.bank()) == ([0], [1, 2])
    rig.model.next_logits = [np.ones((4, 4), np.float32)]
    assert rig.follow_to(4, 4) == [["_1"]] and not rig.table.objects[0].is_lost


def test_a_late_prompt_enters_with_its_time(rig: RememberingRig) -> None:
    rig.prompt_following(FOREGROUND, rig.frames[1])
    rig.follow_to(6)
    rig.prompt_following(BACKGROUND, rig.frames[3])
    assert steps(rig.bank()) == ([0, 2], [1, 3, 4, 5])
    assert rig.follow_to(7, 7) == [["_1"]]
    assert [frames_ago for frames_ago, _ in rig.model.recalled[0].features] == [0, 0, 5, 3, 2, 1]


def test_a_late_refinement_begins_with_the_object_as_it_was_there(rig: RememberingRig) -> None:
    rig.prompt_following(FOREGROUND, rig.frames[1])
    rig.follow_to(6)
    there = np.full((4, 4), 5, np.float32)
    rig.model.next_logits = [there]
    rig.prompt_following(BACKGROUND, rig.frames[3])
    _, (prompt,), _ = rig.model.decoded[-1]
    np.testing.assert_array_equal(prompt.low_res_logits, there)


def test_objects_are_added_and_removed_while_others_are_followed(rig: RememberingRig) -> None:
    rig.prompt_following(program("a"), rig.frames[1])
    rig.follow_to(3)
    before = rig.bank()
    rig.prompt_following(FOREGROUND, rig.frames[3])
    assert rig.follow_to(4, 4) == [["a", "_1"]]
    assert steps(rig.bank(0)) == ([0], [1, 2, 3]) and steps(rig.bank(1)) == ([2], [3])
    assert before.followed == rig.bank(0).followed[:2]  # its own memories, and no other's
    rig.prompt_following(ProgramPrompts(()), rig.frames[4])
    assert rig.follow_to(5, 5) == [["_1"]]


def test_undo_takes_back_what_was_remembered_of_a_prompt(rig: RememberingRig) -> None:
    history = ObjectHistory()
    history.table = rig.prompt_following(FOREGROUND, rig.frames[1]).table
    rig.follow_to(3)
    history.table = rig.table
    result = rig.prompt_following(BACKGROUND, rig.frames[3])
    assert history.replace(history.table, result.table, result.change) and history.undo()
    (restored,) = history.table.objects
    assert steps(restored.tracking.bank) == ([0], [])  # by then the last frames are long ago
    rig.table = history.table
    assert rig.follow_to(4, 4) == [["_1"]]


def test_a_program_that_prompts_again_adds_to_what_is_remembered(rig: RememberingRig) -> None:
    rig.prompt_following(program("a"), rig.frames[1])
    rig.follow_to(3)
    rig.prompt_following(program("a"), rig.frames[3])
    assert steps(rig.bank()) == ([0, 2], [1])


def test_what_was_prompted_before_following_is_taken_up_by_its_logits(rig: RememberingRig) -> None:
    rig.prompt(FOREGROUND, rig.frames[1])
    assert steps(rig.bank()) == ([], [])
    assert rig.follow_to(2) == [["_1"]]
    _, (prompt,), _ = rig.model.decoded[-1]
    assert prompt.num_points == 0 and prompt.low_res_logits is not None
    assert steps(rig.bank()) == ([1], [])


def test_motion_follows_where_it_is_wanted(rig: RememberingRig) -> None:
    rig.prompt_following(FOREGROUND, rig.frames[1])
    asked = len(rig.model.decoded)
    result = rig.segmenter.followed(rig.table, Options(follower="motion"), rig.frames[2])
    assert ids(result.outputs) == ["_1"] and len(rig.model.decoded) == asked + 1


def test_objects_of_another_resolution_are_dropped(rig: RememberingRig) -> None:
    rig.prompt_following(FOREGROUND, rig.frames[1])
    result = rig.follow(embedded_frame(10, 1000, size_hw=(12, 4)))
    assert ids(result.outputs) == [] and result.table.objects == ()


def test_what_was_before_a_jump_is_long_ago(rig: RememberingRig) -> None:
    rig.prompt_following(FOREGROUND, rig.frames[1])
    rig.follow_to(3)
    rig.segmenter.forget_frames()
    rig.segmenter.see(4, np.full((6, 8, 3), 90, np.uint8))
    rig.follow_to(4, 4)
    assert [frames_ago for frames_ago, _ in rig.model.recalled[0].features] == [0]


def test_frames_are_counted_in_order_and_late_ones_are_not() -> None:
    counted = Steps()
    for sequence in (3, 5, 9, 4):
        counted.see(sequence, kept=3)
    assert [counted.of(sequence) for sequence in (3, 4, 5, 8, 9, 12)] == [0, 0, 1, 1, 2, 2]
    counted.see(10, kept=3)
    assert [counted.of(sequence) for sequence in (3, 5, 9, 10)] == [0, 1, 2, 3]
    counted.clear()
    counted.see(11, kept=3)
    assert counted.of(11) > 3 + POINTERS_RECALLED


def test_a_frame_of_before_counting_began_has_a_step_of_its_own() -> None:
    counted = Steps()
    counted.see(1, kept=3)
    counted.clear()
    before = counted.of(2)
    counted.see(3, kept=3)
    assert counted.of(2) == before == counted.of(3) - 1


def test_a_prompt_on_a_frame_of_before_following_is_not_forgotten_on_the_next_one(
    rig: RememberingRig,
) -> None:
    """As where following is switched on, and a click comes before another frame is followed."""
    rig.segmenter.forget_frames()
    rig.prompt_following(FOREGROUND, rig.frames[1])
    rig.segmenter.see(2, np.full((6, 8, 3), 90, np.uint8))
    rig.model.next_logits = [HIDDEN]
    assert rig.follow_to(2) == [[]]
    prompted, followed = steps(rig.bank())
    assert len(prompted) == 1 and followed == [prompted[0] + 1]


# What is not remembered yet is found by its motion first.


class EchoingModel(FakeRememberingModel):
    """Answers with the logits that it is asked with, of the size that moving pictures have."""

    def _masks(self, prompt: Prompt, size_hw: tuple[int, int], num_scores: int, only_best: bool) -> Masks:
        assert only_best and num_scores and prompt.low_res_logits is not None
        whole = np.ones((1, *size_hw), bool)
        return Masks(whole, self.scores[:1], self.stability_scores[:1], prompt.low_res_logits[None])

    def features(self, embedding: Any) -> npt.NDArray[np.float32]:  # noqa: ARG002 as of every image
        return np.zeros((2, IMAGE_SIZE // 16, IMAGE_SIZE // 16), np.float32)


class MovingRig:
    """Frames numbered from 1, and an object that was found on the first of them and kept."""

    def __init__(self, pictures: list[Image]) -> None:
        self.model = EchoingModel()
        self.segmenter = Segmenter(self.model)
        for sequence, picture in enumerate(pictures, 1):
            self.segmenter.see(sequence, picture)
        sure = np.ones(1, np.float32)
        found = Masks(PLACE[None], sure, sure, low_res(PLACE)[None])
        self.table = keep_masks(ObjectTable(), [found], Target(1, GRID), max_objects=8, as_shown=False)

    def follow_to(self, sequence: int, follower: str = "auto") -> list[str]:
        """The ids shown on a frame."""
        frame = EmbeddedFrame(Frame(sequence, sequence, "", b""), SimpleNamespace(number=sequence, grid=GRID))
        result = self.segmenter.followed(self.table, Options(follower=follower), frame)
        self.table = result.table
        return ids(result.outputs)

    @property
    def bank(self) -> Bank:
        return self.table.objects[0].tracking.bank


PLACE = ellipse((300, 180))
HIDING = np.full((*SIZE_HW, 3), 90, np.uint8)


def test_what_was_kept_is_remembered_where_it_has_moved_to() -> None:
    rig = MovingRig(panned(3, (12, 0)))
    assert rig.follow_to(3) == ["_1"]
    ((_, (prompt,), _),) = rig.model.decoded
    moved = low_res(ellipse((324, 180)))
    assert prompt.box is not None and prompt.low_res_logits is not None
    assert iou(prompt.low_res_logits, moved) > 0.9
    assert steps(rig.bank) == ([2], []) and iou(rig.bank.prompted[0].features, moved) > 0.9


def test_what_was_kept_and_is_out_of_sight_is_not_remembered_at_its_old_place() -> None:
    rig = MovingRig([*panned(2, (12, 0)), HIDING, *panned(4, (12, 0))[3:]])
    assert rig.follow_to(2, "motion") == ["_1"]
    rig.model.decoded.clear()
    assert rig.follow_to(3) == [] and not rig.model.decoded
    assert rig.table.objects[0].is_lost and steps(rig.bank) == ([], [])
    assert rig.follow_to(4) == ["_1"] and steps(rig.bank) == ([3], [])


def test_what_was_lost_by_motion_is_not_brought_back_at_its_old_place() -> None:
    rig = MovingRig([*panned(2, (12, 0)), HIDING, HIDING])
    assert [rig.follow_to(2, "motion"), rig.follow_to(3, "motion")] == [["_1"], []]
    assert rig.follow_to(4, "auto") == [] and steps(rig.bank) == ([], [])


# With a model.


def tensor_bytes() -> int:
    """Of all tensors that are alive."""
    gc.collect()
    storages = {
        it.untyped_storage().data_ptr(): it.untyped_storage().nbytes()
        for it in gc.get_objects()
        if type(it) in (torch.Tensor, torch.nn.Parameter)
    }
    return sum(storages.values())


def endless(predictor: Any) -> Iterator[EmbeddedFrame]:
    """A few images again and again, as frames that were encoded."""
    embeddings = [predictor.encode(frame(number)) for number in range(4)]
    for number in range(1, 1 << 30):
        yield EmbeddedFrame(Frame(number, number, "", b""), embeddings[number % len(embeddings)])


@needs_transformers
def test_after_two_thousand_frames_as_much_is_remembered_as_after_fifty(tmp_path: Path) -> None:
    save_random_sam(MINIATURE_REP_VIT, tmp_path / "miniature.safetensors")
    predictor = load_predictor("sam_tiny", tmp_path / "miniature.safetensors")
    segmenter, table, picture = Segmenter(predictor), ObjectTable(), frame(0)
    taken: list[int] = []
    for embedded in endless(predictor):
        segmenter.see(embedded.sequence, picture, views_kept=20)
        if embedded.sequence == 1:
            for point in (Point(30, 40, 1), Point(90, 50, 1)):
                table = segmenter.prompted(
                    table,
                    point,
                    embedded,
                    Options(click_mode="add"),
                    follows=True,
                    wants_candidates=lambda: False,
                ).table
            continue
        table = segmenter.followed(table, Options(), embedded).table
        if embedded.sequence in (50, 2000):
            taken.append(tensor_bytes())
        if embedded.sequence == 2000:
            break
    assert taken[1] == taken[0]
    assert [_sizes(o) for o in table.objects] == [(1, POINTERS_RECALLED)] * 2


def _sizes(one: SegmentedObject) -> tuple[int, int]:
    return len(one.tracking.bank.prompted), len(one.tracking.bank.followed)


def test_another_click_is_another_object(rig: RememberingRig) -> None:
    """With what was remembered of the first one gone."""
    rig.prompt_following(FOREGROUND, rig.frames[1])
    rig.follow_to(3)
    rig.prompt_following(OTHER, rig.frames[3])
    assert [o.id for o in rig.table.objects] == ["_2"] and steps(rig.bank()) == ([2], [])
