"""How clicks, boxes, masks and programs create, refine, replace and drop objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sam_ros.core.edits import (
    CLICK_MODES,
    LONGEST_NAME,
    MOST_POINTS,
    keep_masks,
    update_clicked,
    update_one_program_object,
    update_program,
)
from sam_ros.core.grid import padded_grid
from sam_ros.core.objects import (
    Box,
    Change,
    ClickedUpdate,
    Joining,
    LowResLogits,
    MaskPrompt,
    ObjectTable,
    Point,
    ProgramPrompt,
    ProgramPrompts,
    RefusedObject,
    Target,
    difference,
)
from sam_ros.errors import InvalidPromptError
from sam_ros.masks import Masks

HERE = Target(sequence=1, grid=padded_grid((48, 64), 64))
LATER = replace(HERE, sequence=2)
LARGER = Target(sequence=3, grid=padded_grid((96, 128), 64))

FOREGROUND = Point(10, 20, 1)
OTHER_FOREGROUND = Point(30, 40, 1)
BACKGROUND = Point(5, 6, 0)
BOX = Box((1, 2, 30, 40))
OTHER_BOX = Box((3, 4, 10, 12))


def logits(value: float) -> LowResLogits:
    return np.full((16, 16), value, np.float32)


def updated(
    table: ObjectTable, *updates: ClickedUpdate, target: Target = HERE, **options: Any
) -> ObjectTable:
    """The table after some clicks on one frame; each object's answer is logits of its ``created``."""
    settings = {"click_mode": "replace", "max_objects": 64, **options}
    for update in updates:
        table = decoded(update_clicked(table, update, target, **settings))
    return table


def decoded(table: ObjectTable) -> ObjectTable:
    """The table once every object has been decoded: the logits are the object's ``created``."""
    return table.with_answers({o.created: logits(o.created) for o in table.objects}, HERE.sequence)


def programmed(
    table: ObjectTable, *prompts: ProgramPrompt, target: Target = HERE, max_objects: int = 64
) -> tuple[ObjectTable, tuple[RefusedObject, ...]]:
    after, refused = update_program(table, ProgramPrompts(prompts), target, max_objects=max_objects)
    return decoded(after), refused


def boxed(id: str, class_id: str = "", x: float = 0) -> ProgramPrompt:
    return ProgramPrompt(id, class_id, box_xyxy=(x, 0, x + 5, 5))


def ids(table: ObjectTable) -> list[str]:
    return [o.id for o in table.objects]


def clicked_id(table: ObjectTable) -> str | None:
    return table.clicked_object.id if table.clicked_object else None


# The clicked object.


@pytest.mark.parametrize("update", [FOREGROUND, BOX, MaskPrompt(logits(7))])
def test_the_first_click_box_or_mask_creates_an_object(update: ClickedUpdate) -> None:
    table = updated(ObjectTable(), update)
    assert ids(table) == ["_1"] and clicked_id(table) == "_1"
    (one,) = table.objects
    assert (one.class_id, one.sequence, one.size_hw) == ("", 1, (48, 64))


@pytest.mark.parametrize("update", [OTHER_FOREGROUND, OTHER_BOX])
@pytest.mark.parametrize("first", [FOREGROUND, BOX])
def test_a_foreground_click_or_box_replaces_the_clicked_object(
    first: ClickedUpdate, update: ClickedUpdate
) -> None:
    table = updated(ObjectTable(), first, BACKGROUND, update)
    assert ids(table) == ["_2"] and clicked_id(table) == "_2"
    (one,) = table.objects
    assert one.points == ((update,) if isinstance(update, Point) else ())
    assert one.box_xyxy == (update.box_xyxy if isinstance(update, Box) else None)
    assert one.prior_logits is None


def test_in_join_mode_clicks_and_boxes_join_the_clicked_object() -> None:
    updates = (FOREGROUND, BOX, OTHER_FOREGROUND, BACKGROUND, OTHER_BOX)
    table = updated(ObjectTable(), *updates, click_mode="join")
    (one,) = table.objects
    assert one.id == "_1"
    assert one.points == (FOREGROUND, OTHER_FOREGROUND, BACKGROUND)
    assert one.box_xyxy == OTHER_BOX.box_xyxy
    assert one.prior_logits is None


