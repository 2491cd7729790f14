"""Masks to objects in space: a node between the segmentation, a depth camera, and what grasps or maps."""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3DArray

from sam_ros.core.lifting import BOXES, LiftingSettings, Pose, Solid, lift, times_smaller
from sam_ros.core.pinhole import Pinhole
from sam_ros.errors import InvalidDepthError, InvalidImageError, InvalidParameterError, SamRosError
from sam_ros.node.guards import spin_once
from sam_ros.node.images import image_from_msg
from sam_ros.node.qos import check_qos_overrides, copied
from sam_ros.node.serialized import deserialize, header_of_serialized, stamp_of_serialized
from sam_ros.node.startup import init_rclpy
from sam_ros.signals import event_set_by_signals
from sam_ros.tools import conversions_3d
from sam_ros.tools.declaring import declared
from sam_ros.tools.matching import Match, Matcher
from sam_ros.tools.transforms import OpenTransforms, open_transforms

# In the order in which an executor hands out what has come at the same time: the masks, which match, last.
INPUTS = {
    "image": Image,
    "depth": Image,
    "camera_info": CameraInfo,
    "segments": Detection2DArray,
    "labels": Image,
}
# Reliable as the segmentation publishes them: an answer is not repeated.
ANSWERS = ("labels", "segments")
ANSWER_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# Best effort takes from every camera driver.
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
# As of the segmentation's own outputs: two, so that a slow subscriber holds little memory.
OUTPUT_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
DIAGNOSTICS_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

DIAGNOSTICS_PERIOD_SEC = 1.0
SILENCE_SEC = 3.0  # without a match for so long, the cause is said
SAY_AGAIN_SEC = 5.0  # the same kind of complaint is logged at most so often
TRANSFORM_RETRY_SEC = 0.02
TRANSFORM_WAIT_SEC = 1.0
MAX_PIXELS = 33177600
MAX_OBJECTS = 1024  # as many as the segmentation makes at most


@dataclass(frozen=True)
class Settings:
    """The node's parameters, see ``_declare_settings``."""

    target_frame: str
    rectified: bool
    max_stamp_difference: float
    messages_kept: int
    lifting: LiftingSettings

    def __post_init__(self) -> None:
        lifting = self.lifting
        if lifting.boxes not in BOXES:
            raise InvalidParameterError(f"boxes must be {' or '.join(BOXES)}, got {lifting.boxes!r}")
        if not 0 <= lifting.min_depth_m < lifting.max_depth_m:
            raise InvalidParameterError(
                f"min_depth must be from 0 to max_depth, got {lifting.min_depth_m} and {lifting.max_depth_m}"
            )
        ranges = {
            "max_stamp_difference": (self.max_stamp_difference, 0, 10),
            "messages_kept": (self.messages_kept, 1, 1000),
            "depth_gap": (lifting.depth_gap_m, 1e-3, 10),
            "erosion": (lifting.erosion_px, 0, 50),
            "max_points": (lifting.max_points, 100, 10_000_000),
        }
        for name, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise InvalidParameterError(f"{name} must be from {low} to {high}, got {value}")


@dataclass(frozen=True)
class Frame:
    """A match as values, checked."""

    header: Header
    segments: Sequence[Detection2D]
    labels: npt.NDArray[np.uint16]
    depth: npt.NDArray[Any]
    camera: Pinhole
    image: Image | None


@dataclass(frozen=True)
class Waiting:
    """A match whose transform is not known yet.

    It holds the serialized messages, which the matcher keeps for as long: so it costs the masks' memory only.

    Attributes:
        match: the messages.
        header: of the masks.
        since_sec: when it came, on the monotonic clock.
    """

    match: Match
    header: Header
    since_sec: float


