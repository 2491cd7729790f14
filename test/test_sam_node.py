"""The node over real DDS, in a process of its own: its outputs equal what the core says of the same input."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Point, PointStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_rig import (
    ALWAYS_PUBLISHED,
    FRAME_ID,
    INPUT_TYPES,
    OUTPUT_TYPES,
    SECOND,
    TRIES,
    NodeRig,
    OutputSet,
    compressed_msg,
    detection,
    detections,
    header,
    image_msg,
    of_stamp,
    pixels_of,
    point,
    stamp_ns,
)
from processes import RosSession, ros_session
from random_models import MINIATURE, save_random_sam
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import String, UInt8
from vision_msgs.msg import BoundingBox2D, Detection2D

from sam_ros.core.grid import logits_from_mask
from sam_ros.errors import DEVICE_FAILED_EXIT, DeviceError
from sam_ros.masks import Masks, tight_box_xyxy
from sam_ros.node.sam_node import SamNode
from sam_ros.predictor import Predictor, load_predictor
from sam_ros.prompt import Prompt

H, W = 90, 120
EVERYTHING = (*ALWAYS_PUBLISHED, "candidates")


def scene(shift: int = 0) -> npt.NDArray[np.uint8]:
    """(90, 120, 3) RGB: a red disc and a blue square on a green gradient; ``shift`` moves them right."""
    image = np.zeros((H, W, 3), np.uint8)
    image[..., 1] = np.linspace(40, 120, W, dtype=np.uint8)
    cv2.circle(image, (35 + shift, 45), 18, (220, 30, 20), -1)
    cv2.rectangle(image, (70 + shift, 25), (100 + shift, 60), (20, 40, 230), -1)
    return image


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "miniature.safetensors"
    save_random_sam(MINIATURE, path, seed=3)
    return path


@pytest.fixture(scope="module")
def core(checkpoint: Path) -> Predictor:
    return load_predictor("sam_tiny", checkpoint, device="auto", precision="auto")  # as the node does


@pytest.fixture(scope="module")
def shared_rig(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeRig]:
    with ros_session(tmp_path_factory.mktemp("node")) as ros:
        yield NodeRig(ros, "-p", f"checkpoint:={checkpoint}")


@pytest.fixture
def rig(shared_rig: NodeRig) -> NodeRig:
    """The shared node, without objects."""
    shared_rig.clear()
    return shared_rig


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


def ask(core: Predictor, image: npt.NDArray[np.uint8], *prompts: Prompt) -> list[Masks]:
    """The core's answers, three masks for single points as the node asks."""
    flags = [prompt.is_single_point for prompt in prompts]
    return core.decode(core.encode(image), prompts, multimask_output=flags)


def click_prompt(*xy: tuple[float, float], labels: list[int] | None = None) -> Prompt:
    return Prompt(np.array(xy), np.array(labels or [1] * len(xy)))


def assert_headers(outputs: OutputSet, stamp: int, size_hw: tuple[int, int] = (H, W)) -> None:
    for name, message in outputs.messages.items():
        assert (stamp_ns(message), message.header.frame_id) == (stamp, FRAME_ID), name
        if name != "segments":
            assert (message.height, message.width) == size_hw, name


def assert_outputs(outputs: OutputSet, expected: list[Masks], classes: list[str] | None = None) -> None:
    """Mask, labels and segments show exactly these answers, in this order."""
    union = np.any([masks.masks[0] for masks in expected], axis=0)
    np.testing.assert_array_equal(pixels_of(outputs["mask"]), np.where(union, 255, 0))
    assert outputs["mask"].encoding == "mono8"
    labels = np.zeros(union.shape, np.uint16)
    for index in np.argsort([masks.predicted_iou[0] for masks in expected], kind="stable"):
        labels[expected[index].masks[0]] = index + 1
    np.testing.assert_array_equal(pixels_of(outputs["labels"]), labels)
    assert outputs["labels"].encoding == "16UC1"
    found = outputs["segments"].detections
    assert len(found) == len(expected)
    for one, masks, class_id in zip(found, expected, classes or [""] * len(expected), strict=True):
        assert_detection(one, masks, class_id)


def assert_detection(one: Any, masks: Masks, class_id: str) -> None:
    scores = [result.hypothesis.score for result in one.results]
    np.testing.assert_allclose(scores, np.clip(masks.predicted_iou, 0, 1), atol=1e-5)
    assert {result.hypothesis.class_id for result in one.results} == {class_id}
    box = one.bbox
    x, y = box.center.position.x, box.center.position.y
    edges = (x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2, y + box.size_y / 2)
    assert edges == tight_box_xyxy(masks.masks[0])


# Prompts of every kind.


