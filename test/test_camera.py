"""The camera: its view as a pure function, its sources, and the executable over real ROS."""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from processes import RosSession, RunningProcess, ros_session
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from sam_ros.tools.camera import SourceError, frames, pan_offset, panned, pinhole

RED_TO_BLUE = np.zeros((40, 60, 3), np.uint8)  # RGB: left half red, right half blue, a green stripe on top
RED_TO_BLUE[:, :30] = (255, 0, 0)
RED_TO_BLUE[:, 30:] = (0, 0, 255)
RED_TO_BLUE[:5] = (0, 255, 0)


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "picture.png", RED_TO_BLUE)


def write_picture(path: Path, image_rgb: npt.NDArray[np.uint8]) -> Path:
    assert cv2.imwrite(str(path), cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    return path


def gray(value: int) -> npt.NDArray[np.uint8]:
    return np.full((4, 6, 3), value, np.uint8)


def start_camera(ros: RosSession, *arguments: str, **parameters: object) -> RunningProcess:
    settings = itertools.chain.from_iterable(("-p", f"{name}:={value}") for name, value in parameters.items())
    return ros.start("sam_ros.tools.camera", "--ros-args", *settings, *arguments)


def pixels(message: Image) -> npt.NDArray[np.uint8]:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.step // 3, 3)


def stamp_ns(header: Header) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def test_pan_offset_swings_within_its_bounds() -> None:
    assert pan_offset(0.0, 20) == (20, 10)
    assert pan_offset(2.5, 20) == (40, 10)
    assert pan_offset(7.5, 20) == (0, 10)
    offsets = [pan_offset(0.1 * step, 20) for step in range(200)]
    assert {min(x for x, _ in offsets), max(x for x, _ in offsets)} == {0, 40}
    assert {min(y for _, y in offsets), max(y for _, y in offsets)} == {0, 20}
    assert max(abs(b[0] - a[0]) for a, b in itertools.pairwise(offsets)) <= 2


def test_panned_is_the_window_at_the_offset() -> None:
    image = np.arange(40 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 60, 3)
    np.testing.assert_array_equal(panned(image, 2.5, 10), image[5:35, 20:60])
    np.testing.assert_array_equal(panned(image, 2.5, 0), image)


def test_panned_refuses_a_pan_that_leaves_nothing() -> None:
    with pytest.raises(SourceError, match="pan = 30 leaves nothing"):
        panned(RED_TO_BLUE, 0.0, 30)


def test_a_picture_repeats_in_rgb(picture: Path) -> None:
    for image in itertools.islice(frames(str(picture), loop=False), 3):
        np.testing.assert_array_equal(image, RED_TO_BLUE)


@pytest.mark.parametrize(("loop", "expected"), [(False, [1, 2, 3]), (True, [1, 2, 3, 1, 2])])
def test_a_folder_gives_its_pictures_by_name(tmp_path: Path, loop: bool, expected: list[int]) -> None:
    for value in (3, 1, 2):
        write_picture(tmp_path / f"{value}.png", gray(value))
    (tmp_path / "notes.txt").write_text("not a picture")
    images = list(itertools.islice(frames(str(tmp_path), loop=loop), 5))
    assert [int(image[0, 0, 0]) for image in images] == expected


def test_a_video_gives_its_frames_in_order(tmp_path: Path) -> None:
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for value in (50, 100, 150):
        writer.write(np.full((48, 64, 3), (0, 0, value), np.uint8))
    writer.release()
    images = list(frames(str(path), loop=False))
    assert [image.shape for image in images] == [(48, 64, 3)] * 3
    for image, value in zip(images, (50, 100, 150), strict=True):
        np.testing.assert_allclose(image[24, 32], (value, 0, 0), atol=4)


@pytest.mark.parametrize(("name", "size_hw"), [("astronaut", (512, 512)), ("coins", (303, 384))])
def test_a_photograph_comes_in_rgb(name: str, size_hw: tuple[int, int]) -> None:
    pytest.importorskip("skimage")
    assert next(frames(f"photograph:{name}", loop=True)).shape == (*size_hw, 3)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/does/not/exist.png", "does not exist"),
        ("{folder}", "holds no picture"),
        ("{folder}/rubbish", "neither a picture nor a video"),
        ("photograph:nobody", "no photograph 'nobody'"),
    ],
)
def test_a_bad_source_is_named(tmp_path: Path, source: str, reason: str) -> None:
    pytest.importorskip("skimage")
    (tmp_path / "rubbish").write_bytes(b"rubbish")
    with pytest.raises(SourceError, match=reason):
        next(frames(source.format(folder=tmp_path), loop=True))


