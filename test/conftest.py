"""What every test run has beside pytest's own: the cases that hypothesis tries, and figures at the end."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings
from parity import LARGEST_DIFFERENCE

# Every run of the suite tries the same cases; a deadline would make results depend on the machine.
settings.register_profile("suite", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile("long", max_examples=5_000, deadline=None, database=None, print_blob=True)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Share the cores where several processes of pytest-xdist run tests.

    Torch, which no test has imported yet, has one thread then, here and in what tests start: with different
    numbers sums are rounded differently.
    """
    if hasattr(config, "workerinput"):
        os.environ["OMP_NUM_THREADS"] = "1"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the figures of the parity tests to the process that prints them."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["largest difference"] = LARGEST_DIFFERENCE


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the figures of a process of pytest-xdist; one that crashed has none."""
    LARGEST_DIFFERENCE.update(getattr(node, "workeroutput", {}).get("largest difference", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of the parity tests, if any ran."""
    for name, difference in LARGEST_DIFFERENCE.items():
        terminalreporter.write_line(f"largest difference from SamPredictor, {name}: {difference:.1e}")
