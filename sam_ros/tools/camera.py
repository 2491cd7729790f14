"""A camera made of files: publishes a picture, a folder, a video or a rendered scene as a driver would."""

from __future__ import annotations

import importlib
import itertools
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
import yaml
from cv_bridge import CvBridge
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from sam_ros.core.tabletop import Rendering, render, sensed, tilted_view
from sam_ros.errors import InvalidCameraError, SamRosError
from sam_ros.node.startup import init_rclpy
from sam_ros.signals import event_set_by_signals
from sam_ros.tools.conversions_3d import pinhole_from_msg

ImageRgb = npt.NDArray[np.uint8]  # (H, W, 3)

PHOTOGRAPH_SCHEME = "photograph:"
SCENE = "scene:tabletop"
SCENE_SIZE_WH = (640, 480)
SCENE_DISTANCE_M = 0.9  # from the middle of its table
SCENE_NOISE_M = 0.002  # of its depth, at one metre
SCENE_HOLES = 0.02
PRINT_M = 1.0  # any other source is a print that stands so far ahead of the camera
DEPTH_ENCODINGS = ("", "16UC1", "32FC1")
FILE_SCHEME = "file://"
PAN_PERIOD_SEC = 10.0
ENCODINGS = ("rgb8", "bgr8")

# Reliable: such a publisher matches best-effort and reliable subscribers alike. The small depth bounds what a
# slow reliable subscriber can hold back; transient local, the newest image is kept for who subscribes later.
IMAGE_QOS = {  # by the parameter image_durability
    "volatile": QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE),
    "transient_local": QoSProfile(
        depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
    ),
}


class SourceError(SamRosError):
    """A parameter or a file from which no pictures can be made; the message says what would do."""


@dataclass(frozen=True)
class Settings:
    """The camera's parameters."""

    source: str
    rate: float
    encoding: str
    pan: int
    size_wh: tuple[int, int]
    frame_id: str
    loop: bool
    depth: str
    camera_info_url: str
    image_durability: str

    def __post_init__(self) -> None:
        if not self.source:
            raise SourceError(
                "parameter source is empty: give a picture, a folder, a video or photograph:NAME, "
                "for example --ros-args -p source:=photograph:astronaut"
            )
        if self.encoding not in ENCODINGS:
            raise SourceError(f"parameter encoding must be {' or '.join(ENCODINGS)}, got {self.encoding!r}")
        self._check_rate()
        if self.pan < 0:
            raise SourceError(f"parameter pan must not be negative, got {self.pan}")
        if self.pan and self.source == SCENE:
            raise SourceError(f"parameter pan must be 0 with {SCENE}: it is rendered from one place")
        if self.depth not in DEPTH_ENCODINGS:
            raise SourceError(f"parameter depth must be '', 16UC1 or 32FC1, got {self.depth!r}")
        if self.size_wh != (0, 0) and min(self.size_wh) < 1:
            raise SourceError(f"parameter size must be [width, height] or [0, 0], got {list(self.size_wh)}")

    def _check_rate(self) -> None:
        if self.image_durability not in IMAGE_QOS:
            raise SourceError(
                f"parameter image_durability must be {' or '.join(IMAGE_QOS)}, got {self.image_durability!r}"
            )
        if not (0 < self.rate <= 1000 or (self.rate == 0 and self.keeps_newest)):
            raise SourceError(
                "parameter rate must be above 0 Hz and at most 1000 Hz, or 0 for a single image with "
                f"image_durability transient_local, got {self.rate}"
            )

    @property
    def keeps_newest(self) -> bool:
        """Whether who subscribes later gets the newest image too."""
        return self.image_durability == "transient_local"