def test_a_click_is_answered_with_the_best_mask_and_its_candidates(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    outputs = rig.outputs_for("point", point(35, 45, stamp), EVERYTHING)
    expected = ask(core, scene(), click_prompt((35, 45)))
    share = expected[0].masks[0].mean()
    assert 0.02 < share < 0.98  # else an empty or full mask would prove nothing
    assert_headers(outputs, stamp)
    assert_outputs(outputs, expected)
    assert len(outputs["segments"].detections[0].results) == 3
    candidates = pixels_of(outputs["candidates"])
    assert outputs["candidates"].encoding == "8UC3"
    np.testing.assert_array_equal(candidates, np.moveaxis(expected[0].masks, 0, -1) * np.uint8(255))
    told = rig.next_report("candidates")
    assert told["stamp"] == f"{stamp // SECOND}.000000000"
    assert told["id"] == outputs["segments"].detections[0].id
    ious = [float(told[f"IoU {number}"]) for number in (1, 2, 3)]
    np.testing.assert_allclose(ious, expected[0].predicted_iou, atol=1e-2)


def test_all_scores_are_told_where_nobody_takes_candidates(
    ros: RosSession, checkpoint: Path, core: Predictor
) -> None:
    outputs_taken = tuple(name for name in OUTPUT_TYPES if name != "candidates")
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}", outputs=outputs_taken)
    stamp = rig.show(scene())
    outputs = rig.outputs_for("point", point(35, 45, stamp))
    assert_outputs(outputs, ask(core, scene(), click_prompt((35, 45))))
    assert len(outputs["segments"].detections[0].results) == 3


