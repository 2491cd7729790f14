"""The launch files: their arguments, and both run for real by launch itself."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from geometry_msgs.msg import Point, PointStamped
from processes import RosSession, RunningProcess, ros_session
from sensor_msgs.msg import Image

pytest.importorskip("launch.launch_service", reason="launch is not installed")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed")

from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource

ROOT = Path(__file__).parents[1]
EXECUTABLES = {
    "sam_node": "sam_ros.node.sam_node",
    "camera": "sam_ros.tools.camera",
    "web": "sam_ros.tools.web.node",
}

# What `ros2 launch` does: include the file with its arguments and run until the end.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
path, *arguments = sys.argv[1:]
include = IncludeLaunchDescription(path, launch_arguments=[a.split(":=", 1) for a in arguments])
service = LaunchService()
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installation of this checkout, as colcon would lay it out."""
    share, lib = tmp_path / "prefix/share", tmp_path / "prefix/lib/sam_ros"
    index = share / "ament_index/resource_index/packages"
    for folder in (share / "sam_ros", lib, index):
        folder.mkdir(parents=True)
    (index / "sam_ros").touch()
    for name in ("launch", "config"):
        (share / "sam_ros" / name).symlink_to(ROOT / name)
    for executable, module in EXECUTABLES.items():
        script = lib / executable
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    return tmp_path / "prefix"


def start_launch(ros: RosSession, prefix: Path, file_name: str, *arguments: str) -> RunningProcess:
    path = prefix / "share/sam_ros/launch" / file_name
    prefixes = os.pathsep.join([str(prefix), os.environ.get("AMENT_PREFIX_PATH", "")])
    command = [sys.executable, "-c", LAUNCH, str(path), *arguments]
    return ros.start_command("launch", command, {"AMENT_PREFIX_PATH": prefixes})


@pytest.mark.parametrize(
    ("file_name", "arguments"),
    [
        (
            "sam.launch.py",
            ["params_file", "namespace", "image", "click", "log_level", "web", "web_host", "web_port"],
        ),
        ("demo.launch.py", ["source", "view", "web"]),
    ],
)
def test_arguments_are_declared_with_defaults(file_name: str, arguments: list[str]) -> None:
    source = PythonLaunchDescriptionSource(str(ROOT / "launch" / file_name))
    description = source.get_launch_description(LaunchContext())
    declared = {argument.name: argument for argument in description.get_launch_arguments()}
    assert list(declared)[: len(arguments)] == arguments
    for name in arguments:
        assert declared[name].default_value is not None
        assert declared[name].description


def test_the_node_takes_its_names_from_the_arguments(ros: RosSession, prefix: Path) -> None:
    arguments = ["namespace:=robot", "image:=/front/image_raw", "click:=/front/clicks"]
    launch = start_launch(ros, prefix, "sam.launch.py", *arguments)
    ros.wait_until(lambda: ros.node.count_subscribers("/front/image_raw") == 1, "the node on its image topic")
    ros.wait_until(
        lambda: ros.node.count_subscribers("/front/clicks") == 1, "the node on its topic of clicks"
    )
    ros.wait_until(lambda: ros.node.count_publishers("/robot/sam/mask") == 1, "the node in its namespace")
    assert launch.stop() == 0
    assert "process has finished cleanly" in launch.output()


def test_the_page_comes_on_request(ros: RosSession, prefix: Path) -> None:
    arguments = ["web:=true", "web_port:=0", "namespace:=robot", "image:=/front/image_raw"]
    launch = start_launch(ros, prefix, "sam.launch.py", *arguments)
    ros.wait_until(lambda: "it shows /front/image_raw" in launch.output(), "the page")
    ros.wait_until(lambda: ros.node.count_publishers("/robot/sam/point") == 1, "its clicks for the node")
    assert launch.stop() == 0


def test_the_demo_answers_a_click(ros: RosSession, prefix: Path) -> None:
    images: list[Image] = []
    masks: list[Image] = []
    ros.node.create_subscription(Image, "/sam/mask", masks.append, 10)
    clicks = ros.node.create_publisher(PointStamped, "/sam/point", 10)

    def click(image: Image) -> None:  # on every image, as the node may still be starting
        images.append(image)
        clicks.publish(PointStamped(header=image.header, point=Point(x=200.0, y=150.0)))

    ros.node.create_subscription(Image, "/image", click, 10)
    launch = start_launch(ros, prefix, "demo.launch.py")
    ros.wait_until(lambda: any(any(mask.data) for mask in masks), "a mask of something", timeout_sec=60)
    for mask in masks:
        assert (mask.height, mask.width) == (images[0].height, images[0].width)
        assert set(mask.data) <= {0, 255}
        assert mask.header in [image.header for image in images]
    assert ros.node.count_subscribers("/image_mouse_left") == 1
    assert launch.stop() == 0
