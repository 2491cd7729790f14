"""The client example, whole: a camera, the node and it as processes, and the picture that it saves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import RosSession, ros_session

EXAMPLE = Path(__file__).parents[1] / "examples" / "segment.py"


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


def start_example(ros: RosSession, *arguments: str) -> int:
    client = ros.start_command("segment", [sys.executable, str(EXAMPLE), *arguments])
    code = client.wait(150)
    ros.processes.remove(client)  # it has ended, as it should
    return code


@pytest.mark.parametrize("follow", ["true", "false"])
def test_the_documented_click_saves_a_mask_of_the_spoon(ros: RosSession, tmp_path: Path, follow: str) -> None:
    photographs = pytest.importorskip("skimage.data")
    ros.start("sam_ros.tools.camera", "--ros-args", "-p", "source:=photograph:coffee", "-p", "rate:=5")
    ros.start("sam_ros.node.sam_node", "--ros-args", "-p", f"follow:={follow}")
    output = tmp_path / "saved.png"
    assert start_example(ros, "365", "285", "--output", str(output), "--timeout", "120") == 0
    before = cv2.cvtColor(photographs.coffee(), cv2.COLOR_RGB2BGR)
    changed = (cv2.imread(str(output)) != before).any(axis=2)
    bowl = cv2.ellipse(np.zeros(changed.shape, np.uint8), (364, 284), (42, 43), 0, 0, 360, 1, -1) > 0
    assert (changed & bowl).sum() / (changed | bowl).sum() > 0.8


def test_without_a_camera_it_says_what_may_be_missing(ros: RosSession, tmp_path: Path) -> None:
    assert start_example(ros, "1", "1", "--timeout", "0.5") == 1
    log = next(tmp_path.glob("*_segment.log")).read_text()
    assert "no mask came: do the camera and sam_node run?" in log
