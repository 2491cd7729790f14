"""Start an executable so that signals count before its imports, which take seconds."""

from __future__ import annotations

import importlib
import sys

from sam_ros.signals import exit_on_signals

OF_BAG = ("rosbags", "tqdm")  # which nothing else needs, and apt has not on every distribution


def run(module: str) -> int:
    """Import a module and run its ``main``; returns the exit code.

    SIGINT and SIGTERM end the process quietly, with exit code 0, until ``main`` handles them itself: torch
    and rclpy take seconds to import, and there is nothing to clean up yet.
    """
    exit_on_signals()
    return int(importlib.import_module(module).main())


def sam_node() -> int:
    """The ``sam_node`` executable."""
    return run("sam_ros.node.sam_node")


def camera() -> int:
    """The ``camera`` executable."""
    return run("sam_ros.tools.camera")


def objects_3d() -> int:
    """The ``objects_3d`` executable."""
    return run("sam_ros.tools.objects_3d")


def web() -> int:
    """The ``web`` executable."""
    return run("sam_ros.tools.web.node")


def click() -> int:
    """The ``click`` executable."""
    return run("sam_ros.tools.click")


def bag() -> int:
    """The ``bag`` executable."""
    try:
        return run("sam_ros.tools.bag.main")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in OF_BAG:
            raise
        sys.exit(f"error: bag needs {missing}: pip install {' '.join(OF_BAG)}")
