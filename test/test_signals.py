"""Signals that let an executable end by itself, sent to real processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

ENDING = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
WAITS = """
from sam_ros.signals import event_set_by_signals
event = event_set_by_signals()
print("ready", flush=True)
event.wait()
print("ends", flush=True)
input()  # the first signal has come; what follows must not matter any more
print("by itself")
"""
IMPORTS = """
import threading
from sam_ros.signals import exit_on_signals
exit_on_signals()
print("ready", flush=True)
try:
    threading.Event().wait()
finally:
    print("cleaned up")
"""

# The main thread in one call of C, minutes long: Python's own handlers would run only after it.
STUCK = """
import hashlib
from sam_ros.signals import event_set_by_signals, exit_after_signal
event_set_by_signals()
exit_after_signal({timeout_sec})
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
ENDS = """
import sys
from sam_ros.signals import event_set_by_signals, exit_after_signal
event = event_set_by_signals()
exit_after_signal(60)
print("ready", flush=True)
event.wait()
print("cleaned up")
sys.exit(3)
"""


def started(program: str) -> subprocess.Popen[str]:
    """A program that has said that it is ready."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@ENDING
def test_the_first_signal_sets_the_event_and_further_ones_are_ignored(number: signal.Signals) -> None:
    with started(WAITS) as process:
        process.send_signal(number)
        assert process.stdout is not None and process.stdout.readline() == "ends\n"
        for further in (signal.SIGINT, signal.SIGTERM, number):
            process.send_signal(further)
        output, errors = process.communicate("\n", timeout=30)
    assert (process.returncode, output, errors) == (0, "by itself\n", "")


@ENDING
def test_before_there_is_anything_to_clean_up_a_signal_ends_the_process_at_once(
    number: signal.Signals,
) -> None:
    with started(IMPORTS) as process:
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


@ENDING
def test_what_cannot_be_given_up_ends_a_while_after_a_signal(number: signal.Signals) -> None:
    with started(STUCK.format(timeout_sec=0.1)) as process:
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


@ENDING
def test_what_ends_by_itself_is_left_the_time_for_it(number: signal.Signals) -> None:
    with started(ENDS) as process:
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (3, "cleaned up\n", "")
