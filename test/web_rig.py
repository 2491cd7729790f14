"""``sam_web`` in a process of its own, and what a test needs to stand in for a camera, a node and a page."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from aiohttp import ClientSession, WSMsgType
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PointStamped
from node_rig import detection, detections, header, image_msg
from processes import RosSession, RunningProcess
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String, UInt8
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray

PROMPT_TYPES = {
    "point": PointStamped,
    "point_foreground": PointStamped,
    "point_background": PointStamped,
    "prompt": Detection2D,
    "choose": UInt8,
    "select": String,
    "remove": String,
}
SEEN = {"sec": 7, "nanosec": 8, "frame_id": "lens"}
EVERY_GESTURE: tuple[dict[str, Any], ...] = (
    *(
        {"type": "click", "kind": kind, "x": 1, "y": 1, **SEEN}
        for kind in ("foreground", "more", "background")
    ),
    {"type": "drag", "x0": 0, "y0": 0, "x1": 1, "y1": 1, **SEEN},
    {"type": "choose", "index": 0},
    {"type": "select", "id": ""},
    {"type": "remove", "id": ""},
    {"type": "command", "name": "undo"},
    {"type": "command", "name": "clear"},
)
NOBODY = "nobody "  # how a refusal of sam_web itself begins: no node is known yet


def start_web(ros: RosSession, *arguments: str) -> RunningProcess:
    """Start ``sam_web`` on a free port, unless the arguments give one."""
    return ros.start("sam_ros.tools.web.node", "--ros-args", "-p", "port:=0", *arguments)


def address_of(ros: RosSession, web: RunningProcess) -> str:
    """Where the page is, once it is there."""
    ros.wait_until(lambda: "in a browser" in web.output(), "the page's address", 60)
    found = re.search(r"open (http://\S+) in a browser", web.output())
    assert found is not None
    return found.group(1)


def opened(message: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Header and parts of a binary message."""
    (length,) = struct.unpack_from("<I", message)
    values = json.loads(message[4 : 4 + length])
    parts, offset = [], 4 + length
    for size in values["parts"]:
        parts.append(message[offset : offset + size])
        offset += size
    assert offset == len(message)
    return values, parts


class StandIn:
    """Stands in for the camera and for the node ``sam``: publishes what it is told to, keeps what it gets."""

    def __init__(self, ros: RosSession) -> None:
        self.ros = ros
        self.prompts: list[tuple[str, Any]] = []
        self.calls: list[str] = []
        node, qos = ros.node, QoSProfile(depth=10)
        self.image = node.create_publisher(Image, "image", qos)
        self._labels = node.create_publisher(Image, "sam/labels", qos)
        self._segments = node.create_publisher(Detection2DArray, "sam/segments", qos)
        self._candidates = node.create_publisher(Image, "sam/candidates", qos)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", qos)
        for name, kind in PROMPT_TYPES.items():
            node.create_subscription(kind, f"sam/{name}", self._taker(name), qos)
        for name in ("undo", "clear"):
            node.create_service(Trigger, f"sam/{name}", self._answerer(name))

    def wait_for_viewer(self) -> None:
        """Until ``sam_web`` takes everything that is published here."""
        publishers = (self.image, self._labels, self._segments, self._candidates, self._diagnostics)
        self.ros.wait_until(lambda: all(p.get_subscription_count() for p in publishers), "sam_web's inputs")

    def show(self, image_rgb: npt.NDArray[np.uint8], stamp_ns: int) -> None:
        self.image.publish(image_msg(image_rgb, "rgb8", stamp_ns))

    def answer(self, labels: npt.NDArray[np.uint16], stamp_ns: int, *objects: Detection2D) -> None:
        self._labels.publish(labels_msg(labels, stamp_ns))
        self._segments.publish(detections(stamp_ns, *objects))

    def answer_at_no_time(self) -> None:
        """Publish an answer whose stamps no clock has."""
        labels, segments = labels_msg(np.zeros((1, 1), np.uint16), 0), detections(0)
        labels.header.stamp.nanosec = segments.header.stamp.nanosec = 2_000_000_000
        self._labels.publish(labels)
        self._segments.publish(segments)

    def offer(self, candidates: npt.NDArray[np.uint8], stamp_ns: int) -> None:
        self._candidates.publish(image_msg(candidates, "8UC3", stamp_ns))

    def show_until(
        self, image_rgb: npt.NDArray[np.uint8], stamp_ns: int, condition: Callable[[], object], what: str
    ) -> None:
        """Show an image again and again, since images are best effort and some are lost."""

        def holds() -> bool:
            self.show(image_rgb, stamp_ns)
            return bool(condition())

        self.ros.wait_until(holds, what)

    def report(
        self, name: str, message: str, values: Mapping[str, str], level: bytes = DiagnosticStatus.OK
    ) -> None:
        status = DiagnosticStatus(name=name, message=message, level=level)
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        self._diagnostics.publish(DiagnosticArray(status=[status]))

    def next_prompt(self) -> tuple[str, Any]:
        """The topic's last name and the message of the prompt that came or comes next."""
        self.ros.wait_until(lambda: bool(self.prompts), "a prompt")
        return self.prompts.pop(0)

    def _taker(self, name: str) -> Any:
        return lambda msg: self.prompts.append((name, msg))

    def _answerer(self, name: str) -> Any:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            self.calls.append(name)
            response.success, response.message = True, f"{name} it is"
            return response

        return answer


