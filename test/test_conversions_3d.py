"""Messages of depth and calibration in, objects in space out, held to hand-made ones."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, ObjectHypothesis, ObjectHypothesisWithPose

from sam_ros.core.box3d import Box3D
from sam_ros.core.lifting import Solid
from sam_ros.errors import InvalidCameraError, InvalidDepthError
from sam_ros.tools.conversions_3d import (
    box_from_msg,
    boxes_from_segments,
    cloud_to_msg,
    depth_from_msg,
    detections_to_msg,
    labels_from_msg,
    pinhole_from_msg,
    pose_from_msg,
)

HEADER = Header(frame_id="camera")
MILLIMETRES = np.array([[0, 1000, 65535], [1, 2, 3]], np.uint16)
METRES = np.array([[np.nan, 1.0, np.inf], [0.5, 0.0, -1.0]], np.float32)


def image(pixels: npt.NDArray[Any], encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """A message of one channel."""
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    rows = [row.tobytes() + b"\xff" * padding for row in stored]
    msg = Image(header=HEADER, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    msg.step, msg.is_bigendian, msg.data = len(rows[0]), int(big_endian), array("B", b"".join(rows))
    return msg


@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("big_endian", [False, True])
def test_depth_comes_in_either_encoding_order_and_padding(padding: int, big_endian: bool) -> None:
    for pixels, encoding in ((MILLIMETRES, "16UC1"), (MILLIMETRES, "mono16"), (METRES, "32FC1")):
        depth = depth_from_msg(image(pixels, encoding, padding, big_endian))
        assert depth.dtype == pixels.dtype and depth.dtype.isnative
        np.testing.assert_array_equal(depth, pixels)


def test_plain_depth_shares_the_messages_memory() -> None:
    msg = image(MILLIMETRES, "16UC1")
    depth = depth_from_msg(msg)
    msg.data[0] = 7
    assert depth[0, 0] == 7


def test_labels_are_16_bit() -> None:
    np.testing.assert_array_equal(labels_from_msg(image(MILLIMETRES, "16UC1")), MILLIMETRES)
    with pytest.raises(InvalidDepthError, match="labels must be 16UC1, got '8UC1'"):
        labels_from_msg(image(np.zeros((2, 2), np.uint8), "8UC1"))


def test_another_encoding_of_depth_is_named() -> None:
    with pytest.raises(InvalidDepthError, match=r"16UC1 \(millimetres\) or 32FC1 \(metres\), got 'rgb8'"):
        depth_from_msg(image(np.zeros((2, 6), np.uint8), "rgb8"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"step": 5}, "cannot have a step of 5"),
        ({"height": 3}, "has only 12 bytes"),
        ({"height": 0}, "3 x 0 pixels"),
        ({"width": 0}, "0 x 2 pixels"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, int], reason: str) -> None:
    msg = image(MILLIMETRES, "16UC1")
    for name, value in changes.items():
        setattr(msg, name, value)
    with pytest.raises(InvalidDepthError, match=reason):
        depth_from_msg(msg)


def info(model: str = "plumb_bob", d: tuple[float, ...] = (), **changes: Any) -> CameraInfo:
    return CameraInfo(
        width=640,
        height=480,
        distortion_model=model,
        d=list(d),
        k=[600.0, 0.0, 320.0, 0.0, 590.0, 240.0, 0.0, 0.0, 1.0],
        p=[550.0, 0.0, 310.0, 0.0, 0.0, 540.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        **changes,
    )


def test_a_raw_image_is_seen_through_k_and_d() -> None:
    d = (0.1, -0.2, 0.001, 0.002, 0.05)
    camera = pinhole_from_msg(info(d=d), rectified=False)
    assert (camera.size_hw, camera.focal_xy, camera.center_xy) == ((480, 640), (600.0, 590.0), (320.0, 240.0))
    assert camera.distortion == d
    rational = pinhole_from_msg(info("rational_polynomial", (*d, 0.3, 0.2, 0.1)), rectified=False)
    assert rational.distortion == (*d, 0.3, 0.2, 0.1)


def test_a_rectified_image_is_seen_through_p() -> None:
    camera = pinhole_from_msg(info("equidistant", (0.1, 0.2, 0.3, 0.4)), rectified=True)
    assert (camera.focal_xy, camera.center_xy, camera.distortion) == ((550.0, 540.0), (310.0, 230.0), ())


def test_a_model_without_distortion_needs_no_name() -> None:
    assert pinhole_from_msg(info("", (0.0,) * 5), rectified=False).distortion == ()


def test_a_region_and_binning_move_and_scale_the_image() -> None:
    msg = info(binning_x=2, binning_y=2)
    msg.roi.x_offset, msg.roi.y_offset, msg.roi.width, msg.roi.height = 40, 80, 400, 300
    camera = pinhole_from_msg(msg, rectified=False)
    assert (camera.size_hw, camera.focal_xy) == ((150, 200), (300.0, 295.0))
    assert camera.center_xy == ((320 - 40 + 0.5) / 2 - 0.5, (240 - 80 + 0.5) / 2 - 0.5)


@pytest.mark.parametrize(
    ("msg", "reason"),
    [
        (CameraInfo(width=640, height=480), "is the camera calibrated"),
        (info("equidistant", (0.1, 0.2, 0.3, 0.4)), "rectify image and depth"),
        (info("plumb_bob", (0.1,) * 8), "has 5 coefficients, got 8"),
        (info("plumb_bob", (0.1, 0.1)), "has 5 coefficients, got 2"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(msg: CameraInfo, reason: str) -> None:
    with pytest.raises(InvalidCameraError, match=reason):
        pinhole_from_msg(msg, rectified=False)


def segment(id: str, class_id: str = "cup", score: float = 0.75) -> Detection2D:
    hypothesis = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=class_id, score=score))
    detection = Detection2D(id=id, results=[hypothesis])
    detection.bbox.center.position.x, detection.bbox.center.position.y = 10.0, 20.5
    detection.bbox.size_x, detection.bbox.size_y = 8.0, 5.0
    return detection


def test_a_segments_box_is_from_edge_to_edge() -> None:
    assert boxes_from_segments([segment("a")]) == [(6.0, 18.0, 14.0, 23.0)]


def test_a_box_that_is_no_number_is_harmless() -> None:
    broken = segment("a")
    broken.bbox.size_x, broken.bbox.center.position.y = float("inf"), float("nan")
    ((x0, y0, x1, y1),) = boxes_from_segments([broken])
    assert np.isfinite([x0, y0, x1, y1]).all()


def solid(label: int, depth_m: float = 1.0) -> Solid:
    points = np.array([[0.1, 0.2, depth_m], [0.3, 0.4, depth_m]], np.float32)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    box = Box3D(np.array([0.2, 0.3, depth_m]), turn, np.array([0.5, 0.4, 0.3]))
    return Solid(
        label, points, np.array([0, 1]), np.array([1, 2]), points.mean(axis=0).astype(float), box, 0.9
    )


def test_detections_keep_id_class_and_score_and_get_box_and_centroid() -> None:
    segments = [segment("a"), segment("b", "bowl", 0.5)]
    msg = detections_to_msg([solid(2, 1.5)], segments, HEADER)
    assert msg.header == HEADER
    (detection,) = msg.detections
    assert (detection.id, detection.header) == ("b", HEADER)
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("bowl", 0.5)
    centroid = result.pose.pose.position
    np.testing.assert_allclose([centroid.x, centroid.y, centroid.z], [0.2, 0.3, 1.5], rtol=1e-6)
    assert (detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z) == (0.5, 0.4, 0.3)
    assert (detection.bbox.center.position.x, detection.bbox.center.position.z) == (0.2, 1.5)
    assert segments[1].results[0].pose.pose.position.z == 0, "the segments are left alone"


def test_a_box_survives_its_message() -> None:
    box = solid(1).box
    again = box_from_msg(detections_to_msg([solid(1)], [segment("a")], HEADER).detections[0].bbox)
    np.testing.assert_allclose(again.rotation, box.rotation, atol=1e-12)
    np.testing.assert_allclose(again.corners, box.corners, atol=1e-12)


def test_a_transform_turns_and_shifts() -> None:
    msg = TransformStamped()
    msg.transform.translation.x, msg.transform.translation.z = 1.0, 2.0
    msg.transform.rotation.z = msg.transform.rotation.w = np.sqrt(0.5)  # a quarter turn to the left
    pose = pose_from_msg(msg)
    np.testing.assert_allclose(pose.rotation @ [1, 0, 0] + pose.translation, [1, 1, 2], atol=1e-12)


def cloud_rows(msg: PointCloud2) -> npt.NDArray[np.void]:
    """As sensor_msgs_py.point_cloud2 reads it: by the fields' names, offsets and types."""
    types = {7: "<f4", 6: "<u4"}
    dtype = np.dtype(
        {
            "names": [field.name for field in msg.fields],
            "formats": [types[field.datatype] for field in msg.fields],
            "offsets": [field.offset for field in msg.fields],
            "itemsize": msg.point_step,
        }
    )
    return np.frombuffer(msg.data, dtype)


