"""The package's exceptions: what a caller can tell by their class, and what a user reads."""

from __future__ import annotations

import inspect

import pytest

from sam_ros import errors
from sam_ros.errors import SHOWN_OF_NAME, InvalidPromptError, SamRosError, shortened

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, SamRosError)]


def test_a_short_name_is_shown_as_it_is() -> None:
    name = "x" * SHOWN_OF_NAME
    assert shortened(name) == name and shortened("") == ""


def test_of_a_long_name_the_beginning_is_shown_and_how_long_it_is() -> None:
    assert shortened("ab" * 50_000) == "ab" * (SHOWN_OF_NAME // 2) + "... (100000 characters)"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_one_of_this_package_with_a_kind_of_its_own(kind: type[SamRosError]) -> None:
    error = kind("what was wrong")
    assert isinstance(error, SamRosError) and str(error) == "what was wrong"
    others = {one.kind for one in CLASSES if one is not kind}
    assert error.kind and error.kind not in others, (
        "counted under one name, two causes could not be told apart"
    )


def test_a_kind_can_be_given_and_does_not_stay() -> None:
    assert InvalidPromptError("x", "not finite").kind == "not finite"
    assert InvalidPromptError("x").kind == "invalid prompt"


@pytest.mark.parametrize("kind", [one for one in CLASSES if one.__name__.startswith("Invalid")])
def test_what_was_given_wrongly_is_a_value_error_too(kind: type[SamRosError]) -> None:
    assert issubclass(kind, ValueError)
