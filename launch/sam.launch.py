"""Start the node, and with web:=true its page; its parameters are in the file that params_file names."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
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
            DeclareLaunchArgument(
                "web",
                default_value="false",
                description="Whether to show a page to see and click, in a browser",
            ),
            DeclareLaunchArgument(
                "web_host",
                default_value="127.0.0.1",
                description="Address of the page; 0.0.0.0 lets the whole network in",
            ),
            DeclareLaunchArgument("web_port", default_value="8080", description="Port of the page"),
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
            Node(
                package="sam_ros",
                executable="web",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    {
                        "host": ParameterValue(LaunchConfiguration("web_host"), value_type=str),
                        "port": ParameterValue(LaunchConfiguration("web_port"), value_type=int),
                    }
                ],
                remappings=[("image", LaunchConfiguration("image"))],
                condition=IfCondition(LaunchConfiguration("web")),
                output="screen",
            ),
        ]
    )
