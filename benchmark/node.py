"""The running node over DDS: click to mask, frames used, and where the time goes by its diagnostics."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point, PointStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from benchmark.contest import Options, Weights
from benchmark.images import SIZES_HW, photograph
from benchmark.messages import filled_image
from benchmark.results import Result, spread
from sam_ros.tools.domain import claimed_domain_id

CAMERA_HZ = 30.0
OUTPUTS = {"mask": Image, "labels": Image, "segments": Detection2DArray}  # what a robot subscribes to
CAMERA_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
START_SEC = 180.0  # the node imports torch and loads its weights; a busy machine takes long
ANSWER_SEC = 120.0
STOP_SEC = 10.0
DURATION = " (ms)"  # how the names of durations end in the node's reports
SETTLE_SEC = 2.0  # of the camera before anything is counted
LONGEST_PAUSE_SEC = 0.1  # between clicks, random, so that they do not fall in step with the camera
START_NODE = "import sys; from sam_ros.start import sam_node; sys.exit(sam_node())"  # as its executable does
FASTDDS = Path(__file__).parents[1] / "config" / "fastdds.xml"


class NodeError(Exception):
    """The node did not do what was to be measured; the message says what."""


@dataclass(frozen=True)
class Amount:
    """How long to watch the camera, and how often to click with it and without."""

    watch_sec: float
    clicks: int


AMOUNTS = {False: Amount(20.0, 100), True: Amount(4.0, 10)}  # by whether it has to be quick


@dataclass(frozen=True)
class Status:
    """One periodic report of the node: when it was made, in seconds, and its values."""

    time_sec: float
    values: Mapping[str, str]

    def count(self, event: str) -> int:
        """How often something has happened since the start."""
        return int(self.values.get(f"{event} count", 0))


def status_of(message: DiagnosticArray) -> Status | None:
    """The periodic report in a message of /diagnostics, if it is one."""
    stamp = message.header.stamp
    for status in message.status:
        if status.name.endswith("segmentation"):
            values = {pair.key: pair.value for pair in status.values}
            return Status(stamp.sec + stamp.nanosec / 1e9, values)
    return None


def stage_figures(statuses: Sequence[Status]) -> dict[str, float]:
    """Medians of all durations in milliseconds, by name, that are new in a report: the first only begins."""
    samples: dict[str, list[float]] = {}
    for before, status in pairwise(statuses):
        for name, value in status.values.items():
            event = name.removesuffix(DURATION)
            if event != name and status.count(event) > before.count(event):
                samples.setdefault(name, []).append(float(value))
    return {name: spread(values).median for name, values in samples.items()}


def frame_figures(first: Status, last: Status, published: int) -> dict[str, float]:
    """What became of the frames published between two reports."""
    seconds = last.time_sec - first.time_sec
    encoded = last.count("encode") - first.count("encode")
    return {
        "frames published": float(published),
        "taken": float(last.count("image") - first.count("image")),
        "encoded": float(encoded),
        "encoded/s": encoded / seconds,
    }


class Rig:
    """A node in a process of its own, and a camera and a person in this one."""

    def __init__(
        self,
        context: Context,
        process: subprocess.Popen[bytes],
        log: Path,
        image: Image,
        outputs: Mapping[str, Any],
    ) -> None:
        self._process, self._log, self._image = process, log, image
        self._node = Node("benchmark", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._camera = self._node.create_publisher(Image, "image", CAMERA_QOS)
        self._click = self._node.create_publisher(PointStamped, "sam/point", 10)
        self._received: dict[str, float] = {}
        self._num_received = 0
        for name, kind in outputs.items():
            self._node.create_subscription(kind, f"sam/{name}", partial(self._take, name), 10)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)
        self._timer = self._node.create_timer(1 / CAMERA_HZ, self._publish_image)
        self.num_published = 0
        self.statuses: list[tuple[Status, int]] = []  # and how many frames had been published by then

    def close(self) -> None:
        """Leave the domain; the process is not ended."""
        self._executor.shutdown()
        self._node.destroy_node()

    @property
    def process_id(self) -> int:
        """Of the node."""
        return self._process.pid

    @property
    def num_received(self) -> int:
        """How many masks have come."""
        return self._num_received

    def wait_until_ready(self, event: str = "encode") -> None:
        """Until both sides know of each other, and something has happened in the node."""
        topics = [f"sam/{name}" for name in OUTPUTS]
        self.wait(
            lambda: (
                self._click.get_subscription_count()
                and all(self._node.count_publishers(topic) for topic in topics)
                and any(status.count(event) for status, _ in self.statuses)
            ),
            f"the first {event} of the node",
            START_SEC,
        )

    def run_camera(self, running: bool) -> None:
        """Let the camera run, or stand still."""
        (self._timer.reset if running else self._timer.cancel)()

    def spin(self, seconds: float) -> None:
        """Let time pass."""
        until = time.perf_counter() + seconds
        self.wait(lambda: time.perf_counter() >= until, "time to pass", seconds + ANSWER_SEC)

    def click(self) -> tuple[float, float]:
        """Seconds from a click on the newest frame to the mask, and to the last of all outputs."""
        self._received.clear()
        point = Point(x=self._image.width / 2, y=self._image.height / 2)
        start = time.perf_counter()
        self._click.publish(PointStamped(point=point))
        self.wait(lambda: len(self._received) == len(OUTPUTS), "the answer to a click", ANSWER_SEC)
        return self._received["mask"] - start, max(self._received.values()) - start

    def wait(self, condition: Callable[[], object], what: str, timeout_sec: float) -> None:
        """Spin until the condition holds.

        Raises:
            NodeError: the time has passed, or the node has ended.
        """
        deadline = time.perf_counter() + timeout_sec
        while not condition():
            ended = self._process.poll() is not None
            if ended or time.perf_counter() > deadline:
                reason = "it has ended" if ended else f"{timeout_sec:.0f} s have passed"
                raise NodeError(
                    f"waiting for {what}: {reason}; its log:\n{self._log.read_text(errors='replace')}"
                )
            self._executor.spin_once(timeout_sec=0.02)

    def _publish_image(self) -> None:
        self._image.header.stamp = self._node.get_clock().now().to_msg()
        self._camera.publish(self._image)
        self.num_published += 1

    def _take(self, name: str, _: Any) -> None:
        self._received.setdefault(name, time.perf_counter())
        self._num_received += name == "mask"

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        status = status_of(message)
        if status is not None:
            self.statuses.append((status, self.num_published))


def measure(model_type: str, weights: Weights, options: Options) -> list[Result]:
    """Two results for each size of image: with the camera running, and with it standing still."""
    return [result for size in SIZES_HW for result in _measure(model_type, weights, options, size)]


def _measure(model_type: str, weights: Weights, options: Options, size: str) -> list[Result]:
    image = filled_image(photograph(SIZES_HW[size]), "rgb8")
    parameters = {
        "model_type": model_type,
        "checkpoint": str(weights.path),
        "device": str(options.device),
        "compile": str(options.compile).lower(),
        "follow": "false",  # one set of answers for each click
    }
    with running_rig(parameters, image) as rig:
        rig.wait_until_ready()
        rig.spin(SETTLE_SEC)
        amount = AMOUNTS[options.quick]
        frames = _watch(rig, amount.watch_sec)
        running = _click(rig, amount.clicks)
        rig.run_camera(False)
        rig.spin(SETTLE_SEC)
        still = _click(rig, amount.clicks)
        precision = rig.statuses[-1][0].values.get("precision", "")
    case = {"model": model_type, "precision": precision, "image": size}
    return [
        Result(
            "node", {**case, "camera": f"{CAMERA_HZ:.0f} Hz"}, running.seconds, (), running.figures | frames
        ),
        Result("node", {**case, "camera": "still"}, still.seconds, (), still.figures),
    ]


def _watch(rig: Rig, seconds: float) -> dict[str, float]:
    """What becomes of the camera's frames; counted from one report of the node to another."""
    before = len(rig.statuses)
    rig.wait(lambda: len(rig.statuses) > before, "diagnostics", ANSWER_SEC)
    rig.spin(seconds)
    before_last = len(rig.statuses)
    rig.wait(lambda: len(rig.statuses) > before_last, "diagnostics", ANSWER_SEC)
    (first, published_first), (last, published_last) = rig.statuses[before], rig.statuses[-1]
    return frame_figures(first, last, published_last - published_first)


