"""Many callers of one engine at once: every prompt has one outcome, and answers stay in order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from test_engine import Rig, wait_until

from sam_ros.core.objects import Box, Joining, MaskPrompt, Point, ProgramPrompt, ProgramPrompts, Update
from sam_ros.node.settings import Settings
from sam_ros.node.waiting import WaitingPrompts

SEEDS = range(3)
STEPS = 150  # of each caller
CAMERA_STEPS = 60
FOLLOWING = Settings(follow=True, stamp_tolerance_ns=0)


def at_once(*callers: Callable[[], None]) -> None:
    """Run them in threads of their own; an exception in one is raised here."""
    errors: list[BaseException] = []

    def guarded(caller: Callable[[], None]) -> None:
        try:
            caller()
        except BaseException as error:  # noqa: BLE001 it belongs to the test
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Callers:
    """What different threads of a node might do with its engine at the same time."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig, self._seed = rig, seed
        self.num_prompts = 0

    def show_images(self) -> None:
        """A camera of two resolutions; prompts may name any of its stamps."""
        dice = random.Random(self._seed)
        for number in range(1, CAMERA_STEPS + 1):
            self._rig.image(number, data=bytes([number] * dice.choice((1, 1, 1, 2))))
            if dice.random() < 0.3:
                self._rig.wait_for_encode(number)

    def prompt(self) -> None:
        dice = random.Random(self._seed + 1)
        for _ in range(STEPS):
            stamp_sec = dice.choice((0, 0, dice.randint(1, CAMERA_STEPS)))
            self._rig.prompt(self._update(dice), stamp_sec * 1_000_000_000)
            self.num_prompts += 1

    def _update(self, dice: random.Random) -> Update:
        point = Point(float(dice.randint(0, 3)), float(dice.randint(0, 5)), dice.choice((1, 1, 0)))
        program = ProgramPrompt(dice.choice(("a", "b", "")), "", box_xyxy=(0.0, 0.0, 2.0, 2.0))
        updates: Sequence[Update] = (
            point,
            Joining(replace(point, label=1)),
            Box((0.0, 0.0, 3.0, 3.0)),
            MaskPrompt(np.ones((4, 4), np.float32)),
            program,
            ProgramPrompts((program,)),
        )
        return dice.choice(updates)

    def edit(self) -> None:
        dice, engine = random.Random(self._seed + 2), self._rig.engine
        for _ in range(STEPS):
            id = dice.choice(("", "a", "b", *(f"_{number}" for number in range(1, 30))))
            dice.choice((engine.select, engine.remove))("/sam/edit", id)

    def clear(self) -> None:
        for _ in range(STEPS):
            self._rig.engine.clear()
            time.sleep(0.001)

    def choose(self) -> None:
        dice = random.Random(self._seed + 3)
        for _ in range(STEPS):
            self._rig.engine.choose("/sam/choose", dice.randint(0, 3))

    def take_back(self) -> None:
        dice, engine = random.Random(self._seed + 4), self._rig.engine
        for _ in range(STEPS):
            dice.choice((engine.undo, engine.undo, engine.clear))()

    def configure(self) -> None:
        dice = random.Random(self._seed + 5)
        for _ in range(STEPS):
            self._rig.engine.configure(
                Settings(
                    follow=dice.random() < 0.5,
                    click_mode=dice.choice(("replace", "add", "join")),
                    max_objects=dice.choice((1, 3, 64)),
                    embeddings_kept=dice.choice((1, 2, 8)),
                    images_kept=dice.choice((0, 1, 30)),
                    min_predicted_iou=dice.choice((0.0, 0.95)),
                    stamp_tolerance_ns=0,
                )
            )


def settled(rig: Rig) -> None:
    """Wait until nothing waits any more; all that was said before is heard then."""
    rig.image(200)
    rig.wait_for_encode(200)
    heard = len(rig.heard.answers)
    rig.prompt(Point(1.0, 1.0, 1), 200 * 1_000_000_000)
    wait_until(lambda: len(rig.heard.answers) > heard, "the last prompt")


def assert_sound(rig: Rig) -> None:
    assert rig.heard.failures == []
    for outputs in rig.heard.outputs:
        ids = rig.ids(outputs)
        created = [one.created for one, _ in outputs.objects]
        assert len(set(ids)) == len(ids) and created == sorted(created)
        assert all(masks.masks.shape[1:] == outputs.size_hw for _, masks in outputs.objects)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An engine that follows, in which any number of prompts may wait."""
    made = Rig(FOLLOWING, WaitingPrompts(hold_sec=0.2, prompts_kept=10_000))
    yield made
    assert made.engine.stop()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("follow", [True, False])
def test_every_prompt_has_one_outcome(rig: Rig, seed: int, follow: bool) -> None:
    rig.engine.configure(replace(FOLLOWING, follow=follow, max_objects=5))
    callers = Callers(rig, seed)
    at_once(callers.show_images, callers.prompt, callers.edit, callers.clear)

    def num_outcomes() -> int:
        answered = [topic for topic, _ in rig.heard.answers if topic == "/sam/test"]
        return len(answered) + sum(refusal.topic == "/sam/test" for refusal in rig.heard.refusals)

    wait_until(lambda: num_outcomes() >= callers.num_prompts, "every prompt to be answered or refused")
    settled(rig)
    assert num_outcomes() == callers.num_prompts + 1
    assert_sound(rig)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_is_done_at_once_breaks_the_engine(rig: Rig, seed: int) -> None:
    callers = Callers(rig, seed)
    at_once(
        *(callers.show_images, callers.prompt, callers.edit, callers.choose),
        *(callers.take_back, callers.configure),
    )
    rig.engine.configure(FOLLOWING)
    settled(rig)
    assert_sound(rig)
    rig.engine.clear()
    assert rig.engine.num_objects == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_followed_sets_stay_in_order_whatever_is_prompted(rig: Rig, seed: int) -> None:
    callers = Callers(rig, seed)
    at_once(callers.show_images, callers.prompt, callers.edit, callers.choose, callers.take_back)
    settled(rig)
    stamps = [outputs.frame.stamp_ns for outputs in rig.heard.outputs]
    assert all(before < after for before, after in pairwise(stamps))
    assert_sound(rig)
