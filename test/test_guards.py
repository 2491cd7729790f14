"""Services that fail answer all the same."""

from __future__ import annotations

from typing import Any

import pytest
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from std_srvs.srv import Trigger

from sam_ros.errors import InvalidImageError
from sam_ros.node.guards import guarded, guarded_take, told


def answered(service: Any, request: Any) -> tuple[Any, list[str]]:
    """The answer of a service that raises, and what was reported."""
    reported: list[str] = []

    def fail(_request: Any, _response: Any) -> Any:
        raise ValueError("77 is no type")

    answer = guarded(fail, lambda what, error: reported.append(f"{what}: {error}"))
    return answer(request, service.Response()), reported


def test_a_trigger_that_raises_says_so() -> None:
    response, reported = answered(Trigger, Trigger.Request())
    assert not response.success and response.message == "ValueError: 77 is no type"
    assert reported == ["answering Trigger_Request: 77 is no type"]


def test_of_several_parameters_those_that_were_not_set_are_said_to_have_failed() -> None:
    request = SetParameters.Request(parameters=[Parameter(), Parameter(), Parameter()])
    done = SetParametersResult(successful=True)

    def set_one(_: Any, response: Any) -> Any:
        response.results.append(done)
        raise ValueError("77 is no type")

    response = guarded(set_one, lambda _what, _error: None)(request, SetParameters.Response())
    assert [result.successful for result in response.results] == [True, False, False]
    assert "77 is no type" in response.results[2].reason


def test_parameters_that_are_set_together_fail_together() -> None:
    response, _ = answered(SetParametersAtomically, SetParametersAtomically.Request())
    assert not response.result.successful and "77 is no type" in response.result.reason


@pytest.mark.parametrize("service", [ChangeState, GetParameters])
def test_other_services_answer_as_if_nothing_was_found(service: Any) -> None:
    response, reported = answered(service, service.Request())
    assert response == service.Response() and len(reported) == 1


def test_a_message_that_cannot_be_taken_is_reported_with_its_topic() -> None:
    reported: list[str] = []
    taken: list[int] = []

    def take(number: int) -> None:
        taken.append(10 // number)

    guarded_one = guarded_take(take, "/image", lambda what, error: reported.append(f"{what}: {error}"))
    for number in (5, 0, 2):
        guarded_one(number)
    assert taken == [2, 5]
    assert reported == ["a message on /image: integer division or modulo by zero"]


def test_a_failure_is_told_with_its_traceback_unless_it_says_what_is_wrong() -> None:
    assert told("showing", InvalidImageError("of 0 pixels")) == "showing failed: of 0 pixels"
    assert "showing failed: ValueError: odd\nValueError: odd" in told("showing", ValueError("odd"))


def test_what_works_is_left_alone() -> None:
    callback = guarded(lambda _request, response: response, lambda _what, _error: pytest.fail("reported"))
    response = Trigger.Response(success=True)
    assert callback(Trigger.Request(), response) is response