def test_a_cloud_holds_points_colours_and_labels() -> None:
    image_rgb = np.zeros((4, 6, 3), np.uint8)
    image_rgb[1, 3], image_rgb[3, 5] = (
        (10, 20, 30),
        (200, 100, 50),
    )  # under the middle of two pixels of the depth
    msg = cloud_to_msg([solid(1), solid(3, 2.0)], image_rgb, (2, 3), HEADER)
    rows = cloud_rows(msg)
    assert (msg.height, msg.width, msg.row_step, msg.header) == (1, 4, 80, HEADER)
    np.testing.assert_allclose(rows["x"], [0.1, 0.3, 0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(rows["z"], [1, 1, 2, 2])
    assert rows["label"].tolist() == [1, 1, 3, 3]
    assert rows["rgb"].view("<u4").tolist() == [0x0A141E, 0xC86432] * 2  # RViz's 0x00rrggbb
    assert bool(msg.is_bigendian) is (sys.byteorder == "big")


def test_without_an_image_points_are_white() -> None:
    rows = cloud_rows(cloud_to_msg([solid(1)], None, (2, 3), HEADER))
    assert rows["rgb"].view("<u4").tolist() == [0xFFFFFF] * 2


def test_no_objects_make_an_empty_cloud() -> None:
    msg = cloud_to_msg([], None, (2, 3), HEADER)
    assert (msg.width, len(msg.data)) == (0, 0)
