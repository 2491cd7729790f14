"""The node: a life cycle around the engine; its topics are rows of ``inputs`` and ``outputs``."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from sam_ros.core.segmenter import Outputs
from sam_ros.errors import (
    DEVICE_FAILED_EXIT,
    DeviceError,
    EncodeCancelledError,
    InvalidParameterError,
    SamRosError,
    shortened,
)
from sam_ros.node import diagnostics
from sam_ros.node.engine import INACTIVE, Engine
from sam_ros.node.engine_settings import engine_settings
from sam_ros.node.guards import guarded, spin_once
from sam_ros.node.headers import stamp_to_ns
from sam_ros.node.images import CameraStream
from sam_ros.node.inputs import (
    CAMERAS,
    EditInput,
    PromptTopics,
    TriggerInput,
    subscribe_to_camera,
)
from sam_ros.node.loading import load_warm_predictor
from sam_ros.node.outputs import (
    CANDIDATE_OUTPUTS,
    EVERYTHING_OUTPUTS,
    FRAME_OUTPUTS,
    Answer,
    OutputPublishers,
)
from sam_ros.node.parameters import (
    FIXED_NAMES,
    Parameters,
    check_known,
    declare_parameters,
    read_parameters,
    unknown_overrides,
)
from sam_ros.node.qos import QOS_PREFIX, check_qos_overrides
from sam_ros.node.reporting import Reporter
from sam_ros.node.serialized import header_of_serialized
from sam_ros.node.startup import init_rclpy
from sam_ros.node.statistics import Refusal, Statistics
from sam_ros.node.tally import Tally
from sam_ros.node.waiting import PromptRequest
from sam_ros.node.watching import CameraWatch
from sam_ros.predictor import Predictor, load_predictor
from sam_ros.signals import event_set_by_signals, exit_after_signal

DIAGNOSTICS_PERIOD_SEC = 1.0
WHY_INACTIVE = "the node is inactive: activate it first"
END_SEC = 4.0  # what still runs so long after a signal is cut off: the node is to end within 5 s
OBJECTS_SHOWN = 3  # of those that a prompt touched, in the log


class SamNode(LifecycleNode):
    """Segment Anything as a lifecycle node.

    Callbacks only store; the engine's threads compute and call back ``on_outputs``, ``on_candidates``,
    ``on_refusal``, ``on_drop`` and ``on_failure``.

    Args:
        terminate: once set, the node is to end: a warm-up under way is given up.
        load: makes the predictor; tests hand in one that fails or blocks.
        arguments: of ``rclpy.lifecycle.LifecycleNode``.

    Raises:
        InvalidParameterError: a value of a parameter that its range or choices do not allow.
        rclpy.exceptions.ParameterException: a value of another type.
    """

    def __init__(
        self, terminate: threading.Event, load: Callable[..., Predictor] = load_predictor, **arguments: Any
    ) -> None:
        super().__init__("sam", **arguments)
        declare_parameters(self)
        self.parameters = read_parameters(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_on_set_parameters_callback(check_qos_overrides)
        self.add_post_set_parameters_callback(self._take_parameters)
        self._terminate, self._load = terminate, load
        self._state = "unconfigured"
        self._engine: Engine | None = None  # while active, as the camera
        self._camera: Any = None
        self._predictor: Predictor | None = None  # from configure to cleanup; so long these are open
        self._statistics = Statistics()
        self._tally = Tally(self._statistics, self)
        self._prompts = PromptTopics(
            self,
            self._take_prompt,
            self._take_edit,
            self._tally.refused_message,
            self._serve,
            lambda: self.parameters.prompt_hw,
            lambda: self.parameters.max_image_pixels,
        )
        self._frame_outputs = OutputPublishers(self, FRAME_OUTPUTS)
        self._candidates = OutputPublishers(self, CANDIDATE_OUTPUTS)
        self._everything = OutputPublishers(self, EVERYTHING_OUTPUTS)
        self.device_failed = False
        """Whether the device failed so that the node has to end, for another process to take its place."""
        self._reporter = Reporter(self)
        self._warn_of_unknown_parameters(of_qos=False)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # diagnostics come while a simulation is paused
        self.create_timer(DIAGNOSTICS_PERIOD_SEC, self._publish_status, clock=steady)

    def create_service(self, srv_type: Any, srv_name: str, callback: Any, **arguments: Any) -> Any:
        """As that of rclpy, which offers the built-in services by it too; none of them can end the node."""
        return super().create_service(srv_type, srv_name, guarded(callback, self.on_failure), **arguments)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """As that of rclpy, which does not name a parameter that there is not."""
        check_known(self, parameter_list)
        return super().set_parameters_atomically(parameter_list)

    # Lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and verify the weights, warm up, announce the topics and services."""
        try:
            self.parameters = read_parameters(self)
            self._predictor = load_warm_predictor(
                self._load, self.parameters, self._terminate.is_set, self.get_logger()
            )
            for topics in (self._frame_outputs, self._candidates, self._everything, self._prompts):
                topics.open()
        except Exception as error:  # noqa: BLE001 rclpy would swallow it without a word
            self._tell_failure("configure", error)
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._state = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the engine, and take images and prompts."""
        if self._predictor is None:
            return TransitionCallbackReturn.FAILURE
        try:
            self._start_engine(self._predictor)
        except Exception as error:  # noqa: BLE001 rclpy would only say that the transition failed
            self._tell_failure("activate", error)
            self._stop_engine()
            return TransitionCallbackReturn.FAILURE
        result = super().on_activate(state)
        self._state = "active"
        self._warn_of_unknown_parameters(of_qos=True)
        self._warn_of_following(self.parameters)
        return result

    def _tell_failure(self, transition: str, error: Exception) -> None:
        """Say why a transition is not possible; with a traceback, unless the message says what to mend."""
        if isinstance(error, EncodeCancelledError):  # a signal came during the warm-up
            self.get_logger().info(f"not {transition}d: the node is to end")
            return
        self.device_failed = isinstance(error, DeviceError)
        is_clear = isinstance(error, (SamRosError, ParameterException))
        why = f" {error}" if is_clear else "\n" + "".join(traceback.format_exception(error))
        self.get_logger().error(f"cannot {transition}:{why}")

    def _start_engine(self, predictor: Predictor) -> None:
        settings = engine_settings(self.parameters)
        self._statistics.activated()
        self._stream = CameraStream(self._reporter.note)
        self._engine = Engine(predictor, self._read_image, self._read_size, self, settings, self._statistics)
        self._engine.start()
        self._camera = subscribe_to_camera(
            self,
            CAMERAS[self.parameters.image_transport],
            partial(self._take_image, self._engine),
            self.parameters.image_durability,
        )
        self._watch = CameraWatch(self, self._camera, self._reporter)
        self._has_shown = False

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

    def _stop_engine(self) -> bool:
        if self._camera is not None:
            self.destroy_subscription(self._camera)
        engine, self._engine, self._camera = self._engine, None, None
        return engine is None or engine.stop()

    def _release(self) -> None:
        for topics in (self._prompts, self._frame_outputs, self._candidates, self._everything):
            topics.close()
        self._predictor = None
        gc.collect()  # CUDA graphs hold a model in cycles of references: its memory is wanted now
        self._state = "unconfigured"

    # What comes in.

    def _take_image(self, engine: Engine, serialized: bytes) -> None:
        start = time.monotonic()
        self._watch.saw(serialized)
        self._statistics.event("image")  # it came, whatever becomes of it
        try:
            header = header_of_serialized(serialized)
            stamp_ns = stamp_to_ns(header)
        except SamRosError as error:
            self._tally.dropped(error.kind, str(error))
            return
        problem = CAMERAS[self.parameters.image_transport].problem(
            serialized, self.parameters.max_image_pixels
        )
        engine.add_image(stamp_ns, header.frame_id, serialized, problem)
        self._statistics.event("take", time.monotonic() - start)

    def _take_prompt(self, request: PromptRequest) -> None:
        if self._engine is not None:
            self._engine.submit(request)
            return
        self._tally.refused(request, INACTIVE, WHY_INACTIVE)

    def _take_edit(self, edit: EditInput, topic: str, msg: Any) -> None:
        if self._engine is not None:
            edit.edit(self._engine, topic, msg)
        else:
            id = msg.data if isinstance(msg.data, str) else ""
            self._tally.refused_message(topic, INACTIVE, WHY_INACTIVE, id)

    def _serve(self, service: TriggerInput) -> tuple[bool, str]:
        if self._engine is None:
            return False, WHY_INACTIVE
        return service.call(self._engine, self.resolve_service_name(service.name))

    def _read_image(self, serialized: bytes) -> npt.NDArray[np.uint8]:
        camera = CAMERAS[self.parameters.image_transport]
        return camera.read(serialized, self.parameters.max_image_pixels, self._stream)

    def _read_size(self, serialized: bytes) -> tuple[int, int]:
        """By the pixels where they will be drawn: what cannot be read is dropped before any of its set."""
        if self._frame_outputs.need_image:
            height, width, _ = self._read_image(serialized).shape
            return height, width
        camera = CAMERAS[self.parameters.image_transport]
        return camera.size(serialized, self.parameters.max_image_pixels)

    # The engine's listener.

    def wants_candidates(self) -> bool:
        """Whether anybody has subscribed to ``~/candidates``."""
        return self._candidates.are_wanted

    def on_outputs(self, outputs: Outputs) -> None:
        """Publish one set of answers, together, in the image's header and resolution."""
        if self._state == "active":
            start = time.monotonic()
            self._frame_outputs.publish(Answer(outputs, self._read_image))
            self._tell_first_mask(outputs)
            self.on_candidates(outputs)
            self._statistics.event("publish", time.monotonic() - start)

    def _tell_first_mask(self, outputs: Outputs) -> None:
        if self._has_shown or not outputs.objects:
            return
        self._has_shown = True
        one, masks = outputs.objects[0]
        height, width = outputs.size_hw
        self._reporter.note(
            f"the first mask is out on {self.resolve_topic_name('~/mask')}: object {shortened(one.id)}, "
            f"{np.count_nonzero(masks.masks[0])} of {width} x {height} pixels, IoU "
            f"{masks.predicted_iou[0]:.2f}"
        )

    def on_answered(self, topic: str, outputs: Outputs, touched: Collection[int]) -> None:
        """Say which objects a prompt made or changed, and how old its frame was."""
        seen = [
            f"object {shortened(one.id)} with an IoU of {masks.predicted_iou[0]:.2f}"
            for one, masks in outputs.objects
            if one.created in touched
        ]
        age_sec = time.monotonic() - outputs.frame.arrived_sec
        shown = ", ".join(seen[:OBJECTS_SHOWN]) or "nothing to be seen"
        more = f" and {len(seen) - OBJECTS_SHOWN} more" if len(seen) > OBJECTS_SHOWN else ""
        self._reporter.answer(topic, f"{topic}: {shown}{more}, on a frame that came {age_sec:.2f} s ago")

    def on_candidates(self, outputs: Outputs) -> None:
        """Publish the candidates, if there are any, and their IoUs, which an image has no room for."""
        if self._state == "active" and outputs.candidates is not None:
            scores = [float(score) for score in outputs.candidates.predicted_iou]
            whose = next(one.id for one, masks in outputs.objects if masks is outputs.candidates)
            self._reporter.candidates(outputs.frame.stamp_ns, whose, scores)
            self._candidates.publish(Answer(outputs, self._read_image))

    def on_everything(self, topic: str, outputs: Outputs) -> None:
        """Publish everything that was found on a frame, and say how much that is."""
        if self._state == "active":
            self._everything.publish(Answer(outputs, self._read_image))
            age_sec = time.monotonic() - outputs.frame.arrived_sec
            found = len(outputs.objects)
            self._reporter.answer(topic, f"{topic}: found {found}, on a frame that came {age_sec:.2f} s ago")

    def on_refusal(self, refusal: Refusal) -> None:
        """Report a refused prompt at once."""
        self._reporter.refusal(refusal)

    def on_drop(self, kind: str, reason: str) -> None:
        """Report a dropped image."""
        self._reporter.drop(kind, reason)

    def on_flush(self, reason: str) -> None:
        """Report that all frames and objects were forgotten."""
        self._reporter.flush(reason)

    def on_failure(self, what: str, error: Exception) -> None:
        """Report a failure that no input explains; one of the device ends the node."""
        self.device_failed = self.device_failed or isinstance(error, DeviceError)
        self._reporter.failure(what, error)

    # Diagnostics and parameters.

    def _publish_status(self) -> None:
        facts = {"objects": str(self._engine.num_objects if self._engine else 0)}
        if self._predictor is not None:
            facts |= _facts_of(self._predictor)
        facts |= diagnostics.host_memory_mb()
        self._reporter.status(self._state, self._statistics.snapshot(), facts)
        if self._state == "active":
            self._watch.look()

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

    def _take_parameters(self, changes: list[Parameter]) -> None:
        self.parameters = read_parameters(self)
        if any(change.name == "follow" for change in changes):
            self._warn_of_following(self.parameters)
        if self._engine is not None:
            self._engine.configure(engine_settings(self.parameters))

    def _warn_of_following(self, parameters: Parameters) -> None:
        """Say that it has no effect where it has none."""
        if parameters.follow and parameters.encode == "on_prompt":
            self.get_logger().warning(
                "follow has no effect with encode: on_prompt: each prompt is answered once, on its frame; "
                "encode: with_objects follows, and rests while there are no objects"
            )

    def _warn_of_unknown_parameters(self, of_qos: bool) -> None:
        """Those of QoS are known only once all topics are there."""
        for name, nearest in unknown_overrides(self).items():
            if name.startswith(QOS_PREFIX) == of_qos:
                hint = f"; did you mean {nearest}?" if nearest else ""
                self.get_logger().warning(f"the node has no parameter {name}{hint}")


