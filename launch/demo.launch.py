"""A camera made of a photograph and the node; with web:=true a page to see and click, in a browser.

With view:=true two windows of rqt_image_view: to click in, and the answers.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

SAM_LAUNCH = PathJoinSubstitution([FindPackageShare("sam_ros"), "launch", "sam.launch.py"])


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "source", default_value="photograph:coffee", description="Picture, folder or video to show"
            ),
            DeclareLaunchArgument(
                "view",
                default_value="false",
                description="Whether to open two windows of rqt_image_view, which is to be installed",
            ),
            DeclareLaunchArgument(
                "web", default_value="false", description="Whether to show the page, on port 8080"
            ),
            Node(
                package="sam_ros",
                executable="camera",
                parameters=[{"source": LaunchConfiguration("source"), "rate": 10.0, "pan": 20}],
                output="screen",
            ),
            # In the camera's window, switch on the publishing of mouse clicks.
            IncludeLaunchDescription(
                SAM_LAUNCH,
                launch_arguments={
                    "click": "/image_mouse_left",
                    "web": LaunchConfiguration("web"),
                }.items(),
            ),
            *(
                Node(
                    package="rqt_image_view",
                    executable="rqt_image_view",
                    arguments=[topic],
                    condition=IfCondition(LaunchConfiguration("view")),
                )
                for topic in ("/image", "/sam/overlay")
            ),
        ]
    )