@pytest.mark.parametrize("click_mode", CLICK_MODES)
def test_a_background_click_joins_the_clicked_object(click_mode: str) -> None:
    table = updated(ObjectTable(), BOX, BACKGROUND, click_mode=click_mode)
    (one,) = table.objects
    assert (one.id, one.points, one.box_xyxy) == ("_1", (BACKGROUND,), BOX.box_xyxy)


@pytest.mark.parametrize("click_mode", CLICK_MODES)
def test_a_background_click_without_a_clicked_object_is_refused(click_mode: str) -> None:
    program, _ = programmed(ObjectTable(), boxed("a"))
    for table in (ObjectTable(), program, updated(ObjectTable(), FOREGROUND).cleared()):
        with pytest.raises(InvalidPromptError, match="needs a clicked object") as caught:
            updated(table, BACKGROUND, click_mode=click_mode)
        assert caught.value.kind == "no object"


def test_a_mask_prompt_joins_and_replaces_an_earlier_mask() -> None:
    table = updated(ObjectTable(), FOREGROUND, MaskPrompt(logits(5)), MaskPrompt(logits(6)))
    (one,) = table.objects
    assert (one.id, one.points) == ("_1", (FOREGROUND,))
    np.testing.assert_array_equal(one.prior_logits, logits(6))


def test_other_objects_are_not_touched_by_clicks() -> None:
    program, _ = programmed(ObjectTable(), boxed("a"), boxed("b"))
    table = updated(program, FOREGROUND, BACKGROUND, OTHER_FOREGROUND)
    assert ids(table) == ["a", "b", "_2"]
    assert [o.box_xyxy for o in table.objects] == [o.box_xyxy for o in program.objects] + [None]


def test_too_many_objects_are_refused_but_replacing_makes_room() -> None:
    program, _ = programmed(ObjectTable(), boxed("a"), boxed("b"))
    with pytest.raises(InvalidPromptError, match="2 objects already") as caught:
        updated(program, FOREGROUND, max_objects=2)
    assert caught.value.kind == "max_objects"
    table = updated(program, FOREGROUND, OTHER_FOREGROUND, MaskPrompt(logits(1)), max_objects=3)
    assert ids(table) == ["a", "b", "_2"]


def test_a_table_never_changes() -> None:
    before = updated(ObjectTable(), FOREGROUND)
    updated(before, BACKGROUND)
    updated(before, OTHER_FOREGROUND)
    programmed(before, boxed("a"))
    assert ids(before) == ["_1"] and before.objects[0].points == (FOREGROUND,)


# On other frames.


def test_on_its_own_frame_an_object_is_asked_for_by_all_that_was_given() -> None:
    table = updated(ObjectTable(), BOX, BACKGROUND, MaskPrompt(logits(5)))
    prompt = table.objects[0].prompt_on(HERE)
    np.testing.assert_array_equal(prompt.point_coords, [[5, 6]])
    np.testing.assert_array_equal(prompt.point_labels, [0])
    np.testing.assert_array_equal(prompt.box, [1, 2, 30, 40])
    np.testing.assert_array_equal(prompt.low_res_logits, logits(5))


def test_a_click_alone_asks_with_nothing_else() -> None:
    """However often it was decoded: its own answer must not feed back on its frame."""
    prompt = updated(ObjectTable(), FOREGROUND).objects[0].prompt_on(HERE)
    assert prompt.is_single_point


def test_on_another_frame_an_object_is_asked_for_by_its_logits_only() -> None:
    (one,) = updated(ObjectTable(), BOX, BACKGROUND, MaskPrompt(logits(5))).objects
    prompt = one.prompt_on(LATER)
    assert prompt.point_coords is None and prompt.box is None
    np.testing.assert_array_equal(prompt.low_res_logits, one.low_res_logits)


def test_refining_elsewhere_drops_points_and_box_and_keeps_the_mask_as_prior() -> None:
    table = updated(ObjectTable(), BOX, BACKGROUND)
    (one,) = updated(table, Point(9, 9, 0), target=LATER).objects
    assert (one.id, one.sequence, one.points, one.box_xyxy) == ("_1", 2, (Point(9, 9, 0),), None)
    np.testing.assert_array_equal(one.prior_logits, logits(0))


