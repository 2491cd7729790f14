"""The node: parameters, topics and services around the engine."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point as PointMsg
from geometry_msgs.msg import PointStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from rclpy.service import Service
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray

from sam_ros.core.frames import Frame
from sam_ros.core.objects import Target, Update
from sam_ros.core.overlay import draw_overlay
from sam_ros.core.segmenter import Outputs
from sam_ros.errors import DeviceError, InvalidParameterError, SamRosError
from sam_ros.masks import draw_labels, draw_union
from sam_ros.node import conversions, diagnostics
from sam_ros.node.engine import Engine
from sam_ros.node.parameters import FIXED_NAMES, Parameters, declare_parameters, read_parameters
from sam_ros.node.settings import Settings
from sam_ros.node.statistics import Refusal, Statistics
from sam_ros.node.waiting import PromptRequest
from sam_ros.predictor import Predictor, is_fast, load_predictor
from sam_ros.prompt import BACKGROUND, FOREGROUND, Prompt
from sam_ros.signals import event_set_by_signals

# Best effort takes from every camera driver; only the newest frame matters.
IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# A lost click would have to be clicked again.
CLICK_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# Best effort matches any detector, and its next message replaces a lost one.
PROGRAM_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
# Reliable, since an answer is not repeated; two, so that a slow subscriber holds little memory.
OUTPUT_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
DIAGNOSTICS_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

DIAGNOSTICS_PERIOD_SEC = 1.0
SAY_AGAIN_SEC = 5.0  # the same kind of complaint is logged at most so often


class SamNode(LifecycleNode):
    """Segment Anything as a lifecycle node.

    Callbacks only store; the engine's threads compute and call back ``on_outputs``, ``on_refusal``,
    ``on_drop`` and ``on_failure``.

    Args:
        terminate: once set, the node is to end: a warm-up under way is given up.
        load: makes the predictor; tests hand in one that fails or blocks.
        arguments: of ``rclpy.lifecycle.LifecycleNode``.
    """

    def __init__(
        self,
        terminate: threading.Event,
        load: Callable[..., Predictor] = load_predictor,
        **arguments: Any,
    ) -> None:
        super().__init__("sam", **arguments)
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        self._terminate = terminate
        self._load = load
        self._state = "unconfigured"
        self._predictor: Predictor | None = None
        self._engine: Engine | None = None
        self._statistics = Statistics()
        self._said: dict[str, float] = {}
        self.device_failed = False
        """Whether the device failed so that the node has to end, for another process to take its place."""
        self._output_publishers: list[Any] = []  # of the outputs, from configure to cleanup
        self._inputs: list[Any] = []  # subscriptions and services, while active
        self._diagnostics = self.create_publisher(
            DiagnosticArray, "/diagnostics", DIAGNOSTICS_QOS, qos_overriding_options=_qos_overrides()
        )
        # Steady time: diagnostics must come while a simulation is paused.
        self.create_timer(
            DIAGNOSTICS_PERIOD_SEC, self._publish_status, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    # Lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and verify the weights, warm up, announce the outputs."""
        try:
            self.parameters = read_parameters(self)
            self._predictor = self._load_predictor(self.parameters)
        except SamRosError as error:
            self.device_failed = isinstance(error, DeviceError)
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 rclpy would swallow it without a word
            self.get_logger().error("cannot configure:\n" + "".join(traceback.format_exception(error)))
            return TransitionCallbackReturn.FAILURE
        self._create_outputs()
        self._state = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the engine and take images and prompts."""
        if self._predictor is None:
            return TransitionCallbackReturn.FAILURE
        settings = _settings(self.parameters)
        self._engine = Engine(self._predictor, self._read_image, self, settings, self._statistics)
        result = super().on_activate(state)
        self._engine.start()
        self._create_inputs(self._engine)
        self._state = "active"
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop; drop objects, images and embeddings; keep the model."""
        self._stop_engine()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop_engine()
        self._release()
        self._state = "finalized"
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to the beginning."""
        self.get_logger().error(f"a transition from {state.label} failed")
        self._stop_engine()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _LifecycleNodeMixin__on_change_state(self, request: Any, response: Any) -> Any:  # noqa: N802
        """Answer a transition that the present state does not have, instead of dying of it.

        https://github.com/ros2/rclpy/issues/1209
        """
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)
        except rclpy_implementation.RCLError as error:
            self.get_logger().warning(f"refused a transition: {error}")
            response.success = False
            return response

    def stop(self) -> bool:
        """Before the node is destroyed; false if a thread would not end in time."""
        self._state = "finalized"
        return self._stop_engine()

    def _load_predictor(self, parameters: Parameters) -> Predictor:
        start = time.monotonic()
        predictor = self._load(
            parameters.model_type,
            parameters.checkpoint or None,
            parameters.device,
            parameters.precision,
            parameters.compile,
        )
        loaded = time.monotonic()
        if not is_fast(predictor.precision, predictor.device):
            self.get_logger().warning(
                f"torch reports no instructions for {predictor.precision} on {predictor.device}; precision "
                "auto is faster"
            )
        self._warm_up(predictor)
        self.get_logger().info(
            f"{parameters.model_type} on {predictor.device} in {predictor.precision}: loaded in "
            f"{loaded - start:.1f} s, warmed up in {time.monotonic() - loaded:.1f} s"
        )
        return predictor

    def _warm_up(self, predictor: Predictor) -> None:
        """The first inference of each kind is the slow one: better now than at the first click.

        On a GPU also the second, in which a graph of it is captured.
        """
        side = predictor.image_size
        image_rgb, logits = np.zeros((side, side, 3), np.uint8), np.zeros((side // 4, side // 4), np.float32)
        points, labels = np.full((3, 2), side / 2), np.full(3, FOREGROUND)
        # A box needs no prompt of its own, its shapes are a click's.
        prompts = [Prompt(points[:count], labels[:count]) for count in (1, 2, 3)]
        prompts += [Prompt(low_res_logits=logits), Prompt(points[:1], labels[:1], low_res_logits=logits)]
        for _ in range(2 if predictor.device.type == "cuda" else 1):
            embedding = predictor.encode(image_rgb, self._terminate.is_set)
            for prompt in prompts:
                predictor.decode(embedding, [prompt])

    def _release(self) -> None:
        for publisher in self._output_publishers:
            self.destroy_lifecycle_publisher(publisher)
        self._output_publishers.clear()
        self._predictor = None
        gc.collect()  # CUDA graphs hold a model in cycles of references: its memory is wanted now
        self._state = "unconfigured"

    def _stop_engine(self) -> bool:
        for entity in self._inputs:
            destroy = self.destroy_service if isinstance(entity, Service) else self.destroy_subscription
            destroy(entity)
        self._inputs.clear()
        engine, self._engine = self._engine, None
        return engine is None or engine.stop()

    # Topics and services.

    def _create_outputs(self) -> None:
        def output(message_type: Any, name: str) -> Any:
            publisher = self.create_lifecycle_publisher(
                message_type, name, OUTPUT_QOS, qos_overriding_options=_qos_overrides()
            )
            self._output_publishers.append(publisher)
            return publisher

        self._mask = _ImageOutput(output(Image, "~/mask"), "mono8")
        self._labels = _ImageOutput(output(Image, "~/labels"), "16UC1")
        self._segments = output(Detection2DArray, "~/segments")
        self._candidates = _ImageOutput(output(Image, "~/candidates"), "8UC3")
        self._overlay = _ImageOutput(output(Image, "~/overlay"), "rgb8")

    def _create_inputs(self, engine: Engine) -> None:
        def click(message_type: Any, name: str, callback: Any, qos: QoSProfile = CLICK_QOS) -> Any:
            topic = self.resolve_topic_name(name)
            return self.create_subscription(
                message_type,
                name,
                partial(callback, engine, topic),
                qos,
                qos_overriding_options=_qos_overrides(),
            )

        self._inputs = [
            self._subscribe_to_camera(engine),
            click(PointStamped, "~/point", partial(self._take_point, FOREGROUND)),
            click(PointStamped, "~/point_background", partial(self._take_point, BACKGROUND)),
            click(PointMsg, "~/click", self._take_click),
            click(RegionOfInterest, "~/box", self._take_box),
            click(Image, "~/mask_prompt", self._take_mask_prompt),
            click(Detection2DArray, "~/prompts", self._take_prompts, PROGRAM_QOS),
            self.create_service(Trigger, "~/clear", partial(self._clear, engine)),
            self.create_service(Trigger, "~/undo", partial(self._undo, engine)),
        ]

    def _subscribe_to_camera(self, engine: Engine) -> Any:
        """Messages come serialized: frames that will be dropped are never deserialized."""
        is_raw = self.parameters.image_transport == "raw"
        return self.create_subscription(
            Image if is_raw else CompressedImage,
            "image" if is_raw else self.resolve_topic_name("image") + "/compressed",
            partial(self._take_image, engine),
            IMAGE_QOS,
            qos_overriding_options=_qos_overrides(),
            raw=True,
        )

    def _take_image(self, engine: Engine, serialized: bytes) -> None:
        start = time.monotonic()
        header = deserialize_message(serialized, Header)  # both kinds of image begin with their header
        engine.add_image(conversions.stamp_to_ns(header), header.frame_id, serialized)
        self._statistics.event("take", time.monotonic() - start)

    def _take_point(self, label: int, engine: Engine, topic: str, msg: PointStamped) -> None:
        self._submit(engine, topic, msg.header, partial(conversions.point_from_msg, msg.point, label))

    def _take_click(self, engine: Engine, topic: str, msg: PointMsg) -> None:
        self._submit(engine, topic, Header(), partial(conversions.point_from_msg, msg, FOREGROUND))

    def _take_box(self, engine: Engine, topic: str, msg: RegionOfInterest) -> None:
        self._submit(engine, topic, Header(), partial(conversions.box_from_roi, msg))

    def _take_mask_prompt(self, engine: Engine, topic: str, msg: Image) -> None:
        self._submit(engine, topic, msg.header, partial(conversions.mask_prompt_from_msg, msg))

    def _take_prompts(self, engine: Engine, topic: str, msg: Detection2DArray) -> None:
        convert = partial(conversions.program_prompts_from_msg, msg)
        self._submit(engine, topic, msg.header, convert, undoable=False)

    def _submit(
        self,
        engine: Engine,
        topic: str,
        header: Header,
        convert: Callable[[Target, tuple[int, int]], Update],
        undoable: bool = True,
    ) -> None:
        engine.submit(
            PromptRequest(
                topic,
                conversions.stamp_to_ns(header),
                header.frame_id,
                lambda target: convert(target, self.parameters.prompt_hw),
                undoable,
            )
        )

    def _clear(self, engine: Engine, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        engine.clear()
        response.success, response.message = True, "all objects are forgotten"
        return response

    def _undo(self, engine: Engine, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = engine.undo()
        response.message = "the last prompt is undone" if response.success else "there is nothing to undo"
        return response

    def _read_image(self, serialized: bytes) -> npt.NDArray[np.uint8]:
        max_pixels = self.parameters.max_image_pixels
        if self.parameters.image_transport == "raw":
            return conversions.image_from_msg(deserialize_message(serialized, Image), max_pixels)
        msg = deserialize_message(serialized, CompressedImage)
        return conversions.image_from_compressed_msg(msg, max_pixels)

    # The engine's listener.

    def wants_candidates(self) -> bool:
        """Whether anybody has subscribed to ``~/candidates``."""
        return self._candidates.is_wanted

    def on_outputs(self, outputs: Outputs) -> None:
        """Publish one set of answers, together, in the image's header and resolution."""
        if self._state != "active":
            return
        start = time.monotonic()
        size_hw, header = outputs.size_hw, _header(outputs.frame)
        masks = [masks.masks[0] for _, masks in outputs.objects]
        scores = [float(masks.predicted_iou[0]) for _, masks in outputs.objects]
        self._mask.publish(size_hw, header, partial(draw_union, masks))
        self._labels.publish(size_hw, header, partial(draw_labels, masks, scores))
        if self._segments.get_subscription_count():
            self._segments.publish(conversions.segments_to_msg(outputs.objects, header))
        self.on_candidates(outputs)
        self._overlay.publish(size_hw, header, partial(self._draw_overlay, outputs))
        self._statistics.event("publish", time.monotonic() - start)

    def on_candidates(self, outputs: Outputs) -> None:
        """Publish the candidates, if there are any."""
        if self._state == "active" and outputs.candidates is not None:
            draw = partial(conversions.draw_candidates, outputs.candidates)
            self._candidates.publish(outputs.size_hw, _header(outputs.frame), draw)

    def _draw_overlay(self, outputs: Outputs, image: npt.NDArray[np.uint8]) -> None:
        image_rgb = self._read_image(outputs.frame.data)
        np.copyto(image, draw_overlay(image_rgb, outputs.objects, outputs.frame.sequence))

    def on_refusal(self, refusal: Refusal) -> None:
        """Report a refused prompt at once."""
        self._diagnostics.publish(diagnostics.refusal_msg(self._diagnostics_name, self._now(), refusal))
        of_object = f", object {refusal.id!r}" if refusal.id else ""
        self._say(refusal.kind, f"refused a prompt on {refusal.topic}{of_object}: {refusal.reason}")

    def on_drop(self, kind: str, reason: str) -> None:
        """Report a dropped image."""
        self._say(kind, f"dropped an image: {reason}")

    def on_failure(self, what: str, error: Exception) -> None:
        """Report a failure that no input explains; one of the device ends the node."""
        self.device_failed = self.device_failed or isinstance(error, DeviceError)
        reason = f"{what} failed: {type(error).__name__}: {error}"
        self._diagnostics.publish(diagnostics.error_msg(self._diagnostics_name, self._now(), reason))
        if self._is_news(type(error).__name__):
            self.get_logger().error(reason + "\n" + "".join(traceback.format_exception(error)))

    def _say(self, kind: str, text: str) -> None:
        """Warn, but not of the same kind again within SAY_AGAIN_SEC."""
        if self._is_news(kind):
            self.get_logger().warning(text)

    def _is_news(self, kind: str) -> bool:
        """Whether the last of its kind was SAY_AGAIN_SEC ago or more; counts from now on."""
        now = time.monotonic()
        if now - self._said.get(kind, float("-inf")) < SAY_AGAIN_SEC:
            return False
        self._said[kind] = now
        return True

    # Diagnostics and parameters.

    @property
    def _diagnostics_name(self) -> str:
        return self.get_fully_qualified_name().removeprefix("/")

    def _now(self) -> Any:
        return self.get_clock().now().to_msg()

    def _publish_status(self) -> None:
        facts = {"objects": str(self._engine.num_objects if self._engine else 0)}
        if self._predictor is not None:
            facts |= {
                "model_type": self._predictor.model_type,
                "device": str(self._predictor.device),
                "precision": self._predictor.precision,
            }
            facts |= {f"device {name} (MB)": f"{mb:.0f}" for name, mb in self._predictor.memory_mb().items()}
        facts |= diagnostics.host_memory_mb()
        snapshot = self._statistics.snapshot()
        self._diagnostics.publish(
            diagnostics.status_msg(self._diagnostics_name, self._now(), self._state, snapshot, facts)
        )

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        fixed = sorted(FIXED_NAMES.intersection(change.name for change in changes))
        if fixed and self._state != "unconfigured":
            reason = f"{', '.join(fixed)} can be set only while the node is unconfigured; it is {self._state}"
            return SetParametersResult(successful=False, reason=reason)
        try:
            read_parameters(self, changes)
        except InvalidParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, _: list[Parameter]) -> None:
        self.parameters = read_parameters(self)
        if self._engine is not None:
            self._engine.configure(_settings(self.parameters))


