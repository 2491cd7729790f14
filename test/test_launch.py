"""The launch files: their arguments, and both run for real by launch itself."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from geometry_msgs.msg import Point, PointStamped
from processes import RosSession, RunningProcess, ros_session
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import Image

from sam_ros.errors import DEVICE_FAILED_EXIT
from sam_ros.node.parameters import Parameters

pytest.importorskip("launch.launch_service", reason="launch is not installed")
pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed")

from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource

from sam_ros.tools.launch_arguments import full_topic

ROOT = Path(__file__).parents[1]
EXECUTABLES = {
    "sam_node": "sam_ros.node.sam_node",
    "camera": "sam_ros.tools.camera",
    "objects_3d": "sam_ros.tools.objects_3d",
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
    # Weights that this machine may have must not count.
    environment = {"AMENT_PREFIX_PATH": prefixes, "SAM_ROS_CACHE": str(prefix / "no_weights")}
    return ros.start_command("launch", command, environment)


def replace_executable(prefix: Path, name: str, script: str) -> None:
    """Let an executable of the installation be another program."""
    (prefix / "lib/sam_ros" / name).write_text(f"#!/bin/sh\n{script}\n")


def parameters_of(ros: RosSession, *names: str, node: str = "/sam") -> list[object]:
    """What a node has."""
    client = ros.node.create_client(GetParameters, f"{node}/get_parameters")
    ros.wait_until(client.service_is_ready, f"the parameters of {node}", 90)
    future = client.call_async(GetParameters.Request(names=list(names)))
    ros.wait_until(future.done, "their values")
    answer = future.result()
    assert answer is not None
    return [parameter_value_to_python(value) for value in answer.values]


def ctrl_c(launch: RunningProcess) -> int:
    """As a terminal does: the signal comes to launch and to all that it started; returns the exit code."""
    os.killpg(launch.popen.pid, signal.SIGINT)
    return launch.wait()


def is_subscribed(ros: RosSession, topic: str) -> bool:
    return ros.node.count_subscribers(topic) == 1


def last_line(launch: RunningProcess) -> str:
    return launch.output().strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("file_name", "arguments"),
    [
        (
            "sam.launch.py",
            [
                *("params_file", "namespace", "image", "click", "prompts", "box"),
                *("depth", "camera_info", "target_frame", "log_level", "web", "web_host", "web_port"),
                *("fastdds_profile", "required"),
                *(field.name for field in fields(Parameters)),
            ],
        ),
        ("demo.launch.py", ["source", "rate", "pan", "view", "web", "click"]),
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
    assert ctrl_c(launch) == 0
    assert "process has finished cleanly" in launch.output()


def test_a_topic_of_depth_starts_objects_3d(ros: RosSession, prefix: Path) -> None:
    arguments = [
        "namespace:=robot",
        "image:=/front/image_raw",
        "depth:=/front/depth",
        "camera_info:=/front/info",
    ]
    launch = start_launch(ros, prefix, "sam.launch.py", *arguments)
    topics = ("/front/depth", "/front/info", "/robot/sam/labels", "/robot/sam/segments")
    ros.wait_until(
        lambda: all(ros.node.count_subscribers(name) == 1 for name in topics), "objects_3d's topics"
    )
    ros.wait_until(
        lambda: ros.node.count_publishers("/robot/objects_3d/detections") == 1, "objects_3d in its namespace"
    )
    assert ctrl_c(launch) == 0


def test_the_page_comes_on_request(ros: RosSession, prefix: Path) -> None:
    arguments = ["web:=true", "web_port:=0", "namespace:=robot", "image:=/front/image_raw"]
    launch = start_launch(ros, prefix, "sam.launch.py", *arguments)
    ros.wait_until(lambda: "it shows /front/image_raw" in launch.output(), "the page")
    ros.wait_until(lambda: ros.node.count_publishers("/robot/sam/point") == 1, "its clicks for the node")
    assert ctrl_c(launch) == 0


def test_the_page_takes_the_images_that_the_node_takes(ros: RosSession, prefix: Path) -> None:
    given = ["web:=true", "web_port:=0", "image:=/front/image_raw"]
    given += ["image_transport:=compressed", "image_durability:=transient_local"]
    launch = start_launch(ros, prefix, "sam.launch.py", *given)
    names = ("image_transport", "image_durability")
    assert parameters_of(ros, *names, node="/sam_web") == ["compressed", "transient_local"]
    ros.wait_until(lambda: "it shows /front/image_raw/compressed" in launch.output(), "the page")
    assert ctrl_c(launch) == 0


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
    assert ctrl_c(launch) == 0


def test_the_demos_camera_has_the_names_that_the_node_is_given(ros: RosSession, prefix: Path) -> None:
    given = ["source:=scene:tabletop", "namespace:=left", "image:=/front/image", "depth:=depth"]
    launch = start_launch(ros, prefix, "demo.launch.py", *given, "image_durability:=transient_local")
    depths: list[Image] = []
    ros.node.create_subscription(Image, "/left/depth", depths.append, 10)
    for topic in ("/front/image", "/left/camera_info", "/left/depth"):
        ros.wait_until(partial(ros.node.count_publishers, topic), f"the camera on {topic}")
    (camera,) = ros.node.get_publishers_info_by_topic("/front/image")
    assert camera.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    for topic in ("/front/image_mouse_left", "/front/image", "/left/depth"):
        ros.wait_until(partial(ros.node.count_subscribers, topic), f"the node on {topic}")
    ros.wait_until(lambda: bool(depths), "a depth image")
    assert depths[0].encoding == "16UC1"
    assert parameters_of(ros, "pan", node="/left/camera") == [0]
    assert ctrl_c(launch) == 0


def test_the_demos_windows_show_what_camera_and_node_publish(ros: RosSession, prefix: Path) -> None:
    shown = prefix / "shown"
    (prefix / "share/ament_index/resource_index/packages/rqt_image_view").touch()
    (prefix / "lib/rqt_image_view").mkdir()
    window = prefix / "lib/rqt_image_view/rqt_image_view"
    window.write_text(f'#!/bin/sh\necho "$1" >> {shown}\n')
    window.chmod(0o755)
    launch = start_launch(ros, prefix, "demo.launch.py", "view:=true", "namespace:=left", "image:=raw")
    ros.wait_until(lambda: shown.exists() and len(shown.read_text().split()) == 2, "both windows")
    assert sorted(shown.read_text().split()) == ["/left/raw", "/left/sam/overlay"]
    ros.wait_until(lambda: ros.node.count_subscribers("/left/raw_mouse_left") == 1, "the node on clicks")
    assert ctrl_c(launch) == 0


def test_the_demos_camera_has_the_log_level(ros: RosSession, prefix: Path) -> None:
    for name in ("camera", "sam_node"):
        replace_executable(prefix, name, f'echo "{name} got: $*"')
    launch = start_launch(ros, prefix, "demo.launch.py", "log_level:=warn")
    assert launch.wait(60) == 0
    for name in ("camera", "sam_node"):
        assert re.search(rf"{name} got: .*--log-level warn", launch.output())


def test_a_live_camera_has_no_depth(ros: RosSession, prefix: Path) -> None:
    launch = start_launch(ros, prefix, "demo.launch.py", "source:=/dev/video0", "depth:=/depth")
    assert launch.wait(60) == 1
    assert "parameter depth must be '' with a live camera" in last_line(launch)


@pytest.mark.parametrize(
    ("namespace", "topic", "expected"),
    [
        ("", "image", "/image"),
        ("left", "image", "/left/image"),
        ("/robot/left/", "sam/overlay", "/robot/left/sam/overlay"),
        ("left", "/image", "/image"),
    ],
)
def test_full_names_of_topics(namespace: str, topic: str, expected: str) -> None:
    assert full_topic(namespace, topic) == expected


# Arguments.


def test_arguments_win_over_the_file_and_the_file_over_the_defaults(
    ros: RosSession, prefix: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("/**:\n  ros__parameters:\n    max_objects: 3\n    click_mode: add\n    max_rate: 2.0\n")
    given = ["click_mode:=join", "max_rate:=5", "encode:=on_prompt", "follow:=false", "device:=cpu"]
    topics = ["prompts:=/detector/boxes", "box:=/person/box"]
    launch = start_launch(ros, prefix, "sam.launch.py", f"params_file:={path}", *given, *topics)
    names = ("max_objects", "click_mode", "max_rate", "encode", "follow", "device", "images_kept")
    assert parameters_of(ros, *names) == [3, "join", 5.0, "on_prompt", False, "cpu", 30]
    for topic in ("/detector/boxes", "/person/box"):
        ros.wait_until(partial(is_subscribed, ros, topic), f"the node on {topic}")
    assert ctrl_c(launch) == 0


def test_for_the_page_more_images_are_kept_unless_a_person_has_said_how_many(
    ros: RosSession, prefix: Path
) -> None:
    launch = start_launch(ros, prefix, "sam.launch.py", "web:=true", "web_port:=0")
    assert parameters_of(ros, "images_kept") == [120]
    assert ctrl_c(launch) == 0
    ros.processes.remove(launch)
    ros.wait_until(lambda: "sam" not in ros.node.get_node_names(), "the node to be gone")
    start_launch(ros, prefix, "sam.launch.py", "web:=true", "web_port:=0", "images_kept:=7")
    assert parameters_of(ros, "images_kept") == [7]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], 120),
        (["images_kept:=300"], 300),
        (["images_kept:=0"], 60),  # as the page has it by itself: it is of no use without images
        (["params_file:={}"], 60),  # that file is the node's
    ],
)
def test_the_page_waits_for_masks_as_long_as_the_node_keeps_images(
    ros: RosSession, prefix: Path, arguments: list[str], expected: int
) -> None:
    replace_executable(prefix, "sam_node", "exec sleep 600")
    given = [argument.format(ROOT / "config/../config/sam.yaml") for argument in arguments]
    start_launch(ros, prefix, "sam.launch.py", "web:=true", "web_port:=0", *given)
    assert parameters_of(ros, "images_kept", node="/sam_web") == [expected]


@pytest.mark.parametrize(
    ("file_name", "argument", "reason"),
    [
        ("sam.launch.py", "imge:=/front", "sam.launch.py has no argument 'imge' (did you mean image?)"),
        ("sam.launch.py", "qqqq:=1", "sam.launch.py has no argument 'qqqq'; --show-args lists all"),
        ("demo.launch.py", "sorce:=x", "demo.launch.py has no argument 'sorce' (did you mean source?)"),
        ("demo.launch.py", "model_typ:=x", "no argument 'model_typ' (did you mean model_type?)"),
        ("sam.launch.py", "device:=tpu", "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ("sam.launch.py", "max_rate:=fast", "max_rate must be of type float, got 'fast'"),
        ("sam.launch.py", "params_file:=/no/such.yaml", "params_file: there is no file '/no/such.yaml'"),
        ("demo.launch.py", "view:=true", "view:=true needs rqt_image_view: sudo apt install ros-"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(
    ros: RosSession, prefix: Path, file_name: str, argument: str, reason: str
) -> None:
    launch = start_launch(ros, prefix, file_name, argument)
    assert launch.wait(60) == 1
    assert reason in last_line(launch)
    assert "process started" not in launch.output()


# How a launch ends.


@pytest.mark.parametrize("file_name", ["sam.launch.py", "demo.launch.py"])
def test_missing_weights_end_the_launch_with_the_reason_last(
    ros: RosSession, prefix: Path, file_name: str
) -> None:
    launch = start_launch(ros, prefix, file_name, "model_type:=vit_b", "web:=true", "web_port:=0")
    assert launch.wait(120) == 1
    assert "sam_node ended with code 1: cannot configure: " in last_line(launch)
    assert "ros2 run sam_ros weights vit_b" in last_line(launch)
    assert launch.output().count("process started") == (3 if file_name == "demo.launch.py" else 2)
    assert not ros.node.count_publishers("/image")


def test_a_source_that_cannot_be_opened_ends_the_demo(ros: RosSession, prefix: Path) -> None:
    launch = start_launch(ros, prefix, "demo.launch.py", "source:=/dev/video9876")
    assert launch.wait(120) == 1
    assert "camera ended with code 1: source '/dev/video9876': there is no" in last_line(launch)


def test_with_required_false_only_the_program_ends(ros: RosSession, prefix: Path) -> None:
    replace_executable(prefix, "sam_node", "echo '[ERROR] [sam]: cannot configure: bad' >&2; exit 1")
    launch = start_launch(ros, prefix, "sam.launch.py", "required:=false", "web:=true", "web_port:=0")
    ros.wait_until(lambda: "process has died" in launch.output(), "the end of the node")
    ros.wait_until(lambda: "in a browser" in launch.output(), "the page, which lives on", 60)
    assert launch.output().count("cannot configure") == 1
    assert ctrl_c(launch) == 0


def test_only_a_node_whose_device_failed_is_started_anew(
    ros: RosSession, prefix: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    script = f"[ -e {first} ] && exit 1; touch {first}; echo '[FATAL] [sam]: the device failed' >&2; exit "
    replace_executable(prefix, "sam_node", f"{script}{DEVICE_FAILED_EXIT}")
    launch = start_launch(ros, prefix, "sam.launch.py")
    assert launch.wait(60) == 1
    assert launch.output().count("process started") == 2
    assert "sam_node ended with code 1: it has said above why" in last_line(launch)


def test_a_node_that_was_ended_is_not_started_anew(ros: RosSession, prefix: Path) -> None:
    replace_executable(prefix, "sam_node", "exit 0")
    launch = start_launch(ros, prefix, "sam.launch.py")
    assert launch.wait(60) == 0
    assert launch.output().count("process started") == 1


@pytest.mark.parametrize(("argument", "is_set"), [(None, True), ("fastdds_profile:=", False)])
def test_fast_dds_gets_its_profile_unless_it_is_to_be_left_alone(
    ros: RosSession,
    prefix: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    is_set: bool,
) -> None:
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    replace_executable(prefix, "sam_node", f"env > {tmp_path}/environment")
    launch = start_launch(ros, prefix, "sam.launch.py", *filter(None, [argument]))
    assert launch.wait(60) == 0
    environment = (tmp_path / "environment").read_text()
    profile = prefix / "share/sam_ros/config/fastdds.xml"
    assert (f"FASTRTPS_DEFAULT_PROFILES_FILE={profile}\n" in environment) == is_set
    assert ("FASTDDS_DEFAULT_PROFILES_FILE" in environment) == is_set
