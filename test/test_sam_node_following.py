"""The node as it is started by default: it follows what moves, with the shipped weights and over real DDS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from node_rig import (
    SECOND,
    TRIES,
    NodeRig,
    OutputSet,
    compressed_msg,
    detection,
    detections,
    image_msg,
    pixels_of,
    point,
    rgb_msg,
    stamp_ns,
)
from processes import ros_session
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg

H, W = 240, 320
RADIUS = 36
STEP = (9, 4)  # pixels of a frame
Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def noise(seed: int, low: Sequence[int], high: Sequence[int]) -> Image:
    """(H, W, 3): blotches between two colours."""
    share = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 1, (H, W)), (0, 0), 3)
    share = np.clip(0.5 + 4 * (share - 0.5), 0, 1)[..., None]
    return np.asarray(np.array(low) + share * (np.array(high) - np.array(low)), np.uint8)


GRASS, BALL = noise(1, (40, 90, 30), (80, 140, 60)), noise(2, (150, 30, 20), (250, 120, 90))
CURTAIN = noise(3, (20, 30, 120), (90, 100, 220))


def place(frame: int) -> tuple[int, int]:
    """Where the ball's centre is."""
    return 70 + STEP[0] * frame, 70 + STEP[1] * frame


def truth(frame: int) -> Mask:
    rows, columns = np.ogrid[:H, :W]
    x, y = place(frame)
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2)


def scene(frame: int) -> Image:
    """The ball on the grass; it does not turn."""
    moved = np.roll(BALL, (STEP[1] * frame, STEP[0] * frame), axis=(0, 1))
    return np.where(truth(frame)[..., None], moved, GRASS)


def curtained(edge: int) -> Image:
    """The first scene behind a curtain that was drawn from the left up to that column."""
    image = scene(0)
    image[:, :edge] = CURTAIN[:, W - edge :]
    return image


def iou(mask: Mask, other: Mask) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def mask_of(outputs: OutputSet) -> Mask:
    return np.asarray(pixels_of(outputs["mask"]) > 0)


def ids(outputs: OutputSet) -> list[str]:
    return [one.id for one in outputs["segments"].detections]


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeRig]:
    with ros_session(tmp_path_factory.mktemp("node")) as ros:
        yield NodeRig(ros, follow=True)


@pytest.fixture
def rig(shared_rig: NodeRig) -> NodeRig:
    """The shared node, without objects."""
    assert shared_rig.trigger("clear").success
    assert not mask_of(shared_rig.next_set(scene(0))).any()
    shared_rig.forget_outputs()
    return shared_rig


def prompt_and_wait(rig: NodeRig, topic: str, message: Any, objects: int) -> None:
    """Prompt, and wait until the node has so many objects."""
    rig.diagnostics.clear()
    rig.send(topic, message)
    rig.wait_for_status("objects", lambda value: value == str(objects))


def box_of(frame: int) -> Any:
    return detection("ball", place(frame), (2 * RADIUS, 2 * RADIUS), "ball")


def test_every_frame_is_answered_with_or_without_objects(rig: NodeRig) -> None:
    for _ in range(3):
        outputs = rig.next_set(scene(0))
        assert not mask_of(outputs).any() and not pixels_of(outputs["labels"]).any()
        assert ids(outputs) == []
        np.testing.assert_array_equal(pixels_of(outputs["overlay"]), scene(0))
    assert not rig.received["candidates"]


def test_an_object_is_followed_across_the_image(rig: NodeRig) -> None:
    stamp = stamp_ns(rig.next_set(scene(0))["mask"])
    prompt_and_wait(rig, "prompts", detections(stamp, box_of(0)), 1)
    for frame in range(1, 17):
        outputs = rig.next_set(scene(frame))
        assert iou(mask_of(outputs), truth(frame)) > 0.85, frame
        (found,) = outputs["segments"].detections
        assert (found.id, found.results[0].hypothesis.class_id) == ("ball", "ball")
        np.testing.assert_allclose(
            (found.bbox.center.position.x, found.bbox.center.position.y), place(frame), atol=6
        )
    stamps = [stamp_ns(message) for message in rig.received["mask"]]
    assert stamps == sorted(set(stamps))


def test_an_object_that_is_hidden_is_left_out_until_it_is_there_again(rig: NodeRig) -> None:
    stamp = stamp_ns(rig.next_set(scene(0))["mask"])
    prompt_and_wait(rig, "prompts", detections(stamp, box_of(0)), 1)
    for edge in range(0, 120, 12):
        outputs = rig.next_set(curtained(edge))
        visible = truth(0) & (np.arange(W) >= edge)
        if visible.sum() > truth(0).sum() / 3:  # a smaller part may count as lost
            assert iou(mask_of(outputs), visible) > 0.7, edge
    for _ in range(2):
        outputs = rig.next_set(curtained(130))
        assert not mask_of(outputs).any() and ids(outputs) == []
    outputs = rig.next_set(scene(0))
    assert iou(mask_of(outputs), truth(0)) > 0.85 and ids(outputs) == ["ball"]


