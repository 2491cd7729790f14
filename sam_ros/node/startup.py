"""Start rclpy so that neither a signal nor a place where no log can be written ends an executable."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.signals import SignalHandlerOptions

WITHOUT_LOG_FILES = ("--ros-args", "--disable-external-lib-logs")


def init_rclpy(argv: Sequence[str] | None = None) -> None:
    """As ``rclpy.init``, for executables that handle signals themselves.

    Args:
        argv: of the process; ``sys.argv`` if None.

    Raises:
        SystemExit: the arguments for ROS are wrong; it says what of them is.
    """
    arguments = list(sys.argv if argv is None else argv)
    problem = why_no_log(os.environ)
    try:
        _init(arguments, bool(problem))
    except (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError) as error:
        sys.exit(f"cannot start: {error}")
    if problem:
        rclpy.logging.get_logger("sam_ros").warning(
            f"no log is written: {problem}; set ROS_LOG_DIR to a folder that can be written"
        )


def _init(arguments: list[str], without_log: bool) -> None:
    # With rclpy's own handlers the context may end in the middle of a callback, whose publish then raises
    # (https://github.com/ros2/rclpy/issues/1166).
    rclpy.init(
        args=[*arguments, *WITHOUT_LOG_FILES] if without_log else arguments,
        signal_handler_options=SignalHandlerOptions.NO,
    )


def why_no_log(environment: Mapping[str, str]) -> str:
    """Why no log file can be written, for which rclpy would not start at all; '' if one can."""
    folder = _log_folder(environment)
    if folder is None:
        return "neither ROS_LOG_DIR, ROS_HOME nor HOME is set"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder}: it may not be written to"


def _log_folder(environment: Mapping[str, str]) -> Path | None:
    """Where rcl puts log files (rcl_logging_interface, ``rcl_logging_get_logging_directory``)."""
    home = environment.get("HOME", "")
    if environment.get("ROS_LOG_DIR"):
        place = environment["ROS_LOG_DIR"]
    elif environment.get("ROS_HOME"):
        place = f"{environment['ROS_HOME']}/log"
    elif home:
        place = "~/.ros/log"
    else:
        return None
    return Path(home + place[1:]) if home and place.startswith("~") else Path(place)
