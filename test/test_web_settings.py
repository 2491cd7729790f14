"""The parameters of ``sam_web``: what is refused, and in which words."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import rclpy
import yaml
from processes import RosSession, ros_session

pytest.importorskip("aiohttp")

from web_rig import start_web

from sam_ros.tools.web.settings import Settings, declare_settings

DOCUMENT = (Path(__file__).parents[1] / "docs/web.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| `(.+?)` \|", re.MULTILINE)


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("image_durability:=short", "image_durability must be volatile or transient_local, got 'short'"),
        ("image_transport:=theora", "image_transport must be raw or compressed, got 'theora'"),
        ("host:=''", "parameter host is empty"),
        ("node:=''", "parameter node is empty"),
        ("max_rate:=fast", "max_rate must be a number from 0 to 1000 Hz, got 'fast'"),
        ("max_rate:=-1", "max_rate must be a number from 0 to 1000 Hz, got -1"),
        ("jpeg_quality:=101", "jpeg_quality"),
        ("port:=70000", "port"),
        ("host:=no.such.host.invalid", "cannot listen on no.such.host.invalid"),
    ],
)
def test_a_bad_setting_ends_it_with_the_reason(ros: RosSession, setting: str, reason: str) -> None:
    web = start_web(ros, "-p", setting)
    assert web.wait() == 1
    assert reason in web.output()
    assert "Traceback" not in web.output()


def test_a_port_in_use_ends_it_with_what_to_do(ros: RosSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        web = start_web(ros, "-p", f"port:={port}")
        assert web.wait() == 1
        assert f"cannot listen on 127.0.0.1:{port}" in web.output()
        assert "choose another with -p port:=" in web.output()
        assert "Traceback" not in web.output()


def test_the_document_has_every_parameter_with_its_default(ros: RosSession) -> None:
    documented = {name: yaml.safe_load(default) for name, default in ROW.findall(DOCUMENT)}
    node = rclpy.create_node("settings", context=ros.node.context)
    built = declare_settings(node)
    node.destroy_node()
    documented["allowed_hosts"] = tuple(documented["allowed_hosts"])
    assert documented == {field.name: getattr(built, field.name) for field in fields(Settings)}
