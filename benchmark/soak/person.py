"""A restless person: prompts at random, good ones and bad ones, and times those that can be told apart."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Point, PointStamped
from rclpy.node import Node
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header, String, UInt8
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray

from benchmark.soak.camera import Camera
from benchmark.soak.record import Answer, Recording
from sam_ros.node.images import image_to_msg
from sam_ros.node.inputs import EDIT_INPUTS, PROMPT_INPUTS

ACT_HZ = 5.0
ANSWER_SEC = 20.0  # after which a click counts as unanswered
PAUSE_SEC = 2.0  # after what forgets objects: what was sent before has to be over before the next click
OBJECTS_KEPT = 6  # of those that clicks with an id have made
MOST_DETECTIONS = 5
CROWD_EVERY_SEC = 5.0  # another crowd, the last one of images of the other size
DISTURBS, ADDS = 0.15, 0.15  # how often, of the times that nothing is awaited and something is
TOPICS = {row.topic.removeprefix("~/"): row.message_type for row in (*PROMPT_INPUTS, *EDIT_INPUTS)}


@dataclass(frozen=True)
class _Awaited:
    id: str
    since_sec: float


class Person:
    """Acts five times a second on the topics of the node ``sam``.

    At first it sends crowds: as many detections at once as the node takes, so that its buffers are as large
    as they ever get. Then a click of its own id is timed until a set shows that id; one at a time. What would
    forget that object (clear, undo, a program's complete set, another resolution) is done between two of
    them.

    Args:
        node: publishes.
        camera: whose images are prompted on.
        seed: of all that is random.
        recording: takes what becomes of the clicks.
        crowd: detections in each crowd.
        crowd_sec: how long only crowds are sent.
    """

    def __init__(
        self, node: Node, camera: Camera, seed: int, recording: Recording, *, crowd: int, crowd_sec: float
    ) -> None:
        self._camera, self._random, self._recording = camera, random.Random(seed), recording
        self._publishers = {
            topic: node.create_publisher(kind, f"sam/{topic}", 10) for topic, kind in TOPICS.items()
        }
        self._services = {name: node.create_client(Trigger, f"sam/{name}") for name in ("clear", "undo")}
        self._start_sec = time.perf_counter()
        self._awaited: _Awaited | None = None
        self._crowd = crowd
        self._crowds_at_sec = [
            self._start_sec + float(after) for after in np.arange(0, crowd_sec, CROWD_EVERY_SEC)
        ]
        self._ready_sec = self._start_sec + crowd_sec
        self._num_clicks = 0
        self._alive: list[str] = []
        self._harmless = (
            self._point,
            self._click_without_header,
            self._box,
            self._mask,
            self._choose,
            self._select,
            self._wrong,
        )
        self._disturbing = (
            partial(self._call, "clear"),
            partial(self._call, "undo"),
            self._detect_some,
            self._change_size,
        )
        node.create_timer(1 / ACT_HZ, self._act)

    def see(self, ids: set[str]) -> None:
        """A set came that shows these objects."""
        awaited = self._awaited
        if awaited is None or awaited.id not in ids:
            return
        latency_sec = time.perf_counter() - awaited.since_sec
        self._recording.answers.append(Answer(awaited.since_sec - self._start_sec, latency_sec))
        self._awaited = None
        self._alive.append(awaited.id)

    def hear_of_refusal(self, id: str) -> None:
        """A prompt for an object of this id was refused."""
        if self._awaited is not None and self._awaited.id == id:
            self._recording.refused += 1
            self._awaited = None

    def _act(self) -> None:
        now = time.perf_counter()
        if self._crowds_at_sec:
            self._send_crowds(now)
            return
        if self._awaited is not None and now - self._awaited.since_sec > ANSWER_SEC:
            self._recording.unanswered += 1
            self._awaited = None
        if self._awaited is not None or now < self._ready_sec:
            if self._random.random() < ADDS:
                self._random.choice(self._harmless)()
        elif self._random.random() < DISTURBS:
            self._random.choice(self._disturbing)()
            self._alive.clear()
            self._ready_sec = now + PAUSE_SEC
        else:
            self._timed_click()

    def _send_crowds(self, now_sec: float) -> None:
        """Those that are due; images are smaller for the last one, and large again after it."""
        if now_sec < self._crowds_at_sec[0]:
            return
        self._detect(self._crowd)
        self._crowds_at_sec.pop(0)
        if len(self._crowds_at_sec) == 1 or self._camera.is_small:
            self._camera.change_size()

    def _send(self, topic: str, message: Any) -> None:
        self._publishers[topic].publish(message)
        self._count(topic)

    def _count(self, what: str) -> None:
        self._recording.prompts[what] = self._recording.prompts.get(what, 0) + 1

    # What is sent.

    def _timed_click(self) -> None:
        while len(self._alive) > OBJECTS_KEPT:
            self._send("remove", String(data=self._alive.pop(0)))
        self._num_clicks += 1
        id = f"click {self._num_clicks}"
        self._awaited = _Awaited(id, time.perf_counter())
        self._send("prompt", self._detection(id, (0.0, 0.0)))

    def _detection(self, id: str, size: tuple[float, float]) -> Detection2D:
        found = Detection2D(id=id, header=self._header())
        centre = found.bbox.center.position
        centre.x, centre.y = self._place()
        found.bbox.size_x, found.bbox.size_y = size
        return found

    def _header(self) -> Header:
        """Of the newest image, or one that means the newest frame that is encoded."""
        return self._camera.header if self._random.random() < 0.5 else Header()

    def _place(self) -> tuple[float, float]:
        height, width = self._camera.size_hw
        return self._random.uniform(0, width - 1), self._random.uniform(0, height - 1)

    def _point(self) -> None:
        x, y = self._place()
        topic = self._random.choice(("point", "point", "point_foreground", "point_background"))
        self._send(topic, PointStamped(header=self._header(), point=Point(x=x, y=y)))

    def _click_without_header(self) -> None:
        x, y = self._place()
        self._send("click", Point(x=x, y=y))

    def _box(self) -> None:
        x, y = map(int, self._place())
        width, height = self._random.randint(20, 300), self._random.randint(20, 300)
        self._send("box", RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height))

    def _mask(self) -> None:
        mask = np.zeros(self._camera.size_hw, np.uint8)
        x, y = self._place()
        cv2.circle(mask, (int(x), int(y)), self._random.randint(10, 150), 255, -1)
        self._send("mask_prompt", image_to_msg(mask, "mono8", self._header()))

    def _choose(self) -> None:
        self._send("choose", UInt8(data=self._random.randint(0, 3)))

    def _select(self) -> None:
        self._send("select", String(data=self._random.choice([*self._alive, "nobody"])))

    def _wrong(self) -> None:
        """Refused for one reason or another."""
        stale = Header(frame_id="camera")
        stale.stamp.sec = 1
        x, y = self._place()
        wrong: list[Callable[[], None]] = [
            lambda: self._send("point", PointStamped(point=Point(x=math.nan, y=y))),
            lambda: self._send("point", PointStamped(point=Point(x=x, y=1e9))),
            lambda: self._send("point", PointStamped(header=stale, point=Point(x=x, y=y))),
            lambda: self._send(
                "point", PointStamped(header=Header(frame_id="elsewhere"), point=Point(x=x, y=y))
            ),
            lambda: self._send("prompt", self._detection("long" * 1000, (0.0, 0.0))),
            lambda: self._send("remove", String(data="nobody")),
        ]
        self._random.choice(wrong)()

    def _detect_some(self) -> None:
        self._detect(self._random.randint(0, MOST_DETECTIONS))

    def _detect(self, count: int) -> None:
        sizes = [(self._random.uniform(20, 300), self._random.uniform(20, 300)) for _ in range(count)]
        found = [self._detection(f"detected {number}", size) for number, size in enumerate(sizes)]
        self._send("prompts", Detection2DArray(detections=found))

    def _call(self, service: str) -> None:
        self._services[service].call_async(Trigger.Request())
        self._count(service)

    def _change_size(self) -> None:
        if self._camera.is_small or self._random.random() < 0.3:
            self._camera.change_size()
            self._count("change of resolution")
