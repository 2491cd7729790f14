"""Messages of depth and calibration to arrays, objects in space to messages: pure functions."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point, Pose, Quaternion, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox3D,
    Detection2D,
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)

from sam_ros.core import lifting
from sam_ros.core.box3d import Box3D
from sam_ros.core.lifting import BoxXYXY, Depth, Solid
from sam_ros.core.pinhole import COEFFICIENTS, Pinhole
from sam_ros.errors import InvalidCameraError, InvalidDepthError
from sam_ros.node.headers import copied

# REP 118: 16UC1 holds millimetres, 32FC1 metres.
DEPTH_DTYPES: dict[str, type[np.generic]] = {
    "16UC1": np.uint16,
    "mono16": np.uint16,  # what some drivers call it
    "32FC1": np.float32,
}
LABEL_ENCODINGS = ("16UC1", "mono16")

# One row of a cloud, as PCL's PointXYZRGBL without padding: rgb is the bytes b, g, r, 0 taken for a float.
CLOUD_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("bgr0", "u1", 4), ("label", "<u4")])
CLOUD_FIELDS = (
    ("x", PointField.FLOAT32),
    ("y", PointField.FLOAT32),
    ("z", PointField.FLOAT32),
    ("rgb", PointField.FLOAT32),
    ("label", PointField.UINT32),
)
WITHOUT_COLOUR = 255  # white


def depth_from_msg(msg: Image) -> Depth:
    """(H, W) float32 metres or uint16 millimetres; shares the message's memory where it can.

    Raises:
        InvalidDepthError: another encoding, or sizes that do not fit together.
    """
    if msg.encoding not in DEPTH_DTYPES:
        raise InvalidDepthError(
            f"depth must be 16UC1 (millimetres) or 32FC1 (metres), got {msg.encoding!r}",
            kind="depth encoding",
        )
    pixels: Depth = _pixels(msg, DEPTH_DTYPES[msg.encoding], "depth")
    return pixels


def labels_from_msg(msg: Image) -> npt.NDArray[np.uint16]:
    """(H, W), k for the k-th object of the segments; shares the message's memory where it can.

    Raises:
        InvalidDepthError: another encoding, or sizes that do not fit together.
    """
    if msg.encoding not in LABEL_ENCODINGS:
        raise InvalidDepthError(f"labels must be 16UC1, got {msg.encoding!r}", kind="labels encoding")
    return _pixels(msg, np.uint16, "labels")


def _pixels(msg: Image, dtype: type[np.generic], what: str) -> npt.NDArray[Any]:
    """(height, width) in this machine's byte order, without the padding of rows."""
    stored = np.dtype(dtype).newbyteorder(">" if msg.is_bigendian else "<")
    if msg.height < 1 or msg.width < 1 or msg.step < msg.width * stored.itemsize:
        raise InvalidDepthError(
            f"{what} of {msg.width} x {msg.height} pixels cannot have a step of {msg.step}",
            kind=f"size of {what}",
        )
    if len(msg.data) < msg.step * msg.height:
        raise InvalidDepthError(
            f"{what} of {msg.height} rows of {msg.step} bytes has only {len(msg.data)} bytes of data",
            kind=f"size of {what}",
        )
    rows = np.frombuffer(msg.data, np.uint8, count=msg.step * msg.height).reshape(msg.height, msg.step)
    used = rows[:, : msg.width * stored.itemsize]
    if msg.step % stored.itemsize:
        used = np.ascontiguousarray(used)
    return used.view(stored).astype(dtype, copy=False)