class Camera(Node):
    """Publishes one frame of its source at each tick; ``finished`` once the source has ended."""

    def __init__(self) -> None:
        super().__init__("camera")
        self.finished = False
        self._settings = _declare_settings(self)
        self._bridge = CvBridge()
        self._calibration = calibration_from_url(self._settings.camera_info_url)
        self._rendering = _rendering(self._settings, self._calibration)
        self._frames = _prepared_frames(self._settings, self._rendering)
        self._next_frame: ImageRgb | None = next(self._frames)  # here, so that a bad source ends the start-up
        image_topic = self.resolve_topic_name("image")  # as image_transport: beside the image, wherever it is
        qos = IMAGE_QOS[self._settings.image_durability]
        self._image = self.create_publisher(Image, image_topic, qos)
        self._compressed = self.create_publisher(CompressedImage, f"{image_topic}/compressed", qos)
        self._camera_info = self.create_publisher(CameraInfo, "camera_info", qos)
        self._depth_image = self._made_depth(self._next_frame)
        self._depth = self.create_publisher(Image, "depth", qos) if self._settings.depth else None
        if self._settings.keeps_newest:
            self._publish_next()
        if self._settings.rate > 0:
            self.create_timer(1.0 / self._settings.rate, self._publish_next)

    def _publish_next(self) -> None:
        if self._next_frame is None:
            self.finished = True
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._settings.frame_id)
        self._publish(self._next_frame, header)
        self._next_frame = next(self._frames, None)

    def _publish(self, image_rgb: ImageRgb, header: Header) -> None:
        encoding = self._settings.encoding
        image = image_rgb if encoding == "rgb8" else cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
        self._image.publish(self._bridge.cv2_to_imgmsg(image, encoding, header))
        self._camera_info.publish(self._calibrated(image_rgb.shape[:2], header))
        if self._depth is not None:
            if self._depth_image.shape != image_rgb.shape[:2]:
                self._depth_image = self._made_depth(image_rgb)
            self._depth.publish(self._bridge.cv2_to_imgmsg(self._depth_image, self._settings.depth, header))
        if self._settings.keeps_newest or self._compressed.get_subscription_count() > 0:
            self._compressed.publish(jpeg(image_rgb, header))

    def _calibrated(self, size_hw: tuple[int, int], header: Header) -> CameraInfo:
        calibration = self._calibration
        if calibration is None:
            return pinhole(size_hw, header)
        if (calibration.height, calibration.width) != size_hw:
            raise SourceError(
                f"camera_info_url is of {calibration.width} x {calibration.height} pixels, the image is of "
                f"{size_hw[1]} x {size_hw[0]}: set size to [{calibration.width}, {calibration.height}]"
            )
        calibration.header = header
        return calibration

    def _made_depth(self, image_rgb: ImageRgb | None) -> npt.NDArray[Any]:
        """The depth image of a picture, in the encoding that is asked for."""
        if self._rendering is not None:
            depth_m = sensed(self._rendering.depth_m, SCENE_NOISE_M, SCENE_HOLES, seed=0)
        else:
            size_hw = (1, 1) if image_rgb is None else image_rgb.shape[:2]
            depth_m = np.full(size_hw, PRINT_M, np.float32)
        return encoded_depth(depth_m, self._settings.depth)


def encoded_depth(depth_m: npt.NDArray[np.float32], encoding: str) -> npt.NDArray[Any]:
    """Metres as they are for 32FC1, as whole millimetres for 16UC1, with 0 for holes and what is too far."""
    if encoding != "16UC1":
        return depth_m
    millimetres = np.round(1000 * depth_m)
    fits = millimetres <= np.iinfo(np.uint16).max  # false for NaN
    return np.where(fits, millimetres, 0).astype(np.uint16)


def pan_offset(time_sec: float, pan: int) -> tuple[int, int]:
    """Where the window's top left corner is at a time: x in [0, 2 * pan], y in [0, pan], pixels."""
    phase = 2 * math.pi * time_sec / PAN_PERIOD_SEC
    return round(pan * (1 + math.sin(phase))), round(pan * (1 + math.sin(2 * phase)) / 2)


