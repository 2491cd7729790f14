"""A camera: publishes a file, a folder, a video, a device, a stream or a rendered scene as a driver would."""

from __future__ import annotations

import itertools
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from threading import Event
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
from builtin_interfaces.msg import Time
from cv_bridge import CvBridge
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from sam_ros.core.tabletop import Rendering, render, sensed, tilted_view
from sam_ros.errors import InvalidCameraError, InvalidParameterError
from sam_ros.node.startup import init_rclpy
from sam_ros.signals import event_set_by_signals
from sam_ros.tools.calibration import calibration_from_url, pinhole
from sam_ros.tools.capture import LiveCamera, Shot, is_live, open_capture, without_password
from sam_ros.tools.conversions_3d import pinhole_from_msg
from sam_ros.tools.declaring import declared
from sam_ros.tools.sources import ImageRgb, SourceError, frames

SCENE = "scene:tabletop"
SCENE_SIZE_WH = (640, 480)
SCENE_DISTANCE_M = 0.9  # from the middle of its table
SCENE_NOISE_M = 0.002  # of its depth, at one metre
SCENE_HOLES = 0.02
PRINT_M = 1.0  # any other source is a print that stands so far ahead of the camera
DEPTH_ENCODINGS = ("", "16UC1", "32FC1")
PAN_PERIOD_SEC = 10.0
FIRST_PICTURE_SEC = 15.0  # a live camera that gives none in this time is given up
ENCODINGS = ("rgb8", "bgr8")

# Reliable: such a publisher matches best-effort and reliable subscribers alike. The small depth bounds what a
# slow reliable subscriber can hold back; transient local, the newest image is kept for who subscribes later.
IMAGE_QOS = {  # by the parameter image_durability
    "volatile": QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE),
    "transient_local": QoSProfile(
        depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
    ),
}


def _setting(default: Any, description: str) -> Any:
    """A parameter: a field that carries its own description."""
    metadata = {"description": description}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The camera's parameters.

    Raises:
        SourceError: a value that cannot be used.
    """

    source: str = _setting(
        "",
        "Picture, folder, video, /dev/videoN or its number, rtsp:// or another stream, photograph:NAME of "
        f"scikit-image, or {SCENE}, which is rendered.",
    )
    rate: float = _setting(
        10.0,
        "Pictures in a second, of a live camera the most; 0 publishes a single one, with image_durability "
        "transient_local.",
    )
    encoding: str = _setting("rgb8", "Of the images: rgb8 or bgr8.")
    pan: int = _setting(
        0,
        "Pixels by which the view of a file swings to and fro in ten seconds; 0 is a still view, as a live "
        "camera's always is.",
    )
    size: list[int] = _setting(  # noqa: RUF009 it is a dataclass field
        [0, 0], "Width and height to resize to, and to ask a live camera for; [0, 0] keeps the source's."
    )
    frame_id: str = _setting("camera", "Frame id of every header.")
    loop: bool = _setting(True, "Whether a folder or a video begins again at its end; else the camera ends.")
    depth: str = _setting(
        "",
        f"Encoding of a depth image beside each picture, 16UC1 or 32FC1: the true one of {SCENE}, of any "
        f"other source that of a print {PRINT_M:g} m ahead. Empty for none.",
    )
    camera_info_url: str = _setting(
        "", "File of a calibration, as camera_calibration writes it; empty for a plain pinhole."
    )
    image_durability: str = _setting(
        "volatile",
        "volatile, or transient_local: who subscribes later, and asks for it, gets the newest image too.",
    )

    def __post_init__(self) -> None:
        if not self.source:
            raise SourceError(
                "parameter source is empty: give a picture, a folder, a video, /dev/videoN, rtsp://... or "
                "photograph:NAME, for example --ros-args -p source:=photograph:astronaut"
            )
        if self.encoding not in ENCODINGS:
            raise SourceError(f"parameter encoding must be {' or '.join(ENCODINGS)}, got {self.encoding!r}")
        self._check_rate()
        self._check_view()
        self._check_depth()

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

    def _check_view(self) -> None:
        if self.pan < 0:
            raise SourceError(f"parameter pan must not be negative, got {self.pan}")
        if self.pan and self.source == SCENE:
            raise SourceError(f"parameter pan must be 0 with {SCENE}: it is rendered from one place")
        if len(self.size) != 2 or (self.size_wh != (0, 0) and min(self.size) < 1):
            raise SourceError(f"parameter size must be [width, height] or [0, 0], got {list(self.size)}")

    def _check_depth(self) -> None:
        if self.depth not in DEPTH_ENCODINGS:
            raise SourceError(f"parameter depth must be '', 16UC1 or 32FC1, got {self.depth!r}")
        if self.depth and self.is_live:
            raise SourceError("parameter depth must be '' with a live camera, whose depth is not known")

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height; (0, 0) keeps the source's."""
        return self.size[0], self.size[1]

    @property
    def is_live(self) -> bool:
        """Whether pictures come by themselves."""
        return is_live(self.source)