@pytest.mark.parametrize("update", [OTHER_FOREGROUND, OTHER_BOX])
def test_accumulating_elsewhere_keeps_the_mask_as_prior(update: ClickedUpdate) -> None:
    table = updated(ObjectTable(), BOX, FOREGROUND, click_mode="join")
    (one,) = updated(table, update, target=LATER, click_mode="join").objects
    assert one.points == ((update,) if isinstance(update, Point) else ())
    assert one.box_xyxy == (update.box_xyxy if isinstance(update, Box) else None)
    np.testing.assert_array_equal(one.prior_logits, logits(0))


def test_a_mask_prompt_elsewhere_is_the_prior_itself() -> None:
    table = updated(ObjectTable(), FOREGROUND)
    (one,) = updated(table, MaskPrompt(logits(5)), target=LATER).objects
    assert one.points == ()
    np.testing.assert_array_equal(one.prior_logits, logits(5))


def test_replacing_elsewhere_leaves_nothing_of_the_old() -> None:
    (one,) = updated(updated(ObjectTable(), BOX), FOREGROUND, target=LATER).objects
    assert (one.id, one.sequence, one.prior_logits) == ("_2", 2, None)


def test_refining_on_an_older_frame_drops_the_points_too() -> None:
    table = updated(ObjectTable(), FOREGROUND, target=LATER)
    (one,) = updated(table, BACKGROUND, target=HERE).objects
    assert (one.sequence, one.points) == (1, (BACKGROUND,))


def test_objects_appear_only_on_images_of_their_size() -> None:
    table = updated(ObjectTable(), FOREGROUND)
    assert ids(table.only_on(HERE)) == ids(table.only_on(LATER)) == ["_1"]
    assert ids(table.only_on(LARGER)) == []
    undecoded = update_clicked(ObjectTable(), FOREGROUND, HERE, click_mode="replace", max_objects=1)
    assert ids(undecoded.only_on(HERE)) == ["_1"]
    assert ids(undecoded.only_on(LATER)) == []


def test_a_background_click_on_an_image_of_another_size_is_refused() -> None:
    table = updated(ObjectTable(), FOREGROUND)
    with pytest.raises(InvalidPromptError, match="64 x 48 pixels, not 128 x 96") as caught:
        updated(table, BACKGROUND, target=LARGER)
    assert caught.value.kind == "resolution changed"


def lost(table: ObjectTable) -> ObjectTable:
    return table.with_objects([one.lost() for one in table.objects])


def test_a_background_click_on_an_object_that_is_out_of_sight_is_refused() -> None:
    table = lost(updated(ObjectTable(), FOREGROUND))
    with pytest.raises(InvalidPromptError, match="_1 is out of sight; prompt it anew") as caught:
        updated(table, BACKGROUND, target=LATER)
    assert caught.value.kind == "out of sight"


@pytest.mark.parametrize("update", [OTHER_FOREGROUND, OTHER_BOX, MaskPrompt(logits(5))])
def test_in_join_mode_a_click_begins_anew_where_the_object_is_out_of_sight(update: ClickedUpdate) -> None:
    table = lost(updated(ObjectTable(), FOREGROUND, click_mode="join"))
    (one,) = updated(table, update, target=LATER, click_mode="join").objects
    assert one.id == "_2" and not one.is_lost


def test_an_object_that_was_lost_later_is_refined_on_its_own_frame() -> None:
    table = lost(updated(ObjectTable(), FOREGROUND))
    (one,) = updated(table, BACKGROUND).objects
    assert (one.id, one.points, one.is_lost) == ("_1", (FOREGROUND, BACKGROUND), False)


def test_an_object_that_was_lost_later_is_refined_on_the_frame_where_it_was_last_seen() -> None:
    table = updated(ObjectTable(), FOREGROUND)
    table = lost(table.with_objects([replace(one, logits_sequence=2) for one in table.objects]))
    (one,) = updated(table, BACKGROUND, target=LATER).objects
    assert (one.id, one.points, one.is_lost) == ("_1", (BACKGROUND,), False)


