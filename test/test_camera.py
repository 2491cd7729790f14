"""The camera: its view as a pure function, its sources, and the executable over real ROS."""

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from geometry_msgs.msg import Point, PointStamped
from node_rig import NodeRig
from processes import START_SEC, RosSession, RunningProcess, ros_session
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from sam_ros.core.tabletop import THINGS, render, tilted_view
from sam_ros.tools.calibration import calibration_from_url, pinhole
from sam_ros.tools.camera import SCENE_DISTANCE_M, encoded_depth, pan_offset, panned
from sam_ros.tools.conversions_3d import depth_from_msg, pinhole_from_msg
from sam_ros.tools.sources import SourceError, frames

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
        ("photograph:lbp_frontal_face_cascade_filename", "is no photograph"),
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
    deadline = time.monotonic() + START_SEC
    while camera.popen.poll() is None and time.monotonic() < deadline:
        camera.popen.send_signal(signal.SIGINT)
        time.sleep(0.001)
    assert camera.wait() == 0


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({}, "parameter source is empty"),
        ({"source": "/does/not/exist.png"}, "'/does/not/exist.png' does not exist"),
        ({"source": "x", "encoding": "mono8"}, "encoding must be rgb8 or bgr8, got 'mono8'"),
        ({"source": "x", "rate": 0.0}, "rate must be above 0 Hz"),
        (
            {"source": "x", "rate": -1.0, "image_durability": "transient_local"},
            "or 0 for a single image with image_durability transient_local, got -1.0",
        ),
        (
            {"source": "x", "image_durability": "eternal"},
            "image_durability must be volatile or transient_local",
        ),
        ({"source": "x", "pan": -1}, "pan must not be negative"),
        ({"source": "x", "size": "[0, 4]"}, "size must be"),
        ({"source": "x", "rate": "fast"}, "parameter rate must be a number, got 'fast'"),
        ({"source": "x", "rate": 10}, "source 'x' does not exist"),  # a whole number is taken for a float
        ({"source": 9876}, "source '9876': there is no /dev/video9876"),
        ({"source": "/dev/video9876"}, "there is no /dev/video9876; cameras of this machine: "),
        (
            {"source": "rtsp://me:secret@127.0.0.1:9/1"},
            "source 'rtsp://me:***@127.0.0.1:9/1' cannot be opened",
        ),
        ({"source": "/dev/video0", "depth": "16UC1"}, "parameter depth must be '' with a live camera"),
    ],
)
def test_a_bad_setting_ends_the_camera_with_the_reason(
    ros: RosSession, parameters: dict[str, object], reason: str
) -> None:
    camera = start_camera(ros, **parameters)
    assert camera.wait() == 1
    assert reason in camera.output()
    assert "Traceback" not in camera.output()


CALIBRATION = """
image_width: 320
image_height: 240
camera_name: lens
camera_matrix: {rows: 3, cols: 3, data: [300.0, 0.0, 160.0, 0.0, 301.0, 120.0, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.1, 0.02, 0, 0.0, 0.0]}
rectification_matrix: {rows: 3, cols: 3, data: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}
projection_matrix: {rows: 3, cols: 4, data: [290.0, 0, 160.0, 0, 0, 291.0, 120.0, 0, 0, 0, 1.0, 0]}
"""


