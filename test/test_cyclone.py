"""Another vendor's DDS talks to the real node: Eclipse Cyclone DDS, without any ROS in between.

Skipped where the package cyclonedds is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from processes import ros_session

pytest.importorskip("cyclonedds", reason="the package cyclonedds is missing")

CLIENT = Path(__file__).with_name("cyclone_client.py")
# As rmw_cyclonedds_cpp does it with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST.
LOCALHOST = """
<CycloneDDS><Domain Id="{domain_id}">
  <General><Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces></General>
  <Discovery>
    <ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>
    <Peers><Peer address="127.0.0.1"/></Peers>
  </Discovery>
</Domain></CycloneDDS>
"""


def test_an_image_and_a_click_by_cyclone_dds_are_answered_by_a_mask(tmp_path: Path) -> None:
    with ros_session(tmp_path) as ros:
        node = ros.start("sam_ros.node.sam_node", "--ros-args", "-p", "follow:=false")
        uri = {"CYCLONEDDS_URI": LOCALHOST.format(domain_id=ros.domain_id)}
        command = [sys.executable, str(CLIENT), str(tmp_path / "mask.npz"), str(ros.domain_id)]
        client = ros.start_command("cyclone_client", command, uri)
        assert client.wait(120) == 0, client.output() + node.output()
        assert node.stop() == 0
    found = np.load(tmp_path / "mask.npz")
    assert (str(found["encoding"]), str(found["frame_id"])) == ("mono8", "cyclone")
    assert tuple(found["size_hw"]) == found["picture"].shape[:2] and found["stamp"][1] == 500
    shown, inside = found["pixels"] == 255, found["picture"][..., 0] > 128
    assert np.logical_and(shown, inside).sum() / np.logical_or(shown, inside).sum() > 0.9
