"""The SROS 2 policy allows exactly what the node uses."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import RosSession, ros_session
from random_models import MINIATURE, save_random_sam

from sam_ros.node.sam_node import SamNode
from sam_ros.predictor import load_predictor

POLICY = Path(__file__).parents[1] / "config" / "sam.policy.xml"
# Of rclpy: subscribed with use_sim_time, and where events of all nodes go.
OF_RCLPY = {"/clock", "/parameter_events"}


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


def allowed(access: str) -> set[str]:
    """Full names of the topics or services with this access, as those of a node /sam."""
    (profile,) = ET.parse(POLICY).getroot().iter("profile")
    assert profile.attrib == {"ns": "/", "node": "sam"}
    names = [one.text or "" for group in profile if access in group.attrib for one in group]
    return {name.replace("~", "/sam") if name[0] in "~/" else f"/{name}" for name in names}


def test_what_the_policy_allows_is_what_an_active_node_uses(ros: RosSession, tmp_path: Path) -> None:
    checkpoint = tmp_path / "miniature.safetensors"
    save_random_sam(MINIATURE, checkpoint)
    core = load_predictor("sam_tiny", checkpoint)
    used: dict[str, set[str]] = {"subscribe": set(), "publish": set(), "reply": set()}
    for transport in ("raw", "compressed"):
        arguments = ["--ros-args", "-p", f"image_transport:={transport}"]
        node = SamNode(threading.Event(), load=lambda *_: core, context=ros.node.context, cli_args=arguments)
        try:
            node.trigger_configure()
            node.trigger_activate()
            for kind, names in used_by(node).items():
                used[kind] |= names
        finally:
            node.stop()
            node.destroy_node()
    assert allowed("subscribe") - OF_RCLPY == used["subscribe"] - OF_RCLPY
    assert allowed("publish") == used["publish"]
    assert allowed("reply") == used["reply"]


def used_by(node: Any) -> dict[str, set[str]]:
    return {
        "subscribe": {subscription.topic_name for subscription in node.subscriptions},
        "publish": {name for name, _ in node.get_publisher_names_and_types_by_node("sam", "/")},
        "reply": {name for name, _ in node.get_service_names_and_types_by_node("sam", "/")},
    }
