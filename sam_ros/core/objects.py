"""The objects being segmented, and the prompts that are given for them: values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sam_ros.core.bank import Bank
from sam_ros.core.grid import Grid
from sam_ros.errors import InvalidPromptError, shortened
from sam_ros.masks import Masks
from sam_ros.prompt import Prompt

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
class Joining:
    """A click that joins the clicked object, whatever the click mode; begins one where there is none."""

    point: Point


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


def by_kind(refused: Iterable[RefusedObject]) -> list[tuple[RefusedObject, ...]]:
    """The objects of each kind of refusal, in the order of the first ones."""
    kinds: dict[str, list[RefusedObject]] = {}
    for one in refused:
        kinds.setdefault(one.kind, []).append(one)
    return [tuple(objects) for objects in kinds.values()]


@dataclass(frozen=True)
class ProgramPrompts:
    """The complete set of a program's objects, and those of them that were refused already."""

    prompts: tuple[ProgramPrompt, ...]
    refused: tuple[RefusedObject, ...] = ()


@dataclass(frozen=True)
class Choice:
    """Which of the three masks of the clicked object's single point is to be its mask; 0 is the best."""

    index: int


ClickedUpdate: TypeAlias = "Point | Joining | Box | MaskPrompt"
Update: TypeAlias = "ClickedUpdate | Choice | ProgramPrompt | ProgramPrompts"


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points of an object that are tracked from frame to frame.

    Attributes:
        points: (N, 2) float32 XY in the view of a frame, see ``motion.View``.
        ages: (N,) over how many frames each has been tracked.
        found: the share of those looked for on the newest of these frames that moved along with the object.
    """

    points: npt.NDArray[np.float32]
    ages: npt.NDArray[np.int64]
    found: float = 1.0


@dataclass(frozen=True, eq=False)
class Look:
    """How an object looks, see ``appearance``.

    Attributes:
        own: (COLOURS,) shares of the colours within its mask.
        around: (COLOURS,) those of what is around it.
        features: (2, C) means of the image embedding over it, and over what is around it; None where they
            are not known, or it is too small for them.
    """

    own: npt.NDArray[np.float32]
    around: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Tracking:
    """What following knows of an object, beside its mask.

    Attributes:
        tracks: points on the object in the frame of its logits; None where it was not followed to that one.
        reference: the object as it was last seen whole, or nearly; what is looked for once it is lost.
        reference_age: how many followed frames ago that was.
        full_area: the largest number of positive logits that it had lately.
        is_lost: whether it was not found on a later frame than that of its logits.
        entering: (S/4, S/4) bool, cells that came into the image beside the object since its logits were the
            model's: they may be its own, or not. None where there are none.
        look: how it looked lately; None where it was not followed yet.
        shares: ``created`` of the objects that had much of its mask in common when it was prompted.
        drift_xy: by how many low-res cells it moved from frame to frame lately, while it was seen whole.
        searches: how often it was asked for in vain since it was lost.
        must_be_confirmed: whether it is lost where the model does not give it again: from when it did so for
            the first time after the prompt, or the object was lost.
        bank: what the model remembers of it, where it has a memory and that is used.
    """

    tracks: Tracks | None = None
    reference: SegmentedObject | None = None
    reference_age: int = 0
    full_area: int = 0
    is_lost: bool = False
    entering: npt.NDArray[np.bool_] | None = None
    look: Look | None = None
    shares: frozenset[int] = frozenset()
    drift_xy: tuple[float, float] = (0.0, 0.0)
    searches: int = 0
    must_be_confirmed: bool = False
    bank: Bank = field(default_factory=Bank)


@dataclass(frozen=True, eq=False)
class SegmentedObject:
    """One object, its prompt, and the frame that the prompt was given on.

    Attributes:
        id: unique among the living.
        class_id: what a program calls it, or ''.
        created: its number among all objects that this node ever made; outputs are in this order.
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
        chosen: the mask that a person chose of its candidates: it stands for the model's on the frame that it
            was prompted on, until the object is prompted again.
        is_of_program: whether a program made it, whose next ``~/prompts`` drops it unless that lists it.
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
    chosen: Masks | None = None
    is_of_program: bool = False

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

        While it is lost, only on the frame that it was prompted on and on that of its logits: elsewhere they
        would point to the wrong place.
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
            self,
            sequence=target.sequence,
            points=(),
            box_xyxy=None,
            prior_logits=self.low_res_logits,
            chosen=None,
        )

    def decoded(self, low_res_logits: LowResLogits, sequence: int) -> SegmentedObject:
        """The object with the logits (S/4, S/4) of a fresh answer on a frame; tracking starts anew there."""
        return replace(self, low_res_logits=low_res_logits, logits_sequence=sequence, tracking=Tracking())

    def lost(self) -> SegmentedObject:
        """The object as it was last seen whole: what to look for once it is not found."""
        seen = self.tracking.reference or self
        searches = self.tracking.searches
        if seen.low_res_logits is None:
            return replace(seen, tracking=replace(seen.tracking, is_lost=True, searches=searches))
        tracking = replace(
            seen.tracking,
            is_lost=True,
            must_be_confirmed=True,
            reference=seen,
            full_area=int((seen.low_res_logits > 0).sum()),
            searches=searches,
        )
        return replace(seen, tracking=tracking)


