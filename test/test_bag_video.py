"""The video: each image with what was found on it, and nothing drawn where nothing was found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from bag_rig import GRASS, RADIUS, SIZE_HW, images, place, scene, stamp_of, truth, write_bag
from node_rig import FRAME_ID, SECOND, detection, detections, header, image_msg
from sensor_msgs.msg import Image

from sam_ros.core.overlay import PALETTE_RGB
from sam_ros.node.images import image_to_msg
from sam_ros.node.inputs import CAMERAS
from sam_ros.tools.bag.source import BagError, SourceBag
from sam_ros.tools.bag.video import write_video

COUNT = 5


def read_image(data: bytes) -> npt.NDArray[np.uint8]:
    return CAMERAS["raw"].read(data, 100_000, None)  # type: ignore[arg-type]


def bags(folder: Path, numbers: list[int]) -> tuple[Path, Path]:
    """A bag of images, and one of answers to those of these numbers: the ball, but not on the first."""
    messages = [image_msg(scene(number), "rgb8", stamp_of(number)) for number in range(COUNT)]
    answers = []
    for number in numbers:
        mask = truth(number) if number else np.zeros(SIZE_HW, np.bool_)
        labels = image_to_msg(mask.astype(np.uint16), "16UC1", header(stamp_of(number), FRAME_ID))
        box = detection("ball", place(number), (2 * RADIUS, 2 * RADIUS), "toy")
        box.results[0].hypothesis.score = 0.5
        segments = detections(stamp_of(number), *([box] if number else []))
        answers += [*images([labels], "/sam/labels"), *images([segments], "/sam/segments")]
    return write_bag(folder / "in", images(messages)), write_bag(folder / "out", answers)


def video_of(path: Path) -> tuple[list[npt.NDArray[np.uint8]], float]:
    """Its pictures, (H, W, 3) RGB, and how many come in a second."""
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while (picture := capture.read()[1]) is not None:
        pictures.append(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))
    rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return pictures, rate_hz


def write(folder: Path, source: Path, answers: Path) -> int:
    with SourceBag(source) as images_bag, SourceBag(answers) as answers_bag:
        topic = images_bag.topic("", ("sensor_msgs/msg/Image",))
        messages = images_bag.messages(topic)
        return write_video(folder / "video.mp4", messages, read_image, answers_bag, "/sam")


def test_what_was_found_is_drawn_on_its_image(tmp_path: Path) -> None:
    assert write(tmp_path, *bags(tmp_path, list(range(COUNT)))) == COUNT
    pictures, rate_hz = video_of(tmp_path / "video.mp4")
    assert len(pictures) == COUNT and rate_hz == pytest.approx(10)
    assert np.abs(pictures[0].astype(int) - scene(0)).mean() < 6  # nothing but compression
    for number in range(1, COUNT):
        inside, picture = truth(number), pictures[number].astype(float)
        blended = 0.55 * scene(number)[inside] + 0.45 * np.array(PALETTE_RGB[0])
        assert np.abs(picture[inside].mean(axis=0) - blended.mean(axis=0)).max() < 15
        assert np.abs(picture[100:, 130:].mean(axis=(0, 1)) - GRASS[100:, 130:].mean(axis=(0, 1))).max() < 6
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_images_without_an_answer_are_left_out(tmp_path: Path) -> None:
    assert write(tmp_path, *bags(tmp_path, [0, 2, 4])) == 3
    pictures, rate_hz = video_of(tmp_path / "video.mp4")
    assert rate_hz == pytest.approx(5)
    for picture, number in zip(pictures[1:], (2, 4), strict=True):
        x, y = place(number)
        colour = picture[y - 5 : y + 5, x - 5 : x + 5].mean(axis=(0, 1))
        grass = picture[100:, 130:].mean(axis=(0, 1))
        assert colour[0] > grass[0] + 40


def test_images_of_another_size_are_fitted(tmp_path: Path) -> None:
    messages, answers = [], []
    for number, size_hw in enumerate([(60, 80), (120, 160)]):
        pixels = np.full((*size_hw, 3), 50 + 100 * number, np.uint8)
        messages.append(image_msg(pixels, "rgb8", stamp_of(number)))
        labels = image_to_msg(np.zeros(size_hw, np.uint16), "16UC1", header(stamp_of(number), FRAME_ID))
        answers += images([labels], "/sam/labels") + images([detections(stamp_of(number))], "/sam/segments")
    write(tmp_path, write_bag(tmp_path / "in", images(messages)), write_bag(tmp_path / "out", answers))
    pictures, _ = video_of(tmp_path / "video.mp4")
    assert [picture.shape for picture in pictures] == [(60, 80, 3)] * 2
    assert abs(float(pictures[1].mean()) - 150) < 8


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    source, answers = bags(tmp_path, [0])
    with pytest.raises(BagError, match="cannot write a video of 160 x 120 pixels"):
        write(tmp_path / "nowhere", source, answers)


def test_stamps_and_not_times_of_recording_say_what_belongs_together(tmp_path: Path) -> None:
    source, _ = bags(tmp_path, [])
    labels = image_to_msg(np.ones(SIZE_HW, np.uint16), "16UC1", header(stamp_of(3), FRAME_ID))
    box = detection("ball", place(3), (2, 2), "toy")
    other = [("/sam/labels", SECOND, labels), ("/sam/segments", SECOND, detections(stamp_of(3), box))]
    assert isinstance(labels, Image)
    assert write(tmp_path, source, write_bag(tmp_path / "other", other)) == 1
    (picture,), _ = video_of(tmp_path / "video.mp4")
    assert np.abs(picture[100:, 130:].mean(axis=(0, 1)) - GRASS[100:, 130:].mean(axis=(0, 1))).max() > 20
