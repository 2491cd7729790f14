"""The page in a real browser before the real node and a real camera: what is clicked is what is segmented."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from node_rig import pixels_of
from processes import START_SEC, RosSession, ros_session

pytest.importorskip("aiohttp")

from browser import Tab, chromium
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray
from web_rig import address_of, connect_to_node, start_web

H, W = 240, 320
DISC, SQUARE = (90, 120), (230, 120)  # centres
RADIUS = 45
TRIES, TRY_SEC = 10, 15.0
ONE_PICTURE = ("-p", "image_durability:=transient_local")
FILL = 0.42  # as in masks.js


def scene_rgb() -> npt.NDArray[np.uint8]:
    """A red disc and a blue square on green."""
    image = np.full((H, W, 3), (70, 120, 60), np.uint8)
    cv2.circle(image, DISC, RADIUS, (210, 60, 40), -1)
    x, y = SQUARE
    image[y - RADIUS : y + RADIUS, x - RADIUS : x + RADIUS] = (40, 60, 210)
    return image


def of_disc() -> npt.NDArray[np.bool_]:
    rows, columns = np.ogrid[:H, :W]
    return np.asarray((columns - DISC[0]) ** 2 + (rows - DISC[1]) ** 2 <= RADIUS**2)


def of_square() -> npt.NDArray[np.bool_]:
    rows, columns = np.ogrid[:H, :W]
    return np.asarray((abs(columns - SQUARE[0]) <= RADIUS) & (abs(rows - SQUARE[1]) <= RADIUS))


def iou(mask: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


class Robot:
    """Camera, node and page as processes; what the node publishes, and a tab on the page.

    The camera publishes ten pictures a second, or only one: a live page shows an answer for a second where
    the node does not follow, which a busy machine may miss.
    """

    def __init__(
        self, ros: RosSession, folder: Path, browser: Any, *arguments: str, is_live: bool = True
    ) -> None:
        self.ros = ros
        self.masks: list[Image] = []
        self.segments: list[Detection2DArray] = []
        path = folder / "scene.png"
        assert cv2.imwrite(str(path), cv2.cvtColor(scene_rgb(), cv2.COLOR_RGB2BGR))
        ros.node.create_subscription(Image, "sam/mask", self.masks.append, 10)
        ros.node.create_subscription(Detection2DArray, "sam/segments", self.segments.append, 10)
        kept, rate = ((), 10.0) if is_live else (ONE_PICTURE, 0.0)
        source = ("-p", f"source:={path}", "-p", f"rate:={rate}")
        ros.start("sam_ros.tools.camera", "--ros-args", *source, *kept)
        self._arguments = (*arguments, *kept)
        self.address = address_of(ros, start_web(ros, *kept))
        self.tab = Tab(browser, self.address)
        self.start_sam()

    def start_sam(self) -> None:
        """Start the node and wait until all three know of each other."""
        self.sam = self.ros.start("sam_ros.node.sam_node", "--ros-args", "-p", "threads:=1", *self._arguments)
        self.wait_until(lambda: self.tab.text("#state") == "Live", "the page to be live")
        connect_to_node(self.ros, self.address)
        for _ in range(TRIES):  # answers are lost until their subscribers are known
            self.tab.click(*DISC)
            if self.is_answered_soon():
                break
        else:
            raise AssertionError(f"{TRIES} clicks in a row without an answer:\n{self.sam.output()}")
        self.tab.page.keyboard.press("c")
        self.wait_until(self.is_empty, "no objects")

    def is_empty(self) -> bool:
        return not (self.segments[-1].detections or pixels_of(self.masks[-1]).any() or self.tab.object_ids())

    def click_until_answered(self, x: int, y: int) -> None:
        """Click again where the node refuses: images are best effort, and one may be lost."""
        for _ in range(TRIES):
            ids, refusals = self.tab.object_ids(), self.tab.text("#log")
            self.tab.click(x, y)
            self.wait_until(
                lambda: (self.tab.object_ids(), self.tab.text("#log")) != (ids, refusals),  # noqa: B023
                "an answer or a refusal",
            )
            if self.tab.object_ids() != ids:
                return
        raise AssertionError(f"{TRIES} clicks in a row were refused:\n{self.tab.text('#log')}")

    def is_answered_soon(self) -> bool:
        return self.ros.comes_true(self.is_answered, "a first answer", TRY_SEC)

    def is_answered(self) -> bool:
        return bool(self.masks and self.segments and self.tab.object_ids())

    def wait_until(self, condition: Callable[[], object], what: str, timeout_sec: float = START_SEC) -> None:
        self.ros.wait_until(lambda: bool(condition()), what, timeout_sec)

    def after(self, act: Callable[[], object]) -> tuple[list[str], npt.NDArray[np.bool_]]:
        """Do something on the page; the ids and the union of the masks that the node then publishes."""
        counts = len(self.masks), len(self.segments)
        act()
        self.wait_until(lambda: len(self.masks) > counts[0] and len(self.segments) > counts[1], "an answer")
        ids = [str(detection.id) for detection in self.segments[-1].detections]
        self.wait_until(lambda: self.tab.object_ids() == ids, "the page to have the objects")
        return ids, pixels_of(self.masks[-1]) > 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Robot]:
    folder = tmp_path_factory.mktemp("robot")
    with ros_session(folder) as ros:
        robot = Robot(ros, folder, browser, "-p", "follow:=false", is_live=False)
        yield robot
        assert robot.tab.errors == []


def test_a_click_a_box_and_their_undoing(robot: Robot) -> None:
    """Each is answered once, on the frame that was seen, and the page shows that frame."""
    tab = robot.tab
    (first,), mask = robot.after(lambda: tab.click(*DISC))
    assert iou(mask, of_disc()) > 0.8
    wait_until_drawn(robot, first, DISC)
    stamp = robot.segments[-1].header.stamp
    assert (stamp.sec, stamp.nanosec) == tab.stamp()

    (again,), _ = robot.after(lambda: tab.click(DISC[0] + 20, DISC[1], modifiers=["Shift"]))
    assert again == first
    (again,), mask = robot.after(lambda: tab.click(20, 20, button="right"))
    assert again == first
    assert iou(mask, of_disc()) > 0.8

    left, top, right, bottom = (SQUARE[0] - 47, SQUARE[1] - 47, SQUARE[0] + 47, SQUARE[1] + 47)
    (boxed,), mask = robot.after(lambda: tab.drag(left, top, right, bottom))
    assert boxed != first
    assert iou(mask, of_square()) > 0.8
    wait_until_drawn(robot, boxed, SQUARE)

    (undone,), mask = robot.after(lambda: tab.page.keyboard.press("u"))
    assert undone == first
    assert iou(mask, of_disc()) > 0.8
    ids, mask = robot.after(lambda: tab.page.keyboard.press("c"))
    assert ids == [] and not mask.any()
    np.testing.assert_allclose(tab.rgb(DISC[0] + 14, DISC[1] + 14), (210, 60, 40), atol=12)


def wait_until_drawn(robot: Robot, id: str, centre: tuple[int, int]) -> None:
    """Until the object's colour is mixed into the picture, beside the place that was clicked on."""
    style = robot.tab.page.eval_on_selector(
        f'#objects [data-id="{id}"] .swatch', "e => getComputedStyle(e).backgroundColor"
    )
    colour = np.array([int(part) for part in style.removeprefix("rgb(").rstrip(")").split(",")])
    x, y = centre[0] + 14, centre[1] + 14
    expected = FILL * colour + (1 - FILL) * scene_rgb()[y, x]
    robot.tab.page.mouse.move(5, 5)  # the object under the pointer would be brighter
    robot.wait_until(lambda: np.allclose(robot.tab.rgb(x, y), expected, atol=12), f"{colour} at {centre}")


