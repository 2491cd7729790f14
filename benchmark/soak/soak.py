"""One soak: the node, everything around it, and what is seen of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from benchmark.node import START_SEC, NodeError, RunningNode, status_of
from benchmark.soak.camera import Camera
from benchmark.soak.person import Person
from benchmark.soak.process import look_at
from benchmark.soak.record import Recording
from benchmark.soak.visitors import Visitors

SAMPLE_SEC = 1.0
SAY_EVERY_SEC = 60.0
UNREAD_DEPTH = 10
MAX_OBJECTS = 32  # of the node; so many at once at the beginning
CROWD_SEC, CROWD_SHARE = 60.0, 0.1  # of the whole time, whichever is less
DROPPED, REFUSED = "dropped: ", "refused: "  # how the node's reports name them


class Soak:
    """Everything around the node in this process: camera, person, who listens, and who does not.

    Args:
        running: the node.
        seed: of all that is random.
    """

    def __init__(self, running: RunningNode, seed: int) -> None:
        self.recording = Recording()
        self._process = running.process
        self._node = Node("soak", context=running.context)
        self._deaf = Node("deaf", context=running.context)  # is never spun
        self._executor = SingleThreadedExecutor(context=running.context)
        self._executor.add_node(self._node)
        self._camera = Camera(self._node)
        self._seed = seed
        self._visitors = Visitors(seed)
        self._num_sets, self._last_stamp = 0, (0, 0)
        self._person: Person | None = None
        self._node.create_subscription(Detection2DArray, "sam/segments", self._take_segments, 10)
        self._node.create_subscription(Image, "sam/mask", lambda _: None, 10, raw=True)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 100)
        for topic in ("mask", "labels", "overlay"):
            self._deaf.create_subscription(Image, f"sam/{topic}", lambda _: None, UNREAD_DEPTH)

    def run(self, seconds: float) -> None:
        """Until the time is up or the node has ended; then everybody leaves.

        Raises:
            NodeError: no set of outputs came at all.
        """
        try:
            self._spin(START_SEC, lambda: self._num_sets > 0)
            if not self._num_sets:
                raise NodeError("no set of outputs came")
            start_sec = time.perf_counter()
            self._person = Person(
                self._node,
                self._camera,
                self._seed,
                self.recording,
                crowd=MAX_OBJECTS,
                crowd_sec=min(CROWD_SEC, CROWD_SHARE * seconds),
            )
            self._node.create_timer(SAMPLE_SEC, partial(self._sample, start_sec))
            self._spin(seconds, lambda: False)
        finally:
            self._visitors.close()
            self._executor.shutdown()
            self._node.destroy_node()
            self._deaf.destroy_node()

    def _spin(self, seconds: float, is_over: Callable[[], bool]) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until and self._process.poll() is None and not is_over():
            self._executor.spin_once(timeout_sec=0.02)

    def _sample(self, start_sec: float) -> None:
        now_sec = time.perf_counter() - start_sec
        sample = look_at(self._process.pid, now_sec, self._num_sets)
        if sample is None:
            return
        before = self.recording.samples
        if not before or now_sec // SAY_EVERY_SEC > before[-1].time_sec // SAY_EVERY_SEC:
            print(
                f"soak: {now_sec / 60:.0f} min: {sample.resident_mb:.0f} MB, {self._num_sets} sets",
                flush=True,
            )
        before.append(sample)
        self._visitors.look(SAMPLE_SEC)
        self.recording.visits = self._visitors.num_come

    def _take_segments(self, segments: Detection2DArray) -> None:
        self._num_sets += 1
        stamp = (segments.header.stamp.sec, segments.header.stamp.nanosec)
        self.recording.disordered += stamp <= self._last_stamp
        self._last_stamp = stamp
        if self._person is not None:
            self._person.see({detection.id for detection in segments.detections})

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        status = status_of(message)
        if status is not None:
            self.recording.drops = _counts(status.values, DROPPED)
            self.recording.refusals = _counts(status.values, REFUSED)
        for one in message.status:
            if one.name.endswith("failure"):
                self.recording.failures.append(one.message)
            elif one.name.endswith("prompt refused") and self._person is not None:
                self._person.hear_of_refusal(
                    next((pair.value for pair in one.values if pair.key == "id"), "")
                )


def _counts(values: Mapping[str, str], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): int(value) for name, value in values.items() if name.startswith(prefix)
    }
