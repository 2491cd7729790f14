"""Which prompts are applied to which image."""

from __future__ import annotations

from sam_ros.core.objects import Point
from sam_ros.node.waiting import PromptRequest
from sam_ros.tools.bag.plan import Plan
from sam_ros.tools.bag.requests import TimedRequest


def timed(name: str, stamp_ns: int, tolerance_ns: int = 1000, lap: int = 0) -> TimedRequest:
    return TimedRequest(PromptRequest(name, stamp_ns, "", lambda _: Point(0, 0, 1)), tolerance_ns, lap)


def taken(plan: Plan, stamp_ns: int, next_stamp_ns: int | None, lap: int = 0) -> tuple[list[str], list[str]]:
    belong, lost = plan.for_image(lap, stamp_ns, next_stamp_ns)
    return [request.topic for request in belong], [request.topic for request in lost]


def test_each_prompt_belongs_to_the_nearest_image() -> None:
    plan = Plan([timed("late", 174), timed("early", 90), timed("exact", 100), timed("middle", 150)])
    assert taken(plan, 100, 200) == (["early", "exact", "middle"], [])
    assert taken(plan, 200, None) == (["late"], [])
    assert plan.rest() == []


def test_prompts_of_one_stamp_keep_their_order() -> None:
    plan = Plan([timed(name, 100) for name in "cab"])
    assert taken(plan, 100, 200) == (["c", "a", "b"], [])


def test_a_prompt_that_is_too_far_from_every_image_belongs_to_none() -> None:
    plan = Plan([timed("before", 50, 10), timed("between", 140, 10), timed("after", 250, 10)])
    assert taken(plan, 100, 200) == ([], ["before", "between"])
    assert taken(plan, 200, None) == ([], [])
    assert [request.topic for request in plan.rest()] == ["after"]
    assert plan.num_taken == 3 and plan.rest() == []


def test_before_stamps_jump_back_only_what_is_near_is_taken() -> None:
    plan = Plan([timed("now", 1010, 20), timed("never", 1100, 20), timed("later", 1100, 20, lap=1)])
    assert taken(plan, 1000, 10) == (["now"], [])
    assert taken(plan, 10, 1100, lap=1) == ([], ["never"])
    assert taken(plan, 1100, None, lap=1) == (["later"], [])


def test_a_prompt_belongs_to_an_image_of_its_lap() -> None:
    plan = Plan([timed("second", 100, lap=1), timed("first", 100), timed("left over", 250, 10)])
    assert taken(plan, 100, 200) == (["first"], [])
    assert taken(plan, 200, 100) == ([], [])
    assert taken(plan, 100, 200, lap=1) == (["second"], ["left over"])


def test_the_second_lap_may_have_earlier_stamps_than_the_first() -> None:
    plan = Plan([timed("first", 5000, 10), timed("second", 100, 10, lap=1)])
    assert taken(plan, 5000, 100) == (["first"], [])
    assert taken(plan, 100, None, lap=1) == (["second"], [])


def test_a_lap_without_images_that_are_answered_is_passed_over() -> None:
    plan = Plan([timed("first", 100, 10, lap=1), timed("second", 100, 10, lap=2)])
    assert taken(plan, 100, None, lap=2) == (["second"], ["first"])


def test_a_plan_goes_on_where_another_one_ended() -> None:
    requests = [timed("a", 100), timed("b", 200)]
    first = Plan(requests)
    taken(first, 100, 200)
    assert taken(Plan(requests, first.num_taken), 200, None) == (["b"], [])


def test_a_plan_goes_on_in_the_lap_where_another_one_ended() -> None:
    requests = [timed("a", 100), timed("left", 190, 10), timed("b", 100, lap=1), timed("c", 200, lap=1)]
    first = Plan(requests)
    assert taken(first, 100, 100) == (["a"], [])
    second = Plan(requests, first.num_taken)
    assert taken(second, 100, 200, lap=1) == (["b"], ["left"])
    assert taken(Plan(requests, second.num_taken), 200, None, lap=1) == (["c"], [])
