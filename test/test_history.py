"""The present objects, and what undo restores."""

from __future__ import annotations

import pytest

from sam_ros.core.edits import update_clicked, update_program
from sam_ros.core.grid import padded_grid
from sam_ros.core.history import UNDO_KEPT, ObjectHistory
from sam_ros.core.objects import (
    ObjectTable,
    Point,
    ProgramPrompt,
    ProgramPrompts,
    Target,
    difference,
)

TARGET = Target(1, padded_grid((48, 64), 64))


def clicked(table: ObjectTable, x: float) -> ObjectTable:
    return update_clicked(table, Point(x, 1, 1), TARGET, click_mode="replace", max_objects=64)


def click(objects: ObjectHistory, x: float) -> None:
    before, after = objects.table, clicked(objects.table, x)
    assert objects.replace(before, after, difference(before, after))


def ids(objects: ObjectHistory) -> list[str]:
    return [o.id for o in objects.table.objects]


def test_what_was_computed_from_an_older_table_does_not_count() -> None:
    objects = ObjectHistory()
    old = objects.table
    click(objects, 1)
    assert not objects.replace(old, clicked(old, 2))
    assert [point.x for point in objects.table.objects[0].points] == [1]


def test_undo_restores_the_clicked_object_and_leaves_the_others() -> None:
    objects = ObjectHistory()
    click(objects, 1)
    click(objects, 2)
    with_program, _ = update_program(
        objects.table, ProgramPrompts((ProgramPrompt("cup", "", (Point(3, 3, 1),)),)), TARGET, max_objects=64
    )
    assert objects.replace(objects.table, with_program)
    assert ids(objects) == ["_2", "cup"]
    assert objects.undo() and ids(objects) == ["_1", "cup"]
    assert objects.undo() and ids(objects) == ["cup"]
    assert not objects.undo()


def test_undo_goes_back_only_so_many_changes() -> None:
    objects = ObjectHistory()
    for x in range(UNDO_KEPT + 5):
        click(objects, x)
    assert [objects.undo() for _ in range(UNDO_KEPT + 1)] == [True] * UNDO_KEPT + [False]


@pytest.mark.parametrize("count", [0, 3])
def test_clear_forgets_objects_and_history_but_no_name_comes_again(count: int) -> None:
    objects = ObjectHistory()
    for x in range(count):
        click(objects, x)
    objects.clear()
    assert ids(objects) == [] and not objects.undo()
    click(objects, 1)
    assert ids(objects) == [f"_{count + 1}"]
