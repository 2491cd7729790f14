"""The window: its hand and keys as values, and the executable under a real X server with real events."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from node_rig import SECOND, image_msg
from processes import RosSession, RunningProcess, ros_session

pytest.importorskip("aiohttp")

from web_rig import StandIn, scored

from sam_ros.errors import InvalidImageError
from sam_ros.tools.click import Hand, Keys, blended
from sam_ros.tools.web.gestures import Choose, Click, Command, Drag, Moment, Remove

H, W = 240, 320
MOMENT, LATER = Moment(7, 8, "lens"), Moment(9, 0, "lens")
DOWN, UP, MOVE = cv2.EVENT_LBUTTONDOWN, cv2.EVENT_LBUTTONUP, cv2.EVENT_MOUSEMOVE
HAS_WINDOWS = any(
    " GUI: " in line and line.split()[-1] != "NONE" for line in cv2.getBuildInformation().splitlines()
)
PLACE = (120, 100)  # of the pointer, in pixels of the image
TRIES, IMAGES_A_TRY = 20, 40


@pytest.mark.parametrize(("flags", "kind"), [(0, "foreground"), (cv2.EVENT_FLAG_SHIFTKEY, "more")])
def test_a_click_belongs_to_the_frame_on_which_the_button_went_down(flags: int, kind: Any) -> None:
    hand = Hand()
    assert hand.take(DOWN, 10, 20, flags, MOMENT) is None
    assert hand.is_down
    assert hand.take(UP, 12, 21, flags, LATER) == Click(kind, 10.0, 20.0, MOMENT)
    assert not hand.is_down


def test_a_right_click_is_background_at_once() -> None:
    assert Hand().take(cv2.EVENT_RBUTTONDOWN, 3, 4, 0, MOMENT) == Click("background", 3.0, 4.0, MOMENT)


def test_a_drag_is_a_box_around_both_pixels() -> None:
    hand = Hand()
    hand.take(DOWN, 50, 60, 0, MOMENT)
    hand.take(MOVE, 30, 40, 0, LATER)
    assert hand.box_xyxy == (30, 40, 51, 61)
    assert hand.take(UP, 20, 30, 0, LATER) == Drag((20.0, 30.0, 51.0, 61.0), MOMENT)
    assert hand.box_xyxy is None


def test_moving_without_a_button_is_nothing() -> None:
    hand = Hand()
    assert hand.take(MOVE, 1, 1, 0, MOMENT) is None
    assert hand.take(UP, 1, 1, 0, MOMENT) is None
    assert hand.box_xyxy is None


def test_keys_choose_the_next_mask_and_edit() -> None:
    keys = Keys()
    assert [keys.take(ord("n")) for _ in range(4)] == [Choose(1), Choose(2), Choose(0), Choose(1)]
    keys.prompted()
    assert keys.take(ord("n")) == Choose(1)
    assert [keys.take(ord(key)) for key in "3n"] == [Choose(2), Choose(0)]
    assert [keys.take(ord(key)) for key in "ucx"] == [Command("undo"), Command("clear"), Remove("")]
    assert [keys.take(key) for key in (255, ord("4"), ord("0"))] == [None, None, None]


def test_masks_are_blended_with_an_outline_and_the_image_is_left_alone() -> None:
    image = np.full((9, 9, 3), 100, np.uint8)
    labels = np.zeros((9, 9), np.uint16)
    labels[2:7, 2:7] = 1
    drawn = blended(image, labels, [(200, 0, 50)])
    np.testing.assert_array_equal(drawn[0, 0], (100, 100, 100))
    np.testing.assert_array_equal(drawn[2, 4], (200, 0, 50))
    np.testing.assert_allclose(drawn[4, 4], (145, 55, 77), atol=1)
    assert (image == 100).all()


@pytest.mark.parametrize(("size_hw", "highest"), [((9, 8), 1), ((9, 9), 2)])
def test_labels_of_another_image_are_not_blended(size_hw: tuple[int, int], highest: int) -> None:
    labels = np.full(size_hw, highest, np.uint16)
    with pytest.raises(InvalidImageError, match="do not belong to an image"):
        blended(np.zeros((9, 9, 3), np.uint8), labels, [(200, 0, 50)])


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


def test_without_a_display_it_says_what_to_use_instead(ros: RosSession) -> None:
    command = ["env", "-u", "DISPLAY", "-u", "WAYLAND_DISPLAY", sys.executable, "-m", "sam_ros.tools.click"]
    click = ros.start_command("click", command)
    assert click.wait() == 1
    assert "use the executable web" in click.output()
    assert "Traceback" not in click.output()


# As the executable does, but for the window.
WITHOUT_WINDOW = """
import rclpy
from sam_ros.tools.click import SamClick
rclpy.init()
rclpy.spin(SamClick())
"""


def test_masks_that_come_too_late_for_their_images_are_told(ros: RosSession) -> None:
    arguments = ("--ros-args", "-p", "images_kept:=2")
    click = ros.start_command("click", [sys.executable, "-c", WITHOUT_WINDOW, *arguments])
    sam, stamps = StandIn(ros), itertools.count(2)
    reason = "images only: masks come later than the 2 images kept: raise images_kept"

    def is_told() -> bool:
        sam.show(np.zeros((H, W, 3), np.uint8), next(stamps) * SECOND)
        sam.answer(np.zeros((H, W), np.uint16), SECOND)
        return reason in click.output()

    ros.wait_until(is_told, "the late masks")
    assert "Traceback" not in click.output()


class Desk:
    """A display without a screen, the executable on it, and a hand at its mouse and keys."""

    def __init__(self, ros: RosSession, display: str) -> None:
        self.ros, self.sam, self._display = ros, StandIn(ros), display
        command = [sys.executable, "-m", "sam_ros.tools.click"]
        self.click: RunningProcess = ros.start_command("click", command, {"DISPLAY": display})
        self._window = ""

    def show(self) -> None:
        """Show an image with an answer until the window is there."""
        labels = np.zeros((H, W), np.uint16)
        labels[60:140, 80:160] = 1
        self.sam.answer(labels, 7 * SECOND, scored("_1", (80, 60, 160, 140), 0.9))
        self.show_until(self._find, "the window")

    def show_until(self, condition: Any, what: str) -> None:
        self.sam.show_until(np.full((H, W, 3), 100, np.uint8), 7 * SECOND, condition, what)

    def act(self, *arguments: object) -> tuple[str, Any]:
        """Do something at PLACE until it arrives: the first ones are lost while nobody is known to listen."""
        self.sam.prompts.clear()
        for _ in range(TRIES):
            self.xdotool("mousemove", "--window", self._window, *PLACE, *arguments)
            images = itertools.count()
            self.show_until(lambda count=images: self.sam.prompts or next(count) > IMAGES_A_TRY, "a prompt")
            if self.sam.prompts:
                return self.sam.prompts.pop(0)
        raise AssertionError(f"nothing came of {arguments}:\n{self.click.output()}")

    def xdotool(self, *arguments: object) -> str:
        environment = {**os.environ, "DISPLAY": self._display}
        command = ["xdotool", *map(str, arguments)]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True).stdout

    def _find(self) -> bool:
        self._window = self.xdotool("search", "--name", "sam_click").strip().split("\n")[-1]
        return bool(self._window)


@contextmanager
def x_server() -> Iterator[str]:
    """The name of a display without a screen."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as answer:
            display = f":{answer.readline().strip()}"
        try:
            yield display
        finally:
            server.terminate()


