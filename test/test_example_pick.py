"""The pick example: grasps over known boxes, and the whole pipeline as processes on the rendered table."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from processes import RosSession, ros_session
from std_msgs.msg import Header

from sam_ros.core.box3d import Box3D
from sam_ros.core.tabletop import THINGS, tilted_view
from sam_ros.tools.calibration import pinhole
from sam_ros.tools.camera import SCENE_DISTANCE_M, SCENE_SIZE_WH
from sam_ros.tools.conversions_3d import pinhole_from_msg

FASTDDS = Path(__file__).parents[1] / "config" / "fastdds.xml"
EXAMPLE = Path(__file__).parents[1] / "examples" / "pick.py"
CAN = THINGS[2]


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pick", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pick"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


pick = load_example()


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    # As the launch files: images and depth are more than Fast DDS has room for by default.
    with ros_session(tmp_path, extra_environment={"FASTRTPS_DEFAULT_PROFILES_FILE": str(FASTDDS)}) as session:
        yield session


def test_a_grasp_is_over_the_top_with_the_fingers_across_the_shorter_side() -> None:
    box = Box3D(np.array([1.0, 2.0, 0.05]), np.eye(3), np.array([0.3, 0.06, 0.1]))
    grasp = pick.grasp_from_above(box, np.array([0.0, 0.0, 1.0]), 0.1)
    np.testing.assert_allclose(grasp.position, [1.0, 2.0, 0.2])
    np.testing.assert_allclose(grasp.rotation[:, 2], [0, 0, -1])  # downwards
    np.testing.assert_allclose(np.abs(grasp.rotation[:, 0]), [0, 1, 0])
    assert grasp.opening_m == 0.06
    assert np.linalg.det(grasp.rotation) == pytest.approx(1.0)


def test_the_top_is_the_face_that_looks_up_whatever_the_order_of_the_axes() -> None:
    turned = np.array(
        [[0.0, 0.0, 1.0], [-0.8, -0.6, 0.0], [0.6, -0.8, 0.0]]
    )  # its first axis is nearest to -y
    box = Box3D(np.zeros(3), turned, np.array([0.2, 0.1, 0.05]))
    grasp = pick.grasp_from_above(box, np.array([0.0, -1.0, 0.0]), 0.0)
    np.testing.assert_allclose(grasp.position, 0.1 * turned[:, 0])
    np.testing.assert_allclose(grasp.rotation[:, 2], -turned[:, 0])


def test_a_click_on_the_can_becomes_a_grasp_above_it(ros: RosSession) -> None:
    grasps: list[PoseStamped] = []
    ros.node.create_subscription(PoseStamped, "grasp", grasps.append, 10)
    width, height = SCENE_SIZE_WH
    view = tilted_view(
        pinhole_from_msg(pinhole((height, width), Header()), rectified=False), SCENE_DISTANCE_M
    )
    middle = view.to_camera(np.array([[*CAN.base_xy, CAN.size[2] / 2]]))
    x, y = view.camera.project(middle)[0]
    settings = ("source:=scene:tabletop", "depth:=16UC1", "rate:=5.0")
    ros.start("sam_ros.tools.camera", "--ros-args", *(part for one in settings for part in ("-p", one)))
    ros.start("sam_ros.node.sam_node")
    remappings = ("labels:=sam/labels", "segments:=sam/segments")
    ros.start("sam_ros.tools.objects_3d", "--ros-args", *(part for one in remappings for part in ("-r", one)))
    picker = ros.start_command("pick", [sys.executable, str(EXAMPLE), str(x), str(y), "--timeout", "100"])
    assert picker.wait(120) == 0, picker.output()

    assert "opening" in picker.output()
    ros.processes.remove(picker)  # it has ended, as it should
    ros.wait_until(lambda: bool(grasps), "the grasp")
    pose = grasps[0].pose
    above = np.array([[pose.position.x, pose.position.y, pose.position.z]])
    x, y, z = view.to_table(above)[0]
    np.testing.assert_allclose([x, y], CAN.base_xy, atol=0.03)
    assert z == pytest.approx(CAN.size[2] + 0.1, abs=0.03)
