"""Everything in view, asked of a running node with the shipped weights, over DDS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from node_rig import NodeRig, of_stamp, pixels_of, stamp_ns
from processes import ros_session
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, RegionOfInterest
from vision_msgs.msg import Detection2DArray

from sam_ros.core.catalogue import MODELS
from sam_ros.masks import tight_box_xyxy
from sam_ros.predictor import load_predictor

H, W = 240, 320
LATE_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
TYPES = {"labels": Image, "segments": Detection2DArray, "overlay": Image}
DISCS = [(70, 60, 34), (230, 70, 44), (80, 180, 40), (240, 180, 26)]  # x, y, radius
GRID = 12  # points a side


def scene() -> npt.NDArray[np.uint8]:
    """(H, W, 3): four discs on a grey table."""
    rng = np.random.default_rng(0)
    image = np.full((H, W, 3), 110, np.uint8)
    rows, columns = np.ogrid[:H, :W]
    for (x, y, radius), colour in zip(DISCS, rng.integers(0, 255, (4, 3)), strict=True):
        image[np.hypot(columns - x, rows - y) < radius] = colour
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


class Everything:
    """What the node publishes below ~/everything."""

    def __init__(self, rig: NodeRig, *names: str) -> None:
        self._rig = rig
        self.received: dict[str, list[Any]] = {name: [] for name in names}
        self._subscriptions = [
            rig.ros.node.create_subscription(
                TYPES[name], f"{rig.name}/everything/{name}", self.received[name].append, LATE_QOS
            )
            for name in names
        ]
        rig.wait_until(lambda: all(s.get_publisher_count() for s in self._subscriptions), "the publishers")

    def wait(self, stamp: int) -> dict[str, Any]:
        """One message of each on that frame: that of a test before is kept, and may come first."""
        received = self.received.values()
        self._rig.wait_until(lambda: all(of_stamp(messages, stamp) for messages in received), "everything")
        return {name: of_stamp(messages, stamp)[-1] for name, messages in self.received.items()}

    def forget(self) -> None:
        for messages in self.received.values():
            messages.clear()

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._rig.ros.node.destroy_subscription(subscription)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeRig]:
    with ros_session(tmp_path_factory.mktemp("node")) as ros:
        arguments = ("-p", f"everything_points_per_side:={GRID}", "-p", "precision:=float32")
        yield NodeRig(ros, *arguments, follow=True)


@pytest.fixture
def everything(rig: NodeRig) -> Iterator[Everything]:
    """All three topics."""
    made = Everything(rig, *TYPES)
    yield made
    made.close()


def iou(mask: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def disc(index: int) -> npt.NDArray[np.bool_]:
    x, y, radius = DISCS[index]
    rows, columns = np.ogrid[:H, :W]
    return np.asarray(np.hypot(columns - x, rows - y) < radius)


def expected(region: tuple[float, float, float, float] | None = None) -> list[Any]:
    """What the core finds with the node's parameters."""
    predictor = load_predictor("sam_tiny")
    found = predictor.everything(
        predictor.encode(scene()),
        points_per_side=GRID,
        points_per_batch=16,
        pred_iou_thresh=0.8 * MODELS["sam_tiny"].confidence,
        stability_score_thresh=0.9,
        stability_score_offset=MODELS["sam_tiny"].stability_offset,
        box_nms_thresh=0.7,
        min_mask_region_area=100,
        min_area=100,
        region=region,
        skip_covered=True,
    )
    return sorted(found, key=lambda masks: -masks.predicted_iou[0])  # cleaned ones come last there


def check(answer: dict[str, Any], masks: list[Any], stamp: int) -> None:
    """Labels and segments hold these masks of the frame of this stamp."""
    assert {stamp_ns(message) for message in answer.values()} == {stamp}
    found = answer["segments"].detections
    assert [one.id for one in found] == [str(k + 1) for k in range(len(masks))]
    labels = np.zeros((H, W), np.uint16)
    for k in sorted(range(len(masks)), key=lambda k: -np.count_nonzero(masks[k].masks)):
        labels[masks[k].masks[0]] = k + 1
    np.testing.assert_array_equal(pixels_of(answer["labels"]), labels)
    for one, of_core in zip(found, masks, strict=True):
        assert one.results[0].hypothesis.score == pytest.approx(min(1, of_core.predicted_iou[0]), abs=1e-5)
        area = one.results[-1].hypothesis
        assert (area.class_id, area.score) == ("area", np.count_nonzero(of_core.masks))
        x0, y0, x1, y1 = tight_box_xyxy(of_core.masks[0])  # type: ignore[misc]
        assert (one.bbox.center.position.x, one.bbox.center.position.y) == ((x0 + x1) / 2, (y0 + y1) / 2)
        assert (one.bbox.size_x, one.bbox.size_y) == (x1 - x0, y1 - y0)


