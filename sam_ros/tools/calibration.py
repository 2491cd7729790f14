"""The calibration of a camera: from a file as camera_calibration writes it, or that of a plain pinhole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from sam_ros.tools.sources import SourceError

FILE_SCHEME = "file://"


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
