"""The objects being segmented: how prompts create, refine, replace and drop them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sam_ros.core.grid import Grid
from sam_ros.errors import InvalidPromptError
from sam_ros.prompt import BACKGROUND, Prompt

NODE_MADE_PREFIX = "_"  # ids that the node gives: _1, _2, ...

BoxXYXY: TypeAlias = "tuple[float, float, float, float]"
LowResLogits: TypeAlias = "npt.NDArray[np.float32]"


@dataclass(frozen=True)
class Target:
    """The frame that a prompt is applied to.

    Attributes:
        sequence: the frame's number.
        grid: where its image lies in the model's input and low-res logits.
    """

    sequence: int
    grid: Grid

    @property
    def size_hw(self) -> tuple[int, int]:
        """(H, W) of its image in pixels."""
        return self.grid.original_hw


@dataclass(frozen=True)
class Point:
    """A click: pixels of the image, (0, 0) the centre of the first; label 1 foreground, 0 background."""

    x: float
    y: float
    label: int


@dataclass(frozen=True)
class Box:
    """A box given for the clicked object: XYXY pixel edges."""

    box_xyxy: BoxXYXY


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A mask given for the clicked object, as (S/4, S/4) logits."""

    low_res_logits: LowResLogits


@dataclass(frozen=True)
class ProgramPrompt:
    """What a program says of one object; an empty id asks the node for one."""

    id: str
    class_id: str
    points: tuple[Point, ...] = ()
    box_xyxy: BoxXYXY | None = None


@dataclass(frozen=True)
class RefusedObject:
    """One object of a message that was refused while the others stay."""

    id: str
    reason: str
    kind: str


def by_kind(refused: Iterable[RefusedObject]) -> list[tuple[RefusedObject, int]]:
    """Of each kind of refusal the first object, and how many objects were refused for it."""
    first: dict[str, RefusedObject] = {}
    counts: Counter[str] = Counter()
    for one in refused:
        first.setdefault(one.kind, one)
        counts[one.kind] += 1
    return [(one, counts[kind]) for kind, one in first.items()]


@dataclass(frozen=True)
class ProgramPrompts:
    """The complete set of a program's objects, and those of them that were refused already."""

    prompts: tuple[ProgramPrompt, ...]
    refused: tuple[RefusedObject, ...] = ()


