"""Small messages made by hand, without the code that is tested."""

from __future__ import annotations

from array import array

from sensor_msgs.msg import Image
from std_msgs.msg import Header

MAX_PIXELS = 33_177_600  # the default of max_image_pixels


def header(frame_id: str = "camera", sec: int = 12, nanosec: int = 34) -> Header:
    result = Header(frame_id=frame_id)
    result.stamp.sec, result.stamp.nanosec = sec, nanosec
    return result


def image_msg(
    encoding: str, width: int, height: int, data: bytes, step: int | None = None, is_bigendian: int = 0
) -> Image:
    msg = Image(header=header(), encoding=encoding, width=width, height=height, is_bigendian=is_bigendian)
    msg.step = len(data) // height if step is None else step
    msg.data = array("B", data)
    return msg