def pinhole_from_msg(msg: CameraInfo, rectified: bool) -> Pinhole:
    """The camera that took an image.

    Args:
        msg: its calibration, with binning and region of interest.
        rectified: whether the image was rectified: then P holds, else K and D.

    Raises:
        InvalidCameraError: not calibrated, or a distortion of another model.
    """
    rows = np.array(msg.p).reshape(3, 4) if rectified else np.array(msg.k).reshape(3, 3)
    (fx, cx), (fy, cy) = (float(rows[0, 0]), float(rows[0, 2])), (float(rows[1, 1]), float(rows[1, 2]))
    binning_x, binning_y = max(msg.binning_x, 1), max(msg.binning_y, 1)
    left, top = msg.roi.x_offset, msg.roi.y_offset
    camera = Pinhole(
        (msg.roi.height or msg.height, msg.roi.width or msg.width),
        (fx, fy),
        (cx - left, cy - top),
        () if rectified else _distortion(msg),
    )
    height, width = camera.size_hw
    return camera.resized((height // binning_y, width // binning_x))


def _distortion(msg: CameraInfo) -> tuple[float, ...]:
    if not any(msg.d):
        return ()
    if msg.distortion_model not in COEFFICIENTS:
        raise InvalidCameraError(
            f"the distortion model {msg.distortion_model!r} is not known, only {' and '.join(COEFFICIENTS)}: "
            "rectify image and depth (image_proc), and set rectified to true",
            kind="distortion model",
        )
    expected = COEFFICIENTS[msg.distortion_model]
    if len(msg.d) < min(expected, 4) or any(msg.d[expected:]):
        raise InvalidCameraError(
            f"{msg.distortion_model} has {expected} coefficients, got {len(msg.d)}", kind="distortion model"
        )
    return tuple(msg.d[:expected])


def boxes_from_segments(segments: Sequence[Detection2D]) -> list[BoxXYXY]:
    """The box of each mask, half-open pixel edges."""
    return [_box_xyxy(segment) for segment in segments]


def _box_xyxy(detection: Detection2D) -> BoxXYXY:
    center, half_w, half_h = (
        detection.bbox.center.position,
        detection.bbox.size_x / 2,
        detection.bbox.size_y / 2,
    )
    edges = np.array([center.x - half_w, center.y - half_h, center.x + half_w, center.y + half_h])
    x0, y0, x1, y1 = np.nan_to_num(np.clip(edges, -1e6, 1e6)).tolist()
    return x0, y0, x1, y1


def pose_from_msg(msg: TransformStamped) -> lifting.Pose:
    """The rotation matrix and the translation of a transform."""
    rotation, translation = msg.transform.rotation, msg.transform.translation
    x, y, z, w = np.array([rotation.x, rotation.y, rotation.z, rotation.w])
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return lifting.Pose(matrix, np.array([translation.x, translation.y, translation.z]))


def detections_to_msg(
    solids: Sequence[Solid], segments: Sequence[Detection2D], header: Header
) -> Detection3DArray:
    """Id, classes and scores as in the segments; ``bbox`` the box, ``pose`` of each result the centroid."""
    detections = [_detection(solid, segments[solid.label - 1], header) for solid in solids]
    return Detection3DArray(header=copied(header), detections=detections)


def _detection(solid: Solid, segment: Detection2D, header: Header) -> Detection3D:
    results = []
    for given in segment.results:
        result = ObjectHypothesisWithPose(hypothesis=given.hypothesis)
        result.pose.pose.position = point_msg(solid.centroid)
        results.append(result)
    return Detection3D(header=copied(header), results=results, bbox=_box_msg(solid.box), id=segment.id)


def _box_msg(box: Box3D) -> BoundingBox3D:
    x, y, z = box.size.tolist()
    return BoundingBox3D(center=pose_msg(box), size=Vector3(x=x, y=y, z=z))


def pose_msg(box: Box3D) -> Pose:
    """The centre and the rotation of a box."""
    x, y, z, w = box.quaternion_xyzw
    return Pose(position=point_msg(box.center), orientation=Quaternion(x=x, y=y, z=z, w=w))


def point_msg(point: npt.NDArray[np.float64]) -> Point:
    """A point (3,) in metres."""
    x, y, z = point.tolist()
    return Point(x=x, y=y, z=z)


def box_from_msg(msg: BoundingBox3D) -> Box3D:
    """What ``detections_to_msg`` made a message of."""
    position = msg.center.position
    rotation = pose_from_msg(_turning_by(msg.center.orientation)).rotation
    return Box3D(
        np.array([position.x, position.y, position.z]),
        rotation,
        np.array([msg.size.x, msg.size.y, msg.size.z]),
    )


def _turning_by(orientation: Quaternion) -> TransformStamped:
    transform = TransformStamped()
    transform.transform.rotation = orientation
    return transform


def cloud_to_msg(
    solids: Sequence[Solid],
    image_rgb: npt.NDArray[np.uint8] | None,
    depth_hw: tuple[int, int],
    header: Header,
) -> PointCloud2:
    """All objects' points with the fields x, y, z, rgb and label, which is k for the k-th segment.

    Args:
        solids: the objects.
        image_rgb: (H, W, 3) whose colours the points take, a whole number of times as large as the depth;
            None for white.
        depth_hw: (h, w) of the depth image.
        header: of the cloud.
    """
    rows = np.zeros(sum(len(solid.points) for solid in solids), CLOUD_DTYPE)
    end = 0
    for solid in solids:
        start, end = end, end + len(solid.points)
        part = rows[start:end]
        part["x"], part["y"], part["z"] = solid.points.T
        part["label"] = solid.label
        part["bgr0"][:, :3] = (
            WITHOUT_COLOUR if image_rgb is None else _colours_bgr(solid, image_rgb, depth_hw)
        )
    return _cloud_msg(rows, header)


def _colours_bgr(
    solid: Solid, image_rgb: npt.NDArray[np.uint8], depth_hw: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """(N, 3) of the middle pixel under each pixel of the depth."""
    factor = lifting.times_smaller((image_rgb.shape[0], image_rgb.shape[1]), depth_hw)
    middle = factor // 2
    return image_rgb[solid.rows * factor + middle, solid.columns * factor + middle, ::-1]


def _cloud_msg(rows: npt.NDArray[np.void], header: Header) -> PointCloud2:
    size = CLOUD_DTYPE.itemsize
    msg = PointCloud2(
        header=copied(header), height=1, width=len(rows), point_step=size, row_step=size * len(rows)
    )
    msg.fields = [
        PointField(name=name, offset=4 * index, datatype=datatype, count=1)
        for index, (name, datatype) in enumerate(CLOUD_FIELDS)
    ]
    msg.is_bigendian = False
    msg.is_dense = True
    data = array("B")
    data.frombytes(rows.tobytes())
    msg.data = data
    return msg
