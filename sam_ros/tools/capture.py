"""A live camera: the newest picture of a device or a network stream, and plain words where there is none."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import cv2

from sam_ros.tools.sources import ImageRgb, SourceError

DEVICE = re.compile(r"/dev/video\d+|\d+", re.ASCII)
STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp")
OPEN_MS, READ_MS = 10_000, 10_000  # a network stream is given up after so long

Moment = TypeVar("Moment")


def is_device(source: str) -> bool:
    """Whether a source is a camera of this machine: /dev/videoN, or just N."""
    return DEVICE.fullmatch(source) is not None


def is_live(source: str) -> bool:
    """Whether a source is a camera or a network stream: its pictures come by themselves."""
    return is_device(source) or urlsplit(source).scheme in STREAM_SCHEMES


def open_capture(source: str, size_wh: tuple[int, int] = (0, 0)) -> cv2.VideoCapture:
    """OpenCV's capture of a live source.

    Args:
        source: see ``is_live``.
        size_wh: width and height to ask a camera of this machine for; it gives what is next to that. (0, 0)
            leaves it to the camera.

    Raises:
        SourceError: it cannot be opened; the message says what is wrong and what would do.
    """
    return _device(source, size_wh) if is_device(source) else _stream(source)


def device_path(source: str) -> Path:
    """Where a camera of this machine is, of its path or number."""
    return Path(f"/dev/video{source}" if source.isdigit() else source)


def _device(source: str, size_wh: tuple[int, int]) -> cv2.VideoCapture:
    path = device_path(source)
    if not path.exists():
        there = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        raise SourceError(f"source {source!r}: there is no {path}; cameras of this machine: {there}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise SourceError(
            f"source {source!r}: {path} may not be used: sudo usermod -aG video $USER, then log in again"
        )
    capture = cv2.VideoCapture(str(path), cv2.CAP_V4L2)
    if not capture.isOpened():
        raise SourceError(
            f"source {source!r}: {path} gives no pictures: another program may have it (fuser -v {path}), or "
            "it is one of the camera's other devices: try the next lower number"
        )
    _ask(capture, size_wh)
    return capture


def _ask(capture: cv2.VideoCapture, size_wh: tuple[int, int]) -> None:
    """Ask a camera for pictures of a size; uncompressed ones of more than VGA exceed USB 2."""
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # older pictures are of no use
    if size_wh != (0, 0):
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size_wh[1])


def _stream(url: str) -> cv2.VideoCapture:
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise SourceError(
            f"source {without_password(url)!r} cannot be opened: does the camera answer at this address and "
            "port, are path, user and password right? ffplay and VLC show why"
        )
    return capture


def without_password(url: str) -> str:
    """A URL as it may be shown in a log."""
    parts = urlsplit(url)
    name, is_separated, _ = parts.netloc.rpartition("@")[0].partition(":")
    if not is_separated:
        return url
    return parts._replace(netloc=f"{name}:***@{parts.netloc.rpartition('@')[2]}").geturl()


@dataclass(frozen=True)
class Shot(Generic[Moment]):
    """A picture, and when it came."""

    image_rgb: ImageRgb
    moment: Moment


class LiveCamera(Generic[Moment]):
    """Reads a capture as fast as it gives pictures, and keeps the newest: what waits in a queue grows old.

    Args:
        capture: OpenCV's, read in a thread of its own until the source ends or the process does.
        now: what time it is, asked when a picture has come.
    """

    def __init__(self, capture: cv2.VideoCapture, now: Callable[[], Moment]) -> None:
        self._capture, self._now = capture, now
        self._changed = threading.Condition()  # guards all below
        self._newest: Shot[Moment] | None = None
        self._has_ended = False
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)
        self._thread.start()

    def take(self, timeout_sec: float = 0.0) -> Shot[Moment] | None:
        """The newest picture, once; None if no new one came in time.

        Raises:
            SourceError: the source has ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._has_ended, timeout_sec)
            shot, self._newest = self._newest, None
            if shot is None and self._has_ended:
                raise SourceError("the source gives no more pictures: it was unplugged, or the stream ended")
            return shot

    def join(self, timeout_sec: float) -> None:
        """Wait until the source has ended."""
        self._thread.join(timeout_sec)

    def stop(self) -> None:
        """Ask no more what time it is, and end once the next picture has come."""
        with self._changed:
            self._has_ended = True

    def _read(self) -> None:
        success = True
        while success:
            success, image_bgr = self._capture.read()
            with self._changed:
                success = success and not self._has_ended
                if success:
                    self._newest = Shot(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), self._now())
                self._has_ended = not success
                self._changed.notify_all()
        self._capture.release()
