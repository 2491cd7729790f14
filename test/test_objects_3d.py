"""The node objects_3d over real ROS: a rendered table in, boxes, points and reasons out."""

from __future__ import annotations

import importlib.util
import itertools
import signal
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from processes import RosSession, RunningProcess, ros_session
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from test_conversions_3d import cloud_rows
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3DArray, ObjectHypothesisWithPose

from sam_ros.core.box3d import Box3D
from sam_ros.core.pinhole import Pinhole
from sam_ros.core.tabletop import THINGS, render, sensed, tilted_view
from sam_ros.node.headers import stamp_to_ns
from sam_ros.tools import objects_3d
from sam_ros.tools.conversions_3d import box_from_msg
from sam_ros.tools.objects_3d import INPUTS, Objects3D
from sam_ros.tools.transforms import Transforms

SECOND = 1_000_000_000
LONG_SEC = 600.0
CAMERA = Pinhole((240, 320), (300.0, 300.0), (159.5, 119.5))
VIEW = tilted_view(CAMERA)
RENDERING = render(VIEW)
DEPTH_M = sensed(RENDERING.depth_m, noise_m=0.001, holes=0.02, seed=0)
IDS = ["_1", "ball", "can"]


def header(stamp_ns: int, frame_id: str = "lens") -> Header:
    made = Header(frame_id=frame_id)
    made.stamp.sec, made.stamp.nanosec = divmod(stamp_ns, SECOND)
    return made


def image_msg(pixels: npt.NDArray[Any], encoding: str, stamp_ns: int, frame_id: str = "lens") -> Image:
    made = Image(header=header(stamp_ns, frame_id), encoding=encoding)
    made.height, made.width = pixels.shape[:2]
    made.step = pixels.nbytes // made.height
    made.data = array("B", np.ascontiguousarray(pixels).tobytes())
    return made


def camera_info(stamp_ns: int) -> CameraInfo:
    height, width = CAMERA.size_hw
    made = CameraInfo(header=header(stamp_ns), height=height, width=width, distortion_model="plumb_bob")
    made.k = CAMERA.matrix.ravel().tolist()
    return made


def segments(stamp_ns: int) -> Detection2DArray:
    made = Detection2DArray(header=header(stamp_ns))
    for label, id in enumerate(IDS, 1):
        x, y, width, height = cv2.boundingRect((RENDERING.labels == label).view(np.uint8))
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = f"class of {id}", 0.25 * label
        detection = Detection2D(id=id, results=[result])
        detection.bbox.center.position.x, detection.bbox.center.position.y = x + width / 2, y + height / 2
        detection.bbox.size_x, detection.bbox.size_y = float(width), float(height)
        made.detections.append(detection)
    return made


def messages(stamp_ns: int) -> dict[str, Any]:
    """One frame of every input."""
    return {
        "image": image_msg(RENDERING.image_rgb, "rgb8", stamp_ns),
        "depth": image_msg(DEPTH_M, "32FC1", stamp_ns),
        "camera_info": camera_info(stamp_ns),
        "segments": segments(stamp_ns),
        "labels": image_msg(RENDERING.labels, "16UC1", stamp_ns),
    }


