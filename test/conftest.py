"""What every test run says at its end beside pytest's own summary."""

from __future__ import annotations

import pytest
from hypothesis import settings
from parity import LARGEST_DIFFERENCE

# Every run of the suite tries the same cases; a deadline would make results depend on the machine.
settings.register_profile("suite", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile("long", max_examples=5_000, deadline=None, database=None, print_blob=True)
settings.load_profile("suite")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of the parity tests, if any ran."""
    for name, difference in LARGEST_DIFFERENCE.items():
        terminalreporter.write_line(f"largest difference from SamPredictor, {name}: {difference:.1e}")