def test_a_late_click_is_answered_where_the_object_is_by_then(rig: NodeRig) -> None:
    stamps = [stamp_ns(rig.next_set(scene(frame))["mask"]) for frame in range(5)]
    rig.forget_outputs()
    prompt_and_wait(rig, "point", point(*place(0), stamps[0]), 1)
    rig.wait_until(lambda: rig.received["candidates"], "the candidates of the click")
    (candidates,) = rig.received["candidates"]
    assert stamp_ns(candidates) == stamps[0]
    assert max(iou(channel > 0, truth(0)) for channel in np.moveaxis(pixels_of(candidates), -1, 0)) > 0.7
    assert not rig.received["mask"], "the click alone is no new frame"
    outputs = rig.next_set(scene(5))
    found = mask_of(outputs)
    assert ids(outputs)[0].startswith("_") and iou(found, truth(5)) > 0.7 > iou(truth(0), truth(5)) + 0.2


def test_undo_and_clear_take_effect_on_the_next_frame(rig: NodeRig) -> None:
    prompt_and_wait(rig, "point", point(*place(0)), 1)
    assert mask_of(rig.next_set(scene(0))).any()
    assert rig.trigger("undo").success
    assert not mask_of(rig.next_set(scene(0))).any()
    prompt_and_wait(rig, "point", point(*place(0)), 1)
    assert rig.trigger("clear").success
    assert not mask_of(rig.next_set(scene(0))).any()


def test_following_can_be_switched_off_and_on(rig: NodeRig) -> None:
    stamp = stamp_ns(rig.next_set(scene(0))["mask"])
    assert rig.set_parameter("follow", False) == (True, "")
    outputs = rig.outputs_for("prompts", detections(stamp, box_of(0)))
    assert stamp_ns(outputs["mask"]) == stamp and iou(mask_of(outputs), truth(0)) > 0.85
    assert rig.set_parameter("follow", True) == (True, "")
    for frame in (1, 2):
        assert iou(mask_of(rig.next_set(scene(frame))), truth(frame)) > 0.7


def test_images_that_are_stamped_out_of_order_are_reported(rig: NodeRig) -> None:
    stamp = stamp_ns(rig.next_set(scene(0))["mask"])
    rig.diagnostics.clear()

    def reported() -> bool:
        rig.send_image(image_msg(scene(0), "rgb8", stamp - SECOND // 50))
        return rig.comes_true(
            lambda: any(
                pair.key == "dropped: out of order" for status in rig.diagnostics for pair in status.values
            ),
            2.0,
        )

    rig.wait_until(reported, "the report")


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_the_node_rests_without_objects_and_answers_every_frame_all_the_same(
    tmp_path_factory: pytest.TempPathFactory, transport: str
) -> None:
    topic, kind = {"raw": ("/image", ImageMsg), "compressed": ("/image/compressed", CompressedImage)}[
        transport
    ]
    settings = ("-p", "encode:=with_objects", "-p", f"image_transport:={transport}")
    with ros_session(tmp_path_factory.mktemp("node")) as ros:
        rig = NodeRig(ros, *settings, follow=True, image_topic=topic, image_type=kind)

        def shown(frame: int) -> OutputSet:
            if transport == "raw":
                return rig.next_set(scene(frame))
            return rig.next_set(scene(frame), made=lambda image, stamp: compressed_msg(image, ".png", stamp))

        for frame in (0, 1):
            resting = shown(frame)
            assert mask_of(resting).shape == (H, W) and not mask_of(resting).any() and not ids(resting)
        rig.wait_for_status("passed over count", lambda count: int(count) >= 2)
        assert rig.status("encode count") in ("", "0")
        rig.send("point", point(*place(1)))
        rig.wait_until(lambda: "object _1 with an IoU" in rig.process.output(), "the answer to the click")
        followed = shown(2)
        assert iou(mask_of(followed), truth(2)) > 0.7
        assert rig.trigger("clear").success
        assert not mask_of(shown(3)).any()


def sent_until_dropped(rig: NodeRig, bad: Any, kind: str) -> None:
    """An image that cannot be used; images are best effort, and some are lost."""
    for _ in range(TRIES):
        rig.send_image(bad)
        if rig.comes_true(lambda: rig.status(f"dropped: {kind}"), 2.0):
            return
    raise AssertionError(f"no image was dropped as {kind}:\n{rig.process.output()}")


def test_while_the_node_rests_raw_images_that_nobody_can_read_are_dropped(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with ros_session(tmp_path_factory.mktemp("node")) as ros:
        rig = NodeRig(ros, "-p", "encode:=with_objects", follow=True, outputs=("mask",))
        for kind, change in (("unknown encoding", {"encoding": "bayer_foo8"}), ("wrong step", {"step": 7})):
            bad = rgb_msg(scene(0), rig.next_stamp_ns())
            for name, value in change.items():
                setattr(bad, name, value)
            sent_until_dropped(rig, bad, kind)
        assert not rig.received["mask"] and rig.status("passed over count") in ("", "0")


def test_while_the_node_rests_an_image_that_the_overlay_cannot_read_is_dropped_before_any_of_its_set(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with ros_session(tmp_path_factory.mktemp("node")) as ros:
        settings = ("-p", "encode:=with_objects", "-p", "image_transport:=compressed")
        rig = NodeRig(
            ros, *settings, follow=True, image_topic="/image/compressed", image_type=CompressedImage
        )
        cut = compressed_msg(scene(0), ".jpg", rig.next_stamp_ns())
        cut.data = cut.data[: len(cut.data) // 2]
        sent_until_dropped(rig, cut, "damaged image")
        assert not rig.received["mask"]
        assert "[ERROR]" not in rig.process.output() and "Traceback" not in rig.process.output()
        rig.next_set(scene(1), made=lambda image, stamp: compressed_msg(image, ".jpg", stamp))