def test_a_background_click_refines_the_clicked_object(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    first = rig.outputs_for("point", point(35, 45, stamp), EVERYTHING)
    outputs = rig.outputs_for("point_background", point(85, 40, stamp))
    assert_outputs(outputs, ask(core, scene(), click_prompt((35, 45), (85, 40), labels=[1, 0])))
    assert outputs["segments"].detections[0].id == first["segments"].detections[0].id
    assert len(outputs["segments"].detections[0].results) == 1
    assert "candidates" not in outputs


def test_a_click_without_header_is_meant_for_the_newest_frame(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    outputs = rig.outputs_for("click", Point(x=float(W), y=45.0))  # rqt_image_view may say x == width
    assert_headers(outputs, stamp)
    assert_outputs(outputs, ask(core, scene(), click_prompt((W - 1, 45))))


def test_a_box_is_clipped_and_answered_on_the_newest_frame(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    box = RegionOfInterest(x_offset=70, y_offset=25, width=31, height=1000)
    outputs = rig.outputs_for("box", box)
    assert_headers(outputs, stamp)
    assert_outputs(outputs, ask(core, scene(), Prompt(box=np.array([70.0, 25.0, 101.0, 90.0]))))


def test_a_mask_prompt_makes_an_object(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    mask = np.zeros((H, W), np.uint8)
    mask[20:70, 10:60] = 7
    outputs = rig.outputs_for("mask_prompt", image_msg(mask, "mono8", stamp))
    assert_headers(outputs, stamp)
    logits = logits_from_mask(mask, core.grid((H, W)))
    assert_outputs(outputs, ask(core, scene(), Prompt(low_res_logits=logits)))


def test_a_candidate_sent_back_as_a_mask_prompt_is_chosen(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    first = rig.outputs_for("point", point(35, 45, stamp), EVERYTHING)
    third = np.ascontiguousarray(pixels_of(first["candidates"])[..., 2])
    outputs = rig.outputs_for("mask_prompt", image_msg(third, "mono8", stamp))
    logits = logits_from_mask(third, core.grid((H, W)))
    prompt = Prompt(np.array([[35, 45]]), np.array([1]), low_res_logits=logits)
    assert_outputs(outputs, ask(core, scene(), prompt))
    assert outputs["segments"].detections[0].id == first["segments"].detections[0].id


def test_a_message_of_detections_makes_many_objects_at_once(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    message = detections(
        stamp,
        detection("disc", (35, 45), class_id="ball"),
        detection("square", (85.5, 43), (31, 36), class_id="box"),
        detection("disc", (85, 40), class_id="background"),
        detection("", (10, 80)),
    )
    outputs = rig.outputs_for("prompts", message, EVERYTHING)
    expected = ask(
        core,
        scene(),
        click_prompt((35, 45), (85, 40), labels=[1, 0]),
        Prompt(box=np.array([70.0, 25.0, 101.0, 61.0])),
        click_prompt((10, 80)),
    )
    assert_headers(outputs, stamp)
    assert_outputs(outputs, expected, ["ball", "box", ""])
    ids = [one.id for one in outputs["segments"].detections]
    assert ids[:2] == ["disc", "square"] and ids[2].startswith("_")
    empty = rig.outputs_for("prompts", detections(stamp))
    assert_headers(empty, stamp)
    assert not pixels_of(empty["mask"]).any() and not pixels_of(empty["labels"]).any()
    assert empty["segments"].detections == []


def test_the_overlay_shows_the_mask_on_the_image(rig: NodeRig) -> None:
    stamp = rig.show(scene())
    outputs = rig.outputs_for("point", point(35, 45, stamp), EVERYTHING)
    assert_headers(outputs, stamp)
    assert outputs["overlay"].encoding == "rgb8"
    drawn = pixels_of(outputs["overlay"]).astype(int)
    mask = pixels_of(outputs["mask"]) > 0
    changed = np.abs(drawn - scene()).max(axis=2) > 0
    assert changed[mask].mean() > 0.9
    far_away = cv2.dilate((mask * 255).astype(np.uint8), np.ones((9, 9))) == 0
    far_away[:25] = False  # the label may be there
    far_away[35:56, 25:46] = False  # the click
    assert not changed[far_away].any()


# Colours and encodings.


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_colours_arrive_as_they_are(rig: NodeRig, core: Predictor, encoding: str) -> None:
    """Red and blue swapped would give the other answer, which differs."""
    image = scene()
    pixels = image if encoding.startswith("rgb") else image[..., ::-1]
    if encoding.endswith("a8"):
        pixels = np.dstack([pixels, np.full((H, W), 255, np.uint8)])
    stamp = rig.next_stamp_ns()
    rig.deliver(image_msg(np.ascontiguousarray(pixels), encoding, stamp))
    outputs = rig.outputs_for("point", point(35, 45, stamp))
    expected = ask(core, image, click_prompt((35, 45)))
    swapped = ask(core, np.ascontiguousarray(image[..., ::-1]), click_prompt((35, 45)))
    assert np.abs(expected[0].predicted_iou - swapped[0].predicted_iou).max() > 1e-3
    assert_outputs(outputs, expected)


def test_grey_images_with_padded_rows_are_read(rig: NodeRig, core: Predictor) -> None:
    grey = scene()[..., 0]
    stamp = rig.next_stamp_ns()
    message = image_msg(np.ascontiguousarray(np.pad(grey, ((0, 0), (0, 5)))), "mono8", stamp)
    message.width = W
    rig.deliver(message)
    outputs = rig.outputs_for("point", point(35, 45, stamp))
    assert_outputs(outputs, ask(core, np.dstack([grey] * 3), click_prompt((35, 45))))


@pytest.mark.parametrize("suffix", [".png", ".jpeg"])
def test_compressed_images_are_read(ros: RosSession, checkpoint: Path, core: Predictor, suffix: str) -> None:
    rig = NodeRig(
        ros,
        *("-p", f"checkpoint:={checkpoint}", "-p", "image_transport:=compressed"),
        *("-r", "image:=/front/image_raw"),
        image_topic="/front/image_raw/compressed",
        image_type=CompressedImage,
    )
    stamp = rig.next_stamp_ns()
    message = compressed_msg(scene(), suffix, stamp)
    rig.deliver(message)
    outputs = rig.outputs_for("point", point(35, 45, stamp))
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    assert_headers(outputs, stamp)
    (expected,) = ask(core, image, click_prompt((35, 45)))
    mismatch = (pixels_of(outputs["mask"]) > 0) != expected.masks[0]
    assert mismatch.mean() < 0.01  # JPEG decoders may differ by a level


# Frames and objects.


def test_a_late_click_hits_the_frame_it_was_meant_for(rig: NodeRig, core: Predictor) -> None:
    stamps = [rig.show(scene(shift)) for shift in (0, 10, 20)]
    rig.outputs_for("point", point(35, 45, stamps[2]), EVERYTHING)
    outputs = rig.outputs_for("point", point(35, 45, stamps[0]))
    assert_headers(outputs, stamps[0])
    assert_outputs(outputs, ask(core, scene(0), click_prompt((35, 45))))


def test_a_new_click_replaces_the_object_and_prompts_leave_it(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    first = rig.outputs_for("point", point(35, 45, stamp), EVERYTHING)
    second = rig.outputs_for("point", point(85, 40, stamp), EVERYTHING)
    assert first["segments"].detections[0].id != second["segments"].detections[0].id
    third = rig.outputs_for("prompts", detections(stamp, detection("a", (35, 45))))
    assert_outputs(third, ask(core, scene(), click_prompt((85, 40)), click_prompt((35, 45))))


def test_undo_restores_and_clear_forgets_the_objects(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    rig.outputs_for("point", point(35, 45, stamp), EVERYTHING)
    rig.outputs_for("point_background", point(85, 40, stamp))
    rig.forget_outputs()
    assert rig.trigger("undo").success
    assert_outputs(rig.next_outputs(), ask(core, scene(), click_prompt((35, 45))))
    cleared = rig.clear()
    assert cleared is not None
    assert_headers(cleared, stamp)
    assert cleared["segments"].detections == [] and not pixels_of(cleared["mask"]).any()
    answer = rig.trigger("undo")
    assert not answer.success and "nothing to undo" in answer.message


# What is refused.


@pytest.mark.parametrize(
    ("topic", "message", "kind"),
    [
        ("point", point(500, 5), "point outside"),
        ("point", point(float("nan"), 5), "not finite"),
        ("point", point(5, 5, frame_id="map"), "wrong frame_id"),
        ("point", point(5, 5, stamp_ns=1), "stale"),
        ("point_background", point(5, 5), "no object"),
        ("click", Point(x=5.0, y=5.0, z=1.0), "z not 0"),
        ("box", RegionOfInterest(width=0, height=5), "empty box"),
        ("box", RegionOfInterest(width=5, height=5, do_rectify=True), "do_rectify"),
        ("box", RegionOfInterest(x_offset=900, width=5, height=5), "box outside"),
        ("mask_prompt", Image(header=header(0), width=3, height=3, encoding="mono8"), "mask prompt size"),
        ("prompts", detections(0, detection("_99", (5, 5))), "unknown id"),
        ("prompt", detection("cup", (500, 5)), "point outside"),
        ("prompt", detection("_99", (5, 5)), "unknown id"),
    ],
)
def test_a_refusal_is_told_at_once(rig: NodeRig, topic: str, message: Any, kind: str) -> None:
    rig.show(scene())
    told = rig.refusal_of(topic, message)
    assert (told["kind"], told["topic"]) == (kind, f"/sam/{topic}")
    assert told["reason"]
    assert told["id"] == (message.detections[0].id if topic == "prompts" else getattr(message, "id", ""))
    assert not rig.received["mask"]


def test_bad_images_are_counted_and_survived(rig: NodeRig, core: Predictor) -> None:
    for kind, change in (
        ("unknown encoding", {"encoding": "x9"}),
        ("wrong step", {"step": 7}),
        ("empty image", {"width": 0}),
        ("short data", {"height": H + 1}),
        ("image too large", {"width": 100_000, "height": 100_000}),
    ):
        bad = image_msg(scene(), "rgb8", rig.next_stamp_ns())
        for name, value in change.items():
            setattr(bad, name, value)
        assert rig.deliver(bad)["kind"] == kind
    stamp = rig.show(scene())
    outputs = rig.outputs_for("point", point(35, 45, stamp))
    assert_outputs(outputs, ask(core, scene(), click_prompt((35, 45))))
    assert rig.wait_for_status("dropped: unknown encoding") == "1"


# Parameters.


def test_clicks_join_once_the_parameter_is_set_at_run_time(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    assert rig.set_parameter("click_mode", "join") == (True, "")
    rig.outputs_for("point", point(35, 45, stamp), EVERYTHING)
    both = rig.outputs_for("point", point(85, 40, stamp))
    assert rig.set_parameter("click_mode", "replace") == (True, "")
    assert_outputs(both, ask(core, scene(), click_prompt((35, 45), (85, 40))))


def test_prompts_given_on_a_resized_image_are_rescaled(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    assert rig.set_parameter("prompt_image_size", [2 * W, 2 * H]) == (True, "")
    outputs = rig.outputs_for("point", point(70.5, 90.5, stamp))
    assert rig.set_parameter("prompt_image_size", [0, 0]) == (True, "")
    assert_outputs(outputs, ask(core, scene(), click_prompt((35, 45))))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_predicted_iou", 1.5),
        ("max_objects", 0),
        ("prompt_image_size", [640]),
        ("model_type", "vit_b"),
        ("images_kept", 301),
    ],
)
def test_invalid_and_fixed_parameters_are_rejected_at_run_time(rig: NodeRig, name: str, value: Any) -> None:
    successful, reason = rig.set_parameter(name, value)
    assert not successful and name in reason


def test_an_unknown_parameter_is_warned_of_with_the_nearest_name(ros: RosSession, checkpoint: Path) -> None:
    rig = NodeRig(
        ros,
        *("-p", f"checkpoint:={checkpoint}", "-p", "max_ratee:=5.0", "-p", "zzz:=1"),
        *("-p", "qos_overrides./imag.subscription.reliability:=reliable"),
        *("-p", "qos_overrides./image.subscription.reliability:=reliable"),
    )
    nearest = "qos_overrides./image.subscription.reliability"
    expected = (
        "the node has no parameter max_ratee; did you mean max_rate?",
        "the node has no parameter zzz\n",
        f"the node has no parameter qos_overrides./imag.subscription.reliability; did you mean {nearest}?",
    )
    rig.wait_until(lambda: all(said in rig.process.output() for said in expected), "the warnings")
    assert rig.process.output().count("the node has no parameter") == 3


def test_an_unknown_parameter_in_a_file_is_warned_of(
    ros: RosSession, checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "sam.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    checkpoint: {checkpoint}\n    max_object: 3\n")
    rig = NodeRig(ros, "--params-file", str(path))
    said = "the node has no parameter max_object; did you mean max_objects?"
    rig.wait_until(lambda: said in rig.process.output(), said)


def test_an_integer_is_taken_for_a_float_parameter(ros: RosSession, checkpoint: Path) -> None:
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}", "-p", "max_rate:=5")
    assert rig.set_parameter("stamp_tolerance", 1) == (True, "")
    successful, reason = rig.set_parameter("min_predicted_iou", 2)
    assert not successful and "min_predicted_iou" in reason


# What the node says.


def test_the_node_says_what_it_waits_for_and_what_comes(ros: RosSession, checkpoint: Path) -> None:
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}", "-r", "image:=/front/image", wait=False)
    said = rig.process.output
    waits = "active, waiting for images on /front/image (sensor_msgs/msg/Image)"
    rig.wait_until(lambda: waits in said(), waits, 90)
    missing = (
        "nothing publishes on /front/image (sensor_msgs/msg/Image); topics of that type are /image: remap"
    )
    rig.wait_until(lambda: missing in said(), "the warning")
    front = ros.node.create_publisher(Image, "/front/image", 1)

    def comes() -> bool:
        front.publish(image_msg(scene(), "rgb8", rig.next_stamp_ns()))
        return "images come on /front/image: " in said()

    rig.wait_until(comes, "the first image")
    height, width = scene().shape[:2]
    assert f"images come on /front/image: {width} x {height}, rgb8, " in said()
    rig.send("point", point(35, 45))
    rig.wait_until(lambda: "/sam/point: object _1 with an IoU of" in said(), "the answer")
    rig.wait_until(lambda: "the first mask is out on /sam/mask: object _1, " in said(), "the first mask")


def test_following_that_has_no_effect_is_said(ros: RosSession, checkpoint: Path) -> None:
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}", "-p", "encode:=on_prompt")  # and follow: false
    said = "follow has no effect with encode: on_prompt"
    assert said not in rig.process.output()
    assert rig.set_parameter("follow", True) == (True, "")
    rig.wait_until(lambda: said in rig.process.output(), said)


# What edits objects.


def test_objects_are_added_joined_selected_and_removed(rig: NodeRig) -> None:
    stamp = rig.show(scene())
    assert rig.set_parameter("click_mode", "add") == (True, "")
    rig.outputs_for("point", point(35, 45, stamp))
    two = rig.outputs_for("prompt", Detection2D(header=header(stamp), bbox=bbox(85, 40, 30, 30)))
    assert rig.set_parameter("click_mode", "replace") == (True, "")
    first, second = ids(two)
    assert first.startswith("_") and second.startswith("_")
    three = rig.outputs_for("prompt", Detection2D(header=header(stamp), id="cup", bbox=bbox(35, 45, 0, 0)))
    assert ids(three) == [first, second, "cup"]
    rig.send("select", String(data=first))
    rig.outputs_for("point_foreground", point(38, 48, stamp))
    assert ids(rig.outputs_for("remove", String(data=second))) == [first, "cup"]
    assert ids(rig.outputs_for("remove", String(data=""))) == ["cup"]
    rig.forget_outputs()
    assert rig.trigger("undo").success
    assert ids(rig.next_outputs()) == [first, "cup"]
    told = rig.refusal_of("remove", String(data="nobody"))
    assert told["kind"] == "unknown id" and "'nobody'" in told["reason"]


def test_another_of_the_three_candidates_can_be_chosen(rig: NodeRig, core: Predictor) -> None:
    stamp = rig.show(scene())
    rig.outputs_for("point", point(35, 45, stamp), (*ALWAYS_PUBLISHED, "candidates"))
    (answer,) = core.decode(core.encode(scene()), [click_prompt((35, 45))])
    chosen = rig.outputs_for("choose", UInt8(data=2))
    np.testing.assert_array_equal(pixels_of(chosen["mask"]) > 0, answer.masks[2])
    assert rig.refusal_of("choose", UInt8(data=3))["kind"] == "no candidates"
    assert rig.trigger("undo").success


def bbox(x: float, y: float, width: float, height: float) -> BoundingBox2D:
    made = BoundingBox2D(size_x=float(width), size_y=float(height))
    made.center.position.x, made.center.position.y = float(x), float(y)
    return made


def ids(outputs: OutputSet) -> list[str]:
    return [found.id for found in outputs["segments"].detections]


# Faults.


CUT_WITHIN_THE_HEADER = bytes([0, 1, 0, 0, 1, 0, 0, 0, 2, 0])


@pytest.mark.parametrize("topic", INPUT_TYPES)
def test_a_malformed_prompt_message_is_refused_and_named(rig: NodeRig, topic: str) -> None:
    told = rig.refusal_of(topic, CUT_WITHIN_THE_HEADER[:4])
    assert (told["kind"], told["topic"]) == ("malformed message", f"/sam/{topic}")


def test_a_malformed_image_message_is_dropped_and_counted(rig: NodeRig) -> None:
    rig.wait_for_status("state")
    for _ in range(TRIES):  # images are best effort, and some are lost
        rig.send_image(CUT_WITHIN_THE_HEADER)
        if rig.comes_true(lambda: rig.status("dropped: malformed message")):
            break
    assert int(rig.status("dropped: malformed message")) >= 1
    rig.outputs_for("point", point(35, 45, rig.show(scene())))


def test_an_image_whose_stamp_is_no_time_is_dropped_and_counted(rig: NodeRig) -> None:
    bad = image_msg(scene(), "rgb8", rig.next_stamp_ns())
    bad.header.stamp.nanosec = 2**31
    for _ in range(TRIES):  # images are best effort, and some are lost
        rig.send_image(bad)
        if rig.comes_true(lambda: rig.status("dropped: invalid header")):
            break
    assert int(rig.status("dropped: invalid header")) >= 1
    told = rig.refusal_of("point", PointStamped(header=bad.header))
    assert told["kind"] == "invalid header" and str(2**31) in told["reason"]


def test_images_whose_stamps_are_no_time_are_told_as_useless_until_the_next_activation(
    ros: RosSession, checkpoint: Path
) -> None:
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}")
    bad = image_msg(scene(), "rgb8", rig.next_stamp_ns())
    bad.header.stamp.nanosec = 2**31

    def is_told(told: Callable[[DiagnosticStatus], bool]) -> bool:
        rig.send_image(bad)
        return any(told(status) for status in rig.diagnostics)

    def is_useless(status: DiagnosticStatus) -> bool:
        return status.message == "images come, but none can be used: invalid header"

    rig.wait_until(lambda: is_told(is_useless), "the error")
    rig.wait_until(lambda: "images come on /image" in rig.process.output(), "the images to be described")
    assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
    rig.diagnostics.clear()
    assert rig.change_state(Transition.TRANSITION_ACTIVATE)
    rig.wait_until_connected()
    rig.wait_until(lambda: is_told(lambda status: status.message == "segmenting"), "a status")
    assert not any(is_useless(status) for status in rig.diagnostics)


def test_a_parameter_of_a_type_that_does_not_exist_is_answered_as_failed(rig: NodeRig) -> None:
    made: ParameterMsg = Parameter("max_objects", value=3).to_parameter_msg()
    made.value.type = 77
    one_by_one = SetParameters.Request(parameters=[made])
    (result,) = rig.call(SetParameters, "/sam/set_parameters", one_by_one).results
    assert not result.successful and "77" in result.reason
    together = SetParametersAtomically.Request(parameters=[made])
    result = rig.call(SetParametersAtomically, "/sam/set_parameters_atomically", together).result
    assert not result.successful and "77" in result.reason
    assert rig.set_parameter("max_objects", 64) == (True, "")


def test_a_parameter_that_there_is_not_is_refused_with_its_name_and_the_nearest(rig: NodeRig) -> None:
    done, reason = rig.set_parameter("folow", True)
    assert not done and "folow, did you mean follow?" in reason


def test_a_failure_to_activate_is_told(
    ros: RosSession, core: Predictor, capfd: pytest.CaptureFixture[str]
) -> None:
    bogus = ("--ros-args", "-p", "qos_overrides./image.subscription.depth:=-3")
    node = SamNode(threading.Event(), lambda *_: core, context=ros.node.context, cli_args=list(bogus))
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    finally:
        node.destroy_node()
    said = capfd.readouterr().err
    assert "cannot activate" in said and "depth" in said


# Life cycle.


def test_a_lifecycle_manager_can_drive_the_node(ros: RosSession, checkpoint: Path, core: Predictor) -> None:
    rig = NodeRig(ros, "-p", "autostart:=false", "-p", "checkpoint:=/nowhere.safetensors", wait=False)
    assert rig.state() == "unconfigured"
    assert not rig.change_state(Transition.TRANSITION_ACTIVATE)  # not from here; must not kill the node
    assert not rig.change_state(Transition.TRANSITION_CONFIGURE)
    assert "/nowhere.safetensors does not exist" in rig.process.output()
    assert rig.state() == "unconfigured"
    assert rig.set_parameter("checkpoint", str(checkpoint)) == (True, "")
    for _ in range(2):
        assert rig.change_state(Transition.TRANSITION_CONFIGURE)
        assert rig.state() == "inactive"
        assert rig.change_state(Transition.TRANSITION_ACTIVATE)
        rig.wait_until_connected()
        stamp = rig.show(scene())
        outputs = rig.outputs_for("point", point(35, 45, stamp))
        assert_outputs(outputs, ask(core, scene(), click_prompt((35, 45))))
        assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
        assert rig.state() == "inactive"
        assert rig.change_state(Transition.TRANSITION_CLEANUP)
        assert rig.state() == "unconfigured"


def test_an_inactive_node_refuses_prompts_and_services_with_that_reason(
    ros: RosSession, checkpoint: Path, core: Predictor
) -> None:
    rig = NodeRig(ros, "-p", "autostart:=false", "-p", f"checkpoint:={checkpoint}", wait=False)
    assert rig.state() == "unconfigured"
    assert not any(ros.node.count_subscribers(f"/sam/{topic}") for topic in INPUT_TYPES)
    assert rig.change_state(Transition.TRANSITION_CONFIGURE)
    assert_refuses_as_inactive(rig)
    rig.wait_for_status("refused: inactive", lambda count: int(count) >= len(INPUT_TYPES))
    assert rig.change_state(Transition.TRANSITION_ACTIVATE)
    rig.wait_until_connected()
    outputs = rig.outputs_for("point", point(35, 45, rig.show(scene())))
    assert_outputs(outputs, ask(core, scene(), click_prompt((35, 45))))  # and nothing of what was refused
    assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
    assert_refuses_as_inactive(rig)
    assert rig.change_state(Transition.TRANSITION_CLEANUP)
    rig.wait_until(lambda: not ros.node.count_subscribers("/sam/point"), "the topics to go")


def assert_refuses_as_inactive(rig: NodeRig) -> None:
    """Every prompt topic and service is there and refuses; images are not taken."""
    node = rig.ros.node
    topics = [f"{rig.name}/{topic}" for topic in INPUT_TYPES]
    rig.wait_until(lambda: all(node.count_subscribers(topic) for topic in topics), "the prompt topics")
    for topic, kind in INPUT_TYPES.items():
        told = rig.refusal_of(topic, kind())
        assert (told["kind"], told["topic"]) == ("inactive", f"{rig.name}/{topic}")
        assert "the node is inactive" in told["reason"]
    for service in ("clear", "undo"):
        answer = rig.trigger(service)
        assert not answer.success and "the node is inactive" in answer.message
    assert "refused a prompt on /sam/point: the node is inactive" in rig.process.output()
    rig.wait_until(lambda: not node.count_subscribers("/image"), "the camera's subscription to go")


def test_deactivating_forgets_objects_and_frames(ros: RosSession, checkpoint: Path) -> None:
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}")
    stamp = rig.show(scene())
    rig.outputs_for("point", point(35, 45, stamp))
    assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
    assert rig.change_state(Transition.TRANSITION_ACTIVATE)
    rig.wait_until_connected()
    assert rig.refusal_of("point", point(35, 45, stamp))["kind"] == "no image"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(ros: RosSession, checkpoint: Path, number: signal.Signals) -> None:
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}")
    rig.outputs_for("point", point(35, 45, rig.show(scene())))
    for _ in range(5):  # as launch does
        rig.process.popen.send_signal(number)
    assert rig.process.stop(number) == 0
    assert "Traceback" not in rig.process.output()


# The node, whose checkpoint takes minutes to verify, in one call of C, as reading or compiling may.
SLOW_TO_LOAD = """
import hashlib, sys
from sam_ros import weights
from sam_ros.node import sam_node
def verify(*arguments):
    print("verifying", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
weights.verify = verify
sys.exit(sam_node.main(sys.argv))
"""


@pytest.mark.parametrize(("number", "autostart"), [(signal.SIGINT, "true"), (signal.SIGTERM, "false")])
def test_signals_end_the_node_while_its_model_is_loaded(
    ros: RosSession, number: signal.Signals, autostart: str
) -> None:
    arguments = ["--ros-args", "-p", "model_type:=vit_b", "-p", f"autostart:={autostart}"]
    process = ros.start_command("sam_node", [sys.executable, "-c", SLOW_TO_LOAD, *arguments])
    if autostart == "false":
        configure = ros.node.create_client(ChangeState, "/sam/change_state")
        ros.wait_until(configure.service_is_ready, "change_state", 90)
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_CONFIGURE
        configure.call_async(request)
    ros.wait_until(lambda: "verifying" in process.output(), "the model to be loaded", 90)
    for _ in range(5):  # as launch does
        process.popen.send_signal(number)
    assert process.stop(number) == 0
    assert "ERROR" not in process.output() and "Traceback" not in process.output()


def test_a_warm_up_that_a_signal_ends_is_no_failure(
    ros: RosSession, core: Predictor, capfd: pytest.CaptureFixture[str]
) -> None:
    terminate = threading.Event()

    def load(*_: object) -> Predictor:
        terminate.set()
        return core

    node = SamNode(terminate, load, context=ros.node.context)
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    finally:
        node.destroy_node()
    said = capfd.readouterr().err
    assert "ERROR" not in said and "not configured: the node is to end" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "model_type:=vit_b"], "weights vit_b"),
        (["-p", "checkpoint:=/nowhere.pth"], "/nowhere.pth does not exist"),
        (["-p", "model_type:=vit_x"], "cannot start: model_type must be one of"),
        (["-p", "max_rate:=5000.0"], "max_rate"),
        (["-p", "device:=cuda:77"], "cuda:77"),
        (["-p", "qos_overrides./sam/mask.publisher.depth:=abc"], "qos_overrides./sam/mask.publisher.depth"),
        (
            ["-p", "qos_overrides./sam/mask.publisher.depth:=-1"],
            "mask.publisher.depth must be at least 0, got -1",
        ),
        (
            ["-p", "qos_overrides./image.subscription.reliability:=often"],
            "must be one of system_default, reliable",
        ),
        (["-r", "nonsense"], "cannot start: failed to initialize rcl: Couldn't parse remap rule"),
        (["--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
    ],
)
def test_bad_configuration_exits_and_says_what_to_do(
    ros: RosSession, tmp_path: Path, arguments: list[str], said: str
) -> None:
    command = [sys.executable, "-m", "sam_ros.node.sam_node", "--ros-args", *arguments]
    process = ros.start_command("sam_node", command, {"SAM_ROS_CACHE": str(tmp_path)})
    assert process.wait(90) == 1
    assert said in process.output() and "Traceback" not in process.output()


