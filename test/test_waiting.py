"""Prompts that wait for their frame and their turn, not for ever, and until they are taken back."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from fake_model import embedded_frame, fake_embedding

from sam_ros.core.frames import EmbeddedFrame, FrameStore
from sam_ros.core.objects import Point, ProgramPrompts
from sam_ros.errors import SamRosError
from sam_ros.node.waiting import PromptRequest, WaitingPrompts

SECOND = 1_000_000_000
CLICK = Point(1, 1, 1)


def request(at: float = 0, *, frame_id: str = "", undoable: bool = True) -> PromptRequest:
    return PromptRequest("/sam/test", round(at * SECOND), frame_id, lambda _: CLICK, undoable)


def program_set(at: float, topic: str = "/sam/prompts") -> PromptRequest:
    return PromptRequest(topic, round(at * SECOND), "", lambda _: ProgramPrompts(()), False, True)


def store(*stamps_sec: int, embedded: int = 0) -> FrameStore:
    """Images of these stamps, numbered from 1; the first few of them embedded."""
    frames = FrameStore(images_kept=30, embeddings_kept=8, stamp_tolerance_ns=0)
    images = [frames.add_image(stamp * SECOND, "camera", b"") for stamp in stamps_sec]
    for image in images[:embedded]:
        frames.finish(EmbeddedFrame(image, fake_embedding()))
    return frames


def waiting(*requests: PromptRequest, hold_sec: float = 60.0, prompts_kept: int = 64) -> WaitingPrompts:
    prompts = WaitingPrompts(hold_sec, prompts_kept)
    for turn, each in enumerate(requests):
        prompts.add(each, turn)
    return prompts


def test_a_prompt_on_an_embedded_frame_is_ready() -> None:
    prompts = waiting(request(at=1))
    assert not prompts.look_for_frames(store(1, embedded=1), encode_always=True)
    prompt = prompts.first_ready(until=None)
    assert prompt is not None and prompt.frame().stamp_ns == SECOND and prompt.turn == 0


def test_a_prompt_on_another_image_wants_that_to_be_encoded() -> None:
    frames, prompts = store(1, 2, embedded=1), waiting(request(at=2))
    assert prompts.look_for_frames(frames, encode_always=True)
    assert not prompts.look_for_frames(frames, encode_always=True)  # it is known already
    wanted = prompts.wanted_frame()
    assert wanted is not None and wanted.stamp_ns == 2 * SECOND
    assert prompts.first_ready(until=None) is None
    prompts.frame_embedded(EmbeddedFrame(wanted, fake_embedding()))
    assert prompts.wanted_frame() is None and prompts.first_ready(until=None) is not None


def test_a_prompt_on_a_frame_that_was_given_up_is_refused_for_its_reason() -> None:
    frames, prompts = store(1), waiting(request(at=1))
    prompts.look_for_frames(frames, encode_always=True)
    wanted = prompts.wanted_frame()
    assert wanted is not None
    frames.give_up(wanted, SamRosError("broken", "short data"))
    prompts.frame_given_up(wanted, SamRosError("broken", "short data"))
    later = waiting(request(at=1))
    later.look_for_frames(frames, encode_always=True)
    for some in (prompts, later):
        prompt = some.first_ready(until=None)
        assert prompt is not None
        with pytest.raises(SamRosError, match="broken"):
            prompt.frame()


@pytest.mark.parametrize(
    ("at", "kind"), [(0, "no image"), (5, "too new")], ids=["without any image", "newer than all images"]
)
def test_a_prompt_waits_for_an_image_and_then_gives_up(at: int, kind: str) -> None:
    frames = store() if at == 0 else store(1, embedded=1)
    patient, impatient = waiting(request(at=at)), waiting(request(at=at), hold_sec=0.0)
    for prompts in (patient, impatient):
        prompts.look_for_frames(frames, encode_always=True)
    assert patient.first_ready(until=None) is None
    assert patient.next_deadline is not None and patient.next_deadline > time.monotonic()
    refused = impatient.first_ready(until=None)
    assert refused is not None and impatient.next_deadline is None
    with pytest.raises(SamRosError) as caught:
        refused.frame()
    assert caught.value.kind == kind


def test_a_prompt_older_than_what_is_kept_does_not_wait() -> None:
    prompts = waiting(request(at=1))
    prompts.look_for_frames(store(2), encode_always=True)
    prompt = prompts.first_ready(until=None)
    assert prompt is not None and prompt.refusal is not None and prompt.refusal.kind == "stale"


def test_the_frame_id_has_to_be_the_images_or_empty() -> None:
    prompts = waiting(request(frame_id="map"), request(frame_id="camera"))
    prompts.look_for_frames(store(1, embedded=1), encode_always=True)
    wrong = prompts.first_ready(until=None)
    assert wrong is not None
    with pytest.raises(SamRosError, match=r"'map'.*'camera'"):
        wrong.frame()
    prompts.begin(wrong)
    right = prompts.first_ready(until=None)
    assert right is not None and right.frame().stamp_ns == SECOND


def test_a_prompt_on_a_later_frame_waits_for_the_frame_that_is_still_to_be_answered() -> None:
    prompts = waiting(request(at=2), request(at=1), request(at=9), hold_sec=0.0)
    prompts.look_for_frames(store(1, 2, embedded=2), encode_always=True)
    turns = []
    while (prompt := prompts.first_ready(until=embedded_frame(1, SECOND))) is not None:
        turns.append(prompt.turn)
        prompts.begin(prompt)
    assert turns == [1, 2]  # a refusal has no turn
    assert prompts.first_ready(until=embedded_frame(2, 2 * SECOND)) is not None


def test_too_many_waiting_prompts_push_out_the_oldest() -> None:
    first, second, third = request(at=1), request(at=2), request(at=3)
    prompts = waiting(first, second, prompts_kept=2)
    assert prompts.make_room(None) == (0, None)
    prompts.add(third, 2)
    assert prompts.make_room(None) == (0, first)
    assert prompts.withdraw_all() == [second, third]


def test_a_set_makes_room_before_any_other_prompt_but_not_the_last_one() -> None:
    click, program, another = request(at=1), program_set(1), request(at=1)
    prompts = waiting(click, program, another, prompts_kept=2)
    assert prompts.make_room(None) == (0, program)
    prompts.add(program, 3)
    assert prompts.make_room(None) == (0, click)
    assert prompts.withdraw_all() == [another, program]


def test_superfluous_sets_make_room_before_anything_is_dropped() -> None:
    click, sets = request(at=1), [program_set(1) for _ in range(3)]
    prompts = waiting(click, *sets, prompts_kept=2)
    prompts.look_for_frames(store(1, embedded=1), encode_always=True)
    assert prompts.drop_superseded(None) == 0  # so shortly after they came
    assert prompts.make_room(None) == (2, None)
    assert prompts.withdraw_all() == [click, sets[2]]


def test_of_wanted_frames_only_those_up_to_one_may_be_asked_for() -> None:
    frames, prompts = store(1, 2, 3), waiting(request(at=3), request(at=2))
    prompts.look_for_frames(frames, encode_always=True)
    wanted = [prompts.wanted_frame(until) for until in (None, 2, 1)]
    assert [None if frame is None else frame.sequence for frame in wanted] == [3, 2, None]


def test_the_last_undoable_prompt_is_taken_back_waiting_ones_first() -> None:
    program = request(undoable=False)
    prompts = waiting(request(), request(), program)
    prompts.look_for_frames(store(1, embedded=1), encode_always=True)
    running = prompts.first_ready(until=None)
    assert running is not None
    prompts.begin(running)
    withdrawn = [(prompts.withdraw_last(), running.is_withdrawn) for _ in range(3)]
    assert withdrawn == [(True, False), (True, True), (False, True)]
    assert prompts.withdraw_all() == [program]


def test_what_was_changed_later_is_undone_before_a_prompt_that_still_waits() -> None:
    early, late = request(at=2), request()
    prompts = waiting(early, late)
    prompts.look_for_frames(store(1, embedded=1), encode_always=True)
    running = prompts.first_ready(until=None)
    assert running is not None and running.request is late
    prompts.begin(running)
    assert prompts.withdraw_last() and running.is_withdrawn, "the last that came, though another one waits"
    assert not prompts.withdraw_last(after_turn=1) and prompts.withdraw_last(after_turn=-1)


def test_what_has_been_answered_cannot_be_taken_back() -> None:
    prompts = waiting(request())
    prompts.look_for_frames(store(1, embedded=1), encode_always=True)
    answered = prompts.first_ready(until=None)
    assert answered is not None
    prompts.begin(answered)
    prompts.end()
    assert not prompts.withdraw_last() and not answered.is_withdrawn


def test_all_are_taken_back_also_the_one_that_is_being_answered() -> None:
    first, second = request(undoable=False), request()
    prompts = waiting(first, second)
    prompts.look_for_frames(store(1, embedded=1), encode_always=True)
    running = prompts.first_ready(until=None)
    assert running is not None
    prompts.begin(running)
    assert prompts.withdraw_all() == [first, second]
    assert running.is_withdrawn and prompts.first_ready(until=None) is None
    assert prompts.withdraw_all() == [] and prompts.is_empty


def test_prompts_that_name_an_object_are_taken_back_waiting_or_being_answered() -> None:
    cups, other = [replace(request(), id="cup") for _ in range(2)], replace(request(), id="plate")
    prompts = waiting(cups[0], other, cups[1])
    prompts.look_for_frames(store(1, embedded=1), encode_always=True)
    running = prompts.first_ready(until=None)
    assert running is not None
    prompts.begin(running)
    assert prompts.withdraw_named("cup") == cups and running.is_withdrawn
    assert prompts.withdraw_named("cup") == [] and prompts.withdraw_all() == [other]


def impatient(frames: FrameStore, *requests: PromptRequest) -> WaitingPrompts:
    """Prompts that looked for their frames, and give way at once."""
    prompts = WaitingPrompts(patience_sec=0.0)
    for turn, each in enumerate(requests):
        prompts.add(each, turn)
    prompts.look_for_frames(frames, encode_always=True)
    return prompts


def test_a_later_set_of_a_program_makes_earlier_ones_superfluous() -> None:
    frames = store(1, 2, 3)
    sets, click = [program_set(at) for at in (1, 2, 3)], request(at=1)
    prompts = impatient(frames, sets[0], click, *sets[1:], program_set(1, topic="/other"))
    assert prompts.drop_superseded(frames.encoding) == 2
    assert [each.topic for each in prompts.withdraw_all()] == ["/sam/test", "/sam/prompts", "/other"]


def test_the_set_whose_frame_is_being_encoded_is_answered_all_the_same() -> None:
    """Else, where sets come faster than frames are encoded, none would ever be."""
    frames, sets = store(1, 2, 3), [program_set(at) for at in (1, 2, 3)]
    prompts = impatient(frames, *sets)
    first = prompts.wanted_frame()
    assert first is not None
    frames.begin_encoding(first)
    assert prompts.drop_superseded(frames.encoding) == 1
    assert prompts.withdraw_all() == [sets[0], sets[2]]


def test_a_set_that_can_be_answered_gives_way_only_to_one_that_can_be_answered_too() -> None:
    frames, sets = store(1, 2, 3, embedded=2), [program_set(at) for at in (1, 3)]
    prompts = impatient(frames, *sets)
    assert prompts.drop_superseded(frames.encoding) == 0
    prompts = impatient(frames, program_set(1), program_set(2))
    assert prompts.drop_superseded(frames.encoding) == 1


def test_a_set_that_is_refused_supersedes_nothing() -> None:
    frames = store(2, 3)
    prompts = impatient(frames, program_set(3), program_set(1))
    assert prompts.drop_superseded(frames.encoding) == 0


@pytest.mark.parametrize("embedded", [0, 2])
def test_a_set_of_another_frame_id_supersedes_nothing(embedded: int) -> None:
    frames = store(1, 2, embedded=embedded)
    prompts = impatient(frames, program_set(1), replace(program_set(2), frame_id="elsewhere"))
    assert prompts.drop_superseded(frames.encoding) == 0


def test_a_prompt_whose_frame_is_not_encoded_in_time_is_refused() -> None:
    frames, prompts = store(1), WaitingPrompts(wait_sec=0.0)
    prompts.add(request(at=1), 0)
    prompts.look_for_frames(frames, encode_always=True)
    refused = prompts.first_ready(until=None)
    assert refused is not None and refused.refusal is not None
    assert refused.refusal.kind == "waited too long"
