"""The demo: camera and node as processes of their own, prompted by topic, their answers as pictures."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
import skimage.data
from cv_bridge import CvBridge
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point, PointStamped
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

from sam_ros.tools.domain import claimed_domain_id
from sam_ros.tools.middleware import profile_environment

Picture = npt.NDArray[np.uint8]
T = TypeVar("T")

PHOTOGRAPH = "coffee"
PAN_PX = 20
START_SEC = 180.0  # the node imports torch and loads its weights; a busy machine takes long
ANSWER_SEC = 60.0  # far more than an idle machine needs
STOP_SEC = 10.0
FOLLOW_SEC = 3.0
TRIES = 3  # a frame that the network lost cannot be prompted on: then the next one is taken
OUTPUTS = {"mask": Image, "labels": Image, "segments": Detection2DArray, "overlay": Image}
DEPTH_DEMO = Path(__file__).with_name("demo_depth.py")
COLUMNS = "{:<10}{:<28}{:>13}{:>11}{:>20}"

ISOLATION = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")  # what ``isolated`` sets
FASTDDS_PROFILE = Path(__file__).parents[1] / "config" / "fastdds.xml"

BRIDGE = CvBridge()


class DemoError(Exception):
    """The demo cannot go on; the message says why.

    Args:
        message: says it.
        program: the one to blame, '' if none is known.
    """

    def __init__(self, message: str, program: str = "") -> None:
        super().__init__(message)
        self.program = program


@dataclass(frozen=True)
class Thing:
    """Something on the photograph, in the photograph's pixels: a point in it and the box (x0, y0, x1, y1)."""

    name: str
    point_xy: tuple[int, int]
    box_xyxy: tuple[int, int, int, int]


COFFEE = Thing("coffee", (270, 140), (205, 95, 371, 194))
RIM = Thing("rim", (230, 70), (172, 17, 411, 208))
SPOON = Thing("spoon", (365, 285), (325, 235, 408, 328))
HANDLE = Thing("handle", (217, 262), (195, 229, 262, 308))
THINGS = (COFFEE, RIM, SPOON, HANDLE)


@dataclass(frozen=True)
class Seen:
    """A frame of the camera, and where its top left corner is on the photograph."""

    header: Header
    corner_xy: tuple[int, int]

    def point(self, thing: Thing) -> tuple[float, float]:
        """The thing's point in this frame."""
        return float(thing.point_xy[0] - self.corner_xy[0]), float(thing.point_xy[1] - self.corner_xy[1])

    def box(self, thing: Thing) -> tuple[int, int, int, int]:
        """The thing's box (x0, y0, x1, y1) in this frame."""
        x, y = self.corner_xy
        x0, y0, x1, y1 = thing.box_xyxy
        return x0 - x, y0 - y, x1 - x, y1 - y


@dataclass(frozen=True)
class Answer:
    """One set of the node's outputs, of one frame, and the frame that was prompted on or looked at last.

    From a prompt to its mask ``click_to_mask_ms`` have passed; objects that are followed need no prompt.
    """

    seen: Seen
    outputs: dict[str, Any]
    click_to_mask_ms: float | None

    def objects(self, clicked: str) -> Iterator[tuple[str, float, int]]:
        """Name, predicted IoU and area (pixels) of each object; ``clicked`` names the one without a class."""
        labels = BRIDGE.imgmsg_to_cv2(self.outputs["labels"])
        for number, detection in enumerate(self.outputs["segments"].detections, 1):
            best = detection.results[0].hypothesis
            yield best.class_id or clicked, best.score, int(np.count_nonzero(labels == number))


