"""The engine's threads and rules, with a fake predictor that blocks, fails and remembers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fake_model import DEADLINE_SEC, SIZE_HW, FakeModel, FakeRememberingModel

from sam_ros.core.edits import LONGEST_NAME
from sam_ros.core.objects import (
    Box,
    MaskPrompt,
    Point,
    ProgramPrompt,
    ProgramPrompts,
    RefusedObject,
    Target,
    Update,
)
from sam_ros.core.segmenter import Outputs
from sam_ros.errors import DeviceError, DeviceMemoryError, InvalidImageError, InvalidPromptError
from sam_ros.node import engine
from sam_ros.node.engine import Engine
from sam_ros.node.settings import Settings
from sam_ros.node.statistics import Refusal, Statistics
from sam_ros.node.waiting import PromptRequest, WaitingPrompts
from sam_ros.prompt import Prompt

SECOND = 1_000_000_000


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SEC
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)


@dataclass
class Recorder:
    """A listener that keeps what it hears."""

    outputs: list[Outputs] = field(default_factory=list)
    candidates: list[Outputs] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    drops: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[str, list[str]]] = field(default_factory=list)
    everything: list[tuple[str, Outputs]] = field(default_factory=list)
    flushes: list[str] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    candidates_wanted: bool = True
    refuse_outputs: bool = False

    def wants_candidates(self) -> bool:
        return self.candidates_wanted

    def on_outputs(self, outputs: Outputs) -> None:
        if self.refuse_outputs:
            raise RuntimeError("no room to publish")
        self.outputs.append(outputs)

    def on_candidates(self, outputs: Outputs) -> None:
        self.candidates.append(outputs)

    def on_refusal(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def on_drop(self, kind: str, reason: str) -> None:
        self.drops.append((kind, reason))

    def on_answered(self, topic: str, outputs: Outputs, touched: Collection[int]) -> None:
        ids = [one.id for one, _ in outputs.objects if one.created in touched]
        self.answers.append((topic, ids))

    def on_everything(self, topic: str, outputs: Outputs) -> None:
        self.everything.append((topic, outputs))

    def on_flush(self, reason: str) -> None:
        self.flushes.append(reason)

    def on_failure(self, what: str, error: Exception) -> None:
        self.failures.append((what, error))


class Rig:
    """An engine with its fake predictor and recorder."""

    def __init__(self, settings: Settings, waiting: WaitingPrompts, model: FakeModel | None = None) -> None:
        self.predictor = model or FakeModel()
        self.heard = Recorder()
        self.statistics = Statistics()
        self.waiting = waiting
        self.num_read = 0
        self.engine = Engine(
            self.predictor, self.read_image, self.read_size, self.heard, settings, self.statistics, waiting
        )
        self.engine.start()

    def read_image(self, data: bytes) -> npt.NDArray[np.uint8]:
        """One byte: an image full of that number. Two: of another size. None: broken."""
        self.num_read += 1
        if not data:
            raise InvalidImageError("no data", kind="short data")
        size_hw = SIZE_HW if len(data) == 1 else (12, 4)
        return np.full((*size_hw, 3), data[0], np.uint8)

    def read_size(self, data: bytes) -> tuple[int, int]:
        """As ``read_image``."""
        if not data:
            raise InvalidImageError("no data", kind="short data")
        return SIZE_HW if len(data) == 1 else (12, 4)

    def image(self, number: int, stamp_ns: int | None = None, data: bytes | None = None) -> None:
        """An image with that number in its pixels and, unless said otherwise, that many seconds as stamp."""
        stamp = number * SECOND if stamp_ns is None else stamp_ns
        self.engine.add_image(stamp, "camera", bytes([number]) if data is None else data)

    def embed(self, *numbers: int) -> None:
        """Images, each sent when the one before is embedded."""
        for number in numbers:
            self.image(number)
            self.wait_for_encode(number)

    def image_held_in_decode(self, number: int) -> None:
        """An image whose objects are being decoded, until the model's ``decode_gate`` is set."""
        self.predictor.decode_gate.clear()
        self.predictor.decoding.clear()
        self.embed(number)
        assert self.predictor.decoding.wait(DEADLINE_SEC)

    def wait_for_encode(self, number: int) -> None:
        wait_until(lambda: number in self.predictor.encoded, f"the encode of image {number}")
        wait_until(self._has_settled_images, "the image to be stored or dropped")

    def _has_settled_images(self) -> bool:
        """Whether every image that was read is counted as encoded or as dropped, which comes last."""
        snapshot = self.statistics.snapshot()
        read_drops = [
            num for kind, num in snapshot.drops.items() if kind not in ("out of order", "other camera")
        ]
        return snapshot.totals.get("encode", 0) + sum(read_drops) == self.num_read

    def prompt(
        self,
        update: Update | InvalidPromptError,
        stamp_ns: int = 0,
        frame_id: str = "",
        undoable: bool = True,
    ) -> None:
        def convert(_: Target) -> Update:
            if isinstance(update, InvalidPromptError):
                raise update
            return update

        id = update.id if isinstance(update, ProgramPrompt) else ""
        self.engine.submit(PromptRequest("/sam/test", stamp_ns, frame_id, convert, undoable, id=id))

    def click(self, x: int = 1, y: int = 1, label: int = 1, at: float = 0, frame_id: str = "") -> None:
        self.prompt(Point(x, y, label), round(at * SECOND), frame_id)

    def program(self, *prompts: ProgramPrompt, at: float = 0, refused: Sequence[RefusedObject] = ()) -> None:
        update = ProgramPrompts(prompts, tuple(refused))
        stamp_ns = round(at * SECOND)
        self.engine.submit(PromptRequest("/sam/prompts", stamp_ns, "", lambda _: update, False, True))

    def outputs(self, count: int) -> list[Outputs]:
        """The first sets of outputs, once so many have come."""
        wait_until(lambda: len(self.heard.outputs) >= count, f"{count} outputs")
        return self.heard.outputs[:count]

    def refusals(self, count: int) -> list[Refusal]:
        wait_until(lambda: len(self.heard.refusals) >= count, f"{count} refusals")
        return self.heard.refusals[:count]

    def ids(self, outputs: Outputs) -> list[str]:
        return [one.id for one, _ in outputs.objects]


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(waiting: WaitingPrompts | None = None, model: FakeModel | None = None, **settings: Any) -> Rig:
        rigs.append(Rig(Settings(**settings), waiting or WaitingPrompts(), model))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.predictor.decode_gate.set()
        assert rig.engine.stop()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()


def program_point(id: str, x: int, class_id: str = "") -> ProgramPrompt:
    return ProgramPrompt(id, class_id, (Point(x, 0, 1),))


# Which frame.


def test_a_prompt_on_an_embedded_frame_never_waits_for_an_encode(rig: Rig) -> None:
    rig.embed(1)
    rig.predictor.gates[2] = threading.Event()
    rig.image(2)
    wait_until(lambda: 2 in rig.predictor.started, "the blocked encode")
    rig.click(at=1)
    (outputs,) = rig.outputs(1)
    assert outputs.frame.stamp_ns == 1 * SECOND
    assert 2 not in rig.predictor.encoded


def test_a_prompt_on_an_embedded_frame_never_waits_for_a_prompt_that_waits(rig: Rig) -> None:
    rig.embed(1)
    rig.predictor.gates[2] = threading.Event()
    rig.image(2)
    rig.click(at=2)
    rig.click(at=1)
    assert rig.outputs(1)[0].frame.stamp_ns == 1 * SECOND
    rig.predictor.gates[2].set()
    assert rig.outputs(2)[1].frame.stamp_ns == 2 * SECOND


def test_stamp_zero_is_the_newest_embedding(rig: Rig) -> None:
    rig.embed(1, 2)
    rig.predictor.gates[3] = threading.Event()
    rig.image(3)
    rig.click()
    assert rig.outputs(1)[0].frame.stamp_ns == 2 * SECOND


def test_the_first_embedding_serves_a_prompt_without_stamp(rig: Rig) -> None:
    rig.predictor.gates[1] = threading.Event()
    rig.image(1)
    wait_until(lambda: rig.predictor.started == [1], "the first encode")
    rig.predictor.gates[2] = threading.Event()
    rig.image(2)
    rig.click()
    rig.predictor.gates[1].set()
    assert rig.outputs(1)[0].frame.stamp_ns == 1 * SECOND


