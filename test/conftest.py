"""What every test run says at its end beside pytest's own summary."""

from __future__ import annotations

import pytest
from parity import LARGEST_DIFFERENCE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of the parity tests, if any ran."""
    for name, difference in LARGEST_DIFFERENCE.items():
        terminalreporter.write_line(f"largest difference from SamPredictor, {name}: {difference:.1e}")