def lost_at_once(before: ObjectTable, after: ObjectTable) -> list[SegmentedObject]:
    """Objects that were followed for the first time since their prompt, and were not found."""
    not_followed = {
        one.created for one in before.objects if not one.is_lost and one.logits_sequence == one.sequence
    }
    return [one for one in after.objects if one.is_lost and one.created in not_followed]


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

    def with_id(self, id: str) -> SegmentedObject:
        """The object of an id; '' means the clicked one.

        Raises:
            InvalidPromptError: there is none.
        """
        found = next((o for o in self.objects if o.id == id), None) if id else self.clicked_object
        if found is None:
            raise InvalidPromptError(
                f"there is no object {shortened(id)!r}" if id else "there is no clicked object", "unknown id"
            )
        return found

    def without(self, removed: SegmentedObject) -> ObjectTable:
        """Without one of its objects."""
        objects = tuple(o for o in self.objects if o.created != removed.created)
        return replace(
            self, objects=objects, clicked=None if removed.created == self.clicked else self.clicked
        )

    def undone(self, change: Change) -> ObjectTable:
        """As it was before a change, as far as that changed it; an id that was made anew since then stays."""
        gone = change.made | {o.created for o in change.before}
        others = [o for o in self.objects if o.created not in gone]
        taken = {o.id for o in others}
        objects = [*others, *(o for o in change.before if o.id not in taken)]
        alive = {o.created for o in objects}
        return replace(
            self,
            objects=tuple(sorted(objects, key=lambda o: o.created)),
            clicked=change.clicked_before if change.clicked_before in alive else None,
        )

    def cleared(self) -> ObjectTable:
        """Without any object."""
        return replace(self, objects=(), clicked=None)

    def with_clicked_object(self, clicked: SegmentedObject | None) -> ObjectTable:
        """With this clicked object, or none, instead of the present one; the others stay."""
        replaced = {self.clicked, clicked.created} if clicked is not None else {self.clicked}
        others = tuple(o for o in self.objects if o.created not in replaced)
        if clicked is None:
            return replace(self, objects=others, clicked=None)
        objects = tuple(sorted((*others, clicked), key=lambda o: o.created))
        return replace(self, objects=objects, clicked=clicked.created)

    def with_clicked(self, clicked: SegmentedObject) -> ObjectTable:
        """With one of its objects as the clicked one."""
        return replace(self, clicked=clicked.created)

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


@dataclass(frozen=True, eq=False)
class Change:
    """What an edit changed, for undo.

    Attributes:
        clicked_before: ``created`` of the object that was the clicked one.
        made: ``created`` of the objects that the edit made.
        before: the objects that it changed or removed, as they were.
    """

    clicked_before: int | None
    made: frozenset[int]
    before: tuple[SegmentedObject, ...]

    @property
    def touched(self) -> frozenset[int]:
        """``created`` of all objects that it made, changed or removed."""
        return self.made.union(o.created for o in self.before)


def _worth_keeping(one: SegmentedObject) -> SegmentedObject:
    """An object as undo brings it back: by then its last frames are long ago."""
    if not one.tracking.bank.followed:
        return one
    return replace(one, tracking=replace(one.tracking, bank=one.tracking.bank.of_prompts()))


def difference(before: ObjectTable, after: ObjectTable) -> Change:
    """What changed from one table to the next."""
    now = {o.created: o for o in after.objects}
    made = frozenset(now).difference(o.created for o in before.objects)
    changed = tuple(_worth_keeping(o) for o in before.objects if now.get(o.created) is not o)
    return Change(before.clicked, made, changed)