class Client:
    """A node that looks at the camera's frames, publishes prompts and collects answers."""

    def __init__(self, node: Node, check: Callable[[], None]) -> None:
        """Take the node to use, and a function that raises when a process has died."""
        self._node = node
        self._check = check
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._photograph = getattr(skimage.data, PHOTOGRAPH)()
        self._frame: Image | None = None
        self._answers: dict[tuple[int, int], dict[str, Any]] = {}
        self._mask_sec: dict[tuple[int, int], float] = {}
        self._refusal = ""
        self._sees_images = False
        self.point = node.create_publisher(PointStamped, "sam/point", 1)
        self.point_background = node.create_publisher(PointStamped, "sam/point_background", 1)
        self.box = node.create_publisher(RegionOfInterest, "sam/box", 1)
        self.prompts = node.create_publisher(Detection2DArray, "sam/prompts", 1)
        self.clear = node.create_client(Trigger, "sam/clear")
        self._set_parameters = node.create_client(SetParameters, "sam/set_parameters")
        node.create_subscription(Image, "image", self._take_frame, qos_profile_sensor_data)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)
        for name, kind in OUTPUTS.items():
            node.create_subscription(kind, f"sam/{name}", self._taker(name), 10)

    def wait_for_node(self) -> None:
        """Wait until the node takes images and every prompt and offers every output."""
        publishers = (self.point, self.point_background, self.box, self.prompts)
        outputs = [f"sam/{name}" for name in OUTPUTS]
        self._wait(
            lambda: (
                self._sees_images
                and all(publisher.get_subscription_count() for publisher in publishers)
                and all(self._node.count_publishers(name) for name in outputs)
            ),
            "the node to become active",
            START_SEC,
        )
        self.look()

    def look(self) -> Seen:
        """Wait for a frame taken from now on and find it on the photograph, as a person would."""
        now = self._node.get_clock().now()
        frame = self._wait(lambda: self._frame_since(now), "a frame of the camera", ANSWER_SEC)
        difference = cv2.matchTemplate(self._photograph, BRIDGE.imgmsg_to_cv2(frame, "rgb8"), cv2.TM_SQDIFF)
        _, _, best_xy, _ = cv2.minMaxLoc(difference)
        return Seen(frame.header, (int(best_xy[0]), int(best_xy[1])))

    def ask(self, what: str, publish: Callable[[Seen], None], seen: Seen | None = None) -> Answer:
        """Publish a prompt on a frame, the next one if none is given, and wait for all outputs of one frame.

        Raises:
            DemoError: no answer came, or every try was refused.
        """
        for _ in range(TRIES):
            on = seen or self.look()
            self._answers, self._refusal = {}, ""
            start = time.monotonic()
            publish(on)
            self._wait(lambda: self._refusal or self._complete(), f"the answer to {what}", ANSWER_SEC)
            complete = self._complete()
            if complete:
                return Answer(on, self._answers[complete], 1000 * (self._mask_sec[complete] - start))
            print(f"demo: the node refused {what}: {self._refusal}", flush=True)
        raise DemoError(f"the node refused {what} {TRIES} times, the last time with: {self._refusal}")

    def follow(self, seconds: float) -> Answer:
        """Have the node follow its objects for so many seconds; return what it says of a frame after that."""
        request = SetParameters.Request(parameters=[Parameter("follow", value=True).to_parameter_msg()])
        future = self._set_parameters.call_async(request)
        self._wait(future.done, "the parameter follow", ANSWER_SEC)
        until = time.monotonic() + seconds
        self._wait(lambda: time.monotonic() > until, "time to pass", seconds + ANSWER_SEC)
        self._answers = {}
        complete = self._wait(self._complete, "an answer on the next frame", ANSWER_SEC)
        return Answer(self.look(), self._answers[complete], None)

    def _complete(self) -> tuple[int, int] | None:
        return next((stamp for stamp, got in self._answers.items() if len(got) == len(OUTPUTS)), None)

    def _frame_since(self, start: Time) -> Image | None:
        frame = self._frame
        return frame if frame and Time.from_msg(frame.header.stamp) >= start else None

    def _take_frame(self, frame: Image) -> None:
        self._frame = frame

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("prompt refused"):
                self._refusal = status.message
            elif status.name.endswith("segmentation"):
                self._sees_images = status.message == "segmenting"

    def _taker(self, name: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
            self._answers.setdefault(stamp, {})[name] = message
            if name == "mask":
                self._mask_sec[stamp] = time.monotonic()

        return take

    def _wait(self, probe: Callable[[], T | None], what: str, timeout_sec: float) -> T:
        """Spin until the probe returns something true, and return that."""
        deadline = time.monotonic() + timeout_sec
        while not (found := probe()):
            self._check()
            if time.monotonic() > deadline:
                raise DemoError(f"waited {timeout_sec:.0f} s in vain for {what}")
            self._executor.spin_once(timeout_sec=0.05)
        return found


class Album:
    """Writes the pictures of answers, and one that shows them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shown: list[Picture] = []

    def add(self, name: str, caption: str, answer: Answer) -> None:
        """Write an answer's overlay and mask."""
        overlay = BRIDGE.imgmsg_to_cv2(answer.outputs["overlay"], "bgr8")
        number = len(self._shown) + 1
        self._write(f"{number}_{name}.png", overlay)
        self._write(f"{number}_{name}_mask.png", BRIDGE.imgmsg_to_cv2(answer.outputs["mask"], "mono8"))
        strip = np.full((28, overlay.shape[1], 3), 255, np.uint8)
        cv2.putText(strip, caption, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
        self._shown.append(np.vstack([strip, overlay]))

    def close(self) -> None:
        """Write all overlays in two columns."""
        if len(self._shown) % 2:
            self._shown.append(np.full_like(self._shown[0], 255))
        rows = [np.hstack(self._shown[first : first + 2]) for first in range(0, len(self._shown), 2)]
        self._write("demo.png", np.vstack(rows))

    def _write(self, name: str, picture: Picture) -> None:
        if not cv2.imwrite(str(self.folder / name), picture):
            raise DemoError(f"cannot write {self.folder / name}")


def prompt_by_topic(client: Client, album: Album) -> None:
    """Send each kind of prompt, print what the node makes of it and keep the pictures."""
    print(COLUMNS.format("object", "prompt", "predicted IoU", "area (px)", "click to mask (ms)"))

    answer = client.ask("the click", lambda on: click(client.point, on, COFFEE))
    show(answer, COFFEE, {COFFEE: "click"})
    album.add("click", "click on the coffee", answer)

    answer = client.ask(
        "the background click", lambda on: click(client.point_background, on, RIM), answer.seen
    )
    show(answer, COFFEE, {COFFEE: "click + background click"})
    album.add("background_click", "and a background click inside the rim", answer)

    answer = client.ask("the box", lambda on: client.box.publish(region(on, RIM)))
    show(answer, RIM, {RIM: "box"})
    album.add("box", "box around the rim", answer)

    client.ask("clear", lambda _: client.clear.call_async(Trigger.Request()))  # answered without objects
    answer = client.ask("the detections", lambda on: client.prompts.publish(detections(on)))
    show(answer, RIM, {COFFEE: "detection: box + point", SPOON: "detection: box", HANDLE: "detection: box"})
    album.add("detections", "three detections at once: boxes, one with a point", answer)

    answer = client.follow(FOLLOW_SEC)
    followed = f"followed for {FOLLOW_SEC:.0f} s"
    show(answer, RIM, dict.fromkeys((COFFEE, SPOON, HANDLE), followed))
    album.add("followed", f"the same three, {followed}", answer)
    album.close()


def click(publisher: Publisher, seen: Seen, thing: Thing) -> None:
    """Publish a click on a thing, stamped with the frame on which it was seen."""
    x, y = seen.point(thing)
    publisher.publish(PointStamped(header=seen.header, point=Point(x=x, y=y)))


def region(seen: Seen, thing: Thing) -> RegionOfInterest:
    """Return a box around what is to be seen of a thing; it has no header: it is for the newest frame."""
    x0, y0, x1, y1 = (max(edge, 0) for edge in seen.box(thing))
    return RegionOfInterest(x_offset=x0, y_offset=y0, width=x1 - x0, height=y1 - y0)


def detections(seen: Seen) -> Detection2DArray:
    """Return what a detector would send: boxes, and for one thing a point too, which has no size."""
    boxes = [box_detection(thing, *seen.box(thing)) for thing in (COFFEE, SPOON, HANDLE)]
    return Detection2DArray(
        header=seen.header, detections=[*boxes, detection(COFFEE, *seen.point(COFFEE), 0.0, 0.0)]
    )


def box_detection(thing: Thing, x0: float, y0: float, x1: float, y1: float) -> Detection2D:
    """Return a detection with a box given by its corners."""
    return detection(thing, (x0 + x1) / 2, (y0 + y1) / 2, float(x1 - x0), float(y1 - y0))


def detection(thing: Thing, center_x: float, center_y: float, size_x: float, size_y: float) -> Detection2D:
    """Return a detection with a box given by centre and size."""
    center = Pose2D(position=Point2D(x=center_x, y=center_y))
    result = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=thing.name, score=1.0))
    box = BoundingBox2D(center=center, size_x=size_x, size_y=size_y)
    return Detection2D(id=str(THINGS.index(thing)), bbox=box, results=[result])