def test_another_of_the_three_masks_is_chosen(robot: Robot) -> None:
    candidates: list[Image] = []
    subscription = robot.ros.node.create_subscription(Image, "sam/candidates", candidates.append, 10)
    robot.after(lambda: robot.tab.click(*DISC))
    robot.wait_until(lambda: robot.tab.page.locator("#candidate-list canvas").count() == 3, "thumbnails")
    robot.wait_until(lambda: candidates, "candidates")
    captions = robot.tab.text("#candidate-list").split()
    scores = [float(caption) for caption in captions if "." in caption]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    second = pixels_of(candidates[-1])[..., 1] > 0
    _, mask = robot.after(lambda: robot.tab.page.keyboard.press("2"))
    np.testing.assert_array_equal(mask, second)
    robot.ros.node.destroy_subscription(subscription)
    robot.after(lambda: robot.tab.page.keyboard.press("c"))


def test_an_object_is_removed_from_the_list(robot: Robot) -> None:
    (id,), _ = robot.after(lambda: robot.tab.click(*DISC))
    robot.tab.page.click(f'#objects [data-id="{id}"] button:text-is("Select")')
    ids, _ = robot.after(lambda: robot.tab.page.click(f'#objects [data-id="{id}"] button:text-is("\u2715")'))
    assert ids == []


