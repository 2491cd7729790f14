"""Where the pixels of messages lie, by tiny messages made by hand; what does not fit together is refused."""

from __future__ import annotations

import numpy as np
import pytest
from cv_bridge import CvBridge, CvBridgeError
from messages import image_msg

from sam_ros.errors import InvalidImageError
from sam_ros.node.layouts import PACKED, PLANAR, check_size, packed_values, planar_values


@pytest.mark.parametrize("encoding", PACKED)
def test_the_table_says_what_cv_bridge_says(encoding: str) -> None:
    try:
        dtype, channels = CvBridge().encoding_to_dtype_with_channels(encoding)
    except CvBridgeError:
        pytest.skip(f"this cv_bridge is too old for {encoding}")
    assert (PACKED[encoding].dtype, PACKED[encoding].channels) == (np.dtype(dtype).name, channels)


@pytest.mark.parametrize("encoding", PLANAR)
def test_cv_bridge_has_no_planar_encoding(encoding: str) -> None:
    with pytest.raises(CvBridgeError):
        CvBridge().encoding_to_dtype_with_channels(encoding)


def test_values_are_a_view_without_padding_in_the_messages_byte_order() -> None:
    msg = image_msg("rgb8", 1, 2, bytes([1, 2, 3, 99, 4, 5, 6, 99]))
    assert packed_values(msg).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.shares_memory(packed_values(msg), np.frombuffer(msg.data, np.uint8))
    data = bytes([1, 2, 3, 4])
    assert packed_values(image_msg("16UC1", 2, 1, data)).tolist() == [[0x0201, 0x0403]]
    assert packed_values(image_msg("16UC1", 2, 1, data, is_bigendian=1)).tolist() == [[0x0102, 0x0304]]


@pytest.mark.parametrize("step", [3, 5, 7])
def test_rows_of_wide_values_may_begin_at_any_byte(step: int) -> None:
    rows = [bytes([1, 0]) + bytes(step - 2), bytes([2, 0]) + bytes(step - 2)]
    assert packed_values(image_msg("mono16", 1, 2, b"".join(rows), step=step)).tolist() == [[1], [2]]


def test_planes_lie_above_each_other() -> None:
    y = [1, 2, 99, 3, 4, 99]
    luma, pairs = planar_values(image_msg("nv12", 2, 2, bytes([*y, 5, 6, 99]), step=3))
    assert luma.tolist() == [[1, 2], [3, 4]] and pairs.tolist() == [[[5, 6]]]
    luma, pairs = planar_values(image_msg("nv24", 2, 2, bytes([1, 2, 3, 4, *range(5, 13)]), step=2))
    assert luma.tolist() == [[1, 2], [3, 4]]
    assert pairs.tolist() == [[[5, 6], [7, 8]], [[9, 10], [11, 12]]]


def test_the_number_of_pixels_is_checked_as_a_product() -> None:
    check_size(3, 4, max_pixels=12)
    with pytest.raises(InvalidImageError, match="3 x 4 pixels is larger than max_image_pixels \\(11\\)"):
        check_size(3, 4, max_pixels=11)
    for size in ((0, 4), (4, 0)):
        with pytest.raises(InvalidImageError, match="is empty"):
            check_size(*size, max_pixels=12)