def test_a_service_finds_everything_on_the_newest_frame(rig: NodeRig, everything: Everything) -> None:
    stamp = stamp_ns(rig.next_set(scene())["mask"])
    response = rig.trigger("segment_everything")
    assert response.success and "~/everything/segments" in response.message
    answer, masks = everything.wait(stamp), expected()
    check(answer, masks, stamp)
    best = [max(iou(one.masks[0], disc(index)) for one in masks) for index in range(len(DISCS))]
    assert min(best) > 0.85, best
    overlay = pixels_of(answer["overlay"])
    assert overlay.shape == (H, W, 3)
    outside = ~np.logical_or.reduce([one.masks[0] for one in masks])
    far = np.lib.stride_tricks.sliding_window_view(np.pad(outside, 3, mode="edge"), (7, 7)).all((2, 3))
    np.testing.assert_array_equal(overlay[far], scene()[far])  # beside outlines
    assert (overlay[disc(0)] != scene()[disc(0)]).any()


def test_a_region_is_looked_at_alone(rig: NodeRig, everything: Everything) -> None:
    stamp = stamp_ns(rig.next_set(scene())["mask"])
    rig.send("everything", RegionOfInterest(x_offset=150, y_offset=0, width=400, height=130))
    answer, masks = everything.wait(stamp), expected((150, 0, W, 130))
    check(answer, masks, stamp)
    assert max(iou(one.masks[0], disc(1)) for one in masks) > 0.85
    assert all(iou(one.masks[0], disc(index)) < 0.5 for one in masks for index in (0, 2, 3))
    everything.forget()
    rig.send("everything", RegionOfInterest())
    check(everything.wait(stamp), expected(), stamp)


@pytest.mark.parametrize(
    ("region", "kind"),
    [
        (RegionOfInterest(x_offset=W, width=5, height=5), "box outside"),
        (RegionOfInterest(width=5), "empty box"),
        (RegionOfInterest(do_rectify=True), "do_rectify"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_region_is_refused(rig: NodeRig, region: RegionOfInterest, kind: str) -> None:
    rig.next_set(scene())
    refusal = rig.refusal_of("everything", region)
    assert (refusal["topic"], refusal["kind"]) == ("/sam/everything", kind)


def test_who_subscribes_late_gets_the_last_answer(rig: NodeRig) -> None:
    stamp = stamp_ns(rig.next_set(scene())["mask"])
    early = Everything(rig, "segments")
    assert rig.trigger("segment_everything").success
    early.wait(stamp)
    early.close()
    late = Everything(rig, "labels", "segments")
    answer = late.wait(stamp)
    late.close()
    check(answer, expected(), stamp)


def test_what_is_kept_is_followed(rig: NodeRig, everything: Everything) -> None:
    stamp = stamp_ns(rig.next_set(scene())["mask"])
    assert rig.trigger("segment_everything").success
    labels = pixels_of(everything.wait(stamp)["labels"])
    response = rig.trigger("keep_everything")
    assert response.success, response.message
    shown = rig.next_set(scene())
    masks = pixels_of(shown["labels"])
    kept = [one.id for one in shown["segments"].detections]
    assert kept and all(id.startswith("_") for id in kept)
    for index in range(len(DISCS)):
        (label,) = {labels[DISCS[index][1], DISCS[index][0]]}
        (now,) = {masks[DISCS[index][1], DISCS[index][0]]}
        assert label and now
        assert iou(masks == now, disc(index)) > 0.8
    assert rig.trigger("undo").success
    assert not rig.next_set(scene())["segments"].detections
    assert rig.trigger("clear").success