def _facts_of(predictor: Predictor) -> dict[str, str]:
    facts = {
        "model_type": predictor.model_type,
        "device": str(predictor.device),
        "precision": predictor.precision,
    }
    return facts | {f"device {name} (MB)": f"{mb:.0f}" for name, mb in predictor.memory_mb().items()}


def main(argv: Sequence[str] | None = None) -> int:
    """The ``sam_node`` executable; returns the exit code."""
    terminate = event_set_by_signals()
    exit_after_signal(END_SEC)  # weights are verified, read and compiled for as long as it takes
    init_rclpy(argv)
    try:
        node = SamNode(terminate)
    except (InvalidParameterError, ParameterException) as error:
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
        return DEVICE_FAILED_EXIT if node.device_failed else 1
    while not terminate.is_set() and rclpy.ok():
        spin_once(executor, 0.1, node.on_failure)
        if node.device_failed:
            node.get_logger().fatal("the device failed: this process ends, for another to take its place")
            return DEVICE_FAILED_EXIT
    return 0


def _autostart(node: SamNode) -> bool:
    """Configure and activate; false if one of them fails."""
    transitions = (node.trigger_configure, node.trigger_activate)
    return all(transition() == TransitionCallbackReturn.SUCCESS for transition in transitions)


if __name__ == "__main__":
    sys.exit(main())
