"""Boxes of yolo_ros to prompts of the node: its own message to vision_msgs/Detection2DArray.

Needs yolo_ros with its yolo_msgs, and the node with its prompts taken from here:

    ros2 launch yolo_bringup yolo.launch.py input_image_topic:=/camera/image_raw
    ros2 launch sam_ros sam.launch.py image:=/camera/image_raw prompts:=/yolo_bridge/prompts
    python3 examples/yolo_bridge.py --ros-args -r detections:=/yolo/tracking
"""

from __future__ import annotations

from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose


def prompts_of(msg: Any) -> Detection2DArray:
    """The same detections with stamp, id, class, score and box; without tracking the id is empty."""
    prompts = Detection2DArray(header=msg.header)
    for one in msg.detections:
        prompt, result = Detection2D(header=msg.header, id=one.id), ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = one.class_name, one.score
        prompt.results.append(result)
        prompt.bbox.center.position.x = one.bbox.center.position.x
        prompt.bbox.center.position.y = one.bbox.center.position.y
        prompt.bbox.center.theta = one.bbox.center.theta
        prompt.bbox.size_x, prompt.bbox.size_y = one.bbox.size.x, one.bbox.size.y
        prompts.detections.append(prompt)
    return prompts


def main() -> None:
    """Pass on every message until the end."""
    from yolo_msgs.msg import DetectionArray  # here: only this needs it

    rclpy.init()
    node = Node("yolo_bridge")
    publisher = node.create_publisher(Detection2DArray, "~/prompts", qos_profile_sensor_data)
    node.create_subscription(
        DetectionArray, "detections", lambda msg: publisher.publish(prompts_of(msg)), qos_profile_sensor_data
    )
    rclpy.spin(node)


if __name__ == "__main__":
    main()
