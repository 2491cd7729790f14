"""What the node does while it follows, image by image and without its threads; every image is answered."""

from __future__ import annotations

import logging

from sam_ros.core.everything import EverythingIn
from sam_ros.core.follower import VIEWS_KEPT
from sam_ros.core.frames import EmbeddedFrame
from sam_ros.core.objects import ObjectTable, by_kind
from sam_ros.core.protocol import PromptableModel
from sam_ros.core.segmenter import Options, Outputs, Segmented, Segmenter
from sam_ros.errors import DeviceError, DeviceMemoryError, InvalidPromptError, SamRosError, of_several
from sam_ros.node.waiting import PromptRequest, WaitingPrompt
from sam_ros.tools.bag.plan import Plan
from sam_ros.tools.bag.preparing import Prepared
from sam_ros.tools.bag.progress import Progress

NO_IMAGE = "no image is near enough to its time"
_logger = logging.getLogger(__name__)


class Following:
    """Applies prompts to the images that they are meant for, and follows the objects from image to image.

    A prompt shows on its own image already, as where the node gets it before that image.

    Args:
        model: decodes prompts.
        options: how to segment.
        plan: which prompts belong to which image.
        progress: what was done before; is kept up to date.
    """

    def __init__(self, model: PromptableModel, options: Options, plan: Plan, progress: Progress) -> None:
        self._segmenter = Segmenter(model, follower=progress.follower)
        self._options, self._plan, self._progress = options, plan, progress

    def answer(self, image: Prepared) -> Outputs | None:
        """The set of answers on the next image; None where it has none."""
        if image.arrived.begins_anew:
            self._begin_anew()
        if image.arrived.frame is not None and image.image_rgb is not None:
            self._segmenter.see(image.arrived.frame.sequence, image.image_rgb, VIEWS_KEPT)
        requests = self._requests(image)
        outputs = None
        if image.embedded is None:
            self._leave_out(image, requests)
        else:
            outputs = self._outputs(image.embedded, requests)
        self._progress.position = image.arrived.position + 1
        self._progress.prompts_taken = self._plan.num_taken
        return outputs

    def finish(self) -> None:
        """After the last image: say which prompts belonged to none."""
        self._refuse_all(self._plan.rest(), NO_IMAGE)
        self._progress.prompts_taken = self._plan.num_taken

    def _begin_anew(self) -> None:
        _logger.warning("the images' stamps jump back: all objects are forgotten")
        self._segmenter.forget_frames()
        self._progress.table = self._progress.table.cleared()

    def _requests(self, image: Prepared) -> list[PromptRequest]:
        """The prompts that belong to an image."""
        frame = image.arrived.frame
        if frame is None or image.arrived.problem is not None:
            return []
        belong, lost = self._plan.for_image(image.arrived.lap, frame.stamp_ns, image.arrived.next_stamp_ns)
        self._refuse_all(lost, NO_IMAGE)
        return belong

    def _leave_out(self, image: Prepared, requests: list[PromptRequest]) -> None:
        problem = image.problem or SamRosError("it has no answer")
        if not self._progress.dropped[problem.kind]:
            _logger.warning("image %d is left out: %s", image.arrived.position, problem)
        self._progress.dropped[problem.kind] += 1
        self._refuse_all(requests, f"its image is left out: {problem}")

    def _outputs(self, frame: EmbeddedFrame, requests: list[PromptRequest]) -> Outputs:
        """Apply prompts on their frame, and follow all objects to it."""
        table = self._progress.table
        for request in requests:
            table = self._apply(table, request, frame)
        result = self._segmenter.followed(table, self._options, frame)
        self._progress.table = result.table
        self._progress.records.add(result.table, result.outputs)
        return result.outputs

    def _apply(self, table: ObjectTable, request: PromptRequest, frame: EmbeddedFrame) -> ObjectTable:
        """The objects after a prompt; the same ones where it is refused, as the node does."""
        try:
            result = self._prompted(table, request, frame)
        except (DeviceError, DeviceMemoryError):
            raise
        except SamRosError as error:
            self._refuse(request, str(error))
            return table
        for objects in by_kind(result.refused):
            self._refuse(request, of_several(objects[0].reason, len(objects)))
        return result.table

    def _prompted(self, table: ObjectTable, request: PromptRequest, frame: EmbeddedFrame) -> Segmented:
        waiting = WaitingPrompt(request, turn=0, deadline=0.0)
        waiting.embedded = frame
        asked = request.convert(self._segmenter.target(waiting.frame()))
        if isinstance(asked, EverythingIn):
            raise InvalidPromptError("everything can be asked of the node only", kind="everything")
        return self._segmenter.prompted(
            table, asked, frame, self._options, follows=True, wants_candidates=lambda: False
        )

    def _refuse_all(self, requests: list[PromptRequest], reason: str) -> None:
        for request in requests:
            self._refuse(request, reason)

    def _refuse(self, request: PromptRequest, reason: str) -> None:
        message = f"{request.topic}: {reason}"
        _logger.warning("a prompt is refused: %s", message)
        self._progress.refused.append(message)
