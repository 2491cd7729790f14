"""How prompts create, refine, replace and drop objects: from one table to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sam_ros.core.objects import (
    Box,
    ClickedUpdate,
    Joining,
    MaskPrompt,
    ObjectTable,
    Point,
    ProgramPrompt,
    ProgramPrompts,
    RefusedObject,
    SegmentedObject,
    Target,
)
from sam_ros.errors import InvalidPromptError, shortened
from sam_ros.masks import Masks
from sam_ros.prompt import BACKGROUND

CLICK_MODES = ("replace", "add", "join")
NODE_MADE_PREFIX = "_"  # ids that the node gives: _1, _2, ...
MOST_POINTS = 256  # of one object: the decoder's work and memory grow with their square
LONGEST_NAME = 256  # characters of an id or a class


def update_clicked(
    table: ObjectTable, update: ClickedUpdate, target: Target, *, click_mode: str, max_objects: int
) -> ObjectTable:
    """Apply a click, box or mask prompt of a person.

    A foreground click or a box replaces the clicked object, joins it, or begins another one beside it, as the
    click mode says. A background click, a ``Joining`` click and a mask prompt join it; the latter two begin
    one where there is none. An object of another resolution, or one that is out of sight, cannot be joined:
    another one takes its place.

    Raises:
        InvalidPromptError: a background click without an object or on one that cannot be joined, too many
            points, or too many objects.
    """
    current = table.clicked_object
    is_background = isinstance(update, Point) and update.label == BACKGROUND
    if is_background and current is None:
        raise InvalidPromptError(
            "a background click needs a clicked object; click on the foreground first", kind="no object"
        )
    joins = is_background or isinstance(update, (MaskPrompt, Joining)) or click_mode == "join"
    if current is not None and joins and (is_background or current.can_be_refined_on(target)):
        return table.with_clicked_object(_refined(current.moved_to(target), update))
    if click_mode != "add":
        table = table.with_clicked_object(None)
    table, created = _create(table, "", "", target, max_objects)
    return table.with_objects([_refined(created, update)]).with_clicked(created)


def _refined(current: SegmentedObject, update: ClickedUpdate) -> SegmentedObject:
    if current.chosen is not None:  # what was chosen is what is refined
        current = replace(current, prior_logits=current.chosen.low_res_logits[0], chosen=None)
    if isinstance(update, Joining):
        update = update.point
    if isinstance(update, Point):
        _check_num_points(len(current.points) + 1)
        return replace(current, points=(*current.points, update))
    if isinstance(update, Box):
        return replace(current, box_xyxy=update.box_xyxy)
    return replace(current, prior_logits=update.low_res_logits)


def _check_num_points(count: int) -> None:
    if count > MOST_POINTS:
        raise InvalidPromptError(
            f"an object can have at most {MOST_POINTS} points, this would be {count}; begin another object",
            kind="too many points",
        )


def keep_masks(
    table: ObjectTable, found: Sequence[Masks], target: Target, *, max_objects: int, as_shown: bool
) -> ObjectTable:
    """Begin an object for each mask that was found on a frame, the first ones where there are too many.

    Args:
        table: the objects before.
        found: one mask each.
        target: the frame.
        max_objects: at most so many objects live.
        as_shown: on that frame the objects are to be shown by exactly these masks, which takes memory; not
            needed where they are followed to other frames.
    """
    for masks in found[: max(0, max_objects - len(table.objects))]:
        table, created = _create(table, "", "", target, max_objects)
        logits = masks.low_res_logits[0]
        kept = replace(created, prior_logits=logits, chosen=masks if as_shown else None)
        table = table.with_objects([kept.decoded(logits, target.sequence)])
    return table


def update_one_program_object(
    table: ObjectTable, prompt: ProgramPrompt, target: Target, *, max_objects: int
) -> ObjectTable:
    """Create or re-prompt one object of a program; all others stay as they are.

    Raises:
        InvalidPromptError: the object is refused.
    """
    return _with_program_object(table, prompt, {o.id for o in table.objects}, target, max_objects)


def update_program(
    table: ObjectTable, update: ProgramPrompts, target: Target, *, max_objects: int
) -> tuple[ObjectTable, tuple[RefusedObject, ...]]:
    """Make the table hold the program's objects as listed, beside the clicked one and others of a person.

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
    others = [o.created for o in table.objects if o.created == table.clicked or not o.is_of_program]
    program = [o.created for o in table.objects if o.created not in others and o.id in listed]
    kept = {*others, *program[: max(0, max_objects - len(others))]}
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
    _check_names(prompt)
    _check_num_points(len(prompt.points))
    existing = next((o for o in table.objects if o.id == prompt.id and prompt.id), None)
    if existing is None:
        _check_not_made_by_node(prompt.id, alive)
        table, existing = _create(table, prompt.id, prompt.class_id, target, max_objects)
        existing = replace(existing, is_of_program=True)
    prompted = replace(
        existing,
        class_id=prompt.class_id or existing.class_id,
        sequence=target.sequence,
        size_hw=target.size_hw,
        points=prompt.points,
        box_xyxy=prompt.box_xyxy,
        prior_logits=None,
        low_res_logits=None,
        chosen=None,
    )
    return table.with_objects([prompted])


def _check_not_made_by_node(id: str, alive: set[str]) -> None:
    """A program may name an object that the node made while that is alive; it makes none of such a name."""
    if id.startswith(NODE_MADE_PREFIX) and id not in alive:
        raise InvalidPromptError(
            f"id {shortened(id)!r} is not alive; ids beginning with {NODE_MADE_PREFIX!r} are the node's",
            kind="unknown id",
        )


def _check_names(prompt: ProgramPrompt) -> None:
    for what, name in (("id", prompt.id), ("class_id", prompt.class_id)):
        if len(name) > LONGEST_NAME:
            raise InvalidPromptError(
                f"the {what} {shortened(name)!r} is too long; at most {LONGEST_NAME} characters are taken",
                kind=f"{what} too long",
            )


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
