"""Executables of this package as processes of their own, in a ROS domain that no other test uses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from sam_ros.tools.domain import claimed_domain_id

START_SEC = 90.0  # a program that imports torch takes 15 s to start on a busy machine
STOP_SEC = 10.0  # a process has this long to end after a signal; the node promises 5 s


@dataclass(frozen=True)
class RunningProcess:
    """One executable, its output going to a file so that no full pipe can stall it."""

    name: str
    popen: subprocess.Popen[bytes]
    log_path: Path

    def output(self) -> str:
        """Everything it has written so far, stdout and stderr together."""
        return self.log_path.read_text(errors="replace")

    def wait(self, timeout_sec: float = START_SEC) -> int:
        """The exit code, once it ends by itself."""
        try:
            return self.popen.wait(timeout_sec)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout_sec} s:\n{self.output()}") from None

    def stop(self, with_signal: signal.Signals = signal.SIGINT, timeout_sec: float = STOP_SEC) -> int:
        """Sends the signal and returns the exit code."""
        self.popen.send_signal(with_signal)
        return self.wait(timeout_sec)

    def kill(self) -> None:
        """Ends it and its children for certain; for the tear-down only."""
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class RosSession:
    """A domain with a node of the test's own in it, and the processes that were started in that domain."""

    def __init__(self, domain_id: int, log_dir: Path) -> None:
        self.domain_id = domain_id
        self.processes: list[RunningProcess] = []
        self._log_dir = log_dir
        self._context = Context()
        self._context.init(args=[], domain_id=domain_id)
        self.node = Node("tester", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def spin_also(self, node: Node) -> None:
        """Lets callbacks of another node of this context run while something is waited for."""
        self._executor.add_node(node)

    def start(self, module: str, *arguments: str) -> RunningProcess:
        """Runs ``python -m module arguments...`` in this session's domain, on this machine only."""
        return self.start_command(module, [sys.executable, "-m", module, *arguments])

    def start_command(
        self, name: str, command: Sequence[str], extra_environment: Mapping[str, str] | None = None
    ) -> RunningProcess:
        """Runs any program in this session's domain; ``name`` is what messages call it."""
        log_path = self._log_dir / f"{len(self.processes)}_{name}.log"
        environment = {
            "PYTHONUNBUFFERED": "1",
            "ROS_DOMAIN_ID": str(self.domain_id),
            **(extra_environment or {}),
        }
        with log_path.open("wb") as log:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        process = RunningProcess(name, popen, log_path)
        self.processes.append(process)
        return process

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_sec: float = START_SEC) -> None:
        """Spins the tester node until the condition holds.

        Raises:
            AssertionError: the deadline has passed, or a process has died; with the output of all processes.
        """
        if not self.comes_true(condition, what, timeout_sec):
            raise AssertionError(f"waiting for {what}: {timeout_sec} s have passed\n{self._outputs()}")

    def comes_true(self, condition: Callable[[], object], what: str, timeout_sec: float) -> bool:
        """Spins the tester node until the condition holds, or does not within the time; seen once is enough.

        Raises:
            AssertionError: a process has died; with the output of all processes.
        """
        deadline = time.monotonic() + timeout_sec
        while not condition():
            dead = [process.name for process in self.processes if process.popen.poll() is not None]
            if dead:
                raise AssertionError(f"waiting for {what}: {dead} ended\n{self._outputs()}")
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True

    def close(self) -> None:
        """Leaves the domain and ends what still runs.

        In this order: Fast DDS has crashed here, rarely, while it removed a participant whose peers had just
        been killed.
        """
        try:
            self._executor.shutdown()
            self.node.destroy_node()
            self._context.try_shutdown()
        finally:
            for process in self.processes:
                process.kill()

    def _outputs(self) -> str:
        return "\n".join(f"--- {process.name}\n{process.output()}" for process in self.processes)


def ros_environment(domain_id: int, discovery_range: str = "LOCALHOST") -> dict[str, str]:
    """The variables that keep a process inside the given domain and, so far, on this machine."""
    return {"ROS_DOMAIN_ID": str(domain_id), "ROS_AUTOMATIC_DISCOVERY_RANGE": discovery_range}


@contextmanager
def ros_session(
    log_dir: Path, discovery_range: str = "LOCALHOST", extra_environment: Mapping[str, str] | None = None
) -> Iterator[RosSession]:
    """A session in a domain of its own; ``log_dir`` (pytest's ``tmp_path``) keeps the processes' output."""
    with claimed_domain_id() as domain_id:
        environment = ros_environment(domain_id, discovery_range) | dict(extra_environment or {})
        with patch.dict(os.environ, environment):
            session = RosSession(domain_id, log_dir)
            try:
                yield session
            finally:
                session.close()
