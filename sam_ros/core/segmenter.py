"""One frame's work: apply a prompt, move objects, decode, choose what is shown; no threads and no ROS.

Everything here is computed from an object table and returns another one: who calls it decides whether the
result counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_ros.core.follower import VIEWS_KEPT, Follower
from sam_ros.core.frames import EmbeddedFrame, Frame
from sam_ros.core.motion import make_view
from sam_ros.core.objects import (
    ObjectTable,
    ProgramPrompts,
    RefusedObject,
    SegmentedObject,
    Target,
    Update,
    update_clicked,
    update_program,
)
from sam_ros.masks import Masks
from sam_ros.predictor import Predictor
from sam_ros.prompt import Prompt


@dataclass(frozen=True)
class Options:
    """How objects are segmented.

    Attributes:
        accumulate_clicks: foreground clicks and boxes join the clicked object instead of replacing it.
        multimask_output: ask for three masks where the prompt is a single point.
        max_objects: at most so many objects live.
        min_predicted_iou, min_stability_score: objects below are left out of all outputs.
    """

    accumulate_clicks: bool = False
    multimask_output: bool = True
    max_objects: int = 64
    min_predicted_iou: float = 0.0
    min_stability_score: float = 0.0


Answered = tuple[SegmentedObject, Masks]


@dataclass(frozen=True, eq=False)
class Outputs:
    """One set of answers on one frame, objects in creation order; what is not to be shown is left out.

    Attributes:
        frame: the frame that they belong to.
        size_hw: (H, W) of its image.
        objects: the objects with their best mask; the one of the candidates has all three.
        candidates: the three masks of the prompt's last single-point object, if it had one and they are
            wanted.
    """

    frame: Frame
    size_hw: tuple[int, int]
    objects: tuple[Answered, ...]
    candidates: Masks | None = None


@dataclass(frozen=True, eq=False)
class Segmented:
    """What one frame's work came to.

    Attributes:
        table: all objects after it; the table that it began with where nothing changed.
        outputs: the answers on the frame.
        refused: what was refused of a prompt.
        changed_nothing: whether everything was refused of a prompt, so that there is nothing to publish.
    """

    table: ObjectTable
    outputs: Outputs
    refused: tuple[RefusedObject, ...] = ()
    changed_nothing: bool = False


class Segmenter:
    """Segments objects on embedded frames. Keeps how frames looked, but no objects; any thread may call it.

    Args:
        model: encodes images and decodes prompts.
        record: called with "follow" or "decode" and how many seconds that took.
    """

    def __init__(
        self, model: Predictor, record: Callable[[str, float], None] = lambda _name, _sec: None
    ) -> None:
        self._model = model
        self._record = record
        self._follower = Follower()

    def see(self, sequence: int, image_rgb: npt.NDArray[np.uint8], views_kept: int = VIEWS_KEPT) -> None:
        """Remember how a frame looks, (H, W, 3) uint8, so that objects can be followed to it and from it."""
        self._follower.add(sequence, make_view(image_rgb), views_kept)

    def forget_frames(self, first: int = 0) -> None:
        """Forget how frames looked. Objects of frames before ``first`` are assumed not to have moved."""
        self._follower.clear(first)

    def prompted(
        self,
        table: ObjectTable,
        update: Update,
        frame: EmbeddedFrame,
        options: Options,
        wants_candidates: Callable[[], bool],
    ) -> Segmented:
        """Apply a prompt on its frame, and answer there for all objects, each by its prompt or its logits.

        Raises:
            InvalidPromptError: the prompt as a whole is refused.
        """
        target = self.target(frame)
        after, refused = _apply(table, update, target, options)
        if after is table:
            return Segmented(table, empty_outputs(frame), refused, changed_nothing=True)
        after = after.only_on(target)
        return self._answered(table, after, after.objects, frame, options, wants_candidates, refused)

    def prompted_while_following(
        self,
        table: ObjectTable,
        update: Update,
        frame: EmbeddedFrame,
        options: Options,
        wants_candidates: Callable[[], bool],
    ) -> Segmented:
        """Apply a prompt on its frame, and answer there for what was prompted alone.

        The frame may be an old one: its other objects are elsewhere by now. Where the clicked object is, it
        is moved back to it first.

        Raises:
            InvalidPromptError: the prompt as a whole is refused.
        """
        target = self.target(frame)
        start = table if isinstance(update, ProgramPrompts) else self._with_clicked_object_on(table, target)
        after, refused = _apply(start, update, target, options)
        if after is start:
            return Segmented(table, empty_outputs(frame), refused, changed_nothing=True)
        prompted = _changed(start, after)
        after = after.with_objects(o for o in table.objects if o.created not in prompted)
        asked = [o for o in after.objects if o.created in prompted]
        return self._answered(start, after, asked, frame, options, wants_candidates, refused)

    def repeated(self, table: ObjectTable, options: Options, frame: EmbeddedFrame) -> Segmented:
        """Answer for all objects as they are, each by its prompt or its logits."""
        target = self.target(frame)
        asked = [(o, o.prompt_on(target)) for o in table.only_on(target).objects]
        return Segmented(table, _outputs(frame, self._decode(asked, frame, [False] * len(asked)), options))

    def followed(self, table: ObjectTable, options: Options, frame: EmbeddedFrame) -> Segmented:
        """Move all objects on to a frame, ask for them there, and answer with those that are confirmed.

        An object that is not found stays as it was last seen whole, marked as lost, and is left out. Objects
        of another resolution are dropped.
        """
        target = self.target(frame)
        table = table.only_on(target)
        start = time.monotonic()
        expected = self._follower.expected(table.objects, target)
        if any(o.sequence != target.sequence for o in table.objects):
            self._record("follow", time.monotonic() - start)
        answers = [masks for _, masks in self._decode(expected, frame, [False] * len(expected))]
        confirmed = self._follower.confirmed(expected, answers, target)
        after = table.with_objects(o.lost() for o in table.objects).with_objects(confirmed)
        seen = [(o, m) for o, m in zip(confirmed, answers, strict=True) if not o.is_lost]
        return Segmented(after, _outputs(frame, seen, options))

    def target(self, frame: EmbeddedFrame) -> Target:
        """The frame as prompts and objects refer to it."""
        return Target(frame.sequence, frame.embedding.grid)

    def _with_clicked_object_on(self, table: ObjectTable, target: Target) -> ObjectTable:
        """The table with its clicked object moved to a frame, if it is found there."""
        clicked = table.clicked_object
        if clicked is None:
            return table
        return table.with_objects(one for one, _ in self._follower.expected([clicked], target))

    def _answered(
        self,
        before: ObjectTable,
        after: ObjectTable,
        objects: Sequence[SegmentedObject],
        frame: EmbeddedFrame,
        options: Options,
        wants_candidates: Callable[[], bool],
        refused: tuple[RefusedObject, ...],
    ) -> Segmented:
        """Decode objects by their prompts; those of this frame get the logits of their answers."""
        target = self.target(frame)
        asked = [(o, o.prompt_on(target)) for o in objects]
        three = [options.multimask_output and prompt.is_single_point for _, prompt in asked]
        offering = _offering(asked, three, _changed(before, after))
        if offering is not None and not wants_candidates():
            offering = None
        answers = self._decode(asked, frame, three, offering)
        logits = {o.created: m.low_res_logits[0] for o, m in answers if o.sequence == frame.sequence}
        after = after.with_answers(logits, frame.sequence)
        return Segmented(after, _outputs(frame, answers, options), refused)

    def _decode(
        self,
        asked: Sequence[tuple[SegmentedObject, Prompt]],
        frame: EmbeddedFrame,
        three: Sequence[bool],
        offering: int | None = None,
    ) -> list[Answered]:
        """The answers to the prompts of objects on one frame.

        Args:
            asked: objects and how to ask for them.
            frame: where.
            three: of each, whether to ask for three masks; only the best of them is made,
            offering: but all of the prompt with this index.
        """
        if not asked:
            return []
        start = time.monotonic()
        masks = self._model.decode(
            frame.embedding,
            [prompt for _, prompt in asked],
            multimask_output=list(three),
            best_only=[index != offering for index in range(len(asked))],
        )
        self._record("decode", time.monotonic() - start)
        return [(one, answer) for (one, _), answer in zip(asked, masks, strict=True)]


def _apply(
    table: ObjectTable, update: Update, target: Target, options: Options
) -> tuple[ObjectTable, tuple[RefusedObject, ...]]:
    """The table after a prompt, itself where it changes nothing; and what of the prompt was refused."""
    if isinstance(update, ProgramPrompts):
        return update_program(table, update, target, max_objects=options.max_objects)
    updated = update_clicked(
        table,
        update,
        target,
        accumulate_clicks=options.accumulate_clicks,
        max_objects=options.max_objects,
    )
    return updated, ()


def _changed(before: ObjectTable, after: ObjectTable) -> set[int]:
    """The objects, by ``created``, that a prompt made or changed."""
    untouched = {id(o) for o in before.objects}
    return {o.created for o in after.objects if id(o) not in untouched}


def _offering(
    asked: Sequence[tuple[SegmentedObject, Prompt]], three: Sequence[bool], prompted: Collection[int]
) -> int | None:
    """The index of the last object that was prompted with a single point: its three masks are candidates."""
    offering = [i for i, (o, _) in enumerate(asked) if three[i] and o.created in prompted]
    return offering[-1] if offering else None


def empty_outputs(frame: EmbeddedFrame) -> Outputs:
    """The set of answers of a frame without objects."""
    return Outputs(frame.frame, frame.embedding.grid.original_hw, ())


def _outputs(frame: EmbeddedFrame, answers: Sequence[Answered], options: Options) -> Outputs:
    shown = tuple(
        (o, masks)
        for o, masks in answers
        if masks.masks[0].any()
        and max(masks.predicted_iou[0], 0.0) >= options.min_predicted_iou  # as published: clamped
        and masks.stability_score[0] >= options.min_stability_score
    )
    candidates = next((masks for _, masks in shown if len(masks.masks) > 1), None)
    return Outputs(frame.frame, frame.embedding.grid.original_hw, shown, candidates)
