"""A small cv_bridge for machines without a ROS installation: upstream's names, results and errors."""

from cv_bridge.core import CvBridge, CvBridgeError

__all__ = ["CvBridge", "CvBridgeError"]
