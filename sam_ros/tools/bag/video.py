"""An MP4 of a bag's images with what was found on them, for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from sam_ros.core.objects import SegmentedObject
from sam_ros.core.overlay import draw_overlay
from sam_ros.errors import InvalidImageError, SamRosError
from sam_ros.masks import Masks
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.layouts import packed_values
from sam_ros.node.serialized import deserialize, stamp_of_serialized
from sam_ros.tools.bag.answers import LABELS, SEGMENTS, resolved
from sam_ros.tools.bag.preparing import ReadImage
from sam_ros.tools.bag.source import BagError, Recorded, SourceBag

CODEC = "mp4v"  # what every build of OpenCV can write
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1.0, 120.0
NO_LOGITS = np.zeros((1, 1, 1), np.float32)  # nothing that is drawn needs them

ImageRgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Found:
    """What was found on one image."""

    stamp_ns: int
    labels: Image
    segments: Detection2DArray


def write_video(
    path: Path, images: Iterable[Recorded], read_image: ReadImage, answers: SourceBag, node: str
) -> int:
    """Draw what was found on the images of which it was; returns how many.

    Args:
        path: of the video, replaced once it is whole.
        images: of the bag that was answered on.
        read_image: makes pixels of them.
        answers: the bag of answers.
        node: the full name of the node whose topics they have.

    Raises:
        BagError: the video cannot be written, or a bag is damaged.
    """
    whole = path.with_name(f".{path.stem}.unfinished.mp4")
    video = _Video(whole, _rate_hz(answers, node))
    colours: dict[str, int] = {}
    try:
        for image_rgb, found in _matched(images, read_image, _found(answers, node)):
            video.write(_drawn(image_rgb, found, colours))
        video.close()
        if video.num_written:
            whole.replace(path)
    finally:
        video.close()
        whole.unlink(missing_ok=True)
    return video.num_written


class _Video:
    """A video file, of the size of its first picture; it is made once that is known."""

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path, self._rate_hz = path, rate_hz
        self._writer: Any = None
        self._size_wh = (0, 0)
        self.num_written = 0

    def write(self, image_rgb: ImageRgb) -> None:
        """Add an (H, W, 3) picture."""
        if self._writer is None:
            self._open(image_rgb)
        if image_rgb.shape[1::-1] != self._size_wh:  # OpenCV would leave it out without a word
            image_rgb = np.asarray(cv2.resize(image_rgb, self._size_wh), np.uint8)
        self._writer.write(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
        self.num_written += 1

    def _open(self, image_rgb: ImageRgb) -> None:
        width, height = self._size_wh = image_rgb.shape[1], image_rgb.shape[0]
        codec = cv2.VideoWriter_fourcc(*CODEC)
        self._writer = cv2.VideoWriter(str(self._path), codec, self._rate_hz, self._size_wh)
        if not self._writer.isOpened():
            raise BagError(f"OpenCV cannot write a video of {width} x {height} pixels to {self._path.parent}")

    def close(self) -> None:
        """Complete the file."""
        if self._writer is not None:
            self._writer.release()


def _rate_hz(answers: SourceBag, node: str) -> float:
    """Images in a second, as the answers were recorded."""
    count = answers.topics[resolved(SEGMENTS, node)].count
    rate_hz = (count - 1) / max(answers.duration_sec, 1e-9)
    return min(max(rate_hz, LOWEST_RATE_HZ), HIGHEST_RATE_HZ)


def _matched(
    images: Iterable[Recorded], read_image: ReadImage, found: Iterator[Found]
) -> Iterator[tuple[ImageRgb, Found]]:
    """Each answer with its image. Both come in the same order, and not every image has an answer."""
    one = next(found, None)
    for image in images:
        if one is None:
            return
        if _stamp_ns(image) != one.stamp_ns:
            continue
        try:
            image_rgb = read_image(image.data)
        except InvalidImageError:
            continue
        if image_rgb.shape[:2] == (one.labels.height, one.labels.width):
            yield image_rgb, one
            one = next(found, None)


def _stamp_ns(image: Recorded) -> int | None:
    """The stamp of an image; None where it has none that is a time: then it has no answer either."""
    with suppress(SamRosError):
        return stamp_of_serialized(image.data)
    return None


def _found(answers: SourceBag, node: str) -> Iterator[Found]:
    """What was found, image by image."""
    labels = answers.messages(answers.topics[resolved(LABELS, node)])
    segments = answers.messages(answers.topics[resolved(SEGMENTS, node)])
    for one, other in zip(labels, segments, strict=True):
        msg = deserialize(one.data, Image)
        yield Found(stamp_to_ns(msg.header), msg, deserialize(other.data, Detection2DArray))


def _drawn(image_rgb: ImageRgb, found: Found, colours: dict[str, int]) -> ImageRgb:
    """A copy of an (H, W, 3) image with masks, ids and IoU; ``colours`` remembers the number of each id."""
    labels = packed_values(found.labels)
    objects = []
    for label, detection in enumerate(found.segments.detections, 1):
        number = colours.setdefault(detection.id, len(colours))
        hypothesis = detection.results[0].hypothesis
        one = SegmentedObject(detection.id, hypothesis.class_id, number, 0, labels.shape)
        score = np.array([hypothesis.score], np.float32)
        objects.append((one, Masks((labels == label)[None], score, score, NO_LOGITS)))
    return draw_overlay(image_rgb, objects, sequence=-1)