class Rig:
    """Publishers of all inputs, and what the node answers."""

    def __init__(self, ros: RosSession) -> None:
        self.ros = ros
        self.detections: list[Detection3DArray] = []
        self.clouds: list[PointCloud2] = []
        self.statuses: list[DiagnosticStatus] = []
        self._stamps_ns = itertools.count(1000 * SECOND, SECOND // 10)
        node = ros.node
        self._publishers = {name: node.create_publisher(kind, name, 10) for name, kind in INPUTS.items()}
        node.create_subscription(Detection3DArray, "objects_3d/detections", self.detections.append, 10)
        node.create_subscription(PointCloud2, "objects_3d/points", self.clouds.append, 10)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)

    def start(self, *arguments: str, **parameters: object) -> RunningProcess:
        settings = itertools.chain.from_iterable(
            ("-p", f"{name}:={value}") for name, value in parameters.items()
        )
        process = self.ros.start("sam_ros.tools.objects_3d", "--ros-args", *settings, *arguments)
        self.ros.wait_until(self._is_connected, "the node's subscriptions and publishers")
        return process

    def send(self, sent: dict[str, Any]) -> None:
        for name, message in sent.items():
            self._publishers[name].publish(message)

    def next_stamp_ns(self) -> int:
        return next(self._stamps_ns)

    def answer(self, change: Any = None) -> Detection3DArray:
        """The detections of a new frame; ``change`` may alter its messages. What DDS loses is sent again."""
        for _ in range(20):
            stamp_ns = self.next_stamp_ns()
            sent = messages(stamp_ns)
            if change is not None:
                change(sent)
            self.send(sent)
            if self.comes_true(partial(self.detections_of, sent["labels"].header)):
                return self.detections_of(sent["labels"].header)[0]
        raise AssertionError(f"no detections:\n{self.ros.processes[-1].output()}")

    def detections_of(self, expected: Header) -> list[Detection3DArray]:
        return [message for message in self.detections if message.header == expected]

    def comes_true(self, condition: Callable[[], object], timeout_sec: float = 3.0) -> bool:
        """Whether the condition holds within the time."""
        return self.ros.comes_true(condition, "a condition", timeout_sec)

    def wait_for_status(self, part: str) -> DiagnosticStatus:
        def found() -> list[DiagnosticStatus]:
            return [status for status in self.statuses if part in status.message]

        self.ros.wait_until(lambda: bool(found()), f"a status with {part!r}")
        return found()[-1]

    def _is_connected(self) -> bool:
        return all(publisher.get_subscription_count() for publisher in self._publishers.values()) and all(
            self.ros.node.count_publishers(name) for name in ("objects_3d/detections", "objects_3d/points")
        )

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses += [status for status in message.status if status.name == "objects_3d: lifting"]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ros_session(tmp_path) as session:
        yield Rig(session)


def boxes(answer: Detection3DArray) -> dict[str, Box3D]:
    return {detection.id: box_from_msg(detection.bbox) for detection in answer.detections}


def test_masks_and_depth_become_boxes_and_points(rig: Rig) -> None:
    process = rig.start()
    answer = rig.answer()
    assert answer.header.frame_id == "lens"
    assert [detection.id for detection in answer.detections] == IDS
    assert [detection.results[0].hypothesis.class_id for detection in answer.detections] == [
        f"class of {id}" for id in IDS
    ]
    assert [detection.results[0].hypothesis.score for detection in answer.detections] == [0.25, 0.5, 0.75]
    for id, thing in zip(IDS, THINGS, strict=True):
        if id != "ball":
            np.testing.assert_allclose(np.sort(boxes(answer)[id].size), np.sort(thing.size), atol=0.02)

    status = rig.wait_for_status("lifting")
    values = {pair.key: pair.value for pair in status.values}
    assert values["objects"] == "3"
    assert values["object ball"].endswith("of the mask has depth")
    assert process.stop(signal.SIGINT) == 0


def test_messages_that_cannot_be_read_are_named_and_do_not_end_it(rig: Rig) -> None:
    process = rig.start()
    raw = rig.ros.node.create_publisher(CameraInfo, "camera_info", 10)
    rig.ros.wait_until(raw.get_subscription_count, "the subscription")

    def said(kind: str, send: Callable[[], object]) -> bool:
        send()
        return rig.comes_true(
            lambda: any(pair.key == f"refused: {kind}" for status in rig.statuses for pair in status.values)
        )

    info = CameraInfo()
    info.header.stamp.nanosec = 2 * SECOND
    rig.ros.wait_until(lambda: said("malformed message", lambda: raw.publish(b"\0\1\0\0\1")), "the bytes")
    rig.ros.wait_until(lambda: said("invalid header", lambda: raw.publish(info)), "the stamp")
    assert "Traceback" not in process.output()
    assert [detection.id for detection in rig.answer().detections] == IDS


def test_points_have_the_colours_of_the_image(rig: Rig) -> None:
    rig.start()

    def is_coloured() -> bool:  # an image that comes after its masks is too late: then the points are white
        return bool(rig.clouds) and bool((cloud_rows(rig.clouds[-1])["rgb"].view("<u4") != 0xFFFFFF).all())

    def sent() -> bool:
        made = messages(rig.next_stamp_ns())
        rig.send({"image": made.pop("image")})
        rig.comes_true(lambda: False, timeout_sec=0.2)  # as long as a node would take for the masks
        rig.send(made)
        return rig.comes_true(is_coloured)

    rig.ros.wait_until(sent, "a coloured cloud")
    rows = cloud_rows(rig.clouds[-1])
    assert set(rows["label"]) == {1, 2, 3}
    colours = rows["rgb"].copy().view(np.uint8).reshape(-1, 4)[:, 2::-1]  # (N, 3) r, g, b
    for label, thing in enumerate(THINGS, 1):
        assert colours[rows["label"] == label].mean(axis=0).argmax() == np.argmax(thing.rgb)