def test_pinhole_looks_through_the_centre_of_the_image() -> None:
    info = pinhole((480, 640), Header(frame_id="lens"))
    assert (info.height, info.width, info.header.frame_id) == (480, 640, "lens")
    assert list(info.k) == [640.0, 0.0, 319.5, 0.0, 640.0, 239.5, 0.0, 0.0, 1.0]
    assert list(info.p) == [640.0, 0.0, 319.5, 0.0, 0.0, 640.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_images_hold_the_pixels_in_the_named_encoding(ros: RosSession, picture: Path, encoding: str) -> None:
    images: list[Image] = []
    infos: list[CameraInfo] = []
    ros.node.create_subscription(Image, "image", images.append, qos_profile_sensor_data)
    ros.node.create_subscription(CameraInfo, "camera_info", infos.append, 10)
    camera = start_camera(ros, source=picture, rate=50.0, encoding=encoding, frame_id="lens")
    ros.wait_until(lambda: len(images) >= 5 and len(infos) >= 5, "five images and camera infos")

    expected = RED_TO_BLUE if encoding == "rgb8" else RED_TO_BLUE[..., ::-1]
    for image in images:
        assert (image.encoding, image.header.frame_id) == (encoding, "lens")
        np.testing.assert_array_equal(pixels(image), expected)
    stamps = [stamp_ns(image.header) for image in images]
    assert stamps == sorted(set(stamps))
    assert {stamp_ns(info.header) for info in infos} & set(stamps)
    assert (infos[0].height, infos[0].width) == (40, 60)
    assert camera.stop() == 0


def test_a_panned_and_resized_view_moves(ros: RosSession, picture: Path) -> None:
    images: list[Image] = []
    ros.node.create_subscription(Image, "image", images.append, 10)
    start_camera(ros, source=picture, rate=100.0, pan=10, size="[20, 15]")
    ros.wait_until(lambda: len({bytes(image.data) for image in images}) >= 5, "five different views")
    assert {(image.height, image.width) for image in images} == {(15, 20)}


def test_compressed_images_follow_the_image_topic(ros: RosSession, picture: Path) -> None:
    messages: list[CompressedImage] = []
    ros.node.create_subscription(
        CompressedImage, "front/compressed", messages.append, qos_profile_sensor_data
    )
    start_camera(ros, "-r", "image:=front", source=picture, rate=50.0)
    ros.wait_until(lambda: bool(messages), "a compressed image")
    decoded = cv2.cvtColor(cv2.imdecode(np.asarray(messages[0].data), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert messages[0].format == "bgr8; jpeg compressed bgr8"
    np.testing.assert_allclose(decoded[20, 10], (255, 0, 0), atol=12)
    np.testing.assert_allclose(decoded[20, 50], (0, 0, 255), atol=12)


def test_a_folder_without_loop_is_shown_once_then_the_camera_ends(ros: RosSession, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for value in (1, 2, 3):
        write_picture(folder / f"{value}.png", gray(value))
    camera = start_camera(ros, source=folder, rate=50.0, loop="false")
    assert camera.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_camera_cleanly(ros: RosSession, picture: Path, number: signal.Signals) -> None:
    images: list[Image] = []
    ros.node.create_subscription(Image, "image", images.append, 10)
    camera = start_camera(ros, source=picture, rate=200.0)
    ros.wait_until(lambda: bool(images), "an image")
    assert camera.stop(number) == 0
    assert "Traceback" not in camera.output()


def test_repeated_signals_do_not_kill_a_camera_that_is_ending(ros: RosSession, picture: Path) -> None:
    images: list[Image] = []
    ros.node.create_subscription(Image, "image", images.append, 10)
    camera = start_camera(ros, source=picture, rate=200.0)
    ros.wait_until(lambda: bool(images), "an image")
    while camera.popen.poll() is None:
        camera.popen.send_signal(signal.SIGINT)
    assert camera.wait() == 0


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({}, "parameter source is empty"),
        ({"source": "/does/not/exist.png"}, "'/does/not/exist.png' does not exist"),
        ({"source": "x", "encoding": "mono8"}, "encoding must be rgb8 or bgr8, got 'mono8'"),
        ({"source": "x", "rate": 0.0}, "rate must be above 0 Hz"),
        ({"source": "x", "pan": -1}, "pan must not be negative"),
        ({"source": "x", "size": "[0, 4]"}, "size must be"),
        ({"source": "x", "rate": 10}, "'rate'"),
    ],
)
def test_a_bad_setting_ends_the_camera_with_the_reason(
    ros: RosSession, parameters: dict[str, object], reason: str
) -> None:
    camera = start_camera(ros, **parameters)
    assert camera.wait() == 1
    assert reason in camera.output()
    assert "Traceback" not in camera.output()
