"""Live cameras: OpenCV's capture with files in place of hardware, and what cannot be opened, in words."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_ros.tools import capture
from sam_ros.tools.capture import LiveCamera, is_device, is_live, open_capture, without_password
from sam_ros.tools.sources import SourceError

NUM_FRAMES = 5


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of so many frames, each of one grey."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for number in range(NUM_FRAMES):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * number), np.uint8))
    writer.release()
    return path


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of this machine on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@pytest.mark.parametrize(
    ("source", "device", "live"),
    [
        ("/dev/video0", True, True),
        ("0", True, True),
        ("12", True, True),
        ("rtsp://camera/1", False, True),
        ("http://camera/stream.mjpg", False, True),
        ("udp://@:5000", False, True),
        ("/home/me/video0.avi", False, False),
        ("photograph:coffee", False, False),
        ("scene:tabletop", False, False),
        ("pictures", False, False),
        ("/dev/video", False, False),
        ("", False, False),
    ],
)
def test_what_is_live(source: str, device: bool, live: bool) -> None:
    assert (is_device(source), is_live(source)) == (device, live)


def test_the_newest_picture_is_taken_once_in_rgb(video: Path) -> None:
    moments = itertools.count()
    camera = LiveCamera(cv2.VideoCapture(str(video)), lambda: next(moments))
    camera.join(10)  # it has read to the end
    shot = camera.take()
    assert shot is not None and shot.moment == NUM_FRAMES - 1
    assert shot.image_rgb.shape == (48, 64, 3)
    np.testing.assert_allclose(shot.image_rgb[24, 32], (40 * (NUM_FRAMES - 1), 0, 0), atol=4)
    with pytest.raises(SourceError, match="no more pictures"):
        camera.take()


class Gate:
    """A capture that gives a picture only once it is let."""

    def __init__(self) -> None:
        self.is_released = False

    def read(self) -> tuple[bool, None]:
        return False, None

    def release(self) -> None:
        self.is_released = True


class Endless:
    """A capture that always has another picture; it is asked for the next one when the test says so."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.is_released = False

    def read(self) -> tuple[bool, object]:
        assert self.asked.acquire(timeout=10)
        return True, np.zeros((2, 3, 3), np.uint8)

    def release(self) -> None:
        self.is_released = True


def test_once_stopped_it_takes_no_more_pictures() -> None:
    endless, moments = Endless(), iter([1])
    camera = LiveCamera(endless, lambda: next(moments))
    endless.asked.release()
    assert camera.take(10) is not None
    camera.stop()
    endless.asked.release()
    camera.join(10)
    assert endless.is_released
    with pytest.raises(SourceError):
        camera.take()


def test_the_capture_is_released_at_its_end() -> None:
    gate = Gate()
    camera = LiveCamera(gate, lambda: 0)
    camera.join(10)
    assert gate.is_released


@pytest.mark.parametrize("source", ["/dev/video9876", "9876"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(source: str) -> None:
    with pytest.raises(SourceError, match=r"there is no /dev/video9876; cameras of this machine: "):
        open_capture(source)


def test_a_device_without_pictures_is_said_to_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "video0"
    path.touch()
    monkeypatch.setattr(capture, "device_path", lambda _: path)
    with pytest.raises(SourceError, match="gives no pictures: another program may have it"):
        open_capture("/dev/video0")


def test_a_stream_that_refuses_is_named_without_its_password(refusing_port: int) -> None:
    with pytest.raises(SourceError, match="cannot be opened") as caught:
        open_capture(f"rtsp://me:secret@127.0.0.1:{refusing_port}/1")
    assert f"rtsp://me:***@127.0.0.1:{refusing_port}/1" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://camera/1", "rtsp://camera/1"),
        ("rtsp://me@camera:554/1", "rtsp://me@camera:554/1"),
        ("rtsp://me:a:b@camera:554/1?x=2", "rtsp://me:***@camera:554/1?x=2"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