class Objects3D(Node):
    """Lifts each set of masks that has a depth image; what cannot be lifted is said with its reason.

    Args:
        open_transforms: listens to tf where a target frame is given; tests hand in one of their own.
        arguments: of ``rclpy.node.Node``.

    Raises:
        InvalidParameterError: a parameter out of its range, or a target frame without tf2_ros.
    """

    def __init__(self, open_transforms: OpenTransforms = open_transforms, **arguments: Any) -> None:
        super().__init__("objects_3d", **arguments)
        self.add_on_set_parameters_callback(check_qos_overrides)
        self._settings = _declare_settings(self)
        self._transforms = open_transforms(self) if self._settings.target_frame else None
        self._matcher = Matcher(
            leading=ANSWERS,
            near=("depth",),
            steady=("camera_info",),
            optional=("image",),
            tolerance_ns=round(self._settings.max_stamp_difference * 1e9),
            kept=self._settings.messages_kept,
        )
        self._camera: Pinhole | None = None
        self._waiting: deque[Waiting] = deque()  # for their transforms, oldest first
        self._passed_over = 0  # of these, since a newer one was lifted
        self._last_match_sec = time.monotonic()
        self._said: dict[str, float] = {}
        self._drops: Counter[str] = Counter()
        self._status: tuple[bytes, str] = (DiagnosticStatus.STALE, "nothing has come yet")
        self._figures: dict[str, str] = {}
        self._create_outputs()
        for stream, kind in INPUTS.items():
            self._subscribe(stream, kind)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # while a simulation is paused as well
        self.create_timer(DIAGNOSTICS_PERIOD_SEC, self._report, clock=steady)
        if self._transforms is not None:
            self.create_timer(TRANSFORM_RETRY_SEC, self._try_waiting, clock=steady)

    def _create_outputs(self) -> None:
        def output(kind: Any, name: str, qos: QoSProfile = OUTPUT_QOS) -> Any:
            return self.create_publisher(kind, name, copied(qos), qos_overriding_options=_qos_overrides())

        self._detections = output(Detection3DArray, "~/detections")
        self._points = output(PointCloud2, "~/points")
        self._diagnostics = output(DiagnosticArray, "/diagnostics", DIAGNOSTICS_QOS)
        self._outputs = [self._detections, self._points]
        self._markers: Any = None
        if find_spec("visualization_msgs"):
            self._marker_module = importlib.import_module("sam_ros.tools.markers")
            self._markers = output(self._marker_module.MarkerArray, "~/markers")
            self._outputs.append(self._markers)

    def _subscribe(self, stream: str, kind: Any) -> None:
        self.create_subscription(
            kind,
            stream,
            partial(self._take, stream),
            copied(ANSWER_QOS if stream in ANSWERS else SENSOR_QOS),
            qos_overriding_options=_qos_overrides(),
            raw=True,  # most depth images have no masks: only their header is read
        )

    def _take(self, stream: str, serialized: bytes) -> None:
        try:
            stamp_ns = stamp_of_serialized(serialized)  # all kinds begin with it
            match = self._matcher.add(stream, stamp_ns, serialized)
            if match is not None:
                self._last_match_sec = time.monotonic()
                self._lift_or_wait(match)
        except SamRosError as error:
            self._drop(error.kind, str(error))

    def _frame(self, match: Match) -> Frame:
        """The messages of a match as values.

        Raises:
            SamRosError: they do not fit together.
        """
        messages = {name: deserialize(data, INPUTS[name]) for name, data in match.items()}
        labels, depth = messages["labels"], messages["depth"]
        _check_frame_ids(labels.header.frame_id, depth.header.frame_id)
        camera = conversions_3d.pinhole_from_msg(messages["camera_info"], self._settings.rectified)
        if camera != self._camera:
            self._camera = camera  # kept, since the rays of a distorted one take long
        segments = messages["segments"].detections
        if len(segments) > MAX_OBJECTS:
            self._say("objects", f"of {len(segments)} segments the first {MAX_OBJECTS} are lifted")
        return Frame(
            labels.header,
            segments[:MAX_OBJECTS],
            conversions_3d.labels_from_msg(labels),
            conversions_3d.depth_from_msg(depth),
            self._camera,
            messages.get("image"),
        )

    def _lift_or_wait(self, match: Match) -> None:
        """What comes of a match.

        Raises:
            SamRosError: its messages do not fit together.
        """
        if not any(output.get_subscription_count() for output in self._outputs):
            self._waiting.clear()
            self._frame(match)  # so that what does not fit is told all the same
            self._status, self._figures = (DiagnosticStatus.OK, "nobody has subscribed"), {}
        elif self._transforms is None:
            self._lift(self._frame(match), None)
        else:
            self._wait(match)
            self._try_waiting()

    def _wait(self, match: Match) -> None:
        """Let a match wait for its transform, at the most as many as messages are kept."""
        kept = self._settings.messages_kept
        if len(self._waiting) >= kept:
            self._give_up(f"before {kept} newer frames had come (messages_kept)")
        header = header_of_serialized(match["labels"])
        self._waiting.append(Waiting(match, header, time.monotonic()))

    def _try_waiting(self) -> None:
        """Lift the newest frame that there is a transform of; older ones are not lifted any more."""
        found = self._newest_with_pose()
        if found is not None:
            number, match, pose = found
            for _ in range(number):
                self._waiting.popleft()
            self._passed_over += number - 1
            try:
                self._lift(self._frame(match), pose)
            except SamRosError as error:
                self._drop(error.kind, str(error))
        while self._waiting and time.monotonic() - self._waiting[0].since_sec > TRANSFORM_WAIT_SEC:
            self._give_up(f"within {TRANSFORM_WAIT_SEC:g} s")

    def _newest_with_pose(self) -> tuple[int, Match, Pose] | None:
        """Of the frames that wait: how many there are up to this one, its messages, its pose."""
        if self._transforms is None:
            return None
        target = self._settings.target_frame
        for number in range(len(self._waiting), 0, -1):
            one = self._waiting[number - 1]
            pose = self._transforms.pose(target, one.header.frame_id, one.header.stamp)
            if pose is not None:
                return number, one.match, pose
        return None

    def _give_up(self, limit: str) -> None:
        """The frame that has waited longest gets no transform within a limit."""
        source = self._waiting.popleft().header.frame_id
        self._drop(
            "no transform",
            f"no transform from {source!r} to target_frame {self._settings.target_frame!r} at the image's "
            f"stamp {limit}: is it published, are the clocks the same (ros2 run tf2_ros tf2_echo)?",
        )

    def _lift(self, frame: Frame, pose: Pose | None) -> None:
        start = time.perf_counter()
        segments = frame.segments
        boxes = conversions_3d.boxes_from_segments(segments)
        try:
            found = lift(frame.labels, boxes, frame.depth, frame.camera, self._settings.lifting, pose)
        except InvalidDepthError as error:
            self._drop(error.kind, str(error))
            return
        solids = [solid for solid in found if solid is not None]
        header = Header(
            stamp=frame.header.stamp,
            frame_id=frame.header.frame_id if pose is None else self._settings.target_frame,
        )
        self._publish(frame, solids, header)
        self._note(frame, found, 1000 * (time.perf_counter() - start))
        if len(solids) < len(segments):
            names = ", ".join(
                repr(one.id) for one, solid in zip(segments, found, strict=True) if solid is None
            )
            self._say("no depth", f"left out, since hardly any depth is in their masks: {names}")

    def _publish(self, frame: Frame, solids: Sequence[Solid], header: Header) -> None:
        segments = frame.segments
        self._detections.publish(conversions_3d.detections_to_msg(solids, segments, header))
        if self._points.get_subscription_count():
            depth_hw = (frame.depth.shape[0], frame.depth.shape[1])
            image_rgb = self._image_of(frame, depth_hw)
            self._points.publish(conversions_3d.cloud_to_msg(solids, image_rgb, depth_hw, header))
        if self._markers is not None and self._markers.get_subscription_count():
            self._markers.publish(self._marker_module.markers_msg(solids, segments, header))

    def _image_of(self, frame: Frame, depth_hw: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
        """The picture for the colours of points, if it came and can be used."""
        if frame.image is None:
            return None
        try:
            image_rgb = image_from_msg(frame.image, MAX_PIXELS)
            times_smaller((image_rgb.shape[0], image_rgb.shape[1]), depth_hw)
        except (InvalidImageError, InvalidDepthError) as error:
            self._say("colours", f"points stay white: {error}")
            return None
        return image_rgb

    def _note(self, frame: Frame, found: Sequence[Solid | None], took_ms: float) -> None:
        """Keep what the next report is to say."""
        self._status = (DiagnosticStatus.OK, "lifting")
        self._figures = {"objects": str(len(found)), "lift and publish (ms)": f"{took_ms:.1f}"}
        for segment, solid in zip(frame.segments, found, strict=True):
            self._figures[f"object {segment.id}"] = (
                "no depth"
                if solid is None
                else f"{len(solid.points)} points, {solid.depth_coverage:.0%} of the mask has depth"
            )

    def _drop(self, kind: str, reason: str) -> None:
        self._drops[kind] += 1
        self._status, self._figures = (DiagnosticStatus.WARN, reason), {}
        self._say(kind, reason)

    def on_failure(self, what: str, error: Exception) -> None:
        """Something failed in a way that no message explains."""
        self._drop("error", f"{what} failed:\n" + "".join(traceback.format_exception(error)))

    def _say(self, kind: str, text: str) -> None:
        now = time.monotonic()
        if now - self._said.get(kind, -SAY_AGAIN_SEC) >= SAY_AGAIN_SEC:
            self._said[kind] = now
            self.get_logger().warning(text)

    def _report(self) -> None:
        """Once a second: the state on /diagnostics, and why nothing matches."""
        if time.monotonic() - self._last_match_sec > SILENCE_SEC:
            topics = {
                name: self.resolve_topic_name(name, only_expand=False) for name in INPUTS if name != "image"
            }
            reason = self._matcher.why_nothing(
                topics, {name: self.count_publishers(topic) for name, topic in topics.items()}
            )
            self._status, self._figures = (DiagnosticStatus.STALE, reason), {}
            self._say("nothing matches", f"no masks with depth for {SILENCE_SEC:g} s: {reason}")
        level, message = self._status
        values = {
            **self._figures,
            "sets lifted or refused": str(self._matcher.matches),
            **{f"refused: {kind}": str(count) for kind, count in self._drops.items()},
            **({"passed over for a newer one": str(self._passed_over)} if self._transforms else {}),
            **{f"received: {name}": str(count) for name, count in self._matcher.received.items()},
        }
        status = DiagnosticStatus(level=level, name=f"{self.get_name()}: lifting", message=message)
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        self._diagnostics.publish(
            DiagnosticArray(header=Header(stamp=self.get_clock().now().to_msg()), status=[status])
        )


def _check_frame_ids(labels: str, depth: str) -> None:
    if labels and depth and labels != depth:
        raise InvalidDepthError(
            f"depth is in the frame {depth!r}, the masks in {labels!r}: publish aligned depth (realsense: "
            "align_depth.enable:=true; others: the register node of depth_image_proc)",
            kind="frame of the depth",
        )


LIFTING = LiftingSettings()
SETTINGS: dict[str, tuple[Any, str]] = {  # by name: the default, and what it means
    "target_frame": ("", "Frame of all outputs, with z up; empty for the camera's own. Needs tf2_ros."),
    "rectified": (False, "Whether image and depth were rectified: then P holds, else K and D."),
    "max_stamp_difference": (0.05, "How far the depth's stamp may be from the image's, in seconds."),
    "messages_kept": (30, "Depth images to keep until the masks of their frame come."),
    "min_depth": (LIFTING.min_depth_m, "Nearer pixels are holes, in metres."),
    "max_depth": (LIFTING.max_depth_m, "Further pixels are holes, in metres."),
    "depth_gap": (LIFTING.depth_gap_m, "A gap in depth that ends an object, in metres."),
    "erosion": (LIFTING.erosion_px, "Rim of a mask whose depth is not trusted, pixels."),
    "max_points": (LIFTING.max_points, "Of an object; larger ones are thinned."),
    "boxes": (LIFTING.boxes, "oriented: along the object's faces; aligned: along the frame's axes."),
}


def _declare_settings(node: Node) -> Settings:
    values = {name: declared(node, name, default, text) for name, (default, text) in SETTINGS.items()}
    names = {"min_depth": "min_depth_m", "max_depth": "max_depth_m", "depth_gap": "depth_gap_m"}
    names |= {"erosion": "erosion_px", "max_points": "max_points", "boxes": "boxes"}
    lifting = LiftingSettings(**{field: values.pop(name) for name, field in names.items()})
    return Settings(**values, lifting=lifting)


def _qos_overrides() -> QoSOverridingOptions:
    return QoSOverridingOptions.with_default_policies()


def main(argv: Sequence[str] | None = None) -> int:
    """The ``objects_3d`` executable; returns the exit code."""
    stop = event_set_by_signals()
    init_rclpy(argv)
    try:
        node = Objects3D()
    except (InvalidParameterError, ParameterException) as error:
        rclpy.logging.get_logger("objects_3d").fatal(f"cannot start: {error}")
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        spin_once(executor, 0.1, node.on_failure)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