def test_an_unforeseen_failure_to_configure_is_told(
    ros: RosSession, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Predictor:
        raise RuntimeError("no such luck")

    node = SamNode(threading.Event(), load=fail, context=ros.node.context)
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    finally:
        node.destroy_node()
    assert "RuntimeError: no such luck" in capfd.readouterr().err


def test_a_device_that_fails_while_the_node_configures_ends_the_node(ros: RosSession) -> None:
    def fail(*_: Any) -> Predictor:
        raise DeviceError("cuda:0 failed: uncorrectable memory")

    node = SamNode(threading.Event(), load=fail, context=ros.node.context)
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert node.device_failed
    finally:
        node.destroy_node()


# The node, on a device that fails for good once the node is warm: what a GPU does cannot be had here.
BROKEN_DEVICE = """
import sys, torch
from sam_ros.node import sam_node
from sam_ros.predictor import Predictor
encode = Predictor._encode
def encode_once(*arguments):
    Predictor._encode = fail
    return encode(*arguments)
def fail(*arguments):
    raise torch.AcceleratorError("an illegal memory access was encountered")
Predictor._encode = encode_once
sys.exit(sam_node.main(sys.argv))
"""


def test_a_device_that_fails_ends_the_node(ros: RosSession, checkpoint: Path) -> None:
    command = [sys.executable, "-c", BROKEN_DEVICE, "--ros-args", "-p", f"checkpoint:={checkpoint}"]
    process = ros.start_command("sam_node", [*command, "-p", "device:=cpu"])
    images = ros.node.create_publisher(Image, "/image", 1)
    deadline = time.monotonic() + 90
    while process.popen.poll() is None and time.monotonic() < deadline:  # the first image may find nobody
        images.publish(image_msg(scene(), "rgb8", SECOND))
        time.sleep(0.1)
    assert process.wait() == DEVICE_FAILED_EXIT
    assert "cpu failed: an illegal memory access" in process.output()
    assert "the device failed" in process.output()


def test_names_are_relative_and_qos_can_be_overridden(
    ros: RosSession, checkpoint: Path, core: Predictor
) -> None:
    rig = NodeRig(
        ros,
        *("-p", f"checkpoint:={checkpoint}", "-r", "__ns:=/robot", "-r", "__node:=eyes"),
        *("-r", "image:=/front/image_raw"),
        *("-p", "qos_overrides./front/image_raw.subscription.reliability:=reliable"),
        name="/robot/eyes",
        image_topic="/front/image_raw",
    )
    (subscription,) = ros.node.get_subscriptions_info_by_topic("/front/image_raw")
    assert subscription.qos_profile.reliability.name == "RELIABLE"
    outputs = rig.outputs_for("point", point(35, 45, rig.show(scene())))
    assert_outputs(outputs, ask(core, scene(), click_prompt((35, 45))))


def test_two_nodes_of_one_name_both_work(ros: RosSession, checkpoint: Path) -> None:
    arguments = ("-p", f"checkpoint:={checkpoint}")
    second = NodeRig(ros, *arguments, wait=False)
    rig = NodeRig(ros, *arguments)
    rig.wait_until(lambda: ros.node.count_publishers("/sam/mask") == 2, "both nodes")
    rig.wait_until(lambda: ros.node.count_subscribers("/image") == 2, "both nodes")

    def both_answer() -> bool:
        """Whether a frame gets two masks; an image may be lost on the way to either node."""
        stamp = rig.show(scene())
        rig.send("point", point(35, 45, stamp))
        return rig.comes_true(lambda: len({id(m) for m in of_stamp(rig.received["mask"], stamp)}) == 2)

    assert any(both_answer() for _ in range(TRIES))
    assert second.process.stop() == rig.process.stop() == 0


def test_a_prompt_waits_briefly_for_the_first_image(ros: RosSession, checkpoint: Path) -> None:
    rig = NodeRig(ros, "-p", f"checkpoint:={checkpoint}")
    refusal = rig.refusal_of("click", Point(x=1.0, y=1.0))
    assert refusal["kind"] == "no image"
    rig.forget_outputs()
    rig.send("click", Point(x=1.0, y=1.0))
    message = image_msg(scene(), "rgb8", 7 * SECOND)

    def answered_after_an_image() -> bool:
        rig.send_image(message)
        return bool(rig.received["mask"])

    rig.wait_until(answered_after_an_image, "the answer to the click before the image")
    assert stamp_ns(rig.received["mask"][0]) == 7 * SECOND
