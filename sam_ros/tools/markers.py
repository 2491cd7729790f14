"""Objects in space as markers for RViz; imported only where visualization_msgs is installed."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import Detection2D
from visualization_msgs.msg import Marker, MarkerArray

from sam_ros.core.lifting import Solid
from sam_ros.core.overlay import PALETTE_RGB
from sam_ros.core.wireframe import EDGES
from sam_ros.tools.conversions_3d import point_msg, pose_msg

LINE_M = 0.003
TEXT_M = 0.03


def markers_msg(solids: Sequence[Solid], segments: Sequence[Detection2D], header: Header) -> MarkerArray:
    """A frame of lines and a line of text for each object, after the removal of all earlier ones."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for solid in solids:
        segment = segments[solid.label - 1]
        markers += [_edges(solid, header), _text(solid, segment, header)]
    return MarkerArray(markers=markers)


def described(solid: Solid, segment: Detection2D) -> str:
    """What to call an object, its sides in centimetres, and how much is known of it."""
    class_id = segment.results[0].hypothesis.class_id if segment.results else ""
    sides = " x ".join(f"{100 * side:.1f}" for side in solid.box.size)
    return (
        f"{class_id or segment.id} {sides} cm, {len(solid.points)} points, depth {solid.depth_coverage:.0%}"
    )


def _edges(solid: Solid, header: Header) -> Marker:
    half = solid.box.size / 2
    corners = [
        Point(
            **{name: float(half[axis] * (1 if corner >> axis & 1 else -1)) for axis, name in enumerate("xyz")}
        )
        for corner in range(8)
    ]
    marker = Marker(header=header, ns="boxes", id=solid.label, type=Marker.LINE_LIST, action=Marker.ADD)
    marker.pose = pose_msg(solid.box)
    marker.scale = Vector3(x=LINE_M)
    marker.color = _colour(solid.label)
    marker.points = [corners[end] for edge in EDGES for end in edge]
    return marker


def _text(solid: Solid, segment: Detection2D, header: Header) -> Marker:
    marker = Marker(
        header=header, ns="names", id=solid.label, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD
    )
    marker.pose.position = point_msg(solid.centroid)
    marker.scale = Vector3(z=TEXT_M)
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    marker.text = described(solid, segment)
    return marker


def _colour(label: int) -> ColorRGBA:
    red, green, blue = PALETTE_RGB[(label - 1) % len(PALETTE_RGB)]
    return ColorRGBA(r=red / 255, g=green / 255, b=blue / 255, a=1.0)
