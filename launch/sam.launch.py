"""Start the node; its parameters are in the file that params_file names."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

DEFAULT_PARAMS = PathJoinSubstitution([FindPackageShare("sam_ros"), "config", "sam.yaml"])


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file", default_value=DEFAULT_PARAMS, description="Parameters (YAML)"
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node"),
            DeclareLaunchArgument("image", default_value="image", description="Topic of the camera's images"),
            DeclareLaunchArgument(
                "click", default_value="~/click", description="Topic of clicks, e.g. <image>_mouse_left"
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
            LifecycleNode(
                package="sam_ros",
                executable="sam_node",
                name="sam",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("params_file")],
                remappings=[
                    ("image", LaunchConfiguration("image")),
                    ("~/click", LaunchConfiguration("click")),
                ],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                output="screen",
                # The node ends when its GPU fails and when there are no weights that it may load; a fresh
                # process mends the one, and the other as soon as the weights are there.
                respawn=True,
                respawn_delay=5.0,
            ),
        ]
    )
