"""Give every Python of this virtual environment, and its children, what sourcing a ROS installation would.

Installed into site-packages and imported at start-up through a .pth file. The wheels set LD_LIBRARY_PATH
themselves; rclpy also looks for its middleware and for packages' shares under AMENT_PREFIX_PATH.
"""

import os
import sys

prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
if sys.prefix not in prefixes:
    os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([sys.prefix, *prefixes])
os.environ["ROS_DISTRO"] = "jazzy"
os.environ["ROS_VERSION"] = "2"
os.environ["ROS_PYTHON_VERSION"] = "3"