ClickedUpdate: TypeAlias = "Point | Box | MaskPrompt"
Update: TypeAlias = "ClickedUpdate | ProgramPrompts"


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points of an object that are tracked from frame to frame.

    Attributes:
        points: (N, 2) float32 XY in the view of a frame, see ``motion.View``.
        ages: (N,) over how many frames each has been tracked.
    """

    points: npt.NDArray[np.float32]
    ages: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tracking:
    """What following knows of an object, beside its mask.

    Attributes:
        tracks: points on the object in the frame of its logits; None where it was not followed to that one.
        reference: the object as it was last seen whole, or nearly; what is looked for once it is lost.
        reference_age: how many followed frames ago that was.
        full_area: the largest number of positive logits that it had lately.
        is_lost: whether it was not found on a later frame than that of its logits.
    """

    tracks: Tracks | None = None
    reference: SegmentedObject | None = None
    reference_age: int = 0
    full_area: int = 0
    is_lost: bool = False


@dataclass(frozen=True, eq=False)
class SegmentedObject:
    """One object, its prompt, and the frame that the prompt was given on.

    Attributes:
        id: unique among the living.
        class_id: what a program calls it, or ''.
        created: counts the objects of this node; outputs are in this order.
        sequence: the frame on which points and box count.
        size_hw: (H, W) of that frame.
        points: clicks on that frame.
        box_xyxy: box on that frame, pixel edges.
        prior_logits: (S/4, S/4) mask prompt on that frame: given by a person, or the object's mask on the
            frame it was prompted on before.
        low_res_logits: (S/4, S/4) logits of the object's mask, once decoded; what the object contributes on
            other frames than the one it was prompted on.
        logits_sequence: the frame that low_res_logits are of: the one it was prompted on or, where objects
            are followed, a later one.
        tracking: what following knows of it.
    """

    id: str
    class_id: str
    created: int
    sequence: int
    size_hw: tuple[int, int]
    points: tuple[Point, ...] = ()
    box_xyxy: BoxXYXY | None = None
    prior_logits: LowResLogits | None = None
    low_res_logits: LowResLogits | None = None
    logits_sequence: int = 0
    tracking: Tracking = field(default_factory=Tracking)

    @property
    def is_lost(self) -> bool:
        """Whether it was not found on a later frame than that of its logits."""
        return self.tracking.is_lost

    def prompt_on(self, target: Target) -> Prompt:
        """What to ask the model for this object: its prompt on its own frame, its logits elsewhere."""
        if self.sequence != target.sequence:
            return Prompt(low_res_logits=self.low_res_logits)
        return Prompt(
            point_coords=np.array([(p.x, p.y) for p in self.points]) if self.points else None,
            point_labels=np.array([p.label for p in self.points]) if self.points else None,
            box=np.array(self.box_xyxy) if self.box_xyxy else None,
            low_res_logits=self.prior_logits,
        )

    def can_appear_on(self, target: Target) -> bool:
        """Whether it has a prompt for that frame; logits mean nothing on an image of another size."""
        if self.sequence == target.sequence:
            return True
        return self.low_res_logits is not None and self.size_hw == target.size_hw

    def can_be_refined_on(self, target: Target) -> bool:
        """Whether a click on that frame can join it.

        Not while it is lost: its logits would point to the wrong place. On the frame that they are of, they
        are right.
        """
        is_of_it = target.sequence in (self.sequence, self.logits_sequence)
        return self.can_appear_on(target) and (is_of_it or not self.is_lost)

    def moved_to(self, target: Target) -> SegmentedObject:
        """The object, ready to be refined on that frame: elsewhere its points and box stop counting.

        Raises:
            InvalidPromptError: that frame has another size, or the object was lost.
        """
        if self.sequence == target.sequence:
            return self
        if not self.can_appear_on(target):
            raise InvalidPromptError(
                f"object {self.id} was prompted on images of {self.size_hw[1]} x {self.size_hw[0]} pixels, "
                f"not {target.size_hw[1]} x {target.size_hw[0]}; prompt it anew",
                kind="resolution changed",
            )
        if not self.can_be_refined_on(target):
            raise InvalidPromptError(
                f"object {self.id} is out of sight; prompt it anew where it is seen", kind="out of sight"
            )
        return replace(
            self, sequence=target.sequence, points=(), box_xyxy=None, prior_logits=self.low_res_logits
        )

    def decoded(self, low_res_logits: LowResLogits, sequence: int) -> SegmentedObject:
        """The object with the logits (S/4, S/4) of a fresh answer on a frame; tracking starts anew there."""
        return replace(self, low_res_logits=low_res_logits, logits_sequence=sequence, tracking=Tracking())

    def lost(self) -> SegmentedObject:
        """The object as it was last seen whole: what to look for once it is not found."""
        seen = self.tracking.reference or self
        return replace(seen, tracking=replace(seen.tracking, is_lost=True))


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """All living objects, in creation order. Immutable: every change makes a new table.

    Attributes:
        objects: the living.
        clicked: ``created`` of the clicked object, if there is one.
        num_created: how many objects there ever were.
        num_named: how many ids the node ever made; they are never made again.
    """

    objects: tuple[SegmentedObject, ...] = ()
    clicked: int | None = None
    num_created: int = 0
    num_named: int = 0

    @property
    def clicked_object(self) -> SegmentedObject | None:
        """The object that clicks, boxes and mask prompts refer to."""
        return next((o for o in self.objects if o.created == self.clicked), None)

    def cleared(self) -> ObjectTable:
        """Without any object."""
        return replace(self, objects=(), clicked=None)

    def with_clicked_object(self, clicked: SegmentedObject | None) -> ObjectTable:
        """With this clicked object, or none, instead of the present one; the others stay."""
        others = tuple(o for o in self.objects if o.created != self.clicked)
        if clicked is None:
            return replace(self, objects=others, clicked=None)
        objects = tuple(sorted((*others, clicked), key=lambda o: o.created))
        return replace(self, objects=objects, clicked=clicked.created)

    def with_answers(self, logits: dict[int, LowResLogits], sequence: int) -> ObjectTable:
        """With the low-res logits of objects freshly decoded on a frame, keyed by ``created``."""
        return self.with_objects(
            o.decoded(logits[o.created], sequence) for o in self.objects if o.created in logits
        )

    def with_objects(self, changed: Iterable[SegmentedObject]) -> ObjectTable:
        """With objects replaced by these newer versions of them, matched by ``created``."""
        by_created = {o.created: o for o in changed}
        return replace(self, objects=tuple(by_created.get(o.created, o) for o in self.objects))

    def all_in_sight(self) -> ObjectTable:
        """With no object lost, as where nobody follows them."""
        return self.with_objects(
            replace(o, tracking=replace(o.tracking, is_lost=False)) for o in self.objects
        )

    def only_on(self, target: Target) -> ObjectTable:
        """Without the objects that have no prompt for that frame."""
        return replace(self, objects=tuple(o for o in self.objects if o.can_appear_on(target)))


def update_clicked(
    table: ObjectTable, update: ClickedUpdate, target: Target, *, accumulate_clicks: bool, max_objects: int
) -> ObjectTable:
    """Apply a click, box or mask prompt.

    A foreground click or a box replaces the clicked object, or joins it with ``accumulate_clicks``; a
    background click or a mask prompt joins it; a mask prompt creates one where there is none. An object of
    another resolution, or one that is out of sight, cannot be joined, it is replaced.

    Raises:
        InvalidPromptError: a background click without an object or on one that cannot be joined, or too many
            objects.
    """
    current = table.clicked_object
    is_background = isinstance(update, Point) and update.label == BACKGROUND
    if is_background and current is None:
        raise InvalidPromptError(
            "a background click needs a clicked object; click on the foreground first", kind="no object"
        )
    joins = is_background or isinstance(update, MaskPrompt) or accumulate_clicks
    if current is not None and joins and (is_background or current.can_be_refined_on(target)):
        return table.with_clicked_object(_refined(current.moved_to(target), update))
    table = table.with_clicked_object(None)
    table, created = _create(table, "", "", target, max_objects)
    return replace(table, clicked=created.created).with_clicked_object(_refined(created, update))


def _refined(current: SegmentedObject, update: ClickedUpdate) -> SegmentedObject:
    if isinstance(update, Point):
        return replace(current, points=(*current.points, update))
    if isinstance(update, Box):
        return replace(current, box_xyxy=update.box_xyxy)
    return replace(current, prior_logits=update.low_res_logits)


def update_program(
    table: ObjectTable, update: ProgramPrompts, target: Target, *, max_objects: int
) -> tuple[ObjectTable, tuple[RefusedObject, ...]]:
    """Make the table hold the program's objects as listed, beside the clicked one.

    Listed ids are created or prompted anew; unlisted ones and those that the node named are dropped, unless
    listed by that name. An object whose prompt is refused stays as it was. Where ``max_objects`` was lowered,
    the latest are dropped.

    Returns:
        The new table, and every refused object; the same table where the message lists objects, but every one
        is refused.
    """
    before = table
    listed = {p.id for p in update.prompts} | {refused.id for refused in update.refused}
    alive = {o.id for o in table.objects}
    program = [o.created for o in table.objects if o.created != table.clicked and o.id in listed]
    room = max_objects - (table.clicked_object is not None)
    kept = {table.clicked, *program[:room]}
    table = replace(table, objects=tuple(o for o in table.objects if o.created in kept))
    refused = list(update.refused)
    for prompt in update.prompts:
        try:
            table = _with_program_object(table, prompt, alive, target, max_objects)
        except InvalidPromptError as error:
            refused.append(RefusedObject(prompt.id, str(error), error.kind))
    if refused and len(refused) == len(update.prompts) + len(update.refused):
        return before, tuple(refused)
    return table, tuple(refused)


def _with_program_object(
    table: ObjectTable, prompt: ProgramPrompt, alive: set[str], target: Target, max_objects: int
) -> ObjectTable:
    existing = next((o for o in table.objects if o.id == prompt.id and prompt.id), None)
    if existing is None:
        if prompt.id.startswith(NODE_MADE_PREFIX) and prompt.id not in alive:
            raise InvalidPromptError(
                f"id {prompt.id!r} is not alive; ids beginning with {NODE_MADE_PREFIX!r} are the node's",
                kind="unknown id",
            )
        table, existing = _create(table, prompt.id, prompt.class_id, target, max_objects)
    prompted = replace(
        existing,
        class_id=prompt.class_id or existing.class_id,
        sequence=target.sequence,
        size_hw=target.size_hw,
        points=prompt.points,
        box_xyxy=prompt.box_xyxy,
        prior_logits=None,
        low_res_logits=None,
    )
    return table.with_objects([prompted])


def _create(
    table: ObjectTable, id: str, class_id: str, target: Target, max_objects: int
) -> tuple[ObjectTable, SegmentedObject]:
    """A table with one more object at its end, still without prompt; an empty id gets a new name."""
    if len(table.objects) >= max_objects:
        raise InvalidPromptError(
            f"there are {len(table.objects)} objects already; raise max_objects for more", kind="max_objects"
        )
    num_named = table.num_named + (not id)
    created = SegmentedObject(
        id or f"{NODE_MADE_PREFIX}{num_named}", class_id, table.num_created, target.sequence, target.size_hw
    )
    objects = (*table.objects, created)
    table = replace(table, objects=objects, num_created=table.num_created + 1, num_named=num_named)
    return table, created
