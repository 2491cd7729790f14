"""Gestures to the node's messages, and its answers to what the page reads: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Point, PointStamped
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray

from sam_ros.errors import InvalidImageError
from sam_ros.tools.web.colours import Colours
from sam_ros.tools.web.gestures import Click, Drag, Moment
from sam_ros.tools.web.pictures import areas

LEVELS = {
    DiagnosticStatus.OK: "ok",
    DiagnosticStatus.WARN: "warning",
    DiagnosticStatus.ERROR: "error",
    DiagnosticStatus.STALE: "stale",
}


def header_of(moment: Moment) -> Header:
    """The header of the frame that the person saw."""
    header = Header(frame_id=moment.frame_id)
    header.stamp.sec, header.stamp.nanosec = moment.sec, moment.nanosec
    return header


def point_of(click: Click) -> PointStamped:
    """The click as the node takes it, z being 0."""
    return PointStamped(header=header_of(click.moment), point=Point(x=click.x, y=click.y))


def box_of(drag: Drag) -> Detection2D:
    """The box as one object without an id: a person's."""
    x0, y0, x1, y1 = drag.box_xyxy
    bbox = BoundingBox2D(size_x=x1 - x0, size_y=y1 - y0)
    bbox.center.position.x, bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
    return Detection2D(header=header_of(drag.moment), bbox=bbox)


def moment_values(header: Header) -> dict[str, Any]:
    """A header as the page gets it, and gives it back with each gesture."""
    return {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec, "frame_id": header.frame_id}


def labels_of(msg: Image) -> npt.NDArray[np.uint16]:
    """(H, W) uint16 of the node's 16UC1, sharing the message's memory where it can.

    Raises:
        InvalidImageError: not such an image.
    """
    kind = np.dtype(np.uint16).newbyteorder(">" if msg.is_bigendian else "<")
    return _rows(msg, "16UC1", 2).view(kind).astype(np.uint16, copy=False)


def candidates_of(msg: Image) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 of the node's 8UC3, sharing the message's memory.

    Raises:
        InvalidImageError: not such an image.
    """
    return _rows(msg, "8UC3", 3).reshape(msg.height, msg.width, 3)


def _rows(msg: Image, encoding: str, pixel_bytes: int) -> npt.NDArray[np.uint8]:
    """(height, width * pixel_bytes) uint8: the bytes of every row without its padding."""
    row_bytes = msg.width * pixel_bytes
    fits = 0 < row_bytes <= msg.step and 0 < msg.height * msg.step <= len(msg.data)
    if msg.encoding != encoding or not fits:
        raise InvalidImageError(
            f"expected an image of {encoding}, got {msg.width} x {msg.height} pixels of {msg.encoding!r} in "
            f"{len(msg.data)} bytes with a step of {msg.step}"
        )
    data = np.frombuffer(msg.data, np.uint8, count=msg.height * msg.step)
    return data.reshape(msg.height, msg.step)[:, :row_bytes]


def objects_of(
    segments: Detection2DArray, labels: npt.NDArray[np.uint16], colours: Colours
) -> list[dict[str, Any]]:
    """Each object's id, class, predicted IoU (best first), box (XYXY pixel edges), area (pixels), colour."""
    sizes = areas(labels, len(segments.detections))
    return [
        {
            "id": detection.id,
            "class_id": detection.results[0].hypothesis.class_id if detection.results else "",
            "iou": [round(result.hypothesis.score, 4) for result in detection.results],
            "box": _box_xyxy(detection.bbox),
            "area": area,
            "colour": colours.of(detection.id),
        }
        for detection, area in zip(segments.detections, sizes, strict=True)
    ]


def status_values(status: DiagnosticStatus) -> dict[str, Any]:
    """Level, message and values of a diagnostic status, as the page reads them."""
    values: Mapping[str, str] = {pair.key: pair.value for pair in status.values}
    return {"level": LEVELS.get(status.level, "unknown"), "message": status.message, "values": values}


def encode_sec(values: Mapping[str, str]) -> float:
    """How long the node's last encode took, as it reports; 0 if it does not say.

    Raises:
        ValueError: it is no number.
    """
    return float(values.get("encode (ms)", 0)) / 1000


def candidate_values(values: Mapping[str, str]) -> dict[str, Any]:
    """Stamp and predicted IoUs of the candidates, best first, as the node reports them.

    Raises:
        ValueError: they are no numbers.
    """
    iou = [float(value) for name, value in values.items() if name.startswith("IoU ")]
    return {**_stamp_values(values), "iou": iou}


def refusal_values(values: Mapping[str, str]) -> dict[str, Any]:
    """What was refused, and the stamp of the frame that it was for; 0 is none.

    Raises:
        ValueError: the stamp is no number.
    """
    return {key: values.get(key, "") for key in ("topic", "id", "kind", "reason")} | _stamp_values(values)


def _stamp_values(values: Mapping[str, str]) -> dict[str, int]:
    """The stamp of a report, whose seconds have nine decimals."""
    sec, _, nanosec = values.get("stamp", "0.0").partition(".")
    return {"sec": int(sec), "nanosec": int(nanosec or 0)}


def _box_xyxy(bbox: BoundingBox2D) -> tuple[float, float, float, float]:
    x, y, half_w, half_h = bbox.center.position.x, bbox.center.position.y, bbox.size_x / 2, bbox.size_y / 2
    return x - half_w, y - half_h, x + half_w, y + half_h
