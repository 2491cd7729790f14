"""Start an executable so that signals count before its imports, which take seconds."""

from __future__ import annotations

import importlib
import sys

from sam_ros.signals import exit_on_signals

OF_ROS = "source the ROS installation, and sudo apt install "
OF_PIP = "activate the virtual environment that it was installed into, or pip install "
# What a first start may lack, and what to do about it.
PACKAGES = {
    "aiohttp": "sudo apt install python3-aiohttp",
    "cv2": "sudo apt install python3-opencv",
    "cv_bridge": f"{OF_ROS}ros-$ROS_DISTRO-cv-bridge",
    "rclpy": f"{OF_ROS}ros-$ROS_DISTRO-rclpy",
    "safetensors": f"{OF_PIP}safetensors",
    "segment_anything": f"{OF_PIP}segment-anything",
    "torch": f'{OF_PIP}"torch>=2.10"',
    "torchvision": f"{OF_PIP}torchvision",
    "vision_msgs": f"{OF_ROS}ros-$ROS_DISTRO-vision-msgs",
}
OF_BAG = ("rosbags", "tqdm")  # which nothing else needs, and apt has not on every distribution


def run(module: str) -> int:
    """Import a module and run its ``main``; returns the exit code.

    SIGINT and SIGTERM end the process quietly, with exit code 0, until ``main`` handles them itself: torch
    and rclpy take seconds to import, and there is nothing to clean up yet. Where a package is missing, that
    is said with what to do about it.
    """
    exit_on_signals()
    try:
        main = importlib.import_module(module).main
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        sys.stderr.write(f"[FATAL] [sam_ros]: {sys.executable} has no {package}: {PACKAGES[package]}\n")
        return 1
    return int(main())


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
