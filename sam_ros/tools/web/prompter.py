"""Publishes a person's gestures as prompts, edits and service calls for the node."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from geometry_msgs.msg import PointStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from std_msgs.msg import String, UInt8
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D

from sam_ros.tools.web.gestures import Choose, Click, Command, Drag, Drawn, Gesture, Remove, Select
from sam_ros.tools.web.messages import box_of, point_of

# A lost click would have to be clicked again.
PROMPT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

CLICK_TOPICS = {"foreground": "point", "more": "point_foreground", "background": "point_background"}
SERVICES = ("undo", "clear")


class Prompter:
    """The publishers and clients of one node's prompts.

    Args:
        node: publishes; its executor calls ``on_answer``.
        name_of: the name of a topic or service of the prompted node.
        on_refusal: called with a topic's or service's name and a reason when nobody takes a gesture.
        on_answer: called with a service's name, whether it did what was asked, and its message.
    """

    def __init__(
        self,
        node: Node,
        name_of: Callable[[str], str],
        *,
        on_refusal: Callable[[str, str], None],
        on_answer: Callable[[str, bool, str], None],
    ) -> None:
        self._on_refusal, self._on_answer = on_refusal, on_answer
        kinds = dict.fromkeys(CLICK_TOPICS.values(), PointStamped)
        kinds |= {"prompt": Detection2D, "choose": UInt8, "select": String, "remove": String}
        self._publishers = {
            name: node.create_publisher(kind, name_of(name), PROMPT_QOS) for name, kind in kinds.items()
        }
        self._clients = {name: node.create_client(Trigger, name_of(name)) for name in SERVICES}
        self._service_names = {name: node.resolve_service_name(name_of(name)) for name in SERVICES}

    def has_listener(self, name: str) -> bool:
        """Whether somebody takes what goes to a topic, or offers a service; without the node's name."""
        if name in self._clients:
            return bool(self._clients[name].service_is_ready())
        return bool(self._publishers[name].get_subscription_count())

    def publish(self, gesture: Gesture) -> None:
        """Tell the node, or say why it cannot be told."""
        match gesture:
            case Click():
                self._send(CLICK_TOPICS[gesture.kind], point_of(gesture))
            case Drag():
                self._send("prompt", box_of(gesture))
            case Choose():
                self._send("choose", UInt8(data=gesture.index))
            case Select():
                self._send("select", String(data=gesture.id))
            case Remove():
                self._send("remove", String(data=gesture.id))
            case Command():
                self._call(gesture.name)
            case Drawn():
                pass  # is between the page and the server

    def _send(self, name: str, msg: Any) -> None:
        publisher = self._publishers[name]
        publisher.publish(msg)
        if not self.has_listener(name):
            self._on_refusal(publisher.topic_name, "nobody listens on this topic: is the node running?")

    def _call(self, name: str) -> None:
        if not self.has_listener(name):
            reason = "nobody offers this service: is the node running?"
            self._on_refusal(self._service_names[name], reason)
            return
        self._clients[name].call_async(Trigger.Request()).add_done_callback(partial(self._tell, name))

    def _tell(self, name: str, future: Future) -> None:
        answer = future.result()
        self._on_answer(name, answer.success, answer.message)