@dataclass(frozen=True)
class _Clicks:
    seconds: tuple[float, ...]
    figures: dict[str, float]


def _click(rig: Rig, count: int) -> _Clicks:
    """Click so often; the first answers are not counted."""
    pauses = random.Random(0)
    before = len(rig.statuses) - 1
    times = []
    for _ in range(count + 2):
        rig.spin(pauses.uniform(0, LONGEST_PAUSE_SEC))
        times.append(rig.click())
    seen = len(rig.statuses)
    rig.wait(lambda: len(rig.statuses) > seen, "diagnostics", ANSWER_SEC)
    to_mask, to_last = zip(*times[2:], strict=True)
    figures = click_figures(to_mask, to_last) | stage_figures([s for s, _ in rig.statuses[before:]])
    return _Clicks(to_mask, figures)


def click_figures(to_mask_sec: Sequence[float], to_last_sec: Sequence[float]) -> dict[str, float]:
    """The slow end of the times to the mask, and the median time to the last of all outputs."""
    return {
        "95 % within (ms)": 1000 * float(np.percentile(to_mask_sec, 95)),
        "to all outputs (ms)": 1000 * spread(to_last_sec).median,
    }


@contextmanager
def running_rig(
    parameters: Mapping[str, str], image: Image, outputs: Mapping[str, Any] = MappingProxyType(OUTPUTS)
) -> Iterator[Rig]:
    """The node, and a camera and a person for it.

    Args:
        parameters: of the node.
        image: that the camera shows.
        outputs: which of the node's outputs are subscribed to, with their types.
    """
    with running_node(parameters) as running:
        rig = Rig(running.context, running.process, running.log, image, outputs)
        yield rig
        rig.close()


@dataclass(frozen=True)
class RunningNode:
    """The node in a process of its own, what it writes, and a context in its domain."""

    process: subprocess.Popen[bytes]
    log: Path
    context: Context


@contextmanager
def running_node(parameters: Mapping[str, str]) -> Iterator[RunningNode]:
    """The node in a domain that nothing else uses; it is ended on leaving, if it still runs."""
    context = Context()
    with (
        claimed_domain_id() as domain_id,
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, ros_environment(domain_id)),
    ):
        log = Path(folder) / "sam_node.log"
        process = _start_node(parameters, log)
        try:
            context.init(args=[], domain_id=domain_id)
            yield RunningNode(process, log, context)
        finally:
            context.try_shutdown()
            end(process)


def ros_environment(domain_id: int) -> dict[str, str]:
    """What keeps topics apart from whatever else runs here, gives large images room in shared memory, and the
    node as many threads as this process has.
    """
    return {
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(FASTDDS),
    }


def _start_node(parameters: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    settings = [argument for name, value in parameters.items() for argument in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-c", START_NODE, "--ros-args", *settings]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def end(process: subprocess.Popen[bytes]) -> None:
    """Let a process end, or kill it."""
    process.terminate()
    try:
        process.wait(STOP_SEC)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