def labels_msg(labels: npt.NDArray[np.uint16], stamp_ns: int) -> Image:
    """A label image as the node publishes it."""
    height, width = labels.shape
    msg = Image(header=header(stamp_ns), encoding="16UC1", height=height, width=width, step=2 * width)
    msg.data.frombytes(labels.astype("<u2").tobytes())
    return msg


def scored(id: str, box_xyxy: tuple[float, float, float, float], *scores: float) -> Detection2D:
    """An object with its predicted IoUs, best first."""
    x0, y0, x1, y1 = box_xyxy
    made = detection(id, ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0, y1 - y0))
    for score in scores:
        hypothesis = detection("", (0, 0), class_id=" ").results[0]
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "", score
        made.results.append(hypothesis)
    return made


class PageClient:
    """A page without a browser: keeps what comes, in a thread of its own; confirms each frame."""

    def __init__(self, ros: RosSession, address: str) -> None:
        self.frames: list[tuple[dict[str, Any], list[bytes]]] = []
        self.candidates: list[tuple[dict[str, Any], list[bytes]]] = []
        self.messages: list[dict[str, Any]] = []
        self.closed = threading.Event()
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None  # its type has parameters in some versions of aiohttp only
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        ros.wait_until(lambda: self._connection is not None, "the page's connection")

    def send(self, **gesture: Any) -> None:
        assert self._connection is not None
        asyncio.run_coroutine_threadsafe(self._connection.send_json(gesture), self._loop).result(10)

    def close(self) -> None:
        if self._connection is not None and not self.closed.is_set():
            asyncio.run_coroutine_threadsafe(self._connection.close(), self._loop).result(10)
        self._thread.join(10)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    def answers(self) -> list[dict[str, Any]]:
        """What came because of a gesture."""
        return [message for message in self.messages if message["type"] in ("refused", "said")]

    def _run(self) -> None:
        self._loop.run_until_complete(self._listen())
        self._loop.close()
        self.closed.set()

    async def _listen(self) -> None:
        url = f"{self._address}/viewer"
        async with (
            ClientSession() as session,
            session.ws_connect(url, origin=self._address, max_msg_size=0) as connection,
        ):
            self._connection = connection
            async for message in connection:
                await self._take(message.data, message.type, connection)

    async def _take(self, data: Any, kind: WSMsgType, connection: Any) -> None:
        if kind == WSMsgType.TEXT:
            self.messages.append(json.loads(data))
            return
        values, parts = opened(data)
        (self.frames if values["type"] == "frame" else self.candidates).append((values, parts))
        if values["type"] == "frame":
            await connection.send_json({"type": "drawn", "sequence": values["sequence"]})


def connect_to_node(ros: RosSession, address: str) -> None:
    """Send each gesture until a real node answers: all refer to a frame that it never saw."""
    page = PageClient(ros, address)
    for gesture in EVERY_GESTURE:
        refused: list[str] = [NOBODY]
        while any(NOBODY in reason for reason in refused):
            page.messages.clear()
            page.send(**gesture)
            ros.wait_until(lambda: bool(page.of_type("refused") + page.of_type("said")), str(gesture))
            refused = [message["reason"] for message in page.of_type("refused")]
    page.close()


def connect_prompts(ros: RosSession, sam: StandIn, page: PageClient) -> None:
    """Send each gesture until it arrives: as long as nobody is known to listen, it is refused."""
    for gesture in EVERY_GESTURE:
        sam.prompts.clear()
        while not sam.prompts and not page.of_type("said"):
            page.messages.clear()
            page.send(**gesture)
            ros.wait_until(lambda: bool(sam.prompts or page.answers()), "a prompt")
        page.messages.clear()
    sam.prompts.clear()
    sam.calls.clear()
