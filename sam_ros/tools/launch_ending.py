"""How a launch ends when a program of this package cannot work as it was set: as a whole, the reason last."""

from __future__ import annotations

from typing import Any

from launch import LaunchContext, LaunchDescriptionEntity
from launch.actions import EmitEvent, RegisterEventHandler
from launch.event_handlers import OnProcessExit, OnProcessIO, OnProcessStart
from launch.events import Shutdown
from launch.events.process import ProcessExited, ProcessIO, ProcessStarted, ShutdownProcess
from launch_ros.actions import Node

from sam_ros.errors import DEVICE_FAILED_EXIT, SamRosError

PACKAGE = "sam_ros"
COMPLAINTS = ("[ERROR]", "[FATAL]")  # in lines of a log


class LaunchFailedError(SamRosError):
    """A program cannot work as it was set, and the launch with it; the message says why."""


class Ending:
    """Listens to all processes of a launch, and ends it when one of this package's cannot work.

    A process that ends with an error has said what is wrong, and would say it again: so it is not started
    anew, the others are ended, and once they have, its last complaint is the last line of the launch. One
    whose device failed, or that was killed, may work the next time: it is left to ``respawn``.

    Args:
        is_required: whether the launch ends; otherwise only the process does.
    """

    def __init__(self, *, is_required: bool) -> None:
        self._is_required = is_required
        self._num_running = 0
        self._complaints: dict[int, str] = {}  # the last one, by process id
        self._why = ""

    def handlers(self) -> list[RegisterEventHandler]:
        """What a launch description has to contain, before the processes."""
        return [
            RegisterEventHandler(OnProcessStart(on_start=self._take_start)),
            RegisterEventHandler(OnProcessIO(on_stdout=self._take_output, on_stderr=self._take_output)),
            RegisterEventHandler(OnProcessExit(on_exit=self._take_exit)),
        ]

    def _take_start(self, _: ProcessStarted, __: LaunchContext) -> None:
        self._num_running += 1

    def _take_output(self, event: ProcessIO) -> None:
        for line in event.text.decode(errors="replace").splitlines():
            if any(mark in line for mark in COMPLAINTS):
                self._complaints[event.pid] = line.split("]: ", 1)[-1]

    def _take_exit(self, event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        self._num_running -= 1
        complaint = self._complaints.pop(event.pid, "it has said above why")
        if self._is_required and _cannot_work(event) and not context.is_shutdown:
            self._why = f"{event.action.node_executable} ended with code {event.returncode}: {complaint}"
        if self._why and self._num_running == 0:
            raise LaunchFailedError(self._why)  # launch logs it, ends, and returns 1
        if self._why:
            return [EmitEvent(event=Shutdown(reason=self._why))]
        if not _is_ours(event) or _may_work_next_time(event.returncode):
            return []
        # Launch would start it anew, whatever it ended with.
        return [EmitEvent(event=ShutdownProcess(process_matcher=lambda action: action is event.action))]


def _cannot_work(event: ProcessExited) -> bool:
    """Whether a process of this package ended because of how it was set."""
    return _is_ours(event) and event.returncode != 0 and not _may_work_next_time(event.returncode)


def _is_ours(event: ProcessExited) -> bool:
    """Whether a process is of this package; a launch that includes ours has others."""
    return isinstance(event.action, Node) and event.action.node_package == PACKAGE


def _may_work_next_time(returncode: Any) -> bool:
    """Whether a process ended for a failed device, or by a signal (negative)."""
    return bool(returncode == DEVICE_FAILED_EXIT or returncode < 0)