def _settings(parameters: Parameters) -> Settings:
    return Settings(
        encode_always=parameters.encode == "always",
        follow=parameters.follow,
        max_rate_hz=parameters.max_rate,
        images_kept=parameters.images_kept,
        embeddings_kept=parameters.embeddings_kept,
        stamp_tolerance_ns=round(parameters.stamp_tolerance * 1e9),
        click_mode="join" if parameters.accumulate_clicks else "replace",
        multimask_output=parameters.multimask_output,
        max_objects=parameters.max_objects,
        min_predicted_iou=parameters.min_predicted_iou,
        min_stability_score=parameters.min_stability_score,
    )


class _ImageOutput:
    """A topic of images, which are made only where somebody has subscribed to them."""

    def __init__(self, publisher: Any, encoding: str) -> None:
        self._publisher = publisher
        self._buffer = conversions.ImageBuffer(encoding)

    @property
    def is_wanted(self) -> bool:
        return bool(self._publisher.get_subscription_count())

    def publish(
        self, size_hw: tuple[int, int], header: Header, draw: Callable[[npt.NDArray[Any]], None]
    ) -> None:
        """Publish an image of a size (H, W), of which ``draw`` sets every pixel."""
        if self.is_wanted:
            msg, pixels = self._buffer.message(size_hw, header)
            draw(pixels)
            self._publisher.publish(msg)


