"""Markers for RViz, where visualization_msgs is installed."""

from __future__ import annotations

import pytest

pytest.importorskip("visualization_msgs", reason="markers need visualization_msgs")

import numpy as np
from test_conversions_3d import HEADER, segment, solid
from visualization_msgs.msg import Marker

from sam_ros.tools.markers import described, markers_msg


def test_an_object_gets_twelve_edges_and_a_name_after_all_were_removed() -> None:
    removal, edges, text = markers_msg([solid(2)], [segment("a"), segment("b", "bowl")], HEADER).markers
    assert removal.action == Marker.DELETEALL
    assert (edges.type, edges.header, edges.id) == (Marker.LINE_LIST, HEADER, 2)
    ends = np.array([[point.x, point.y, point.z] for point in edges.points]).reshape(12, 2, 3)
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    np.testing.assert_allclose(np.sort(lengths), np.repeat([0.3, 0.4, 0.5], 4))
    assert edges.pose.position.z == 1.0
    assert text.text == "bowl 50.0 x 40.0 x 30.0 cm, 2 points, depth 90%"


def test_an_object_without_a_class_is_called_by_its_id() -> None:
    assert described(solid(1), segment("_1", "")).startswith("_1 50.0 x")