def test_a_depth_of_another_camera_is_taken_by_the_nearest_stamp(rig: Rig) -> None:
    rig.start(max_stamp_difference=0.02)

    def later(sent: dict[str, Any]) -> None:
        sent["depth"].header.stamp.nanosec += 10_000_000

    assert [detection.id for detection in rig.answer(later).detections] == IDS


def test_half_the_resolution_and_millimetres_will_do(rig: Rig) -> None:
    rig.start()

    def halved(sent: dict[str, Any]) -> None:
        millimetres = np.round(1000 * np.nan_to_num(DEPTH_M[1::2, 1::2])).astype(np.uint16)
        sent["depth"] = image_msg(millimetres, "16UC1", 0)
        sent["depth"].header = sent["labels"].header

    assert boxes(rig.answer(halved))["can"].size.max() == pytest.approx(0.15, abs=0.02)


def test_an_object_without_depth_is_left_out_and_named(rig: Rig) -> None:
    process = rig.start()

    def without_ball(sent: dict[str, Any]) -> None:
        depth_m = np.where(RENDERING.labels == 2, np.nan, DEPTH_M).astype(np.float32)
        sent["depth"] = image_msg(depth_m, "32FC1", 0)
        sent["depth"].header = sent["labels"].header

    assert [detection.id for detection in rig.answer(without_ball).detections] == ["_1", "can"]
    rig.ros.wait_until(lambda: "hardly any depth is in their masks: 'ball'" in process.output(), "the log")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pixels": DEPTH_M[:200]}, "publish aligned depth"),
        ({"frame_id": "infrared"}, "depth is in the frame 'infrared', the masks in 'lens'"),
        ({"encoding": "8UC4"}, "depth must be 16UC1 (millimetres) or 32FC1 (metres), got '8UC4'"),
    ],
    ids=["size", "frame", "encoding"],
)
def test_a_depth_that_does_not_fit_is_refused_and_the_node_lives(
    rig: Rig, change: dict[str, Any], reason: str
) -> None:
    rig.start()

    def refused() -> bool:
        if not any(reason in status.message for status in rig.statuses):
            stamp_ns = rig.next_stamp_ns()
            values: dict[str, Any] = {"pixels": DEPTH_M, "encoding": "32FC1", "stamp_ns": stamp_ns} | change
            rig.send(messages(stamp_ns) | {"depth": image_msg(**values)})
            return False
        return True

    rig.ros.wait_until(refused, f"a refusal with {reason!r}")
    assert rig.wait_for_status(reason).level == DiagnosticStatus.WARN
    assert len(rig.answer().detections) == 3


def test_the_cause_is_said_when_nothing_ever_matches(rig: Rig) -> None:
    process = rig.ros.start("sam_ros.tools.objects_3d", "--ros-args", "-r", "depth:=/nowhere/depth")

    def sent() -> bool:
        rig.send(messages(rig.next_stamp_ns()))
        return any("/nowhere/depth" in status.message for status in rig.statuses)

    rig.ros.wait_until(sent, "the cause")
    status = rig.wait_for_status("/nowhere/depth has no publisher: is the name right?")
    assert status.level == DiagnosticStatus.STALE
    assert "/nowhere/depth has no publisher" in process.output()


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (["-p", "boxes:=round"], "boxes must be oriented or aligned, got 'round'"),
        (["-p", "max_points:=5"], "max_points must be from 100"),
        (["-p", "min_depth:=20.0"], "min_depth must be from 0 to max_depth"),
        (["-p", "max_depth:=far"], "max_depth"),
    ],
)
def test_a_bad_parameter_ends_the_start(rig: Rig, parameters: list[str], reason: str) -> None:
    process = rig.ros.start("sam_ros.tools.objects_3d", "--ros-args", *parameters)
    assert process.wait() == 1
    assert reason in process.output()


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
def test_a_target_frame_without_tf2_ros_says_what_to_install(rig: Rig) -> None:
    process = rig.ros.start("sam_ros.tools.objects_3d", "--ros-args", "-p", "target_frame:=base")
    assert process.wait() == 1
    assert "apt install ros-$ROS_DISTRO-tf2-ros-py, or leave target_frame empty" in process.output()


