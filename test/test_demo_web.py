"""standalone/demo --web brings up camera, node and page, says where it is, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("skimage", reason="the demo's photograph is scikit-image's")
pytest.importorskip("aiohttp")

CLIENT = Path(__file__).parents[1] / "standalone" / "demo_web.py"


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CLIENT), "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, which ends with the test whatever happens."""
    with started(*arguments) as demo:
        try:
            yield demo
        finally:
            if demo.poll() is None:
                demo.send_signal(signal.SIGINT)  # killed, it would leave its programs behind
                demo.wait(60)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_page_is_where_it_says_until_ctrl_c() -> None:
    with running() as demo:
        assert demo.stdout is not None
        address = next(
            filter(None, (re.search(r"open (http://\S+) in a browser", line) for line in demo.stdout))
        )
        with urlopen(address.group(1), timeout=30) as page:
            assert b"<title>sam_ros</title>" in page.read()
        three = children(demo.pid)
        assert len(three) == 3
        commands = [Path(f"/proc/{child}/cmdline").read_text() for child in three]
        assert sum("images_kept:=300" in command for command in commands) == 2  # by node and page
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (0, "")
    deadline = time.monotonic() + 10
    while any(map(is_running, three)):
        assert time.monotonic() < deadline


def test_it_ends_with_what_was_said_when_the_node_cannot_start() -> None:
    with running("-p", "checkpoint:=/nowhere/weights.safetensors") as demo:
        _, errors = demo.communicate(timeout=120)
    assert demo.returncode == 1
    assert "sam_node has ended" in errors
    assert "/nowhere/weights.safetensors" in errors