def panned(image_rgb: ImageRgb, time_sec: float, pan: int) -> ImageRgb:
    """The window of (H - pan, W - 2 * pan) pixels that is seen at a time.

    Raises:
        SourceError: the image is too small for that.
    """
    height, width = image_rgb.shape[0] - pan, image_rgb.shape[1] - 2 * pan
    if min(height, width) < 1:
        raise SourceError(f"parameter pan = {pan} leaves nothing of an image of {image_rgb.shape[:2]} (H, W)")
    x, y = pan_offset(time_sec, pan)
    return image_rgb[y : y + height, x : x + width]


def frames(source: str, *, loop: bool) -> Iterator[ImageRgb]:
    """The pictures of a source in order; a single picture for ever, the others again and again with ``loop``.

    Raises:
        SourceError: there is nothing to show; raised when the frame in question is asked for.
    """
    if source.startswith(PHOTOGRAPH_SCHEME):
        yield from itertools.repeat(_photograph(source.removeprefix(PHOTOGRAPH_SCHEME)))
    path = Path(source).expanduser()
    if not path.exists():
        raise SourceError(f"source {source!r} does not exist")
    if path.is_file() and cv2.haveImageReader(str(path)):
        yield from itertools.repeat(_picture(path))
    one_pass = _folder_frames if path.is_dir() else _video_frames
    yield from one_pass(path)
    while loop:
        yield from one_pass(path)