@pytest.mark.skipif(not HAS_WINDOWS, reason="this OpenCV has no windows")
@pytest.mark.skipif(not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="no Xvfb or xdotool")
def test_mouse_and_keys_prompt_on_the_frame_that_was_seen(ros: RosSession) -> None:
    with x_server() as display:
        desk = Desk(ros, display)
        desk.show()
        shift_click = ("keydown", "shift", "click", 1, "keyup", "shift")
        clicks = {"point": ("click", 1), "point_foreground": shift_click, "point_background": ("click", 3)}
        for topic, arguments in clicks.items():
            name, msg = desk.act(*arguments)
            assert (name, msg.header.stamp.sec) == (topic, 7)
            assert (msg.point.x, msg.point.y) == (pytest.approx(120, abs=1), pytest.approx(100, abs=1))
        assert desk.act("key", "n")[0] == "choose"
        half_way = ("mousemove_relative", 20, 10)
        name, msg = desk.act("mousedown", 1, *half_way, *half_way, "mouseup", 1)
        assert (name, msg.header.stamp.sec) == ("prompt", 7)
        assert (msg.bbox.size_x, msg.bbox.size_y) == (pytest.approx(41, abs=1), pytest.approx(21, abs=1))
        desk.xdotool("key", "q")
        assert desk.click.wait() == 0


@pytest.mark.skipif(not HAS_WINDOWS, reason="this OpenCV has no windows")
@pytest.mark.skipif(not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="no Xvfb or xdotool")
def test_messages_whose_stamps_are_no_time_do_not_end_it(ros: RosSession) -> None:
    bad = image_msg(np.zeros((H, W, 3), np.uint8), "rgb8", SECOND)
    bad.header.stamp.nanosec = 2 * SECOND
    topics = ("/image", "/sam/labels", "/sam/segments")
    reasons = [f"a message on {topic} failed: a stamp's nanosec must be below" for topic in topics]
    with x_server() as display:
        desk = Desk(ros, display)
        desk.show()

        def are_told() -> bool:
            desk.sam.image.publish(bad)
            desk.sam.answer_at_no_time()
            return all(reason in desk.click.output() for reason in reasons)

        ros.wait_until(are_told, "the failures")
        assert desk.act("click", 1)[0] == "point"
        desk.xdotool("key", "q")
        assert desk.click.wait() == 0
        assert all(desk.click.output().count(reason) == 1 for reason in reasons)