@pytest.mark.parametrize("update", [OTHER_FOREGROUND, OTHER_BOX, MaskPrompt(logits(5))])
def test_in_join_mode_a_click_on_an_image_of_another_size_begins_anew(update: ClickedUpdate) -> None:
    table = updated(ObjectTable(), FOREGROUND, BOX, click_mode="join")
    (one,) = updated(table, update, target=LARGER, click_mode="join").objects
    assert (one.id, one.size_hw) == ("_2", (96, 128))
    assert one.points == ((update,) if isinstance(update, Point) else ())
    assert (one.prior_logits is None) == (not isinstance(update, MaskPrompt))


# Programs.


def test_listed_ids_are_created_in_their_order_with_their_classes() -> None:
    prompts = (boxed("b", "cup"), ProgramPrompt("a", "", (FOREGROUND, BACKGROUND)), boxed("", "cat"))
    table, refused = programmed(ObjectTable(), *prompts)
    assert refused == ()
    assert [(o.id, o.class_id) for o in table.objects] == [("b", "cup"), ("a", ""), ("_1", "cat")]
    assert [o.points for o in table.objects] == [(), (FOREGROUND, BACKGROUND), ()]
    assert table.clicked_object is None


def test_prompting_anew_keeps_place_and_class_and_nothing_else() -> None:
    table, _ = programmed(ObjectTable(), boxed("a", "cup"), boxed("b", "cat"))
    table, _ = programmed(
        table, boxed("c"), boxed("b", "dog", 7), ProgramPrompt("a", "", (FOREGROUND,)), target=LATER
    )
    assert [(o.id, o.class_id) for o in table.objects] == [("a", "cup"), ("b", "dog"), ("c", "")]
    first, second, _ = table.objects
    assert (first.sequence, first.points, first.box_xyxy, first.prior_logits) == (
        2,
        (FOREGROUND,),
        None,
        None,
    )
    assert second.box_xyxy == (7, 0, 12, 5)


def test_an_object_prompted_anew_has_no_logits_of_before() -> None:
    before, _ = programmed(ObjectTable(), boxed("a"))
    after, _ = update_program(before, ProgramPrompts((boxed("a"),)), LATER, max_objects=64)
    assert after.objects[0].low_res_logits is None


def test_unlisted_and_unnamed_objects_are_dropped() -> None:
    table, _ = programmed(ObjectTable(), boxed("a"), boxed(""), boxed("b"), boxed(""))
    assert ids(table) == ["a", "_1", "b", "_2"]
    table, refused = programmed(table, boxed("b"), boxed(""))
    assert ids(table) == ["b", "_3"] and refused == ()


def test_an_id_that_the_node_made_can_be_prompted_while_it_lives() -> None:
    table, _ = programmed(ObjectTable(), boxed(""), boxed(""))
    table, refused = programmed(table, boxed("_2", "cup", 7))
    assert ids(table) == ["_2"] and refused == ()
    assert (table.objects[0].class_id, table.objects[0].box_xyxy) == ("cup", (7, 0, 12, 5))
    table, (refusal,) = programmed(table, boxed("_1"), boxed("a"))
    assert ids(table) == ["a"]
    assert (refusal.id, refusal.kind) == ("_1", "unknown id") and "'_1' is not alive" in refusal.reason


@pytest.mark.parametrize("id", ["_", "_1", "_99", "__", "_cup"])
def test_foreign_ids_with_the_nodes_prefix_are_refused(id: str) -> None:
    table, (refusal,) = programmed(ObjectTable(), boxed("a"), boxed(id))
    assert ids(table) == ["a"]
    assert (refusal.id, refusal.kind) == (id, "unknown id")


def test_the_clicked_object_is_not_touched() -> None:
    clicked = updated(ObjectTable(), FOREGROUND)
    table, _ = programmed(clicked, boxed("a"), boxed(""))
    assert ids(table) == ["_1", "a", "_2"] and table.clicked_object is table.objects[0]
    table, _ = programmed(table)
    assert ids(table) == ["_1"]
    assert table.objects[0].points == (FOREGROUND,) and clicked_id(table) == "_1"


