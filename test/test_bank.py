"""What is remembered of an object: which frames, for how long, and what of it is recalled when."""

from __future__ import annotations

from sam_ros.core.bank import FRAMES_RECALLED, POINTERS_RECALLED, PROMPTS_KEPT, Bank, Memory


def memory(step: int, is_prompted: bool = False) -> Memory:
    return Memory(step, is_prompted, f"what {step}", f"where {step}")


def bank_of(prompted: list[int], followed: list[int]) -> Bank:
    bank = Bank()
    for step in prompted:
        bank = bank.with_memory(memory(step, is_prompted=True))
    for step in followed:
        bank = bank.with_memory(memory(step))
    return bank


def test_the_frame_of_the_prompt_and_the_last_six_are_recalled() -> None:
    recalled = bank_of([0], list(range(1, 10))).recalled(10)
    assert recalled.features == (
        (0, "where 0"),
        *((n, f"where {10 - n}") for n in range(FRAMES_RECALLED, 0, -1)),
    )
    assert recalled.pointers == ((10, "what 0"), *((n, f"what {10 - n}") for n in range(1, 10)))
    assert recalled.kind == (7, 10)


def test_what_was_not_seen_lately_is_left_out_by_its_time() -> None:
    recalled = bank_of([0], [1, 2]).recalled(5)
    assert recalled.features == ((0, "where 0"), (4, "where 1"), (3, "where 2"))
    recalled = bank_of([0], [1, 2]).recalled(8)
    assert recalled.features == ((0, "where 0"), (6, "where 2"))
    assert recalled.pointers == ((8, "what 0"), (6, "what 2"), (7, "what 1"))
    assert bank_of([0], [1, 2]).recalled(100).pointers == ((100, "what 0"),)


def test_a_late_prompt_enters_with_its_time() -> None:
    """Its frame counts everywhere, its pointer only afterwards."""
    bank = bank_of([8], [9, 10]).with_memory(memory(3, is_prompted=True))
    assert [one.step for one in bank.prompted] == [3, 8]
    assert bank.recalled(11).features[:2] == ((0, "where 3"), (0, "where 8"))
    before = bank.recalled(5)
    assert before.features == ((0, "where 3"), (0, "where 8"))
    assert before.pointers == ((2, "what 3"),)


def test_a_frame_is_remembered_once() -> None:
    bank = bank_of([0], [1, 2]).with_memory(memory(2, is_prompted=True))
    assert [one.step for one in bank.prompted] == [0, 2]
    assert [one.step for one in bank.followed] == [1]


def test_a_frame_that_is_only_followed_never_takes_the_place_of_a_prompt() -> None:
    bank = bank_of([2], [1]).with_memory(memory(2))
    assert [one.step for one in bank.prompted] == [2]
    assert [one.step for one in bank.followed] == [1]


def test_a_bank_never_grows_on() -> None:
    bank = bank_of([], [])
    for step in range(2000):
        bank = bank.with_memory(memory(step, is_prompted=step % 10 == 0))
    assert len(bank.prompted) == PROMPTS_KEPT
    assert len(bank.followed) == POINTERS_RECALLED
    assert sum(one.features is not None for one in bank.followed) == FRAMES_RECALLED


def test_older_banks_stay_as_they_were() -> None:
    bank = bank_of([0], [1])
    bank.with_memory(memory(2))
    assert bank.recalled(2).kind == (2, 2)
    assert bank.of_prompts().recalled(2).kind == (1, 1)