def test_depth_is_encoded_as_rep_118_says() -> None:
    depth_m = np.array([[1.2345, np.nan, 65.535, 70.0]], np.float32)
    assert encoded_depth(depth_m, "16UC1").tolist() == [[1234, 0, 65535, 0]]
    assert encoded_depth(depth_m, "16UC1").dtype == np.uint16
    np.testing.assert_array_equal(encoded_depth(depth_m, "32FC1"), depth_m)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_calibration_is_read_as_it_was_written(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "lens.yaml").write_text(CALIBRATION)
    info = calibration_from_url(f"{scheme}{tmp_path}/lens.yaml")
    assert info is not None
    assert (info.height, info.width, info.distortion_model) == (240, 320, "plumb_bob")
    assert (info.k[0], info.k[4], info.p[0], list(info.d)) == (
        300.0,
        301.0,
        290.0,
        [-0.1, 0.02, 0.0, 0.0, 0.0],
    )
    assert calibration_from_url("") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("image_width: 3", "holds no calibration"),
        ("- [", "holds no calibration"),
        (CALIBRATION.replace("data: [300.0, ", "data: ["), "holds no calibration"),
    ],
    ids=["missing", "incomplete", "not YAML", "short"],
)
def test_a_calibration_that_is_none_is_named(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "lens.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SourceError, match=f"lens.yaml'? {reason}"):
        calibration_from_url(str(path))


@pytest.mark.parametrize(
    ("transport", "topic", "kind"),
    [("raw", "/image", Image), ("compressed", "/image/compressed", CompressedImage)],
)
def test_a_still_image_reaches_a_node_that_starts_after_it_was_published_once(
    ros: RosSession, picture: Path, transport: str, topic: str, kind: Any
) -> None:
    camera = start_camera(ros, source=picture, rate=0.0, image_durability="transient_local")
    ros.wait_until(lambda: ros.node.count_publishers(topic) == 1, "the camera, which publishes at once")
    settings = ("-p", "image_durability:=transient_local", "-p", f"image_transport:={transport}")
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    rig = NodeRig(ros, *settings, image_topic=topic, image_type=kind, image_qos=kept)
    rig.wait_for_status("encode count", lambda count: count == "1")
    mask = rig.outputs_for("point", PointStamped(point=Point(x=15.0, y=25.0)))["mask"]
    shown = np.frombuffer(mask.data, np.uint8).reshape(40, 60)
    assert shown[25, 15] == 255
    assert rig.status("image count") == "1"
    assert camera.stop() == 0


def test_an_image_is_kept_for_who_subscribes_later(ros: RosSession, picture: Path) -> None:
    images: list[Image] = []
    start_camera(ros, source=picture, rate=0.0, image_durability="transient_local")
    ros.wait_until(lambda: ros.node.count_publishers("/image") == 1, "the camera")
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros.node.create_subscription(Image, "image", images.append, kept)
    ros.wait_until(lambda: bool(images), "the image that was published before")
    np.testing.assert_array_equal(pixels(images[0]), RED_TO_BLUE)


class Recorder:
    """What a camera with depth publishes."""

    def __init__(self, ros: RosSession) -> None:
        self.images: list[Image] = []
        self.depths: list[Image] = []
        self.infos: list[CameraInfo] = []
        ros.node.create_subscription(Image, "image", self.images.append, 10)
        ros.node.create_subscription(Image, "depth", self.depths.append, 10)
        ros.node.create_subscription(CameraInfo, "camera_info", self.infos.append, 10)

    def is_complete(self) -> bool:
        """Both are there of one moment."""
        return bool(self.infos and _stamps(self.images) & _stamps(self.depths))


def _stamps(messages: list[Image]) -> set[int]:
    return {stamp_ns(message.header) for message in messages}


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_the_scene_has_depth_that_fits_its_picture_and_calibration(
    ros: RosSession, tmp_path: Path, encoding: str
) -> None:
    (tmp_path / "lens.yaml").write_text(CALIBRATION)
    got = Recorder(ros)
    url = f"file://{tmp_path}/lens.yaml"
    start_camera(ros, source="scene:tabletop", depth=encoding, camera_info_url=url, frame_id="lens")
    ros.wait_until(got.is_complete, "picture, depth and calibration")
    depth, info = got.depths[-1], got.infos[-1]
    assert (depth.header.frame_id, depth.encoding) == ("lens", encoding)
    assert (depth.height, depth.width, info.height, info.width) == (240, 320, 240, 320)
    assert (info.k[0], info.d[0], info.header.frame_id) == (300.0, -0.1, "lens")
    depth_m = depth_from_msg(depth).astype(np.float32) / (1000 if encoding == "16UC1" else 1)
    true_depth_m = render(tilted_view(pinhole_from_msg(info, rectified=False), SCENE_DISTANCE_M)).depth_m
    assert np.nanmedian(np.abs(depth_m - true_depth_m)) < 0.003
    colours = pixels(got.images[-1]).reshape(-1, 3)
    for thing in THINGS:
        assert np.abs(colours.astype(int) - thing.rgb).max(axis=1).min() < 40, (
            f"the {thing.name} is in the picture"
        )


def test_any_other_source_is_a_print_one_metre_ahead(ros: RosSession, picture: Path) -> None:
    got = Recorder(ros)
    start_camera(ros, source=picture, depth="16UC1", rate=50.0)
    ros.wait_until(got.is_complete, "picture, depth and calibration")
    depth = depth_from_msg(got.depths[-1])
    assert depth.shape == RED_TO_BLUE.shape[:2]
    assert (depth == 1000).all()


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"depth": "8UC1"}, "parameter depth must be '', 16UC1 or 32FC1"),
        ({"pan": 5}, "parameter pan must be 0 with scene:tabletop"),
        ({"camera_info_url": "/nowhere.yaml"}, "'/nowhere.yaml' cannot be read"),
    ],
)
def test_what_does_not_go_with_a_scene_is_named(
    ros: RosSession, parameters: dict[str, object], reason: str
) -> None:
    camera = start_camera(ros, source="scene:tabletop", **parameters)
    assert camera.wait() == 1
    assert reason in camera.output()


def test_a_calibration_of_another_size_ends_the_camera(
    ros: RosSession, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "lens.yaml").write_text(CALIBRATION)
    camera = start_camera(ros, source=picture, camera_info_url=tmp_path / "lens.yaml")
    assert camera.wait() == 1
    assert "is of 320 x 240 pixels, the image is of 60 x 40: set size to [320, 240]" in camera.output()