def test_an_empty_array_leaves_no_program_object() -> None:
    table, _ = programmed(ObjectTable(), boxed("a"), boxed(""))
    table, refused = programmed(table)
    assert (ids(table), refused) == ([], ())


def test_a_refused_object_stays_as_it_was() -> None:
    before, _ = programmed(ObjectTable(), boxed("a", "cup"), boxed("b"), boxed("c"))
    refusal = RefusedObject("a", "a box cannot be background", "background box")
    update = ProgramPrompts((boxed("b", x=7),), (refusal,))
    after, refused = update_program(before, update, LATER, max_objects=64)
    assert refused == (refusal,)
    assert ids(after) == ["a", "b"]
    assert after.objects[0] is before.objects[0]


def test_where_all_are_refused_the_table_stays_as_it_was() -> None:
    before, _ = programmed(updated(ObjectTable(), FOREGROUND), boxed("a"), boxed("b"))
    refusal = RefusedObject("", "a point must be finite", "not finite")
    after, refused = update_program(before, ProgramPrompts((boxed("_9"),), (refusal,)), LATER, max_objects=64)
    assert after is before
    assert [one.kind for one in refused] == ["not finite", "unknown id"]


def test_objects_beyond_the_limit_are_refused_and_the_first_stay() -> None:
    clicked = updated(ObjectTable(), FOREGROUND)
    table, refused = programmed(clicked, *(boxed(f"a{i}") for i in range(10_000)), max_objects=3)
    assert ids(table) == ["_1", "a0", "a1"]
    assert len(refused) == 9998
    assert refused[0].id == "a2" and {one.kind for one in refused} == {"max_objects"}
    assert "raise max_objects" in refused[0].reason


def test_dropping_the_unlisted_makes_room() -> None:
    table, _ = programmed(ObjectTable(), boxed("a"), boxed("b"), max_objects=2)
    table, refused = programmed(table, boxed("c"), boxed("d"), max_objects=2)
    assert (ids(table), refused) == (["c", "d"], ())


def test_a_full_table_is_prompted_anew_without_refusals() -> None:
    table, _ = programmed(ObjectTable(), boxed("a"), boxed("b"), max_objects=2)
    table, refused = programmed(table, boxed("b"), boxed("a"), max_objects=2)
    assert (ids(table), refused) == (["a", "b"], ())


def test_a_lowered_limit_holds_for_objects_that_live_already() -> None:
    prompts = [boxed(id) for id in "abcd"]
    table, _ = programmed(updated(ObjectTable(), FOREGROUND), *prompts)
    table, refused = programmed(table, *prompts, max_objects=3)
    assert ids(table) == ["_1", "a", "b"]
    assert [(one.id, one.kind) for one in refused] == [("c", "max_objects"), ("d", "max_objects")]


# Ids, order and undo.


def test_ids_are_never_made_twice() -> None:
    table = updated(ObjectTable(), FOREGROUND, FOREGROUND)
    table, _ = programmed(table, boxed(""), boxed(""))
    assert ids(table) == ["_2", "_3", "_4"]
    table = updated(table.cleared(), FOREGROUND)
    assert ids(table) == ["_5"]


def test_named_objects_use_up_no_ids() -> None:
    table, _ = programmed(ObjectTable(), boxed("a"), boxed("b"), boxed(""))
    assert ids(table) == ["a", "b", "_1"]


def test_objects_are_in_creation_order() -> None:
    table, _ = programmed(ObjectTable(), boxed("a"))
    table = updated(table, FOREGROUND)
    table, _ = programmed(table, boxed("b"), boxed("a"))
    assert ids(table) == ["a", "_1", "b"]
    assert [o.created for o in updated(table, BACKGROUND).objects] == [0, 1, 2]
    assert ids(updated(table, FOREGROUND)) == ["a", "b", "_2"]


def test_an_earlier_clicked_object_comes_back_in_its_place() -> None:
    before, _ = programmed(updated(ObjectTable(), FOREGROUND), boxed("a"))
    replaced = updated(before, OTHER_FOREGROUND)
    assert ids(replaced) == ["a", "_2"]
    undone = replaced.with_clicked_object(before.clicked_object)
    assert ids(undone) == ["_1", "a"] and clicked_id(undone) == "_1"
    assert undone.objects[0].points == (FOREGROUND,)
    assert ids(updated(undone, FOREGROUND)) == ["a", "_3"]


