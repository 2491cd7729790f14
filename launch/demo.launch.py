"""A camera made of a photograph and the node; with web:=true a page to see and click, in a browser.

With view:=true two windows of rqt_image_view: to click in, and the answers. Takes sam.launch.py's arguments.
"""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from sam_ros.tools.launch_arguments import check_arguments, check_package, is_true
from sam_ros.tools.middleware import profile_environment

SAM_LAUNCH = PathJoinSubstitution([FindPackageShare("sam_ros"), "launch", "sam.launch.py"])

ARGUMENTS = [
    DeclareLaunchArgument(
        "source",
        default_value="photograph:coffee",
        description="Picture, folder, video, /dev/videoN, its number, or rtsp://... to show",
    ),
    DeclareLaunchArgument("rate", default_value="10.0", description="Of the camera, in Hz"),
    DeclareLaunchArgument(
        "pan", default_value="20", description="Pixels by which the view of a still or a video swings"
    ),
    DeclareLaunchArgument(
        "view",
        default_value="false",
        description="Whether to open two windows of rqt_image_view, which is to be installed",
    ),
    DeclareLaunchArgument("web", default_value="false", description="Whether to show the page, on port 8080"),
    DeclareLaunchArgument(
        "click", default_value="/image_mouse_left", description="Topic of clicks, of rqt_image_view"
    ),
]


def camera(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    profile = context.launch_configurations["fastdds_profile"]
    parameters = {
        "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
        "rate": LaunchConfiguration("rate"),
        "pan": LaunchConfiguration("pan"),
    }
    return [
        Node(
            package="sam_ros",
            executable="camera",
            parameters=[parameters],
            additional_env=profile_environment(profile, os.environ),
            output="screen",
        )
    ]


def windows() -> list[Node]:
    """In the camera's, a person has to switch on the publishing of mouse clicks."""
    return [
        Node(
            package="rqt_image_view",
            executable="rqt_image_view",
            arguments=[topic],
            condition=IfCondition(LaunchConfiguration("view")),
        )
        for topic in ("/image", "/sam/overlay")
    ]


def generate_launch_description() -> LaunchDescription:
    def check(context: LaunchContext) -> None:
        """Before anything starts: an exception later on would leave behind what has."""
        check_arguments("demo.launch.py", [one.name for one in description.get_launch_arguments()])
        if is_true(context, "view"):
            check_package("rqt_image_view", "view:=true")

    node = IncludeLaunchDescription(SAM_LAUNCH)
    checked = OpaqueFunction(function=check)
    description = LaunchDescription([*ARGUMENTS, checked, node, OpaqueFunction(function=camera), *windows()])
    return description