def _header(frame: Frame) -> Header:
    header = Header(frame_id=frame.frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(frame.stamp_ns, 1_000_000_000)
    return header


def _qos_overrides() -> QoSOverridingOptions:
    return QoSOverridingOptions.with_default_policies()


def main(argv: Sequence[str] | None = None) -> int:
    """The ``sam_node`` executable; returns the exit code."""
    terminate = event_set_by_signals()
    # With rclpy's own handlers the context may end in the middle of a callback, whose publish then raises
    # (https://github.com/ros2/rclpy/issues/1166).
    rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = SamNode(terminate)
    except ParameterException as error:
        rclpy.logging.get_logger("sam").fatal(f"cannot start: {error}")
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    exit_code = _spin(node, executor, terminate)
    if not node.stop():
        os._exit(exit_code)  # a thread is deep inside torch; waiting for it could take longer than 5 s
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return exit_code


def _spin(node: SamNode, executor: SingleThreadedExecutor, terminate: threading.Event) -> int:
    """Until a signal comes or the device fails; the exit code."""
    if node.get_parameter("autostart").value and not _autostart(node) and not terminate.is_set():
        return 1
    while not terminate.is_set():
        executor.spin_once(timeout_sec=0.1)
        if node.device_failed:
            node.get_logger().fatal("the device failed: this process ends, for another to take its place")
            return 1
    return 0


def _autostart(node: SamNode) -> bool:
    """Configure and activate; false if one of them fails."""
    transitions = (node.trigger_configure, node.trigger_activate)
    return all(transition() == TransitionCallbackReturn.SUCCESS for transition in transitions)


if __name__ == "__main__":
    sys.exit(main())
