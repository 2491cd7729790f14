"""Everything in the engine: between prompts and frames, given up, kept; the model waits for a sign."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_model import NUM_STEPS
from test_engine import SECOND, Rig, wait_until

from sam_ros.core.everything import EverythingIn, EverythingOptions
from sam_ros.core.segmenter import Outputs
from sam_ros.errors import DeviceError, ModelOutputError
from sam_ros.node.everything import EverythingJob, EverythingState
from sam_ros.node.settings import Settings
from sam_ros.node.waiting import PromptRequest, WaitingPrompts

MANY = 1000


def ask(rig: Rig, region: tuple[float, float, float, float] | None = None, topic: str = "/all") -> None:
    rig.engine.submit(PromptRequest(topic, 0, "", lambda _: EverythingIn(region), undoable=False))


def let_steps_go(rig: Rig, count: int = MANY) -> None:
    rig.predictor.steps_allowed.release(count)


def wait_for_step(rig: Rig, count: int) -> None:
    """Until so many steps have begun; the last of them waits."""
    wait_until(lambda: rig.predictor.steps_begun >= count, f"step {count}")


def answer(rig: Rig, count: int = 1) -> tuple[str, Outputs]:
    wait_until(lambda: len(rig.heard.everything) >= count, f"{count} answers")
    return rig.heard.everything[count - 1]


def columns(outputs: Outputs) -> list[int]:
    """Where the single pixel of each mask is."""
    return [int(np.flatnonzero(masks.masks[0].any(axis=0))[0]) for _, masks in outputs.objects]


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(waiting: WaitingPrompts | None = None, **settings: Any) -> Rig:
        rigs.append(Rig(Settings(**settings), waiting or WaitingPrompts()))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.predictor.decode_gate.set()
        let_steps_go(rig)
        assert rig.engine.stop()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(everything=EverythingOptions(points_per_side=5))


def test_everything_is_answered_on_the_newest_frame(rig: Rig) -> None:
    rig.embed(1, 2)
    let_steps_go(rig)
    ask(rig, (1, 2, 3, 4))
    topic, outputs = answer(rig)
    assert (topic, outputs.frame.stamp_ns, outputs.size_hw) == ("/all", 2 * SECOND, (6, 8))
    assert [(one.id, masks.predicted_iou[0]) for one, masks in outputs.objects] == [
        ("1", np.float32(0.9)),
        ("2", np.float32(0.8)),
    ]
    assert columns(outputs) == [2, 5]
    assert rig.predictor.surveyed == [(2, EverythingOptions(points_per_side=5, region=(1, 2, 3, 4)))]
    assert not rig.heard.outputs and not rig.heard.refusals and not rig.engine.num_objects


def test_a_prompt_waits_for_the_present_step_at_most(rig: Rig) -> None:
    rig.embed(1)
    ask(rig)
    wait_for_step(rig, 1)
    rig.click(3)
    let_steps_go(rig, 1)
    assert columns(rig.outputs(1)[0]) == [3]
    assert rig.predictor.steps_taken == 1 and not rig.heard.everything
    let_steps_go(rig)
    assert columns(answer(rig)[1]) == [2, 5]


def test_a_followed_frame_waits_for_the_present_step_at_most(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True)
    rig.embed(1)
    rig.outputs(1)
    ask(rig)
    wait_for_step(rig, 1)
    rig.embed(2)
    let_steps_go(rig, 1)
    assert rig.outputs(2)[1].frame.stamp_ns == 2 * SECOND
    assert rig.predictor.steps_taken == 1
    let_steps_go(rig)
    assert answer(rig)[1].frame.stamp_ns == 1 * SECOND  # the newest when it was asked


def test_where_a_frame_is_always_due_every_other_turn_is_a_steps() -> None:
    state = EverythingState()
    assert state.next_job(is_frame_due=False) is None
    job: Any = object()
    state.begin(job)
    assert state.next_job(is_frame_due=False) is job
    assert [state.next_job(is_frame_due=True) for _ in range(4)] == [None, job, None, job]


def test_clear_gives_it_up(rig: Rig) -> None:
    rig.embed(1)
    ask(rig)
    wait_for_step(rig, 1)
    rig.engine.clear()
    let_steps_go(rig)
    rig.click(3)
    rig.outputs(2)  # the empty set of clear, and the click's
    assert rig.predictor.steps_taken == 1 and not rig.heard.everything
    assert told(rig) == [("/all", "taken back")]
    ask(rig)
    assert columns(answer(rig)[1]) == [2, 5]


def told(rig: Rig) -> list[tuple[str, str]]:
    """Topic and kind of all that was refused."""
    return [(refusal.topic, refusal.kind) for refusal in rig.heard.refusals]


def test_a_jump_of_the_stamps_gives_it_up(rig: Rig) -> None:
    rig.embed(5)
    ask(rig)
    wait_for_step(rig, 1)
    rig.image(1)
    let_steps_go(rig)
    ask(rig, topic="/newer")
    assert answer(rig)[0] == "/newer" and told(rig) == [("/all", "stale")]


def test_deactivation_gives_it_up(rig: Rig) -> None:
    rig.embed(1)
    ask(rig)
    wait_for_step(rig, 1)
    let_steps_go(rig, 1)
    wait_for_step(rig, 2)
    stopping = threading.Thread(target=rig.engine.stop)
    stopping.start()
    rig.refusals(1)
    let_steps_go(rig)
    stopping.join()
    assert told(rig) == [("/all", "inactive")] and not rig.heard.everything


def test_a_newer_request_takes_its_place(rig: Rig) -> None:
    rig.embed(1)
    ask(rig)
    wait_for_step(rig, 1)
    ask(rig, (0, 0, 4, 4), "/newer")
    let_steps_go(rig)
    assert answer(rig)[0] == "/newer"
    assert rig.predictor.steps_taken == 1 + NUM_STEPS
    assert [options.region for _, options in rig.predictor.surveyed] == [None, (0, 0, 4, 4)]
    assert len(rig.heard.everything) == 1
    assert told(rig) == [("/all", "superseded")]


def test_a_request_without_an_image_is_refused(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(WaitingPrompts(hold_sec=0.05))
    ask(rig)
    (refusal,) = rig.refusals(1)
    assert (refusal.topic, refusal.kind) == ("/all", "no image")


def test_an_image_is_encoded_for_it(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(encode="on_prompt")
    rig.image(1)
    let_steps_go(rig)
    ask(rig)
    assert answer(rig)[1].frame.stamp_ns == 1 * SECOND


def test_a_failure_is_told_and_the_engine_lives(rig: Rig) -> None:
    rig.embed(1)
    let_steps_go(rig)
    rig.predictor.failures = [DeviceError("it broke"), ModelOutputError("not finite")]
    ask(rig)
    (refusal,) = rig.refusals(1)
    assert (refusal.topic, refusal.kind, refusal.reason) == ("/all", "model output", "not finite")
    assert not rig.heard.failures
    ask(rig)
    rig.refusals(2)
    assert [what for what, _ in rig.heard.failures] == ["segmenting everything"]
    ask(rig)
    assert columns(answer(rig)[1]) == [2, 5]


def found(rig: Rig) -> None:
    """Segment everything on image 1."""
    rig.embed(1)
    let_steps_go(rig)
    ask(rig)
    answer(rig)


def test_what_was_found_becomes_objects(rig: Rig) -> None:
    found(rig)
    assert rig.engine.keep_everything() == (True, "kept 2 of 2 as objects")
    (outputs,) = rig.outputs(1)
    assert (rig.ids(outputs), columns(outputs), outputs.frame.stamp_ns) == (["_1", "_2"], [2, 5], SECOND)
    assert [float(masks.predicted_iou[0]) for _, masks in outputs.objects] == [
        np.float32(0.9),
        np.float32(0.8),
    ]
    assert not rig.predictor.decoded  # they are shown as they were found


def test_it_is_kept_once_until_it_is_undone(rig: Rig) -> None:
    found(rig)
    assert rig.engine.keep_everything()[0]
    assert rig.engine.keep_everything() == (False, "the last answer is kept already")
    assert rig.engine.undo()
    assert rig.engine.num_objects == 0
    assert rig.engine.keep_everything()[0]
    rig.engine.clear()
    assert rig.engine.keep_everything()[0]  # the answer stays where it is seen
    assert rig.engine.num_objects == 2


def test_only_as_many_are_kept_as_there_may_be(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_objects=2)
    found(rig)
    rig.click(3)
    rig.outputs(1)
    assert rig.engine.keep_everything() == (True, "kept 1 of 2 as objects; max_objects is 2")
    assert columns(rig.outputs(2)[1]) == [3, 2]
    assert rig.engine.undo()
    rig.click(4, at=1)
    rig.outputs(4)


def test_there_may_be_nothing_to_keep(rig: Rig) -> None:
    assert rig.engine.keep_everything() == (False, "nothing to keep: segment everything first")
    found(rig)
    rig.embed(5)
    rig.image(6, stamp_ns=0)  # another recording
    assert rig.heard.flushes
    assert rig.engine.keep_everything() == (False, "nothing to keep: segment everything first")


def test_kept_objects_are_followed(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True)
    found(rig)
    rig.outputs(1)
    assert rig.engine.keep_everything()[0]
    rig.embed(2)
    assert rig.ids(rig.outputs(2)[1]) == ["_1", "_2"]
    number, prompts, _ = rig.predictor.decoded[-1]
    assert number == 2
    logits = [prompt.low_res_logits for prompt in prompts]
    assert [None if one is None else one.max() for one in logits] == [2, 5]  # as the fake names columns


def test_what_was_found_at_another_resolution_cannot_be_followed(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True)
    found(rig)
    rig.image(2, data=bytes([2, 2]))  # of another size
    rig.wait_for_encode(2)
    rig.outputs(2)
    kept, why = rig.engine.keep_everything()
    assert not kept and "another size" in why and rig.engine.num_objects == 0


def test_kept_objects_are_enough_for_frames_to_be_encoded(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(encode="with_objects", follow=True)
    rig.image(1)
    let_steps_go(rig)
    ask(rig)
    answer(rig)
    assert rig.engine.keep_everything()[0]
    rig.image(2)
    wait_until(lambda: 2 in rig.predictor.encoded, "the encode of image 2")
    wait_until(lambda: rig.heard.outputs and rig.heard.outputs[-1].objects, "the kept objects")
    assert rig.heard.outputs[-1].frame.stamp_ns == 2 * SECOND


def test_a_job_that_was_given_up_has_no_answer() -> None:
    state, jobs = EverythingState(), [EverythingJob(*[object()] * 3) for _ in range(2)]  # type: ignore[arg-type]
    assert state.begin(jobs[0]) is None
    assert state.begin(jobs[1]) is jobs[0].request
    assert state.finish(jobs[0], []) is None
    assert state.finish(jobs[1], []) is not None
    assert state.job is None