def test_undoing_the_first_click_leaves_the_others() -> None:
    before, _ = programmed(ObjectTable(), boxed("a"))
    undone = updated(before, FOREGROUND).with_clicked_object(None)
    assert ids(undone) == ["a"] and undone.clicked_object is None


def test_clear_leaves_no_object() -> None:
    table, _ = programmed(updated(ObjectTable(), FOREGROUND), boxed("a"))
    assert table.cleared().objects == () and table.cleared().clicked_object is None


def test_answers_reach_only_the_objects_they_belong_to() -> None:
    table, _ = programmed(ObjectTable(), boxed("a"), boxed("b"))
    table = table.with_answers({1: logits(42)}, 7)
    np.testing.assert_array_equal(table.objects[0].low_res_logits, logits(0))
    np.testing.assert_array_equal(table.objects[1].low_res_logits, logits(42))
    assert [o.logits_sequence for o in table.objects] == [HERE.sequence, 7]


# Whatever comes, in whatever order.


def any_update(rng: np.random.Generator) -> ClickedUpdate | ProgramPrompts:
    label = int(rng.integers(2))
    x = float(rng.integers(40))
    listed = tuple(
        boxed(str(id), "", x) for id in rng.choice(["", "a", "b", "c", "_1", "_3"], rng.integers(5))
    )
    unique = tuple(p for i, p in enumerate(listed) if not p.id or p.id not in [q.id for q in listed[:i]])
    choices = (Point(x, 5, label), Box((x, 1, x + 9, 9)), MaskPrompt(logits(x)), ProgramPrompts(unique))
    return choices[int(rng.integers(len(choices)))]


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_prompts_breaks_the_table(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, changes = ObjectTable(), list[Change]()
    for _ in range(200):
        target = (HERE, LATER, LARGER)[int(rng.integers(3))]
        update = any_update(rng)
        try:
            if isinstance(update, ProgramPrompts):
                after = update_program(table, update, target, max_objects=4)[0]
            else:
                click_mode = CLICK_MODES[int(rng.integers(3))]
                after = update_clicked(table, update, target, click_mode=click_mode, max_objects=4)
                changes.append(difference(table, after))
        except InvalidPromptError:
            continue
        if changes and rng.random() < 0.1:
            after = after.undone(changes.pop())
        after = after.only_on(target)
        for one in after.objects:
            one.prompt_on(target)  # there is always something to ask with
        created = [one.created for one in after.objects]
        assert created == sorted(set(created))
        assert len(set(ids(after))) == len(after.objects)
        assert "" not in ids(after)
        table = decoded(after)


# Click modes.


def test_in_add_mode_a_click_or_box_begins_another_object_beside() -> None:
    table = updated(ObjectTable(), FOREGROUND, OTHER_BOX, OTHER_FOREGROUND, click_mode="add")
    assert ids(table) == ["_1", "_2", "_3"] and clicked_id(table) == "_3"
    table = updated(table, BACKGROUND, MaskPrompt(logits(3)), click_mode="add")
    assert ids(table) == ["_1", "_2", "_3"]
    assert table.objects[2].points == (OTHER_FOREGROUND, BACKGROUND)
    assert table.objects[0].points == (FOREGROUND,)


@pytest.mark.parametrize("click_mode", CLICK_MODES)
def test_a_joining_click_joins_in_every_mode_and_begins_an_object_where_there_is_none(
    click_mode: str,
) -> None:
    table = updated(ObjectTable(), Joining(FOREGROUND), click_mode=click_mode)
    assert ids(table) == ["_1"]
    table = updated(table, Joining(OTHER_FOREGROUND), click_mode=click_mode)
    (one,) = table.objects
    assert one.id == "_1" and one.points == (FOREGROUND, OTHER_FOREGROUND)


def test_a_program_does_not_drop_what_a_person_added() -> None:
    table = updated(ObjectTable(), FOREGROUND, OTHER_FOREGROUND, click_mode="add")
    table, _ = programmed(table, boxed("cup"), boxed("plate"))
    table, _ = programmed(table, boxed("plate"), boxed(""))
    assert ids(table) == ["_1", "_2", "plate", "_3"]
    table, _ = programmed(table)
    assert ids(table) == ["_1", "_2"]


# Bounds.


def test_an_object_can_have_only_so_many_points() -> None:
    many = tuple(Point(1, 1, 1) for _ in range(MOST_POINTS))
    table, refused = programmed(
        ObjectTable(), ProgramPrompt("full", "", many), ProgramPrompt("over", "", (*many, FOREGROUND))
    )
    assert ids(table) == ["full"] and [(r.id, r.kind) for r in refused] == [("over", "too many points")]
    table = replace(table, clicked=table.objects[0].created)
    with pytest.raises(InvalidPromptError, match="at most 256 points"):
        updated(table, Joining(FOREGROUND))


@pytest.mark.parametrize("what", ["id", "class_id"])
def test_a_name_that_is_too_long_is_refused_and_shown_in_short(what: str) -> None:
    long, fits = "x" * (LONGEST_NAME + 1), "x" * LONGEST_NAME
    names: list[dict[str, Any]] = [{what: name} for name in (long, fits)]
    prompts = [replace(boxed("a"), **name) for name in names]
    table, refused = programmed(ObjectTable(), *prompts)
    assert len(table.objects) == 1 and getattr(table.objects[0], what) == fits
    assert [r.kind for r in refused] == [f"{what} too long"] and len(refused[0].reason) < 150


# One object of a program.


def test_one_object_of_a_program_is_created_or_prompted_again() -> None:
    table, _ = programmed(ObjectTable(), boxed("a"), boxed("b"))
    table = update_one_program_object(table, boxed("b", x=3), HERE, max_objects=3)
    table = update_one_program_object(table, boxed("c"), HERE, max_objects=3)
    assert ids(table) == ["a", "b", "c"] and table.objects[1].box_xyxy == (3, 0, 8, 5)


@pytest.mark.parametrize(("id", "reason"), [("d", "2 objects already"), ("_9", "not alive")])
def test_one_object_of_a_program_may_be_refused(id: str, reason: str) -> None:
    table, _ = programmed(ObjectTable(), boxed("a"), boxed("b"))
    with pytest.raises(InvalidPromptError, match=reason):
        update_one_program_object(table, boxed(id), HERE, max_objects=2)


def found(*values: float) -> list[Masks]:
    """Masks whose logits tell which they are."""
    scores = np.array([0.5], np.float32)
    return [Masks(np.ones((1, 48, 64), bool), scores, scores, logits(value)[None]) for value in values]


def test_kept_masks_become_objects_beside_the_others() -> None:
    before = updated(ObjectTable(), FOREGROUND)
    masks = found(3, 4)
    after = keep_masks(before, masks, LATER, max_objects=64, as_shown=True)
    frames = [(o.id, o.sequence, o.logits_sequence) for o in after.objects]
    assert frames == [("_1", 1, 1), ("_2", 2, 2), ("_3", 2, 2)]
    assert after.objects[0] is before.objects[0] and after.clicked == before.clicked
    assert [o.chosen for o in after.objects[1:]] == masks
    assert [o.low_res_logits.max() for o in after.objects[1:] if o.low_res_logits is not None] == [3, 4]
    assert all(not o.is_of_program for o in after.objects)  # the next ~/prompts leaves them
    prompt = after.objects[1].prompt_on(LATER)
    assert prompt.low_res_logits is not None and prompt.low_res_logits.max() == 3
    undone = after.undone(difference(before, after))
    assert [o.id for o in undone.objects] == ["_1"]


def test_only_as_many_masks_are_kept_as_there_is_room_for() -> None:
    before = updated(ObjectTable(), FOREGROUND)
    after = keep_masks(before, found(3, 4), LATER, max_objects=2, as_shown=False)
    assert [o.id for o in after.objects] == ["_1", "_2"] and after.objects[1].chosen is None
    assert keep_masks(after, found(3, 4), LATER, max_objects=2, as_shown=False) is after
