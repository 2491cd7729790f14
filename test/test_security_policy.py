"""The SROS 2 policy allows exactly what the node uses."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from processes import RosSession, ros_session
from random_models import MINIATURE, save_random_sam
from web_rig import PageClient, address_of, start_web

from sam_ros.node.sam_node import SamNode
from sam_ros.predictor import load_predictor

POLICY = Path(__file__).parents[1] / "config" / "sam.policy.xml"
# Of rclpy: subscribed with use_sim_time, and where events of all nodes go.
OF_RCLPY = {"/clock", "/parameter_events"}


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


def allowed(node: str, access: str) -> set[str]:
    """Full names of the topics or services with this access, as those of a node in the root namespace."""
    (profile,) = [one for one in ET.parse(POLICY).getroot().iter("profile") if one.get("node") == node]
    assert profile.attrib == {"ns": "/", "node": node}
    names = [one.text or "" for group in profile if access in group.attrib for one in group]
    return {name.replace("~", f"/{node}") if name[0] in "~/" else f"/{name}" for name in names}


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
            subscribed = {one.topic_name for one in node.subscriptions}
            found = {**used_by(node, "sam"), "subscribe": subscribed}
            used = {kind: names | found[kind] for kind, names in used.items()}
        finally:
            node.stop()
            node.destroy_node()
    check("sam", used)


def test_what_the_policy_allows_is_what_the_page_uses_while_it_is_looked_at(ros: RosSession) -> None:
    used: dict[str, set[str]] = {}
    for transport in ("raw", "compressed"):
        web = start_web(ros, "-p", f"image_transport:={transport}")
        page = PageClient(ros, address_of(ros, web))
        topic = "/image" if transport == "raw" else "/image/compressed"
        ros.wait_until(lambda: "sam_web" in ros.node.get_node_names(), "its name")
        ros.wait_until(partial(is_subscribed, ros, topic), "the page's subscriptions")
        ros.wait_until(lambda: "/sam/undo" in clients(ros.node), "its clients")
        for kind, names in used_by(ros.node, "sam_web").items():
            used[kind] = used.get(kind, set()) | names
        page.close()
        assert web.stop() == 0
        ros.processes.remove(web)
        ros.wait_until(lambda: "sam_web" not in ros.node.get_node_names(), "sam_web to be gone")
    check("sam_web", used)
    assert allowed("sam_web", "request") == used["request"]


def check(node: str, used: dict[str, set[str]]) -> None:
    assert allowed(node, "subscribe") - OF_RCLPY == used["subscribe"] - OF_RCLPY
    assert allowed(node, "publish") == used["publish"]
    assert allowed(node, "reply") == used["reply"]


def is_subscribed(ros: RosSession, topic: str) -> bool:
    """Whether the graph knows it of the node: the names of its topics come after the endpoints."""
    return topic in dict(ros.node.get_subscriber_names_and_types_by_node("sam_web", "/"))


def clients(observer: Any) -> set[str]:
    return {name for name, _ in observer.get_client_names_and_types_by_node("sam_web", "/")}


def used_by(observer: Any, node: str) -> dict[str, set[str]]:
    """What the graph tells of a node."""
    ask = {
        "subscribe": observer.get_subscriber_names_and_types_by_node,
        "publish": observer.get_publisher_names_and_types_by_node,
        "reply": observer.get_service_names_and_types_by_node,
        "request": observer.get_client_names_and_types_by_node,
    }
    return {kind: {name for name, _ in names(node, "/")} for kind, names in ask.items()}