def test_a_refusal_of_the_node_is_read_on_the_page(robot: Robot) -> None:
    """Right click without an object."""
    robot.after(lambda: robot.tab.page.keyboard.press("c"))
    robot.tab.click(*DISC, button="right")
    robot.wait_until(lambda: "/sam/point_background" in robot.tab.page.inner_text("#log"), "the refusal")


def test_when_the_node_restarts_the_page_says_so_and_goes_on(tmp_path: Path, browser: Any) -> None:
    with ros_session(tmp_path) as ros:
        robot = Robot(ros, tmp_path, browser, "-p", "follow:=false")
        assert robot.sam.stop() == 0
        robot.ros.processes.remove(robot.sam)
        robot.wait_until(lambda: "/sam is not running" in robot.tab.text("#state"), "the node's end")
        before = robot.tab.stamp()
        robot.wait_until(lambda: robot.tab.stamp() > before, "images that go on")
        robot.masks.clear()
        robot.segments.clear()
        robot.start_sam()  # and click on the disc
        assert max(iou(pixels_of(mask) > 0, of_disc()) for mask in robot.masks) > 0.8
        assert robot.tab.errors == []
        robot.tab.close()


def test_while_the_node_follows_each_picture_has_its_masks(tmp_path: Path, browser: Any) -> None:
    """A second click with click_mode add; the paused picture shows what the click could mean."""
    with ros_session(tmp_path) as ros:
        robot = Robot(ros, tmp_path, browser, "-p", "click_mode:=add", "-p", "images_kept:=300")
        tab = robot.tab
        robot.click_until_answered(*DISC)
        assert len(tab.object_ids()) == 1
        tab.page.keyboard.press("Space")
        tab.click(*SQUARE)
        robot.wait_until(lambda: len(tab.object_ids()) == 2, "the second object")
        robot.wait_until(lambda: tab.page.locator("#candidate-list canvas").count() == 3, "thumbnails")
        shown = re.compile(r"IoU (0\.\d\d|1\.0\d)")  # unclamped: also beyond 1
        robot.wait_until(lambda: len(shown.findall(tab.text("#candidate-list"))) == 3, "their IoUs")
        x, y = SQUARE[0] + 14, SQUARE[1] + 14
        assert np.abs(tab.rgb(x, y) - scene_rgb()[y, x]).max() > 20  # the best candidate is drawn there
        tab.page.keyboard.press("Space")
        paused = tab.stamp()
        robot.wait_until(lambda: tab.stamp() > paused, "newer pictures")
        for id, place in zip(tab.object_ids(), (DISC, SQUARE), strict=True):
            wait_until_drawn(robot, id, place)
        assert tab.errors == []
        tab.close()
