"""One frame's work: apply a prompt, move objects, decode, choose what is shown; no threads and no ROS.

Everything here is computed from an object table and returns another one: who calls it decides whether the
result counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sam_ros.core.edits import update_clicked, update_one_program_object, update_program
from sam_ros.core.follower import VIEWS_KEPT, Follower
from sam_ros.core.frames import EmbeddedFrame, Frame
from sam_ros.core.motion import make_view
from sam_ros.core.objects import (
    Change,
    Choice,
    ObjectTable,
    ProgramPrompt,
    ProgramPrompts,
    RefusedObject,
    SegmentedObject,
    Target,
    Update,
    difference,
)
from sam_ros.core.ownership import kept
from sam_ros.core.protocol import PromptableModel
from sam_ros.core.remembering import Remembering, are_remembered
from sam_ros.errors import InvalidPromptError, shortened
from sam_ros.masks import Masks
from sam_ros.prompt import Prompt


@dataclass(frozen=True)
class Options:
    """How objects are segmented.

    Attributes:
        click_mode: a foreground click or box replaces the clicked object, joins it, or begins another one
            beside it (add).
        multimask_output: ask for three masks where the prompt is a single point.
        max_objects: at most so many objects live.
        min_predicted_iou, min_stability_score: objects below are left out of all outputs.
        follower: by which objects are followed: motion, or memory, that of the model; auto is the memory
            where the model has one.
    """

    click_mode: str = "replace"
    multimask_output: bool = True
    max_objects: int = 64
    min_predicted_iou: float = 0.0
    min_stability_score: float = 0.0
    follower: str = "auto"


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
    """The outcome of one frame's work.

    Attributes:
        table: all objects after it; the table that it began with where nothing changed.
        outputs: the answers on the frame.
        refused: what was refused of a prompt.
        change: what a prompt changed, for undo; None where it changed nothing, or where there was none.
    """

    table: ObjectTable
    outputs: Outputs
    refused: tuple[RefusedObject, ...] = ()
    change: Change | None = None


class Segmenter:
    """Segments objects on embedded frames. Remembers how frames looked, but no objects. Thread-safe.

    Args:
        model: encodes images and decodes prompts.
        record: called with "follow" or "decode" and how many seconds that took.
        follower: what is remembered already, where work goes on that was interrupted.
    """

    def __init__(
        self,
        model: PromptableModel,
        record: Callable[[str, float], None] = lambda _name, _sec: None,
        follower: Follower | None = None,
    ) -> None:
        self._model = model
        self._record = record
        self._follower = follower or Follower()
        self._remembering = Remembering(model) if model.has_memory else None

    def see(self, sequence: int, image_rgb: npt.NDArray[np.uint8], views_kept: int = VIEWS_KEPT) -> None:
        """Remember how a frame looks, (H, W, 3) uint8, so that objects can be followed to it and from it."""
        self._follower.add(sequence, make_view(image_rgb), views_kept)
        if self._remembering is not None:
            self._remembering.see(sequence, views_kept)

    def forget_frames(self, first: int = 0) -> None:
        """Forget how frames looked. Objects of frames before ``first`` are assumed not to have moved."""
        self._follower.clear(first)
        if self._remembering is not None:
            self._remembering.forget_frames()

    def prompted(
        self,
        table: ObjectTable,
        update: Update,
        frame: EmbeddedFrame,
        options: Options,
        *,
        follows: bool,
        wants_candidates: Callable[[], bool],
        newest_hw: tuple[int, int] | None = None,
    ) -> Segmented:
        """Apply a prompt on its frame, and answer there.

        Args:
            table: the objects before.
            update: the prompt.
            frame: that it was given on.
            options: how to segment.
            follows: whether objects are followed. Then the frame may be an old one, and its other objects are
                elsewhere by now: only what was prompted is answered for. Else all objects are, each by its
                prompt or its logits.
            wants_candidates: whether somebody looks at the three masks of a single point.
            newest_hw: (H, W) of the newest frame, to which objects are followed; None where it is this one.

        Raises:
            InvalidPromptError: the prompt as a whole is refused.
        """
        target, memory = self.target(frame), self._memory(options) if follows else None
        later = [o.size_hw for o in table.objects if o.sequence > target.sequence]
        _check_size(target, [newest_hw or target.size_hw] if follows else later)
        start = table
        if follows and _is_of_person(update):
            start = self._with_clicked_object_on(table, frame, memory)
        applied, refused = self._apply(start, update, frame, options)
        if applied is start:
            return Segmented(table, empty_outputs(frame.frame, frame.size_hw), refused)
        prompted = _changed(start, applied)
        if follows:  # what was only moved to this frame stays where it is by now
            applied = applied.with_objects(o for o in table.objects if o.created not in prompted)
            asked = [o for o in applied.objects if o.created in prompted]
        else:
            asked = list(applied.only_on(target).objects)
        answers = self._decode(_by_prompts(asked, target), frame, options, prompted, wants_candidates)
        after = _with_answers(applied if follows else applied.only_on(target), answers, target)
        if memory is not None:
            after = after.with_objects(memory.prompted(answers, frame))
        return Segmented(after, _outputs(frame, answers, options), refused, difference(table, applied))

    def repeated(self, table: ObjectTable, options: Options, frame: EmbeddedFrame) -> Segmented:
        """Answer for all objects as they are, each by its prompt or its logits."""
        target = self.target(frame)
        asked = _by_prompts(table.only_on(target).objects, target)
        return Segmented(table, _outputs(frame, self._decode(asked, frame, options), options))

    def followed(self, table: ObjectTable, options: Options, frame: EmbeddedFrame) -> Segmented:
        """Move all objects on to a frame, ask for them there, and answer with those that are confirmed.

        An object that is not found stays as it was last seen whole, marked as lost, and is left out. Objects
        of another resolution are dropped.
        """
        memory = self._memory(options)
        if memory is not None:
            return self._recalled(table, options, frame, memory)
        table = table.only_on(self.target(frame))
        moved, seen = self._moved(table.objects, options, frame)
        return Segmented(table.with_objects(moved), _outputs(frame, seen, options))

    def _moved(
        self, objects: Sequence[SegmentedObject], options: Options, frame: EmbeddedFrame
    ) -> tuple[list[SegmentedObject], list[Answered]]:
        """Objects moved on to a frame, those lost there too, and of those that are seen the masks."""
        if not objects:
            return [], []
        target, start = self.target(frame), time.monotonic()
        expected = self._follower.expected(objects, target)
        if any(o.sequence != target.sequence for o in objects):
            self._record("follow", time.monotonic() - start)
        answers = [masks for _, masks in self._decode(expected, frame, options)]
        features = self._model.features(frame.embedding) if expected else None
        confirmed = self._follower.confirmed(expected, answers, target, features)
        now = {o.created: o for o in confirmed}
        seen = [
            (o, kept(m, o.low_res_logits, target.grid))
            for o, m in zip(confirmed, answers, strict=True)
            if not o.is_lost
        ]
        return [now.get(o.created) or o.lost() for o in objects], seen

    def _memory(self, options: Options) -> Remembering | None:
        """By which objects are followed, if not by motion."""
        return None if options.follower == "motion" else self._remembering

    def _recalled(
        self, table: ObjectTable, options: Options, frame: EmbeddedFrame, memory: Remembering
    ) -> Segmented:
        """``followed`` by what the model remembers of each object.

        An object that was prompted on this frame is asked for by its prompt, and that is remembered. One that
        the model does not remember yet, since it was kept, or prompted while objects were followed otherwise
        or not at all, is followed by its motion until it is seen: what is remembered first is taken for true.
        """
        target = self.target(frame)
        table = table.only_on(target)
        asked = [o for o in table.objects if o.sequence == target.sequence]
        elsewhere = [o for o in table.objects if o.sequence != target.sequence]
        known = are_remembered(elsewhere)
        known_ones = {o.created for o in known}
        moved, taken_up = self._moved([o for o in elsewhere if o.created not in known_ones], options, frame)
        answers = self._decode(_by_prompts(asked, target), frame, options) + taken_up
        start = time.monotonic()
        found = memory.found(known, frame)
        prompted = memory.prompted(answers, frame)
        if known or prompted:
            self._record("follow", time.monotonic() - start)
        seen = {o.created: (o, masks) for o, masks in found if not o.is_lost}
        masks_of = {o.created: masks for o, masks in answers}
        seen |= {o.created: (o, masks_of[o.created]) for o in prompted}
        after = table.with_objects([*moved, *(o for o, _ in found), *prompted])
        shown = [seen[o.created] for o in after.objects if o.created in seen]
        return Segmented(after, _outputs(frame, shown, options))

    def target(self, frame: EmbeddedFrame) -> Target:
        """The frame as prompts and objects refer to it."""
        return Target(frame.sequence, frame.embedding.grid)

    def _with_clicked_object_on(
        self, table: ObjectTable, frame: EmbeddedFrame, memory: Remembering | None
    ) -> ObjectTable:
        """The table with its clicked object moved to a frame, if it is found there."""
        clicked, target = table.clicked_object, self.target(frame)
        if clicked is None:
            return table
        if memory is not None:
            seen = self._recalled_on(clicked, frame, memory)
            return table if seen is None else table.with_objects([seen])
        expected = self._follower.expected([clicked], target)
        return table.with_objects(one for one, _ in expected if not one.is_lost)

    def _recalled_on(
        self, one: SegmentedObject, frame: EmbeddedFrame, memory: Remembering
    ) -> SegmentedObject | None:
        """A remembered object as it is on a frame of its size that it was not seen on; None of any other."""
        is_of_it = frame.sequence in (one.sequence, one.logits_sequence)
        if is_of_it or not one.can_appear_on(self.target(frame)) or not are_remembered([one]):
            return None
        return memory.seen_on(one, frame)

    def _apply(
        self, table: ObjectTable, update: Update, frame: EmbeddedFrame, options: Options
    ) -> tuple[ObjectTable, tuple[RefusedObject, ...]]:
        """The table after a prompt, itself where it changes nothing; and what of the prompt was refused."""
        target, most = self.target(frame), options.max_objects
        if isinstance(update, ProgramPrompts):
            return update_program(table, update, target, max_objects=most)
        if isinstance(update, ProgramPrompt):
            return update_one_program_object(table, update, target, max_objects=most), ()
        if isinstance(update, Choice):
            return self._with_choice(table, update, frame), ()
        return update_clicked(table, update, target, click_mode=options.click_mode, max_objects=most), ()

    def _with_choice(self, table: ObjectTable, choice: Choice, frame: EmbeddedFrame) -> ObjectTable:
        """The table with another of its three masks for the clicked object."""
        clicked, target = table.with_id(""), self.target(frame)
        prompt = clicked.prompt_on(target)
        if not prompt.is_single_point:
            raise InvalidPromptError(
                f"object {shortened(clicked.id)} has no candidates: only a single click has three masks",
                kind="no candidates",
            )
        (masks,) = self._model.decode(frame.embedding, [prompt], multimask_output=[True], best_only=[False])
        if choice.index >= len(masks.masks):
            raise InvalidPromptError(
                f"there are {len(masks.masks)} candidates, counted from 0; there is no {choice.index}",
                kind="no candidates",
            )
        return table.with_objects([replace(clicked, chosen=masks.only(choice.index))])

    def _decode(
        self,
        asked: Sequence[tuple[SegmentedObject, Prompt]],
        frame: EmbeddedFrame,
        options: Options,
        prompted: Collection[int] = (),
        wants_candidates: Callable[[], bool] = lambda: False,
    ) -> list[Answered]:
        """The answers to the prompts of objects on one frame: what was chosen there, else the model's.

        Of three masks only the best is made, but all of the last object that was ``prompted`` with a single
        point if somebody looks at candidates.
        """
        open_questions = [(o, p) for o, p in asked if not _is_chosen_on(o, frame)]
        three = [options.multimask_output and prompt.is_single_point for _, prompt in open_questions]
        offering = [i for i, (o, _) in enumerate(open_questions) if three[i] and o.created in prompted]
        best_only = [True] * len(open_questions)
        if offering and wants_candidates():
            best_only[offering[-1]] = False
        masks = self._ask_model(frame, [prompt for _, prompt in open_questions], three, best_only)
        answers = {o.created: answer for (o, _), answer in zip(open_questions, masks, strict=True)}
        return [(o, answers.get(o.created) or _chosen(o)) for o, _ in asked]

    def _ask_model(
        self, frame: EmbeddedFrame, prompts: Sequence[Prompt], three: list[bool], best_only: list[bool]
    ) -> list[Masks]:
        if not prompts:
            return []
        start = time.monotonic()
        masks = self._model.decode(frame.embedding, prompts, multimask_output=three, best_only=best_only)
        self._record("decode", time.monotonic() - start)
        return masks


def _is_of_person(update: Update) -> bool:
    """Whether a prompt is for the clicked object."""
    return not isinstance(update, (ProgramPrompt, ProgramPrompts))


def _check_size(target: Target, later: Sequence[tuple[int, int]]) -> None:
    """Refuse a prompt on a frame of another size than those, each (H, W), that objects are on by now.

    What it makes could not stay beside them.
    """
    other = next((size_hw for size_hw in later if size_hw != target.size_hw), None)
    if other is not None:
        raise InvalidPromptError(
            f"its frame has {target.size_hw[1]} x {target.size_hw[0]} pixels, later ones have {other[1]} x "
            f"{other[0]}; prompt on one of those",
            kind="resolution changed",
        )


def _by_prompts(objects: Sequence[SegmentedObject], target: Target) -> list[tuple[SegmentedObject, Prompt]]:
    return [(o, o.prompt_on(target)) for o in objects]


def _is_chosen_on(one: SegmentedObject, frame: EmbeddedFrame) -> bool:
    return one.chosen is not None and one.sequence == frame.sequence


def _chosen(one: SegmentedObject) -> Masks:
    if one.chosen is None:
        raise ValueError(f"object {one.id} has no answer")
    return one.chosen


def _with_answers(table: ObjectTable, answers: Sequence[Answered], target: Target) -> ObjectTable:
    """The table with the logits of the answers for the objects that were prompted on this frame."""
    logits = {o.created: m.low_res_logits[0] for o, m in answers if o.sequence == target.sequence}
    return table.with_answers(logits, target.sequence)


def _changed(before: ObjectTable, after: ObjectTable) -> set[int]:
    """The objects, by ``created``, that a prompt made or changed."""
    untouched = {id(o) for o in before.objects}
    return {o.created for o in after.objects if id(o) not in untouched}


def empty_outputs(frame: Frame, size_hw: tuple[int, int]) -> Outputs:
    """The set of answers of a frame without objects, whose image has (H, W) pixels."""
    return Outputs(frame, size_hw, ())


def _outputs(frame: EmbeddedFrame, answers: Sequence[Answered], options: Options) -> Outputs:
    shown = tuple(
        (o, masks)
        for o, masks in answers
        if masks.masks[0].any()
        and max(masks.predicted_iou[0], 0.0) >= options.min_predicted_iou  # as published: clamped
        and masks.stability_score[0] >= options.min_stability_score
    )
    candidates = next((masks for _, masks in shown if len(masks.masks) > 1), None)
    return Outputs(frame.frame, frame.size_hw, shown, candidates)
