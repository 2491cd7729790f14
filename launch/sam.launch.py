"""Start the node; with depth:=TOPIC also objects_3d, with web:=true a page. Parameters may be arguments."""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch.utilities import perform_substitutions
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from sam_ros.tools.launch_arguments import (
    check_arguments,
    check_file,
    given_parameters,
    is_true,
    parameter_arguments,
)
from sam_ros.tools.launch_ending import Ending
from sam_ros.tools.middleware import profile_environment
from sam_ros.tools.web.pairing import IMAGES_KEPT

CONFIG = PathJoinSubstitution([FindPackageShare("sam_ros"), "config"])
DEFAULT_PARAMS = PathJoinSubstitution([CONFIG, "sam.yaml"])
FASTDDS_PROFILE = PathJoinSubstitution([CONFIG, "fastdds.xml"])
WEB_IMAGES_KEPT = 120  # by node and page: a person who has paused it looks before clicking
OF_IMAGES = ("image_transport", "image_durability")  # parameters that node and page have to have alike

ARGUMENTS = [
    DeclareLaunchArgument("params_file", default_value=DEFAULT_PARAMS, description="Parameters (YAML)"),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node"),
    DeclareLaunchArgument("image", default_value="image", description="Topic of the camera's images"),
    DeclareLaunchArgument(
        "click", default_value="~/click", description="Topic of clicks, e.g. <image>_mouse_left"
    ),
    DeclareLaunchArgument(
        "prompts", default_value="~/prompts", description="Topic of a detector's Detection2DArray"
    ),
    DeclareLaunchArgument("box", default_value="~/box", description="Topic of boxes, RegionOfInterest"),
    DeclareLaunchArgument(
        "depth",
        default_value="",
        description="Topic of depth registered to the images; starts objects_3d beside the node",
    ),
    DeclareLaunchArgument(
        "camera_info", default_value="camera_info", description="Topic of the calibration, for objects_3d"
    ),
    DeclareLaunchArgument(
        "target_frame", default_value="", description="Frame with z up, for objects_3d; '' the camera's"
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
    DeclareLaunchArgument(
        "web", default_value="false", description="Whether to show a page to see and click, in a browser"
    ),
    DeclareLaunchArgument(
        "web_host",
        default_value="127.0.0.1",
        description="Address of the page; 0.0.0.0 lets the whole network in",
    ),
    DeclareLaunchArgument("web_port", default_value="8080", description="Port of the page"),
    DeclareLaunchArgument(
        "fastdds_profile",
        default_value=FASTDDS_PROFILE,
        description="Set-up of Fast DDS with room for images, where none is set; '' leaves it alone",
    ),
    DeclareLaunchArgument(
        "required",
        default_value="true",
        description="Whether the launch ends with a program that cannot work as it was set",
    ),
    *parameter_arguments(),
]


def check(context: LaunchContext) -> None:
    check_arguments("sam.launch.py", [argument.name for argument in ARGUMENTS])
    check_file("params_file", context.launch_configurations["params_file"])


def settled_parameters(context: LaunchContext) -> dict:
    """The parameters that were given, and what the page needs beyond the plain file."""
    given = given_parameters(context)
    plain_file = perform_substitutions(context, [DEFAULT_PARAMS])
    if is_true(context, "web") and context.launch_configurations["params_file"] == plain_file:
        given.setdefault("images_kept", WEB_IMAGES_KEPT)
    return given


def parameters(context: LaunchContext) -> list:
    """The file, and what was given, which wins."""
    given = settled_parameters(context)
    return [LaunchConfiguration("params_file"), *([given] if given else [])]


def segmentation(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    return [
        LifecycleNode(
            **common(context, "sam_node"),
            name="sam",
            parameters=parameters(context),
            remappings=[
                ("image", LaunchConfiguration("image")),
                *((f"~/{name}", LaunchConfiguration(name)) for name in ("click", "prompts", "box")),
            ],
            # A fresh process mends a GPU that failed; for what it would not mend, Ending ends the launch.
            respawn=True,
            respawn_delay=5.0,
        )
    ]


def objects_3d(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    return [
        Node(
            **common(context, "objects_3d"),
            name="objects_3d",
            parameters=[
                {"target_frame": ParameterValue(LaunchConfiguration("target_frame"), value_type=str)}
            ],
            remappings=[
                *((name, LaunchConfiguration(name)) for name in ("image", "depth", "camera_info")),
                ("labels", "sam/labels"),
                ("segments", "sam/segments"),
            ],
            condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("depth"), "")),
        )
    ]


def web(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    host = ParameterValue(LaunchConfiguration("web_host"), value_type=str)
    port = ParameterValue(LaunchConfiguration("web_port"), value_type=int)
    given = settled_parameters(context)
    alike = {name: value for name, value in given.items() if name in OF_IMAGES}
    kept = max(given.get("images_kept", 0), IMAGES_KEPT)  # the page is of no use without images
    return [
        Node(
            **common(context, "web"),
            parameters=[{"host": host, "port": port, "images_kept": kept, **alike}],
            remappings=[("image", LaunchConfiguration("image"))],
            condition=IfCondition(LaunchConfiguration("web")),
        )
    ]


def common(context: LaunchContext, executable: str) -> dict:
    """What all programs are started with."""
    profile = context.launch_configurations["fastdds_profile"]
    return {
        "package": "sam_ros",
        "executable": executable,
        "namespace": LaunchConfiguration("namespace"),
        "ros_arguments": ["--log-level", LaunchConfiguration("log_level")],
        "additional_env": profile_environment(profile, os.environ),
        "output": "screen",
    }


def ending(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    return Ending(is_required=is_true(context, "required")).handlers()


def generate_launch_description() -> LaunchDescription:
    steps = (check, ending, segmentation, objects_3d, web)
    return LaunchDescription([*ARGUMENTS, *(OpaqueFunction(function=step) for step in steps)])