class KnownTransforms:
    """In place of a tf2_ros.Buffer: knows where the camera is at some stamps."""

    def __init__(self) -> None:
        self.known_ns: set[int] = set()

    def can_transform(self, target: str, source: str, time: Any) -> bool:
        assert (target, source) == ("table", "lens")
        return time.nanoseconds in self.known_ns

    def lookup_transform(self, target: str, source: str, time: Any) -> TransformStamped:
        assert self.can_transform(target, source, time)
        box = Box3D(VIEW.position, VIEW.rotation, np.zeros(3))
        made = TransformStamped()
        x, y, z, w = box.quaternion_xyzw
        rotation, translation = made.transform.rotation, made.transform.translation
        rotation.x, rotation.y, rotation.z, rotation.w = x, y, z, w
        translation.x, translation.y, translation.z = VIEW.position.tolist()
        return made


@pytest.fixture
def in_target_frame(rig: Rig) -> Iterator[tuple[Objects3D, KnownTransforms, SingleThreadedExecutor]]:
    """The node in this process, for the frame of the table; what its buffer knows is the test's."""
    buffer = KnownTransforms()
    context = Context()
    context.init(args=[], domain_id=rig.ros.domain_id)
    node = Objects3D(
        lambda _: Transforms(buffer, None),
        context=context,
        parameter_overrides=[Parameter("target_frame", value="table"), Parameter("messages_kept", value=8)],
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    rig.ros.wait_until(rig._is_connected, "the node")
    yield node, buffer, executor
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def test_in_a_target_frame_boxes_stand_upright_at_the_images_stamp(
    rig: Rig, in_target_frame: tuple[Objects3D, KnownTransforms, SingleThreadedExecutor]
) -> None:
    _, buffer, executor = in_target_frame
    early, late = rig.next_stamp_ns(), rig.next_stamp_ns()

    def answered() -> bool:
        executor.spin_once(timeout_sec=0.02)
        if not rig.detections:
            rig.send(messages(late))
        return bool(rig.detections)

    rig.send(messages(early))
    buffer.known_ns = {early - 1, late}
    rig.ros.wait_until(answered, "detections in the target frame")
    (answer, *_) = rig.detections
    assert answer.header == header(late, "table")
    block, can = boxes(answer)["_1"], boxes(answer)["can"]
    np.testing.assert_allclose(can.rotation[:, 2], [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(can.size, THINGS[2].size, atol=0.02)
    np.testing.assert_allclose(can.center, [*THINGS[2].base_xy, 0.075], atol=0.015)
    np.testing.assert_allclose(block.size, THINGS[0].size, atol=0.02)


def test_a_transform_that_always_comes_some_frames_late_is_waited_for(
    rig: Rig,
    in_target_frame: tuple[Objects3D, KnownTransforms, SingleThreadedExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The frames of a fast camera come one after the other before the first one's transform does."""
    monkeypatch.setattr(objects_3d, "TRANSFORM_WAIT_SEC", LONG_SEC)
    node, buffer, executor = in_target_frame
    stamps_ns: list[int] = []

    def enough() -> bool:
        if len(stamps_ns) < 30:
            stamps_ns.append(rig.next_stamp_ns())
            rig.send(messages(stamps_ns[-1]))
        buffer.known_ns = set(stamps_ns[:-5])  # five frames late
        for _ in range(8):
            executor.spin_once(timeout_sec=0.005)
        return len(rig.detections) >= 10

    rig.ros.wait_until(enough, "detections of many frames")
    lifted_ns = [stamp_to_ns(answer.header) for answer in rig.detections]
    assert lifted_ns == sorted(set(lifted_ns))
    assert not node._drops


def test_every_frame_without_a_transform_is_counted_and_the_cause_said(
    rig: Rig,
    in_target_frame: tuple[Objects3D, KnownTransforms, SingleThreadedExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A steady stream of frames, none of which ever gets its transform."""
    monkeypatch.setattr(objects_3d, "TRANSFORM_WAIT_SEC", LONG_SEC)
    node, _, executor = in_target_frame

    def said() -> bool:
        rig.send(messages(rig.next_stamp_ns()))
        for _ in range(8):
            executor.spin_once(timeout_sec=0.005)
        return any(
            "stamp before 8 newer frames had come (messages_kept)" in status.message
            for status in rig.statuses
        )

    def all_expired() -> bool:
        executor.spin_once(timeout_sec=0.02)
        counted = {pair.key: pair.value for pair in rig.statuses[-1].values}
        return counted.get("refused: no transform") == str(node._matcher.matches)

    rig.ros.wait_until(said, "the cause")
    assert node._matcher.matches > 8
    monkeypatch.setattr(objects_3d, "TRANSFORM_WAIT_SEC", 1.0)
    rig.ros.wait_until(all_expired, "a count of all of them")
    rig.wait_for_status("no transform from 'lens' to target_frame 'table' at the image's stamp within 1 s")
    assert not rig.detections
