"""The node where it may not write, and where it is not alone: in processes of their own, over real DDS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from node_rig import NodeRig, detection, detections, header
from processes import RosSession, ros_session
from random_models import MINIATURE, save_random_sam
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from users import without_write_access
from vision_msgs.msg import Detection2D, Detection2DArray

NOWHERE = "/proc/nowhere"  # a home in which nobody can make anything, root included
HOMELESS = {"HOME": NOWHERE, "ROS_HOME": NOWHERE, "ROS_LOG_DIR": ""}
CLIENTS_PER_NODE = 6
IMAGE_HW = (90, 120)
AGAIN_SEC = 5.0
TRIES = 12


def scene() -> npt.NDArray[np.uint8]:
    """(90, 120, 3) RGB: a bright disc on a gradient."""
    image = np.zeros((*IMAGE_HW, 3), np.uint8)
    image[..., 1] = np.linspace(40, 120, IMAGE_HW[1], dtype=np.uint8)
    cv2.circle(image, (60, 45), 25, (220, 200, 20), -1)
    return image


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "miniature.safetensors"
    save_random_sam(MINIATURE, path, seed=3)
    path.chmod(0o644)
    return path


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


# Where it may not write.


def assert_answers(rig: NodeRig) -> None:
    """Whether it is of use: an image and a box make an object, and a signal ends it well."""
    rig.show(scene())
    (found,) = rig.outputs_for("prompts", detections(0, detection("disc", (60, 45), (50, 50))))[
        "segments"
    ].detections
    assert found.id == "disc"
    assert rig.process.stop() == 0
    assert "Traceback" not in rig.process.output()


def test_the_node_runs_where_no_log_can_be_written(ros: RosSession, checkpoint: Path) -> None:
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}", environment=HOMELESS)
    assert_answers(rig)
    assert f"no log is written: {NOWHERE}/log: No such file" in rig.process.output()
    assert "ROS_LOG_DIR" in rig.process.output()


def test_the_node_runs_as_a_user_who_may_write_nothing(tmp_path: Path, checkpoint: Path) -> None:
    """Beside clients of another user, whom Fast DDS's shared memory does not reach.

    With the discovery range LOCALHOST rmw_fastrtps chooses the transports itself.
    """
    prefix, settings = without_write_access(), ("-p", f"checkpoint:={checkpoint}")
    without_shared_memory = {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    with ros_session(tmp_path, "SUBNET", without_shared_memory) as ros:
        assert_answers(NodeRig(ros, *settings, prefix=prefix, environment=HOMELESS))


def test_a_cache_that_is_not_there_is_named_with_what_to_do(ros: RosSession) -> None:
    environment = HOMELESS | {"SAM_ROS_CACHE": NOWHERE}
    node = NodeRig(ros, "-p", "model_type:=vit_b", environment=environment, wait=False).process
    assert node.wait(90) == 1
    assert f"{NOWHERE}/sam_vit_b_01ec64.pth is missing" in node.output()
    assert "ros2 run sam_ros weights vit_b" in node.output() and "Traceback" not in node.output()


# Among many others.


class Client:
    """One of many on the machine: a participant of its own, which asks for an object and waits to see it."""

    def __init__(self, number: int, domain_id: int, node_name: str) -> None:
        self.id, self._number = f"of {number}", number
        self._context = Context()
        self._context.init(args=[], domain_id=domain_id)
        self._node = Node(f"client_{number}", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._prompt = self._node.create_publisher(Detection2D, f"{node_name}/prompt", 10)
        self.seen: Detection2D | None = None
        self.num_masks = 0
        self._node.create_subscription(
            Detection2DArray, f"{node_name}/segments", self._look_for_its_own, self._qos(0)
        )
        self._node.create_subscription(Image, f"{node_name}/mask", self._count, self._qos(1))

    def _qos(self, shift: int) -> QoSProfile:
        """One of six, another for each client and topic."""
        reliability = (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)[(self._number + shift) % 2]
        return QoSProfile(depth=(1, 5, 100)[self._number % 3], reliability=reliability)

    def _look_for_its_own(self, segments: Detection2DArray) -> None:
        self.seen = next((one for one in segments.detections if one.id == self.id), self.seen)

    def _count(self, _: Image) -> None:
        self.num_masks += 1

    @property
    def has_what_it_wants(self) -> bool:
        return self.seen is not None and self.num_masks > 0

    def ask(self) -> None:
        """For a box of its own width around the disc."""
        self._prompt.publish(detection(self.id, (60, 45), (50 + self._number, 50)))

    def spin(self) -> None:
        self._executor.spin_once(timeout_sec=0.0)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


def served(ros: RosSession, clients: list[Client]) -> bool:
    """Let each client ask until it has seen its own; false if some have not within a while."""
    for _ in range(TRIES):
        for client in clients:
            if not client.has_what_it_wants:
                client.ask()
        until = time.monotonic() + AGAIN_SEC

        def passed(until: float = until) -> bool:
            for client in clients:
                client.spin()
            return all(client.has_what_it_wants for client in clients) or time.monotonic() > until

        ros.wait_until(passed, "clients to see their objects", 10 * AGAIN_SEC)
        if all(client.has_what_it_wants for client in clients):
            return True
    return False


def test_two_nodes_serve_a_dozen_clients_of_mixed_qos(ros: RosSession, checkpoint: Path) -> None:
    rigs = [
        NodeRig(
            ros,
            *("-r", f"__ns:={namespace}", "-p", f"checkpoint:={checkpoint}", "-p", "threads:=1"),
            name=f"{namespace}/sam",
            image_topic=f"{namespace}/image",
        )
        for namespace in ("/left", "/right")
    ]
    stamps = [rig.show(scene()) for rig in rigs]
    clients = [Client(number, ros.domain_id, rigs[number % 2].name) for number in range(2 * CLIENTS_PER_NODE)]
    deaf = Client(99, ros.domain_id, rigs[0].name)  # subscribes reliably to all of it, and never looks
    try:
        assert served(ros, clients), [client.id for client in clients if not client.has_what_it_wants]
        for client in clients:
            assert client.seen is not None
            assert client.seen.header.stamp == header(stamps[0]).stamp
            assert client.seen.bbox.size_x > 0 and client.seen.bbox.size_y > 0
        for rig in rigs:
            assert rig.wait_for_status("objects", lambda count: count == str(CLIENTS_PER_NODE))
        assert [rig.process.stop() for rig in rigs] == [0, 0]
    finally:
        for client in (*clients, deaf):
            client.close()
