"""A camera made of a photograph and the node; with web:=true a page to see and click, in a browser.

With view:=true two windows of rqt_image_view: to click in, and the answers. Takes sam.launch.py's arguments;
namespace, image, camera_info, image_durability and log_level hold for the camera as well, and with depth:=
it publishes depth on that topic.
"""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from sam_ros.tools.launch_arguments import (
    check_arguments,
    check_package,
    full_topic,
    given_parameters,
    is_true,
)
from sam_ros.tools.middleware import profile_environment

SAM_LAUNCH = PathJoinSubstitution([FindPackageShare("sam_ros"), "launch", "sam.launch.py"])
SCENE = "scene:tabletop"  # it is rendered from one place
DEPTH_ENCODING = "16UC1"

ARGUMENTS = [
    DeclareLaunchArgument(
        "source",
        default_value="photograph:coffee",
        description=f"Picture, folder, video, /dev/videoN, its number, rtsp://..., or {SCENE} to show",
    ),
    DeclareLaunchArgument("rate", default_value="10.0", description="Of the camera, in Hz"),
    DeclareLaunchArgument(
        "pan",
        default_value="",
        description=f"Pixels by which the view of a still or a video swings; '' is 20, and 0 for {SCENE}",
    ),
    DeclareLaunchArgument(
        "view",
        default_value="false",
        description="Whether to open two windows of rqt_image_view, which is to be installed",
    ),
    DeclareLaunchArgument("web", default_value="false", description="Whether to show the page, on port 8080"),
    DeclareLaunchArgument(
        "click",
        default_value="",
        description="Topic of clicks; '' is that of the camera's window, <image>_mouse_left",
    ),
]


def settle(context: LaunchContext) -> None:
    """What depends on other arguments, for those that were not given."""
    given = context.launch_configurations
    given["pan"] = given["pan"] or ("0" if given["source"] == SCENE else "20")
    given["click"] = given["click"] or f"{image_topic(context)}_mouse_left"


def image_topic(context: LaunchContext) -> str:
    """Where the camera's images are; also before sam.launch.py, which has the defaults, is included."""
    given = context.launch_configurations
    return full_topic(given.get("namespace", ""), given.get("image", "image"))


def camera(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = context.launch_configurations
    depth = DEPTH_ENCODING if given["depth"] else ""
    parameters = {
        "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
        "rate": LaunchConfiguration("rate"),
        "pan": LaunchConfiguration("pan"),
        "depth": ParameterValue(depth, value_type=str),
    }
    durability = {k: v for k, v in given_parameters(context).items() if k == "image_durability"}
    topics = ("image", "camera_info", *(["depth"] if depth else []))
    return [
        Node(
            package="sam_ros",
            executable="camera",
            namespace=LaunchConfiguration("namespace"),
            parameters=[parameters | durability],
            remappings=[(name, LaunchConfiguration(name)) for name in topics],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            additional_env=profile_environment(given["fastdds_profile"], os.environ),
            output="screen",
        )
    ]


def windows(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """In the camera's, a person has to switch on the publishing of mouse clicks."""
    if not is_true(context, "view"):
        return []
    overlay = full_topic(context.launch_configurations["namespace"], "sam/overlay")
    return [
        Node(package="rqt_image_view", executable="rqt_image_view", arguments=[topic])
        for topic in (image_topic(context), overlay)
    ]


def generate_launch_description() -> LaunchDescription:
    def check(context: LaunchContext) -> None:
        """Before anything starts: an exception later on would leave behind what has."""
        check_arguments("demo.launch.py", [one.name for one in description.get_launch_arguments()])
        if is_true(context, "view"):
            check_package("rqt_image_view", "view:=true")

    before = [OpaqueFunction(function=step) for step in (check, settle)]
    after = [OpaqueFunction(function=step) for step in (camera, windows)]
    description = LaunchDescription([*ARGUMENTS, *before, IncludeLaunchDescription(SAM_LAUNCH), *after])
    return description
