"""Services that answer whatever happens in them: an exception of one must not end the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically

Callback = Callable[[Any, Any], Any]


def guarded(callback: Callback, report: Callable[[str, Exception], None]) -> Callback:
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