def declare_settings(node: Node) -> Settings:
    """Declare every parameter on a node and read it.

    Raises:
        SourceError, InvalidParameterError: see ``Settings`` and ``declared``.
        rclpy.exceptions.ParameterException: a value of another type.
    """
    defaults = Settings(source=SCENE)
    values = {
        one.name: declared(
            node,
            one.name,
            "" if one.name == "source" else getattr(defaults, one.name),
            one.metadata["description"],
        )
        for one in fields(Settings)
    }
    return Settings(**{**values, "size": list(values["size"])})


class Camera(Node):
    """Publishes one picture of its source at each tick, if there is a new one.

    ``finished`` is true once the source has ended.

    Raises:
        SourceError: there is nothing to show.
    """

    def __init__(self) -> None:
        super().__init__("camera")
        self.finished = False
        self._settings = declare_settings(self)
        self._bridge = CvBridge()
        self._calibration = calibration_from_url(self._settings.camera_info_url)
        self._rendering = _rendering(self._settings, self._calibration)
        self._live = self._opened() if self._settings.is_live else None
        shots = self._file_shots() if self._live is None else self._live_shots(self._live)
        first = next(shots)  # here, so that a bad source ends the start-up
        self._shots = itertools.chain([first], shots)
        image_topic = self.resolve_topic_name("image")  # as image_transport: beside the image, wherever it is
        qos = IMAGE_QOS[self._settings.image_durability]
        self._image = self.create_publisher(Image, image_topic, qos)
        self._compressed = self.create_publisher(CompressedImage, f"{image_topic}/compressed", qos)
        self._camera_info = self.create_publisher(CameraInfo, "camera_info", qos)
        self._depth_image = self._made_depth(first.image_rgb if first else None)
        self._depth = self.create_publisher(Image, "depth", qos) if self._settings.depth else None
        if self._settings.keeps_newest:
            self._publish_next()
        if self._settings.rate > 0:
            self.create_timer(1.0 / self._settings.rate, self._publish_next)

    def _file_shots(self) -> Iterator[Shot[Time] | None]:
        """Its pictures, each as if it was taken when it is asked for."""
        for image_rgb in _prepared_frames(self._settings, self._rendering):
            yield Shot(image_rgb, self._time())

    def _opened(self) -> LiveCamera[Time]:
        return LiveCamera(open_capture(self._settings.source, self._settings.size_wh), self._time)

    def stop(self) -> None:
        """Before the node is destroyed."""
        if self._live is not None:
            self._live.stop()

    def _live_shots(self, live: LiveCamera[Time]) -> Iterator[Shot[Time] | None]:
        """The newest picture each time, or None if there is no new one."""
        size_wh = self._settings.size_wh
        shot = live.take(FIRST_PICTURE_SEC)
        if shot is None:
            shown = without_password(self._settings.source)
            raise SourceError(f"source {shown!r} has given no picture in {FIRST_PICTURE_SEC:g} s")
        while True:
            yield shot and Shot(_resized(shot.image_rgb, size_wh), shot.moment)
            shot = live.take()

    def _time(self) -> Time:
        return self.get_clock().now().to_msg()

    def _publish_next(self) -> None:
        try:
            shot = next(self._shots)
        except StopIteration:  # a file has been shown to its end
            self.finished = True
            return
        if shot is not None:
            header = Header(stamp=shot.moment, frame_id=self._settings.frame_id)
            self._publish(shot.image_rgb, header)

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
    except (SourceError, InvalidParameterError, ParameterException) as error:
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
    camera.stop()
    executor.shutdown()
    camera.destroy_node()


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
        yield np.ascontiguousarray(_resized(window, settings.size_wh))


def _resized(image_rgb: ImageRgb, size_wh: tuple[int, int]) -> ImageRgb:
    """The picture in this size, (0, 0) being its own."""
    if size_wh in ((0, 0), image_rgb.shape[1::-1]):
        return image_rgb
    return cv2.resize(image_rgb, size_wh, interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    sys.exit(main())