def show(answer: Answer, clicked: Thing, prompts: dict[Thing, str]) -> None:
    """Print a line for each thing prompted for; raise DemoError where the node has no mask for it."""
    objects = {name: (score, area) for name, score, area in answer.objects(clicked.name)}
    for thing, prompt in prompts.items():
        if thing.name not in objects:
            raise DemoError(f"the node answered without a mask of the {thing.name} ({prompt})")
        score, area = objects[thing.name]
        click_to_mask = "-" if answer.click_to_mask_ms is None else f"{answer.click_to_mask_ms:.0f}"
        print(COLUMNS.format(thing.name, prompt, f"{score:.2f}", area, click_to_mask))
    sys.stdout.flush()


@contextmanager
def program(
    name: str, log_folder: Path, *parameters: str, remappings: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an executable of sam_ros in a process of its own, which is ended in any case."""
    settings = [argument for parameter in parameters for argument in ("-p", parameter)]
    settings += [argument for remapping in remappings for argument in ("-r", remapping)]
    command = [str(Path(sys.executable).with_name(name)), "--ros-args", *settings]
    with log_path(log_folder, name).open("wb") as log:
        # In a session of its own: Ctrl-C in the terminal reaches the client alone, which ends the others.
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def log_path(folder: Path, name: str) -> Path:
    """Return where a process's output goes."""
    return folder / f"{name}.log"


def what_was_said(folder: Path, error: DemoError) -> str:
    """The log of the program to blame; those of all where none is known."""
    logs = [log_path(folder, error.program)] if error.program else sorted(folder.glob("*.log"))
    return "".join(f"--- {log.stem}\n{log.read_text(errors='replace')}" for log in logs)


def check_running(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Raise DemoError if a process has ended."""
    for name, process in processes.items():
        if process.poll() is not None:
            raise DemoError(f"{name} has ended with exit code {process.returncode}", name)


def run(folder: Path, parameters: Sequence[str]) -> None:
    """Start camera and node, prompt, and end them again."""
    with ExitStack() as stack:
        print("demo: starting the camera and the node", flush=True)
        camera = program("camera", folder, f"source:=photograph:{PHOTOGRAPH}", "rate:=10.0", f"pan:={PAN_PX}")
        # One answer for each prompt, until the demo comes to following.
        node = program("sam_node", folder, "follow:=false", *parameters)
        processes = {"camera": stack.enter_context(camera), "sam_node": stack.enter_context(node)}
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.shutdown)
        client = Client(rclpy.create_node("demo_client"), lambda: check_running(processes))
        client.wait_for_node()
        prompt_by_topic(client, Album(folder))


@contextmanager
def isolated() -> Iterator[None]:
    """Keep the demo's topics apart from whatever else runs on this machine, and give them enough memory."""
    with claimed_domain_id() as domain_id:
        os.environ["ROS_DOMAIN_ID"] = str(domain_id)
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        os.environ.update(profile_environment(FASTDDS_PROFILE, os.environ))
        yield


def exit_code(demo: Callable[[], None], folder: Path) -> int:
    """Run a demo, apart from all others; say why it failed and what its programs wrote into ``folder``."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        with isolated():
            demo()
    except DemoError as error:
        print(f"demo: {error}\n{what_was_said(folder, error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="standalone/demo", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), metavar="DIR", help="for pictures"
    )
    parser.add_argument(
        "-p",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="parameter of the node; may be repeated",
    )
    parser.add_argument(
        "--depth", action="store_true", help="another demo: boxes in space on a rendered table"
    )
    arguments = parser.parse_args()
    if arguments.depth:
        os.execv(sys.executable, [sys.executable, str(DEPTH_DEMO), *sys.argv[1:]])
    folder = arguments.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    code = exit_code(lambda: run(folder, arguments.p), folder)
    if code == 0:
        print(f"demo: pictures are in {folder}, all overlays in {folder / 'demo.png'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
