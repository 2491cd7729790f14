"""Executables that are interrupted while they still import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam_ros import start

PROGRAM = "import sys; from sam_ros.start import run; sys.exit(run('slow_to_import'))"
SLOW = """
import pathlib, threading
pathlib.Path({marker!r}).touch()
for _ in range(int(10 * {wait_sec})):  # in pieces: a signal just before a wait counts only after it
    threading.Event().wait(0.1)
def main():
    return 3
"""


def process(folder: Path, wait_sec: float) -> subprocess.Popen[bytes]:
    """A program of which a module takes so long to import; that makes a file once it has begun."""
    (folder / "slow_to_import.py").write_text(
        SLOW.format(marker=str(folder / "importing"), wait_sec=wait_sec)
    )
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_imported_ends_the_program_quietly(
    tmp_path: Path, number: signal.Signals
) -> None:
    with process(tmp_path, wait_sec=60) as program:
        deadline = time.monotonic() + 30
        while not (tmp_path / "importing").exists():
            assert program.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        program.send_signal(number)
        _, errors = program.communicate(timeout=30)
    assert (program.returncode, errors) == (0, b"")


def test_without_a_signal_the_programs_exit_code_is_its_own(tmp_path: Path) -> None:
    with process(tmp_path, wait_sec=0) as program:
        program.communicate(timeout=30)
    assert program.returncode == 3


def test_what_only_bag_needs_is_named_where_it_is_missing() -> None:
    program = "import sys; sys.modules['rosbags'] = None; from sam_ros.start import bag; sys.exit(bag())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "error: bag needs rosbags: pip install rosbags tqdm\n"


def test_every_executable_starts_this_way() -> None:
    scripts = (Path(__file__).parents[1] / "setup.py").read_text()
    for name in ("sam_node", "camera", "objects_3d", "web", "click", "bag"):
        assert f'"{name} = sam_ros.start:{name}"' in scripts and callable(getattr(start, name))


@pytest.mark.parametrize(
    ("missing", "advice"),
    [("aiohttp", "sudo apt install python3-aiohttp"), ("torch", "activate the virtual environment")],
)
def test_a_missing_package_is_said_with_what_to_do(tmp_path: Path, missing: str, advice: str) -> None:
    (tmp_path / "slow_to_import.py").write_text(f"import {missing}.part\n")
    program = f"import sys; sys.modules[{missing!r}] = None; {PROGRAM}"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert f"[FATAL] [sam_ros]: {sys.executable} has no {missing}: " in done.stderr
    assert advice in done.stderr and "Traceback" not in done.stderr


def test_another_missing_module_is_an_error_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text("import no_such_module_anywhere\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1 and "ModuleNotFoundError: No module named 'no_such" in done.stderr