def test_the_exact_frame_is_found_among_several(rig: Rig) -> None:
    rig.embed(1, 2, 3)
    for number in (2, 1, 3):
        rig.click(at=number)
    assert [o.frame.stamp_ns // SECOND for o in rig.outputs(3)] == [2, 1, 3]
    assert [number for number, _, _ in rig.predictor.decoded] == [2, 1, 3]


def test_the_nearest_frame_within_tolerance(rig: Rig) -> None:
    rig.embed(1, 2)
    rig.click(at=2.05)
    rig.click(at=1.96)
    assert [o.frame.stamp_ns // SECOND for o in rig.outputs(2)] == [2, 2]
    rig.click(at=1.9)
    (refusal,) = rig.refusals(1)
    assert (refusal.kind, refusal.topic, refusal.stamp_ns) == ("stale", "/sam/test", round(1.9 * SECOND))


def test_a_kept_image_is_encoded_on_demand(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(embeddings_kept=1)
    rig.embed(1, 2, 3)
    rig.click(at=1)
    assert rig.outputs(1)[0].frame.stamp_ns == 1 * SECOND
    assert rig.predictor.encoded == [1, 2, 3, 1]


def test_what_is_no_longer_kept_is_stale(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(embeddings_kept=1, images_kept=2)
    rig.embed(1, 2, 3)
    rig.click(at=1)
    (refusal,) = rig.refusals(1)
    assert refusal.kind == "stale" and "2.000 s older" in refusal.reason
    assert not rig.heard.outputs


def test_the_frame_being_encoded_is_waited_for_though_no_longer_kept(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(images_kept=1)
    rig.predictor.gates[1] = threading.Event()
    rig.image(1)
    wait_until(lambda: rig.predictor.started == [1], "the first encode")
    rig.image(2)
    rig.click(at=1)
    rig.predictor.gates[1].set()
    assert rig.outputs(1)[0].frame.stamp_ns == 1 * SECOND


def test_a_prompt_before_the_first_image_is_held_for_it(rig: Rig) -> None:
    rig.click()
    rig.image(1)
    assert rig.outputs(1)[0].frame.stamp_ns == 1 * SECOND


def test_a_prompt_is_refused_when_no_image_comes_in_time(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(WaitingPrompts(hold_sec=0.01))
    rig.click()
    assert rig.refusals(1)[0].kind == "no image"


def test_a_prompt_newer_than_any_image_waits_for_its_frame(rig: Rig) -> None:
    rig.embed(1)
    rig.click(at=2)
    rig.image(2)
    assert rig.outputs(1)[0].frame.stamp_ns == 2 * SECOND


def test_a_prompt_is_refused_when_no_image_as_new_comes_in_time(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(WaitingPrompts(hold_sec=0.01))
    rig.embed(1)
    rig.click(at=5)
    (refusal,) = rig.refusals(1)
    assert refusal.kind == "too new" and "4.000 s newer" in refusal.reason


def test_the_frame_id_must_be_the_images_or_empty(rig: Rig) -> None:
    rig.embed(1)
    rig.click(frame_id="camera")
    rig.outputs(1)
    rig.click(frame_id="map")
    (refusal,) = rig.refusals(1)
    assert refusal.kind == "wrong frame_id" and "'map'" in refusal.reason and "'camera'" in refusal.reason


def test_images_without_stamps_are_told_apart(rig: Rig) -> None:
    rig.image(1, stamp_ns=0)
    rig.wait_for_encode(1)
    rig.click(x=3)
    rig.outputs(1)
    rig.image(2, stamp_ns=0)
    rig.wait_for_encode(2)
    rig.program(program_point("a", 1))
    first, _ = rig.predictor.decoded[-1][1] if rig.outputs(2) else (None, None)
    assert first is not None and first.point_coords is None and first.low_res_logits is not None


# What is encoded.


def test_only_the_newest_of_a_flood_is_encoded(rig: Rig) -> None:
    rig.predictor.gates[1] = threading.Event()
    rig.image(1)
    wait_until(lambda: rig.predictor.started == [1], "the first encode")
    for number in range(2, 200):
        rig.image(number)
    rig.predictor.gates[1].set()
    rig.wait_for_encode(199)
    assert rig.predictor.encoded == [1, 199]
    rig.click(at=169)
    assert rig.refusals(1)[0].kind == "stale"
    rig.click(at=170)  # the last 30 are kept
    assert seconds(rig.outputs(1)) == [170]


def test_on_prompt_encodes_nothing_unasked(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(encode="on_prompt")
    rig.image(1)
    rig.image(2)
    rig.click()
    assert rig.outputs(1)[0].frame.stamp_ns == 2 * SECOND
    rig.image(3)
    rig.click()
    rig.click(x=2)
    assert [o.frame.stamp_ns // SECOND for o in rig.outputs(3)] == [2, 3, 3]
    assert rig.predictor.encoded == [2, 3]


def test_max_rate_holds_back_all_but_prompted_frames(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_rate_hz=0.001)
    rig.embed(1)
    rig.image(2)
    rig.image(3)
    rig.click(at=2)
    assert rig.outputs(1)[0].frame.stamp_ns == 2 * SECOND
    assert rig.predictor.encoded == [1, 2]


def test_a_broken_image_is_dropped_and_the_next_one_works(rig: Rig) -> None:
    rig.image(1, data=b"")
    wait_until(lambda: rig.heard.drops, "the drop")
    assert rig.heard.drops == [("short data", "no data")]
    assert rig.statistics.snapshot().drops == {"short data": 1}
    rig.embed(2)


def test_an_image_that_is_refused_as_it_comes_is_told_and_its_bytes_are_not_kept(rig: Rig) -> None:
    rig.engine.add_image(SECOND, "camera", bytes([1]), InvalidImageError("of 9 x 9", kind="image too large"))
    assert rig.heard.drops == [("image too large", "of 9 x 9")]
    assert rig.engine._state.frames.newest_image.data == b""  # type: ignore[union-attr]
    for _ in range(2):
        rig.click(at=1)
    assert [refusal.reason for refusal in rig.refusals(2)] == ["of 9 x 9"] * 2
    rig.engine.add_image(SECOND - 1, "camera", b"", InvalidImageError("of 9 x 9", kind="image too large"))
    assert [kind for kind, _ in rig.heard.drops] == ["image too large", "out of order"]
    rig.image(2)
    rig.click(at=2)
    rig.outputs(1)
    assert rig.num_read == 1


def test_an_image_that_is_refused_as_it_comes_leaves_the_encode_under_way(rig: Rig) -> None:
    gate = rig.predictor.gates[1] = threading.Event()
    rig.image(1)
    wait_until(lambda: rig.predictor.started, "the encode")
    rig.engine.add_image(2 * SECOND, "camera", bytes([2]), InvalidImageError("large"))
    rig.click(at=1)
    gate.set()
    rig.outputs(1)
    assert rig.predictor.encoded == [1]


def test_a_prompt_on_a_broken_image_says_so(rig: Rig) -> None:
    rig.image(1, data=b"")
    rig.click(at=1)
    assert rig.refusals(1)[0].reason == "no data"
    rig.click(at=1)
    assert rig.refusals(2)[1].reason == "no data"
    assert len(rig.heard.drops) == 1  # it was tried once


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_a_failure_leaves_the_threads_alive(rig: Rig, stage: str) -> None:
    if stage == "decode":
        rig.embed(1)
    rig.predictor.failures.append(RuntimeError("boom"))
    rig.image(1) if stage == "encode" else rig.click()
    wait_until(lambda: rig.heard.failures, "the failure")
    assert str(rig.heard.failures[0][1]) == "boom"
    rig.embed(2)
    rig.click()
    assert rig.outputs(1)[0].frame.stamp_ns == 2 * SECOND
    if stage == "encode":
        assert rig.statistics.snapshot().drops == {"encode failed": 1}
    else:
        assert [(r.kind, r.reason) for r in rig.refusals(1)] == [("error", "RuntimeError: boom")]


def test_a_device_that_fails_is_reported_and_the_prompt_refused(rig: Rig) -> None:
    rig.embed(1)
    rig.predictor.failures.append(DeviceError("the GPU is gone"))
    rig.click()
    assert [(r.kind, r.reason) for r in rig.refusals(1)] == [("device", "the GPU is gone")]
    assert isinstance(rig.heard.failures[0][1], DeviceError)


def test_too_little_memory_is_a_refusal_and_no_failure(rig: Rig) -> None:
    rig.embed(1)
    rig.predictor.failures.append(DeviceMemoryError("too many objects"))
    rig.click()
    assert [(r.kind, r.reason) for r in rig.refusals(1)] == [("out of memory", "too many objects")]
    rig.click()
    rig.outputs(1)
    assert not rig.heard.failures


def test_too_little_memory_for_an_image_is_counted_as_that(rig: Rig) -> None:
    rig.predictor.failures.append(DeviceMemoryError("a large model"))
    rig.image(1)
    wait_until(lambda: rig.heard.failures, "the failure")
    assert rig.statistics.snapshot().drops == {"out of memory": 1}
    rig.click(at=1)
    (refusal,) = rig.refusals(1)
    assert refusal.kind == "out of memory" and "a large model" in refusal.reason


def test_what_fails_after_undo_is_a_failure_since_no_prompt_can_be_refused(rig: Rig) -> None:
    rig.embed(1)
    rig.click()
    rig.click(label=0)
    rig.outputs(2)
    rig.predictor.failures.append(DeviceMemoryError("too many objects"))
    assert rig.engine.undo()
    wait_until(lambda: rig.heard.failures, "the failure")
    rig.click()
    rig.outputs(3)
    assert not rig.heard.refusals


def test_a_prompt_that_was_taken_back_is_not_refused_too(rig: Rig) -> None:
    rig.embed(1)
    rig.predictor.decode_gate.clear()
    rig.predictor.failures.append(DeviceMemoryError("too many objects"))
    rig.click()
    assert rig.predictor.decoding.wait(DEADLINE_SEC)
    assert rig.engine.undo()
    rig.predictor.decode_gate.set()
    rig.click()
    rig.outputs(1)
    assert not rig.heard.refusals


def test_a_listener_that_fails_is_no_refusal_of_an_applied_prompt(rig: Rig) -> None:
    rig.embed(1)
    rig.heard.refuse_outputs = True
    rig.click()
    wait_until(lambda: rig.heard.failures, "the failure")
    assert "no room to publish" in str(rig.heard.failures[0][1])
    rig.heard.refuse_outputs = False
    assert rig.engine.num_objects == 1 and rig.engine.undo()
    rig.outputs(1)
    assert not rig.heard.refusals


def test_stopping_cancels_an_encode(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    rig.predictor.gates[1] = threading.Event()
    rig.image(1)
    wait_until(lambda: rig.predictor.started == [1], "the encode")
    assert rig.engine.stop()
    assert rig.predictor.encoded == []


def test_stopping_refuses_what_still_waits(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    rig.predictor.gates[1] = threading.Event()
    rig.image(1)
    rig.click()
    wait_until(lambda: rig.predictor.started == [1], "the encode")
    assert rig.engine.stop()
    assert [(told.kind, told.topic) for told in rig.heard.refusals] == [("inactive", "/sam/test")]


def test_undo_takes_back_the_later_click_though_an_earlier_one_waits(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(images_kept=10, embeddings_kept=2)
    rig.embed(1, 2, 3)  # by now the first one is embedded no more
    rig.predictor.gates[1] = threading.Event()
    rig.click(at=1)
    rig.program(program_point("a", 1), at=3)
    rig.click(x=2, at=3)
    wait_until(lambda: rig.engine.num_objects == 2, "the later click's object")
    assert rig.engine.undo()
    wait_until(lambda: rig.engine.num_objects == 1, "the object to be gone")
    rig.predictor.gates[1].set()
    wait_until(lambda: rig.engine.num_objects == 2, "the earlier click's object")


def test_a_frame_is_not_followed_any_more_once_following_was_switched_off(following: Rig) -> None:
    following.embed(1)
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.image_held_in_decode(2)
    following.engine.configure(Settings(follow=False))
    following.predictor.decode_gate.set()
    following.click(label=0)
    following.click(label=0)
    wait_until(lambda: len(following.heard.answers) == 3, "the answers to all clicks")
    assert seconds(following.outputs(3)) == [1, 2, 2] and len(following.heard.outputs) == 3


def test_an_engine_that_was_stopped_answers_nothing_any_more(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where an answer took longer than stopping waits: another engine may be at work by then."""
    monkeypatch.setattr(engine, "JOIN_SEC", 0.0)
    rig = make_rig()
    rig.embed(1)
    rig.predictor.decode_gate.clear()
    rig.prompt(Point(3.0, 1.0, 1))
    assert rig.predictor.decoding.wait(DEADLINE_SEC)
    assert not rig.engine.stop()
    rig.predictor.decode_gate.set()
    wait_until(rig.engine.stop, "the threads to end")
    assert (rig.heard.outputs, rig.heard.candidates, rig.heard.answers) == ([], [], [])
    assert told(rig) == [("inactive", "/sam/test", 0, "")]


def test_stamps_that_jump_back_flush_everything(rig: Rig) -> None:
    rig.embed(5, 6)
    rig.click()
    rig.outputs(1)
    rig.click(at=60)
    rig.embed(1)
    (refusal,) = rig.refusals(1)
    assert "jumped back" in refusal.reason
    assert rig.engine.num_objects == 0
    rig.click(x=2, at=1)
    assert rig.outputs(2)[1].frame.stamp_ns == 1 * SECOND
    rig.click(at=5)
    assert rig.refusals(2)[1].kind == "too new"


def test_the_prompt_that_is_being_answered_is_stale_once_where_stamps_jump_back(rig: Rig) -> None:
    rig.embed(5)
    rig.predictor.decode_gate.clear()
    rig.click(at=5)
    wait_until(rig.predictor.decoding.is_set, "the decode")
    rig.image(1)
    rig.predictor.decode_gate.set()
    rig.wait_for_encode(1)
    rig.click(at=1)
    rig.outputs(1)
    assert told(rig) == [("stale", "/sam/test", 5, "")]


def test_an_encode_begun_before_a_flush_is_not_kept(rig: Rig) -> None:
    rig.predictor.gates[9] = threading.Event()
    rig.image(9)
    wait_until(lambda: rig.predictor.started == [9], "the encode")
    rig.image(1)
    rig.predictor.gates[9].set()
    rig.wait_for_encode(1)
    rig.click()
    assert rig.outputs(1)[0].frame.stamp_ns == 1 * SECOND


@pytest.mark.parametrize("at", [0, 1])
def test_an_encode_begun_before_a_flush_answers_no_prompt_of_after_it(rig: Rig, at: int) -> None:
    """Frame 9 is of the recording before, though its stamp fits the prompt."""
    rig.predictor.gates[9] = threading.Event()
    rig.image(9, stamp_ns=1 * SECOND + 40_000_000)
    wait_until(lambda: rig.predictor.started == [9], "the encode")
    for number, stamp_ns in ((3, 940), (4, 960), (5, 980)):  # a third one in order is no delay
        rig.image(number, stamp_ns=stamp_ns * SECOND // 1000)
    rig.click(at=at)
    wait_until(rig.waiting.wanted_frame, "the prompt's choice of a frame")
    rig.predictor.gates[9].set()
    assert rig.outputs(1)[0].frame.stamp_ns == 1 * SECOND - 20_000_000


def test_swapped_images_are_no_jump_of_the_clock(following: Rig) -> None:
    following.embed(7, 9)
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.image(8, stamp_ns=9 * SECOND - SECOND // 10)
    following.embed(10)
    assert [following.ids(one) for one in following.outputs(3)] == [[], [], ["_1"]]
    ((kind, reason),) = following.heard.drops
    assert kind == "out of order" and "0.100 s before" in reason
    assert following.statistics.snapshot().drops == {"out of order": 1}
    assert not following.heard.flushes


def test_a_jump_of_the_clock_is_told_with_how_far_back_it_went(rig: Rig) -> None:
    rig.embed(9)
    rig.click()
    rig.outputs(1)
    rig.embed(4)
    (reason,) = rig.heard.flushes
    assert "jumped back by 5.000 s" in reason and rig.engine.num_objects == 0


def test_images_of_a_second_camera_are_left_out_and_told(following: Rig) -> None:
    for number in range(1, 9):
        frame_id = ("left", "right")[number % 2]
        following.engine.add_image(number * SECOND // 10, frame_id, bytes([number]))
        if number in (1, 2, 3, 5, 7):
            following.wait_for_encode(number)
    frame_ids = [outputs.frame.frame_id for outputs in following.outputs(5)]
    assert frame_ids == ["right", "left", "right", "right", "right"]
    assert [kind for kind, _ in following.heard.drops] == ["other camera"] * 3
    assert "'right' and 'left'" in following.heard.drops[0][1]


# What is asked of the model, and what comes out.


def test_three_masks_only_for_a_single_point(rig: Rig) -> None:
    rig.embed(1)
    rig.click(x=3)
    rig.click(x=4, label=0)
    rig.prompt(Box((0, 0, 2, 2)))
    rig.prompt(MaskPrompt(np.zeros((4, 4), np.float32)))
    outputs = rig.outputs(4)
    assert [flags for _, _, flags in rig.predictor.decoded] == [[True], [False], [False], [False]]
    assert [o.candidates is not None for o in outputs] == [True, False, False, False]
    assert outputs[0].candidates is outputs[0].objects[0][1]


def test_without_multimask_output_a_single_point_gets_one_mask(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(multimask_output=False)
    rig.embed(1)
    rig.click()
    assert rig.outputs(1)[0].candidates is None
    assert rig.predictor.decoded[0][2] == [False]


def test_candidates_come_from_the_prompted_object(rig: Rig) -> None:
    rig.embed(1)
    rig.click(x=3)
    rig.program(ProgramPrompt("a", "", (), (0, 0, 2, 2)))
    rig.program(program_point("a", 1), program_point("b", 2))
    _, second, third = rig.outputs(3)
    assert second.candidates is None  # the click is decoded again, but was not prompted
    assert third.candidates is third.objects[2][1]
    assert [len(masks.masks) for _, masks in third.objects] == [1, 1, 3]


def test_candidates_are_made_only_where_somebody_wants_them(rig: Rig) -> None:
    rig.embed(1)
    rig.heard.candidates_wanted = False
    rig.click(x=3)
    (outputs,) = rig.outputs(1)
    assert outputs.candidates is None
    ((_, masks),) = outputs.objects
    assert len(masks.masks) == 1
    scores = (*masks.predicted_iou, *masks.other_predicted_iou)
    np.testing.assert_array_equal(scores, rig.predictor.scores)  # all three are told
    rig.heard.candidates_wanted = True
    rig.click(x=3)
    assert rig.outputs(2)[1].candidates is not None


def test_on_another_frame_an_object_is_asked_for_by_its_logits(rig: Rig) -> None:
    rig.embed(1, 2)
    rig.click(x=3, at=1)
    rig.program(program_point("a", 5), at=2)
    rig.program(program_point("a", 4), at=1)
    rig.outputs(3)
    on_2, on_1 = rig.predictor.decoded[1:]
    clicked = on_2[1][0]
    assert clicked.point_coords is None
    np.testing.assert_array_equal(clicked.low_res_logits, np.full((4, 4), 3, np.float32))
    assert on_1[1][0].point_coords is not None  # back on its own frame, its point counts again


def test_a_refinement_on_another_frame_builds_on_the_logits(rig: Rig) -> None:
    rig.embed(1, 2)
    rig.click(x=3, at=1)
    rig.click(x=4, label=0, at=2)
    rig.outputs(2)
    (prompt,) = rig.predictor.decoded[1][1]
    np.testing.assert_array_equal(prompt.point_coords, [[4, 1]])
    np.testing.assert_array_equal(prompt.low_res_logits, np.full((4, 4), 3, np.float32))


def test_objects_of_another_resolution_are_not_mixed_in(rig: Rig) -> None:
    rig.embed(1)
    rig.click()
    rig.outputs(1)
    rig.image(2, data=b"\x02\x00")
    rig.wait_for_encode(2)
    rig.program(program_point("a", 1))
    _, second = rig.outputs(2)
    assert second.size_hw == (12, 4)
    assert rig.ids(second) == ["a"]
    rig.click(label=0)
    assert rig.refusals(1)[0].kind == "no object"


LARGER = b"\x02\x00"  # image 2, of another resolution


def test_a_late_prompt_of_an_old_resolution_is_refused_where_there_are_newer_objects(rig: Rig) -> None:
    rig.embed(1)
    rig.image(2, data=LARGER)
    rig.wait_for_encode(2)
    rig.click(at=2)
    rig.outputs(1)
    rig.prompt(program_point("a", 1), 1 * SECOND)
    rig.program(program_point("a", 1), at=1)
    rig.click(x=2, at=1)
    refusals = rig.refusals(3)
    assert [refusal.kind for refusal in refusals] == ["resolution changed"] * 3
    assert refusals[0].id == "a" and "8 x 6" in refusals[0].reason and "4 x 12" in refusals[0].reason
    rig.program(program_point("b", 1), at=2)
    assert rig.ids(rig.outputs(2)[1]) == ["_1", "b"]


def test_a_late_prompt_of_an_old_resolution_is_answered_where_all_objects_are_older(rig: Rig) -> None:
    rig.embed(1)
    rig.click(at=1)
    rig.image(2, data=LARGER)
    rig.wait_for_encode(2)
    rig.prompt(program_point("a", 1), 1 * SECOND)
    assert rig.ids(rig.outputs(2)[1]) == ["_1", "a"] and not rig.heard.refusals


def test_thresholds_and_empty_masks_leave_objects_out(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(min_predicted_iou=0.89)
    rig.embed(1)
    rig.click()
    assert len(rig.outputs(1)[0].objects) == 1
    rig.engine.configure(Settings(min_predicted_iou=0.91))
    rig.click()
    rig.engine.configure(Settings(min_stability_score=0.41))
    rig.click()
    for outputs in rig.outputs(3)[1:]:
        assert outputs.objects == () and outputs.candidates is None


def test_no_threshold_leaves_nothing_out(rig: Rig) -> None:
    """A model may predict an IoU below 0; it is published as 0, which a threshold of 0 lets pass."""
    rig.embed(1)
    rig.predictor.scores = np.array([-0.1, -0.2, -0.3], np.float32)
    rig.click()
    assert len(rig.outputs(1)[0].objects) == 1


@pytest.mark.parametrize("follow", [True, False])
def test_an_accepted_prompt_is_told_with_the_objects_it_touched(
    make_rig: Callable[..., Rig], follow: bool
) -> None:
    rig = make_rig(follow=follow)
    rig.embed(1)
    rig.program(program_point("a", 1), program_point("b", 2))
    rig.click(x=3)
    rig.click(label=0, frame_id="map")
    rig.refusals(1)
    assert rig.heard.answers == [("/sam/prompts", ["a", "b"]), ("/sam/test", ["_1"])]


def test_a_prompt_that_has_a_problem_as_it_comes_is_refused_at_once(rig: Rig) -> None:
    problem = InvalidPromptError("too large", kind="mask prompt size")
    request = PromptRequest("/sam/mask_prompt", SECOND, "", lambda _: Point(1, 1, 1), problem=problem)
    rig.engine.submit(request)  # no image has come
    (refusal,) = rig.heard.refusals
    assert refusal == Refusal("/sam/mask_prompt", SECOND, (), "mask prompt size", "too large")
    assert rig.waiting.is_empty


def test_a_refused_prompt_publishes_nothing(rig: Rig) -> None:
    rig.embed(1)
    rig.prompt(InvalidPromptError("the point is on the moon", kind="point outside"))
    rig.click(label=0)
    first, second = rig.refusals(2)
    assert (first.kind, first.reason) == ("point outside", "the point is on the moon")
    assert second.kind == "no object"
    rig.click()
    assert len(rig.outputs(1)) == 1
    assert rig.statistics.snapshot().refusals == {"point outside": 1, "no object": 1}


def test_one_refused_object_leaves_the_others(rig: Rig) -> None:
    rig.embed(1)
    rig.program(program_point("good", 1), program_point("_7", 2), refused=[RefusedObject("bad", "no", "box")])
    (outputs,) = rig.outputs(1)
    assert rig.ids(outputs) == ["good"]
    assert {(r.id, r.kind) for r in rig.refusals(2)} == {("_7", "unknown id"), ("bad", "box")}


def test_when_all_objects_are_refused_nothing_changes(rig: Rig) -> None:
    rig.embed(1)
    rig.program(program_point("a", 1))
    rig.program(program_point("_9", 1))
    rig.refusals(1)
    rig.click()
    assert [rig.ids(o) for o in rig.outputs(2)] == [["a"], ["a", "_1"]]


def test_more_than_max_objects_is_said_once(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_objects=3)
    rig.embed(1)
    rig.program(*(program_point("", i % 8) for i in range(1000)))
    assert rig.ids(rig.outputs(1)[0]) == ["_1", "_2", "_3"]
    assert len(rig.refusals(1)) == 1 and "996 more" in rig.heard.refusals[0].reason
    assert rig.statistics.snapshot().refusals == {"max_objects": 997}


def test_every_object_that_was_refused_is_named(rig: Rig) -> None:
    rig.embed(1)
    long = "x" * LONGEST_NAME
    rig.program(refused=[RefusedObject(id, "no", "box") for id in ("a", "", long, long + "y")])
    (refusal,) = rig.refusals(1)
    assert refusal.ids[:2] == ("a", long) and len(refusal.ids) == 3
    assert refusal.ids[2].endswith(f"({LONGEST_NAME + 1} characters)")
    assert rig.statistics.snapshot().refusals == {"box": 4}


def test_waiting_prompts_are_bounded_and_the_newest_win(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(WaitingPrompts(prompts_kept=3))
    rig.predictor.gates[1] = threading.Event()
    rig.image(1)
    for x in range(5):
        rig.click(x=x, at=1)
    assert [r.kind for r in rig.refusals(2)] == ["queue full"] * 2
    rig.predictor.gates[1].set()
    rig.outputs(3)
    coords = [prompts[0].point_coords for _, prompts, _ in rig.predictor.decoded]
    assert [c[0, 0] for c in coords if c is not None] == [2, 3, 4]


# While the decode thread is busy.


def keep_busy(rig: Rig) -> None:
    """Have a click on image 1 answered until the model's ``decode_gate`` is set."""
    rig.predictor.decode_gate.clear()
    rig.image(1)
    rig.click(at=1)
    assert rig.predictor.decoding.wait(DEADLINE_SEC)


def click_on_what_is_forgotten(rig: Rig) -> None:
    """Click on an embedded image while the decode thread is busy; two newer ones take its place then."""
    keep_busy(rig)
    rig.embed(2)
    rig.click(x=3, at=2)
    rig.embed(3, 4)


def let_go(rig: Rig, count: int) -> list[int]:
    """The images that so many prompts were answered on, none refused, once the decode thread goes on."""
    rig.predictor.decode_gate.set()
    wait_until(lambda: len(rig.heard.answers) + len(rig.heard.refusals) >= count, f"{count} outcomes")
    assert not rig.heard.refusals
    return [number for number, (prompt, *_), _ in rig.predictor.decoded if prompt.point_coords is not None]


def test_the_embedding_that_a_prompt_is_for_is_kept_until_it_is_answered(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(embeddings_kept=1, images_kept=1)
    click_on_what_is_forgotten(rig)
    assert let_go(rig, 2) == [1, 2]
    assert rig.predictor.encoded == [1, 2, 3, 4]


def test_what_was_clicked_on_an_embedding_of_long_ago_has_other_masks_to_choose(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(embeddings_kept=2, images_kept=1)
    click_on_what_is_forgotten(rig)
    let_go(rig, 2)
    rig.embed(5, 6)
    rig.engine.choose("/sam/choose", 1)
    assert let_go(rig, 3) and rig.heard.answers[2] == ("/sam/choose", ["_2"])


@pytest.mark.parametrize("follow", [True, False])
def test_a_kept_image_is_encoded_for_a_prompt_though_another_one_is_being_answered(
    make_rig: Callable[..., Rig], follow: bool
) -> None:
    rig = make_rig(follow=follow, encode="on_prompt", images_kept=1)
    keep_busy(rig)
    rig.image(2)
    rig.click(x=3, at=2)
    rig.image(3)
    rig.wait_for_encode(2)
    assert let_go(rig, 2) == [1, 2]


def test_a_prompt_takes_the_image_that_it_waited_for_as_that_comes(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(encode="on_prompt", images_kept=1)
    keep_busy(rig)
    rig.click(x=3, at=2)
    rig.image(2)
    rig.image(3)
    rig.wait_for_encode(2)
    assert let_go(rig, 2) == [1, 2]


def test_stamp_zero_is_the_newest_embedding_as_the_prompt_comes(rig: Rig) -> None:
    keep_busy(rig)
    rig.embed(2)
    rig.click(x=3)
    rig.embed(3)
    assert let_go(rig, 2) == [1, 2]


def test_a_click_is_not_pushed_out_by_sets_of_which_the_last_one_says_it_all(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(WaitingPrompts(prompts_kept=4))
    keep_busy(rig)
    rig.click(x=3, at=1)
    for x in range(1, 7):
        rig.program(program_point("a", x), at=1)
    let_go(rig, 4)
    wait_until(lambda: rig.waiting.is_empty, "all to be answered")
    topics = [topic for topic, _ in rig.heard.answers]
    assert topics.count("/sam/test") == 2
    superseded = rig.statistics.snapshot().totals["superseded"]
    assert superseded + topics.count("/sam/prompts") == 6 and rig.ids(rig.heard.outputs[-1]) == ["_2", "a"]


def test_no_frame_is_encoded_for_a_set_that_a_later_one_made_superfluous(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(WaitingPrompts(patience_sec=0.0), encode="on_prompt")
    keep_busy(rig)
    rig.predictor.gates[2] = threading.Event()
    for number in range(2, 6):
        rig.image(number)
        rig.program(program_point("a", 1), at=number)
        wait_until(lambda: 2 in rig.predictor.started, "the encode of the first one's")
    rig.predictor.gates[2].set()
    rig.wait_for_encode(5)
    assert rig.predictor.encoded == [1, 2, 5]
    let_go(rig, 2)
    assert rig.predictor.decoded[-1][0] == 5 and rig.statistics.snapshot().totals["superseded"] == 3


def test_sets_that_come_faster_than_frames_are_followed_pile_up_no_frames(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(WaitingPrompts(patience_sec=0.0), follow=True, embeddings_kept=1)
    rig.embed(1)
    rig.click(at=1)
    wait_until(lambda: rig.engine.num_objects, "the object")
    rig.image_held_in_decode(2)
    for number in range(3, 20):
        rig.image(number)
        rig.program(program_point("a", 1), at=number)
        if number < 5:  # one waits, and one more that is prompted
            rig.wait_for_encode(number)
    rig.click(x=3, at=1)
    wait_until(lambda: rig.predictor.encoded.count(1) == 2, "the image of before those, encoded again")
    assert rig.predictor.encoded == [1, 2, 3, 4, 1]
    rig.predictor.decode_gate.set()
    wait_until(lambda: 19 in seconds(rig.heard.outputs), "the set of the last image")
    wait_until(lambda: rig.waiting.is_empty, "all to be answered")
    assert not rig.heard.refusals


# Clear and undo.


def test_clear_forgets_all_and_publishes_one_empty_set(rig: Rig) -> None:
    rig.embed(1, 2)
    rig.click(at=1)
    rig.program(program_point("a", 1), at=1)
    rig.outputs(2)
    rig.engine.clear()
    outputs = rig.outputs(3)[2]
    assert (outputs.objects, outputs.frame.stamp_ns, outputs.size_hw) == ((), 1 * SECOND, SIZE_HW)
    assert not rig.engine.undo()
    rig.click()
    assert rig.ids(rig.outputs(4)[3]) == ["_2"]


def test_clear_before_any_frame_publishes_nothing(rig: Rig) -> None:
    rig.engine.clear()
    rig.embed(1)
    rig.click()
    assert rig.ids(rig.outputs(1)[0]) == ["_1"]


def test_clear_withdraws_prompts_that_still_wait_or_run(rig: Rig) -> None:
    rig.embed(1)
    rig.predictor.decode_gate.clear()
    rig.click(at=1)
    wait_until(rig.predictor.decoding.is_set, "the decode")
    rig.click(at=2)
    rig.engine.clear()
    rig.predictor.decode_gate.set()
    (outputs,) = rig.outputs(1)
    assert outputs.objects == ()
    rig.embed(2)
    assert rig.engine.num_objects == 0 and len(rig.heard.outputs) == 1


def test_clear_says_once_of_each_prompt_that_it_was_taken_back(rig: Rig) -> None:
    rig.embed(1)
    rig.predictor.decode_gate.clear()
    rig.click(at=1)
    wait_until(rig.predictor.decoding.is_set, "the decode")
    rig.prompt(program_point("cup", 1), 2 * SECOND)
    rig.engine.clear()
    assert told(rig) == [("taken back", "/sam/test", 1, ""), ("taken back", "/sam/test", 2, "cup")]
    rig.engine.clear()
    assert not rig.engine.undo()
    rig.predictor.decode_gate.set()
    rig.click()
    assert rig.ids(rig.outputs(2)[-1]) == ["_1"]
    assert len(rig.heard.refusals) == 2 and "cleared" in rig.heard.refusals[0].reason


def told(rig: Rig) -> list[tuple[str, str, int, str]]:
    """Kind, topic, stamp in seconds and id of all that was refused."""
    return [(r.kind, r.topic, r.stamp_ns // SECOND, r.id) for r in rig.heard.refusals]


def prompt_cup_on_image_2(rig: Rig) -> None:
    """A program's prompt for "cup", which waits for image 2 to be encoded."""
    rig.predictor.gates[2] = threading.Event()
    rig.image(2)
    rig.prompt(program_point("cup", 2), 2 * SECOND, undoable=False)


@pytest.mark.parametrize("named", ["cup", ""], ids=["by its id", "as the clicked one"])
def test_what_is_removed_is_not_made_again_by_a_prompt_that_still_waits(rig: Rig, named: str) -> None:
    rig.embed(1)
    rig.prompt(program_point("cup", 1), undoable=False)
    rig.outputs(1)
    rig.engine.select("/sam/select", "cup")
    prompt_cup_on_image_2(rig)
    rig.prompt(program_point("plate", 3), 2 * SECOND, undoable=False)
    rig.engine.remove("/sam/remove", named)
    assert told(rig) == [("taken back", "/sam/test", 2, "cup")]
    assert rig.ids(rig.outputs(2)[1]) == []
    rig.predictor.gates[2].set()
    assert rig.ids(rig.outputs(3)[2]) == ["plate"]
    assert rig.engine.undo()
    assert rig.ids(rig.outputs(4)[3]) == ["cup", "plate"]


def test_what_is_removed_is_not_made_again_by_a_prompt_that_is_being_answered(rig: Rig) -> None:
    rig.embed(1)
    rig.prompt(program_point("cup", 1), undoable=False)
    rig.outputs(1)
    rig.predictor.decoding.clear()
    rig.predictor.decode_gate.clear()
    rig.prompt(program_point("cup", 2), 1 * SECOND, undoable=False)
    wait_until(rig.predictor.decoding.is_set, "the decode")
    rig.engine.remove("/sam/remove", "cup")
    rig.predictor.decode_gate.set()
    assert rig.ids(rig.outputs(2)[1]) == []
    assert told(rig) == [("taken back", "/sam/test", 1, "cup")] and rig.engine.num_objects == 0


def test_what_waits_to_be_made_can_be_removed_already(rig: Rig) -> None:
    prompt_cup_on_image_2(rig)
    rig.engine.remove("/sam/remove", "cup")
    assert told(rig) == [("taken back", "/sam/test", 2, "cup")]
    rig.predictor.gates[2].set()
    rig.click(at=2)
    assert rig.ids(rig.outputs(1)[0]) == ["_1"]
    assert rig.engine.undo() and not rig.engine.undo()  # nothing was removed that could come back


def test_removing_no_clicked_object_takes_back_no_prompt(rig: Rig) -> None:
    rig.click(at=1)
    rig.engine.remove("/sam/remove", "")
    assert told(rig) == [("unknown id", "/sam/remove", 0, "")]
    rig.embed(1)
    assert rig.ids(rig.outputs(1)[0]) == ["_1"]


def test_undo_restores_every_state_in_turn(rig: Rig) -> None:
    rig.embed(1)
    rig.click(x=1)
    rig.click(x=2, label=0)
    rig.prompt(Box((0, 0, 3, 3)))
    rig.program(program_point("a", 1))
    rig.outputs(4)
    for count, expected in enumerate((["_1", "a"], ["_1", "a"], ["a"]), start=5):
        assert rig.engine.undo()
        assert rig.ids(rig.outputs(count)[-1]) == expected
    assert not rig.engine.undo()
    prompts = [prompts[0] for _, prompts, _ in rig.predictor.decoded[4:6]]
    assert [prompt.num_points for prompt in prompts] == [2, 1]


def test_undo_takes_back_a_prompt_that_still_waits(rig: Rig) -> None:
    rig.embed(1)
    rig.click(x=1)
    rig.outputs(1)
    rig.click(x=2, at=2)
    assert rig.engine.undo()
    rig.embed(2)
    rig.program(program_point("a", 3), at=1)
    assert rig.ids(rig.outputs(2)[1]) == ["_1", "a"]
    assert len(rig.heard.outputs) == 2


def test_undo_takes_back_a_prompt_that_is_being_decoded(rig: Rig) -> None:
    rig.embed(1)
    rig.predictor.decode_gate.clear()
    rig.click(x=1)
    wait_until(rig.predictor.decoding.is_set, "the decode")
    assert rig.engine.undo()
    rig.predictor.decode_gate.set()
    rig.program(program_point("a", 3))
    assert rig.ids(rig.outputs(1)[0]) == ["a"]


def test_undo_holds_though_a_program_is_being_answered(rig: Rig) -> None:
    rig.embed(1)
    rig.click(x=1)
    rig.outputs(1)
    rig.predictor.decoding.clear()
    rig.predictor.decode_gate.clear()
    rig.program(program_point("a", 3))
    wait_until(rig.predictor.decoding.is_set, "the decode")
    assert rig.engine.undo()
    rig.predictor.decode_gate.set()
    assert [rig.ids(outputs) for outputs in rig.outputs(3)[1:]] == [["a"], ["a"]]


# Following.


@pytest.fixture(params=[FakeModel, FakeRememberingModel], ids=["motion", "memory"])
def following(request: pytest.FixtureRequest, make_rig: Callable[..., Rig]) -> Rig:
    """Whichever way objects are followed, all of this holds."""
    return make_rig(model=request.param(), follow=True)


@pytest.fixture
def by_motion(make_rig: Callable[..., Rig]) -> Rig:
    """How objects are followed where the model has no memory."""
    return make_rig(follow=True)


def seconds(sets: Sequence[Outputs]) -> list[int]:
    return [one.frame.stamp_ns // SECOND for one in sets]


def test_every_embedded_frame_is_answered_with_or_without_objects(following: Rig) -> None:
    following.embed(1, 2)
    assert [following.ids(one) for one in following.outputs(2)] == [[], []]
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.embed(3, 4)
    sets = following.outputs(4)
    assert seconds(sets) == [1, 2, 3, 4]
    assert [following.ids(one) for one in sets] == [[], [], ["_1"], ["_1"]]


def test_a_late_prompt_is_decoded_on_its_frame_and_appears_in_the_next_set(following: Rig) -> None:
    following.embed(1, 2)
    following.outputs(2)
    following.click(x=3, at=1)
    wait_until(lambda: following.engine.num_objects, "the object")
    assert [number for number, _, _ in following.predictor.decoded] == [1]
    following.embed(3)
    sets = following.outputs(3)
    assert seconds(sets) == [1, 2, 3] and following.ids(sets[2]) == ["_1"]


def test_a_followed_object_is_asked_for_by_its_logits_and_their_box(by_motion: Rig) -> None:
    by_motion.embed(1)
    by_motion.click(x=3)
    wait_until(lambda: by_motion.engine.num_objects, "the object")
    by_motion.embed(2)
    by_motion.outputs(2)
    number, (prompt,), (three,) = by_motion.predictor.decoded[-1]
    assert (number, three) == (2, False)
    assert prompt.point_coords is None and prompt.box is not None and prompt.low_res_logits is not None
    # The fake's logits are 3 everywhere: the box is the whole image.
    np.testing.assert_allclose(prompt.box, [0, 0, SIZE_HW[1], SIZE_HW[0]])
    np.testing.assert_allclose(prompt.low_res_logits[:3], 3)


def test_a_prompt_that_waited_for_the_frame_is_part_of_its_set(following: Rig) -> None:
    following.predictor.gates[1] = threading.Event()
    following.image(1)
    wait_until(lambda: following.predictor.started == [1], "the first encode")
    following.click(at=1)
    following.predictor.gates[1].set()
    (one,) = following.outputs(1)
    assert following.ids(one) == ["_1"]


def test_only_what_is_prompted_is_decoded_on_the_prompts_frame(following: Rig) -> None:
    following.embed(1)
    following.program(program_point("a", 1), program_point("b", 2))
    wait_until(lambda: following.engine.num_objects == 2, "two objects")
    following.click(x=3)
    wait_until(lambda: following.engine.num_objects == 3, "three objects")
    assert [len(prompts) for _, prompts, _ in following.predictor.decoded] == [2, 1]
    following.embed(2)
    assert following.ids(following.outputs(2)[1]) == ["a", "b", "_1"]


def is_background(prompt: Prompt) -> bool:
    return prompt.point_labels is not None and prompt.point_labels.tolist() == [0]


def test_a_background_click_refines_the_object_where_it_is_by_then(following: Rig) -> None:
    following.embed(1)
    following.click(x=3)
    wait_until(lambda: following.engine.num_objects, "the object")
    following.embed(2)
    following.outputs(2)
    following.click(x=5, label=0, at=2)
    wait_until(lambda: is_background(following.predictor.decoded[-1][1][0]), "the refinement")
    number, (prompt,), _ = following.predictor.decoded[-1]
    assert number == 2 and prompt.point_labels is not None and list(prompt.point_labels) == [0]
    assert prompt.low_res_logits is not None


def test_a_prompt_that_is_refused_while_following_publishes_nothing(following: Rig) -> None:
    following.embed(1)
    following.outputs(1)
    following.click(label=0)
    assert following.refusals(1)[0].kind == "no object"
    following.embed(2)
    assert seconds(following.outputs(2)) == [1, 2]


def test_candidates_come_at_once_on_the_frame_of_the_click(following: Rig) -> None:
    following.embed(1, 2)
    following.outputs(2)
    following.click(at=1)
    wait_until(lambda: following.heard.candidates, "candidates")
    (outputs,) = following.heard.candidates
    assert outputs.frame.stamp_ns == SECOND and outputs.candidates is not None
    assert len(outputs.candidates.masks) == 3
    following.embed(3)
    assert [one.candidates for one in following.outputs(3)] == [None, None, None]


def test_clear_and_undo_show_in_the_next_set(following: Rig) -> None:
    following.embed(1)
    following.click(x=1)
    following.click(x=2)
    following.embed(2)
    assert following.ids(following.outputs(2)[1]) == ["_2"]
    assert following.engine.undo()
    following.embed(3)
    assert following.ids(following.outputs(3)[2]) == ["_1"]
    following.engine.clear()
    following.embed(4)
    assert following.ids(following.outputs(4)[3]) == []


def test_a_frame_that_is_being_answered_while_objects_are_cleared_shows_none(following: Rig) -> None:
    following.embed(1)
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.image_held_in_decode(2)
    following.engine.clear()
    following.predictor.decode_gate.set()
    sets = following.outputs(2)
    assert seconds(sets) == [1, 2] and following.ids(sets[1]) == []


def test_encoding_waits_for_a_decode_thread_that_is_two_frames_behind(following: Rig) -> None:
    following.embed(1)
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.predictor.decode_gate.clear()
    following.embed(2, 3)  # one is being decoded, one waits
    following.image(4)
    following.image(5)
    following.predictor.decode_gate.set()
    assert seconds(following.outputs(4)) == [1, 2, 3, 5]
    assert following.predictor.started == [1, 2, 3, 5]


def test_a_frame_that_is_encoded_late_for_a_prompt_is_not_answered(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, embeddings_kept=1)
    rig.embed(1, 2)
    rig.click(at=1)
    wait_until(lambda: rig.engine.num_objects, "the object")
    rig.embed(3)
    assert seconds(rig.outputs(3)) == [1, 2, 3]
    assert not rig.heard.drops


def test_the_stamps_of_sets_of_answers_increase_strictly(following: Rig) -> None:
    following.embed(1)
    following.image(2, stamp_ns=SECOND)
    following.wait_for_encode(2)
    following.image(3, stamp_ns=SECOND - 1)
    following.embed(4)
    assert seconds(following.outputs(2)) == [1, 4]
    assert [kind for kind, _ in following.heard.drops] == ["stamp not later", "out of order"]
    assert following.predictor.encoded == [1, 2, 4]


def test_a_frame_that_is_encoded_again_is_not_out_of_order(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, embeddings_kept=1)
    rig.embed(1, 2)
    rig.image(3, stamp_ns=2 * SECOND)
    rig.wait_for_encode(3)
    rig.click(at=1)
    wait_until(lambda: rig.engine.num_objects, "the object")
    assert rig.predictor.encoded == [1, 2, 3, 1] and len(rig.heard.drops) == 1


def test_stamps_that_do_not_increase_are_no_sign_of_life(following: Rig) -> None:
    following.embed(1)
    for number in (2, 3, 4):
        following.image(number, stamp_ns=SECOND)
        following.wait_for_encode(number)
    wait_until(lambda: len(following.heard.drops) == 3, "the drops")
    snapshot = following.statistics.snapshot()
    assert snapshot.drops == {"stamp not later": 3} and snapshot.dropping_sec > 0


def test_a_camera_that_does_not_stamp_is_answered_all_the_same(following: Rig) -> None:
    for number in (1, 2):
        following.image(number, stamp_ns=0)
        following.wait_for_encode(number)
    assert seconds(following.outputs(2)) == [0, 0]


def test_stamps_that_jump_back_start_anew(following: Rig) -> None:
    following.embed(5)
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.embed(1)
    sets = following.outputs(2)
    assert seconds(sets) == [5, 1] and following.ids(sets[1]) == []


def test_an_object_that_was_lost_from_view_is_left_out_but_lives(following: Rig) -> None:
    following.embed(1)
    following.click(x=0)  # the fake answers with logits of 0: nothing is positive
    wait_until(lambda: following.engine.num_objects, "the object")
    following.embed(2)
    assert following.ids(following.outputs(2)[1]) == []
    assert following.engine.num_objects == 1
    following.embed(3)
    following.outputs(3)
    assert [(told.kind, told.id) for told in following.heard.refusals] == [("lost at once", "_1")]


def test_selecting_another_object_does_not_hold_up_the_frame_that_is_followed(following: Rig) -> None:
    following.embed(1)
    following.program(program_point("a", 1), program_point("b", 2), at=1)
    wait_until(lambda: following.engine.num_objects == 2, "the objects")
    following.image_held_in_decode(2)
    following.engine.select("/sam/select", "b")
    following.predictor.decode_gate.set()
    assert following.ids(following.outputs(2)[1]) == ["a", "b"]
    assert [number for number, *_ in following.predictor.decoded].count(2) <= 1
    following.engine.remove("/sam/remove", "")
    following.embed(3)
    assert following.ids(following.outputs(3)[2]) == ["a"]


def test_an_object_that_is_lost_later_is_no_refusal(following: Rig) -> None:
    following.embed(1)
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.embed(2)
    assert following.ids(following.outputs(2)[1]) == ["_1"]
    following.predictor.next_logits = [np.full((4, 4), -1, np.float32)]
    following.embed(3)
    assert following.ids(following.outputs(3)[2]) == []
    assert not following.heard.refusals


def test_objects_of_another_resolution_are_dropped(following: Rig) -> None:
    following.embed(1)
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.image(2, data=bytes([2, 2]))
    assert following.ids(following.outputs(2)[1]) == []
    assert following.engine.num_objects == 0


def test_a_late_prompt_of_an_old_resolution_is_refused_for_it_cannot_be_followed(following: Rig) -> None:
    following.embed(1)
    following.image(2, data=LARGER)
    following.outputs(2)
    following.prompt(program_point("a", 1), 1 * SECOND)
    (refusal,) = following.refusals(1)
    assert (refusal.kind, refusal.id) == ("resolution changed", "a")
    following.click(at=2)
    wait_until(lambda: following.engine.num_objects, "the object")
    following.image(3, data=bytes([3, 3]))
    assert following.ids(following.outputs(3)[2]) == ["_1"]


def test_a_late_prompt_of_an_old_resolution_is_refused_though_newer_images_were_passed_over(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(follow=True, encode="with_objects")
    rig.image(1)
    rig.outputs(1)
    rig.image(2, data=LARGER)
    rig.outputs(2)
    rig.click(at=1)
    assert rig.refusals(1)[0].kind == "resolution changed"


def test_a_failed_decode_empties_one_set_and_costs_no_object(following: Rig) -> None:
    following.embed(1)
    following.click()
    wait_until(lambda: following.engine.num_objects, "the object")
    following.predictor.decode_gate.clear()
    following.embed(2)
    following.predictor.failures.append(RuntimeError("broken"))
    following.predictor.decode_gate.set()
    wait_until(lambda: following.heard.failures, "the failure")
    following.embed(3)
    sets = following.outputs(3)
    assert seconds(sets) == [1, 2, 3]
    assert [following.ids(one) for one in sets] == [[], [], ["_1"]]
    assert len(following.heard.failures) == 1


def test_an_answer_somewhere_else_is_left_out_and_costs_no_object(by_motion: Rig) -> None:
    by_motion.embed(1)
    place = np.full((4, 4), 3, np.float32)
    place[:, :2] = -3
    by_motion.prompt(MaskPrompt(place))
    wait_until(lambda: by_motion.engine.num_objects, "the object")
    by_motion.predictor.next_logits.append(-place)
    by_motion.embed(2, 3)
    assert [by_motion.ids(one) for one in by_motion.outputs(3)] == [[], [], ["_1"]]


def test_frames_are_answered_before_prompts_on_later_ones(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True)
    for number in (3, 4):
        rig.predictor.gates[number] = threading.Event()
    rig.image(3)
    wait_until(lambda: rig.predictor.started == [3], "the first encode")
    rig.image(4)
    rig.program(program_point("a", 1), at=3)
    rig.program(program_point("b", 2), at=4)
    wait_until(lambda: rig.waiting.next_deadline is None, "the frames to be found")
    rig.predictor.decode_gate.clear()
    rig.predictor.gates[3].set()
    wait_until(rig.predictor.decoding.is_set, "the decode")
    rig.predictor.gates[4].set()
    rig.wait_for_encode(4)
    rig.predictor.decode_gate.set()
    sets = rig.outputs(2)
    assert seconds(sets) == [3, 4]
    assert [rig.ids(one) for one in sets] == [["a"], ["b"]]


def test_following_can_be_switched_at_any_time(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=False)
    rig.embed(1)
    rig.click()
    assert seconds(rig.outputs(1)) == [1]
    rig.engine.configure(Settings(follow=True))
    rig.embed(2)
    assert [rig.ids(one) for one in rig.outputs(2)] == [["_1"], ["_1"]]
    rig.engine.configure(Settings(follow=False))
    rig.embed(3)
    rig.click(label=0)
    assert seconds(rig.outputs(3)) == [1, 2, 3]


def test_after_following_was_switched_off_and_on_again_every_object_is_in_sight(following: Rig) -> None:
    following.embed(1)
    following.click(x=0)  # logits of 0: nothing to carry on
    wait_until(lambda: following.engine.num_objects, "the object")
    following.embed(2)
    assert following.ids(following.outputs(2)[1]) == []
    following.engine.configure(Settings(follow=False))
    following.click(label=0)
    assert following.ids(following.outputs(3)[2]) == ["_1"]
    following.engine.configure(Settings(follow=True))
    following.embed(3)
    following.outputs(4)
    assert {told.kind for told in following.heard.refusals} == {"lost at once"}


def test_another_mask_can_be_chosen_however_long_ago_the_click_was(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, embeddings_kept=2, images_kept=1)
    rig.embed(1)
    rig.click()
    wait_until(lambda: rig.engine.num_objects, "the object")
    rig.embed(*range(2, 9))
    rig.engine.choose("/sam/choose", 1)
    wait_until(lambda: rig.heard.answers[1:], "the answer")
    assert rig.heard.answers[1] == ("/sam/choose", ["_1"]) and not rig.heard.refusals


def test_stamps_do_not_go_back_where_following_is_switched_on(make_rig: Callable[..., Rig]) -> None:
    settings = Settings(follow=True, embeddings_kept=1)
    rig = make_rig(follow=True, embeddings_kept=1)
    rig.embed(1)
    rig.outputs(1)
    rig.engine.configure(replace(settings, follow=False))
    rig.embed(2, 3)
    rig.click()
    assert seconds(rig.outputs(2)) == [1, 3]
    rig.engine.configure(settings)
    rig.click(x=2, at=2)
    wait_until(lambda: len(rig.predictor.decoded) == 2, "the decode")
    rig.embed(4)
    assert seconds(rig.outputs(3)) == [1, 3, 4]


def test_where_frames_are_encoded_on_prompt_each_prompt_is_answered(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, encode="on_prompt")
    rig.image(1)
    rig.click()
    rig.outputs(1)
    rig.click(label=0)
    assert seconds(rig.outputs(2)) == [1, 1]


# Encoding only while there are objects.


def test_without_objects_frames_are_answered_by_empty_sets_unencoded(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, encode="with_objects")
    for number in (1, 2, 3):
        rig.image(number)
        sets = rig.outputs(number)
    assert seconds(sets) == [1, 2, 3]
    assert [(outputs.size_hw, outputs.objects) for outputs in sets] == [(SIZE_HW, ())] * 3
    assert rig.predictor.encoded == []


def test_frames_that_are_passed_over_or_overtaken_are_no_useless_images(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, encode="with_objects")
    rig.image(1)
    rig.outputs(1)
    for late_ns in (SECOND - 1, SECOND - 2):
        rig.image(9, stamp_ns=late_ns)
    rig.image(2, data=b"")
    wait_until(lambda: len(rig.heard.drops) == 3, "the drops")
    assert rig.statistics.snapshot().last_drop == "short data"
    rig.image(3, data=b"")
    wait_until(lambda: rig.statistics.snapshot().dropping_sec > 0, "the second unusable image")
    rig.image(4)
    rig.outputs(2)
    wait_until(lambda: rig.statistics.snapshot().dropping_sec == 0, "the image that was passed over to count")


def test_an_image_that_turns_out_unreadable_when_it_is_published_is_dropped(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(follow=True, encode="with_objects")

    def publish(_: Outputs) -> None:
        raise InvalidImageError("no end", kind="damaged image")

    monkeypatch.setattr(rig.heard, "on_outputs", publish)
    rig.image(1)
    wait_until(lambda: rig.heard.drops, "the drop")
    assert rig.heard.drops == [("damaged image", "no end")] and not rig.heard.failures
    assert rig.statistics.snapshot().drops == {"damaged image": 1}
    monkeypatch.undo()
    rig.image(2)
    assert seconds(rig.outputs(1)) == [2]


def test_a_frame_without_a_set_of_answers_is_not_counted_as_passed_over(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, encode="with_objects")
    rig.image(1)
    rig.outputs(1)
    rig.image(2, stamp_ns=SECOND)
    wait_until(lambda: rig.heard.drops, "the drop")
    rig.image(3)
    rig.outputs(2)
    wait_until(lambda: rig.statistics.snapshot().totals["passed over"] >= 2, "both to be counted")
    assert rig.statistics.snapshot().totals["passed over"] == 2
    assert [kind for kind, _ in rig.heard.drops] == ["stamp not later"]


def test_a_prompt_wakes_the_encoder_and_forgetting_its_object_lets_it_rest(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(follow=True, encode="with_objects")
    rig.image(1)
    rig.outputs(1)
    rig.click()
    wait_until(lambda: len(rig.heard.answers) == 1, "the answer on the newest image")
    assert rig.predictor.encoded == [1]
    rig.embed(2)
    assert [len(outputs.objects) for outputs in rig.outputs(2)] == [0, 1]
    rig.engine.clear()
    rig.image(3)
    assert [len(outputs.objects) for outputs in rig.outputs(3)] == [0, 1, 0]
    assert rig.predictor.encoded == [1, 2]
    assert rig.engine.undo() is False  # clear forgets for good


def test_undo_of_a_removal_wakes_the_encoder_again(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, encode="with_objects")
    rig.image(1)
    rig.click()
    wait_until(lambda: len(rig.heard.answers) == 1, "the answer")
    rig.engine.remove("~/remove", "")
    rig.image(2)
    wait_until(lambda: 2 in seconds(rig.heard.outputs), "the set of image 2")
    assert 2 not in rig.predictor.encoded
    assert rig.engine.undo()
    rig.embed(3)
    wait_until(lambda: 3 in seconds(rig.heard.outputs), "the set of image 3")
    assert len(rig.heard.outputs[-1].objects) == 1


def test_a_click_on_a_frame_that_was_passed_over_is_answered_on_it(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, encode="with_objects")
    for number in (1, 2, 3):
        rig.image(number)
        rig.outputs(number)
    rig.click(at=2)
    wait_until(lambda: len(rig.heard.answers) == 1, "the answer on image 2")
    assert rig.predictor.encoded == [2]
    rig.embed(4)
    assert seconds(rig.outputs(4)) == [1, 2, 3, 4]  # strictly increasing: the old frame is not repeated
    assert len(rig.heard.outputs[-1].objects) == 1


def test_resting_keeps_to_max_rate(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, encode="with_objects", max_rate_hz=0.001)
    rig.image(1)
    rig.outputs(1)
    rig.image(2)
    rig.click()
    wait_until(lambda: len(rig.heard.answers) == 1, "the answer: prompts do not wait for it")
    assert seconds(rig.outputs(1)) == [1]


@pytest.mark.parametrize("max_rate_hz", [1e-12, 5e-324])
def test_the_smallest_rates_are_waited_for(make_rig: Callable[..., Rig], max_rate_hz: float) -> None:
    rig = make_rig(max_rate_hz=max_rate_hz)
    rig.embed(1)
    rig.image(2)
    time.sleep(0.1)  # so that the thread waits for the time of the second one
    rig.click(at=2)
    rig.outputs(1)
    assert rig.predictor.encoded == [1, 2]


def test_without_following_resting_answers_only_prompts(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(encode="with_objects")
    rig.image(1)
    rig.image(2)
    rig.click()
    assert seconds(rig.outputs(1)) == [2]
    assert rig.predictor.encoded == [2]


def test_a_broken_image_is_dropped_though_it_would_not_be_encoded(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(follow=True, encode="with_objects")
    rig.image(1, data=b"")
    wait_until(lambda: bool(rig.heard.drops), "the drop")
    rig.image(2)
    assert seconds(rig.outputs(1)) == [2]