def pinhole(size_hw: tuple[int, int], header: Header) -> CameraInfo:
    """The calibration of a camera without distortion whose focal length is the image's longer side."""
    height, width = size_hw
    focal, center_x, center_y = float(max(size_hw)), (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, center_x, 0.0, focal, center_y, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, center_x, 0.0, 0.0, focal, center_y, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def calibration_from_url(url: str) -> CameraInfo | None:
    """The calibration in a file as camera_calibration writes it; None for an empty URL.

    Raises:
        SourceError: there is no such file, or it holds no calibration.
    """
    if not url:
        return None
    path = Path(url.removeprefix(FILE_SCHEME)).expanduser()
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return CameraInfo(
            height=values["image_height"],
            width=values["image_width"],
            distortion_model=values["distortion_model"],
            d=[float(value) for value in values["distortion_coefficients"]["data"]],
            k=_matrix(values["camera_matrix"], 9),
            r=_matrix(values["rectification_matrix"], 9),
            p=_matrix(values["projection_matrix"], 12),
        )
    except OSError as error:
        raise SourceError(f"camera_info_url {url!r} cannot be read: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, AssertionError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"camera_info_url {url!r} holds no calibration as camera_calibration writes it: {error!r}"
        ) from error


def _matrix(value: dict[str, Any], length: int) -> list[float]:
    data = [float(one) for one in value["data"]]
    if len(data) != length:
        raise ValueError(f"a matrix of {length} values has {len(data)}")
    return data


def jpeg(image_rgb: ImageRgb, header: Header) -> CompressedImage:
    """A JPEG of the image, its format as compressed_image_transport writes it."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))[1]
    message = CompressedImage(header=header, format="bgr8; jpeg compressed bgr8")
    data = array("B")
    data.frombytes(encoded.tobytes())
    message.data = data
    return message


def main(argv: Sequence[str] | None = None) -> int:
    """The ``camera`` executable; returns the exit code."""
    stop = event_set_by_signals()
    init_rclpy(argv)
    try:
        _run(stop)
    except (SourceError, ParameterException) as error:
        rclpy.logging.get_logger("camera").fatal(str(error))
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


def _run(stop: Event) -> None:
    camera = Camera()
    executor = SingleThreadedExecutor()
    executor.add_node(camera)
    while not (stop.is_set() or camera.finished):
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    camera.destroy_node()


def _declare_settings(node: Node) -> Settings:
    def declared(name: str, default: Any, description: str) -> Any:
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return node.declare_parameter(name, default, descriptor).value

    return Settings(
        source=declared(
            "source",
            "",
            f"Picture, folder, video, photograph:NAME of scikit-image, or {SCENE}, which is rendered.",
        ),
        rate=declared(
            "rate",
            10.0,
            "Frames per second; 0 publishes a single one, with image_durability transient_local.",
        ),
        encoding=declared("encoding", "rgb8", "Of the images: rgb8 or bgr8."),
        pan=declared(
            "pan", 0, "Pixels by which the view swings to and fro in ten seconds; 0 is a still view."
        ),
        size_wh=tuple(declared("size", [0, 0], "Width and height to resize to; [0, 0] keeps the source's.")),
        frame_id=declared("frame_id", "camera", "Frame id of every header."),
        loop=declared(
            "loop", True, "Whether a folder or a video begins again at its end; else the camera ends."
        ),
        depth=declared(
            "depth",
            "",
            f"Encoding of a depth image beside each picture, 16UC1 or 32FC1: the true one of {SCENE}, of any "
            f"other source that of a print {PRINT_M:g} m ahead. Empty for none.",
        ),
        camera_info_url=declared(
            "camera_info_url",
            "",
            "File of a calibration, as camera_calibration writes it; empty for a plain pinhole.",
        ),
        image_durability=declared(
            "image_durability",
            "volatile",
            "volatile, or transient_local: who subscribes later, and asks for it, gets the newest image too.",
        ),
    )


def _rendering(settings: Settings, calibration: CameraInfo | None) -> Rendering | None:
    """The rendered scene, seen by the calibrated camera; None for another source."""
    if settings.source != SCENE:
        return None
    width, height = SCENE_SIZE_WH if settings.size_wh == (0, 0) else settings.size_wh
    try:
        camera = pinhole_from_msg(calibration or pinhole((height, width), Header()), rectified=False)
    except InvalidCameraError as error:
        raise SourceError(f"camera_info_url {settings.camera_info_url!r}: {error}") from error
    return render(tilted_view(camera, SCENE_DISTANCE_M))


def _prepared_frames(settings: Settings, rendering: Rendering | None) -> Iterator[ImageRgb]:
    """The source's frames, panned and resized."""
    if rendering is not None:
        yield from itertools.repeat(rendering.image_rgb)
    for index, image_rgb in enumerate(frames(settings.source, loop=settings.loop)):
        window = panned(image_rgb, index / settings.rate if settings.rate else 0.0, settings.pan)
        if settings.size_wh != (0, 0):
            window = cv2.resize(window, settings.size_wh, interpolation=cv2.INTER_AREA)
        yield np.ascontiguousarray(window)


def _photograph(name: str) -> ImageRgb:
    try:
        photographs = importlib.import_module("skimage.data")  # only this source needs scikit-image
        image = getattr(photographs, name)()
    except ImportError as error:
        raise SourceError("photograph:NAME needs scikit-image: pip install scikit-image") from error
    except (AttributeError, TypeError, OSError) as error:
        raise SourceError(
            f"scikit-image has no photograph {name!r} here; try astronaut, coffee or rocket"
        ) from error
    if not isinstance(image, np.ndarray):
        raise SourceError(f"{name!r} of scikit-image is no photograph; try astronaut, coffee or rocket")
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return image[..., :3]


def _picture(path: Path) -> ImageRgb:
    image_bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise SourceError(f"{path} looks like a picture but cannot be decoded")
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)


def _folder_frames(path: Path) -> Iterator[ImageRgb]:
    pictures = [
        child for child in sorted(path.iterdir()) if child.is_file() and cv2.haveImageReader(str(child))
    ]
    if not pictures:
        raise SourceError(f"folder {path} holds no picture that OpenCV reads")
    yield from map(_picture, pictures)


def _video_frames(path: Path) -> Iterator[ImageRgb]:
    capture = cv2.VideoCapture(str(path))
    success, image_bgr = capture.read()
    if not success:
        raise SourceError(f"{path} is neither a picture nor a video that OpenCV reads")
    while success:
        yield cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)
        success, image_bgr = capture.read()
    capture.release()


if __name__ == "__main__":
    sys.exit(main())
