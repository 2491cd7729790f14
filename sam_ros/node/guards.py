"""Callbacks in which anything may happen: an exception ends no node, and leaves no call unanswered."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import Executor

from sam_ros.errors import in_words, is_fault

Callback = Callable[[Any, Any], Any]
Report = Callable[[str, Exception], None]  # called with what failed, and the exception


def spin_once(executor: Executor, timeout_sec: float, report: Report) -> None:
    """Run the next callback that is due; what it raises is reported, and does not end the process.

    Args:
        executor: of the callbacks.
        timeout_sec: how long to wait for one.
        report: called with what failed, and the exception.
    """
    try:
        executor.spin_once(timeout_sec=timeout_sec)
    except Exception as error:  # noqa: BLE001 whatever a callback raises, the node lives on
        report("a callback", error)


def guarded_take(take: Callable[[Any], None], topic: str, report: Report) -> Callable[[Any], None]:
    """A callback for messages of a topic: what the given one raises is reported, with the topic's name."""

    def taken(msg: Any) -> None:
        try:
            take(msg)
        except Exception as error:  # noqa: BLE001 whatever a message holds, the next one may be better
            report(f"a message on {topic}", error)

    return taken


def told(what: str, error: Exception) -> str:
    """A failure in words for a log: with its traceback, unless the error itself says what is wrong."""
    reason = f"{what} failed: {in_words(error)}"
    return f"{reason}\n{''.join(traceback.format_exception(error))}" if is_fault(error) else reason


def guarded(callback: Callback, report: Report) -> Callback:
    """A callback of a service that answers "failed" where the given one raises.

    Args:
        callback: takes request and response, and returns the response.
        report: called with what failed, and the exception.
    """

    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:  # noqa: BLE001 in the executor it would end the process
            report(f"answering {type(request).__name__}", error)
            return failed(request, response, f"{type(error).__name__}: {error}")

    return answer


def failed(request: Any, response: Any, reason: str) -> Any:
    """The response made to say that the request failed, and why, as far as its type can."""
    result = SetParametersResult(successful=False, reason=reason)
    if isinstance(response, SetParameters.Response):
        answered = len(response.results)
        response.results = [*response.results, *[result] * (len(request.parameters) - answered)]
    elif isinstance(response, SetParametersAtomically.Response):
        response.result = result
    elif hasattr(response, "success"):
        response.success = False
        if hasattr(response, "message"):
            response.message = reason
    return response
