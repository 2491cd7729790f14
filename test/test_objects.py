"""The object table: found by id, removed, and brought back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sam_ros.core.objects import ObjectTable, RefusedObject, SegmentedObject, by_kind, difference
from sam_ros.errors import InvalidPromptError

A, B, C = (SegmentedObject(id, "", index, 1, (48, 64)) for index, id in enumerate("abc"))
TABLE = ObjectTable((A, B, C), clicked=B.created, num_created=3)


def ids(table: ObjectTable) -> str:
    return "".join(o.id for o in table.objects)


def test_an_object_is_found_by_its_id_and_the_clicked_one_by_none() -> None:
    assert TABLE.with_id("c") is C and TABLE.with_id("") is B
    with pytest.raises(InvalidPromptError, match="no object 'd'"):
        TABLE.with_id("d")
    with pytest.raises(InvalidPromptError, match="no clicked object"):
        ObjectTable((A,)).with_id("")


def test_a_removed_object_is_gone_and_the_clicked_one_no_longer_clicked() -> None:
    assert ids(TABLE.without(A)) == "bc" and TABLE.without(A).clicked_object is B
    assert ids(TABLE.without(B)) == "ac" and TABLE.without(B).clicked_object is None
    assert TABLE.without(B).with_clicked(C).clicked_object is C


def test_undone_what_was_made_is_gone_and_what_was_changed_or_removed_is_as_before() -> None:
    made = SegmentedObject("d", "", 3, 1, (48, 64))
    after = ObjectTable((A, replace(C, class_id="cup"), made), clicked=made.created, num_created=4)
    change = difference(TABLE, after)
    assert change.clicked_before == B.created
    assert change.made == {made.created} and change.before == (B, C)
    back = after.undone(change)
    assert back.objects == (A, B, C) and back.clicked_object is B and back.num_created == 4


def test_undone_what_came_later_stays() -> None:
    change = difference(TABLE, TABLE.without(B))
    later = SegmentedObject("later", "", 9, 2, (48, 64))
    table = replace(TABLE.without(B), objects=(replace(A, class_id="mug"), C, later))
    back = table.undone(change)
    assert ids(back) == "abclater" and back.objects[0].class_id == "mug"


def test_undone_an_object_whose_id_was_made_anew_stays_gone() -> None:
    change = difference(TABLE, TABLE.without(B))
    anew = replace(B, created=7)
    assert replace(TABLE.without(B), objects=(A, C, anew)).undone(change).objects == (A, C, anew)


def test_undone_an_object_that_is_gone_is_not_clicked() -> None:
    change = difference(TABLE, replace(TABLE, clicked=A.created))
    assert replace(TABLE, objects=(A, C)).undone(change).clicked_object is None


def test_refusals_are_grouped_by_kind_in_order() -> None:
    refused = [RefusedObject(id, f"reason {id}", kind) for id, kind in ("ax", "by", "cx")]
    assert [[one.id for one in objects] for objects in by_kind(refused)] == [["a", "c"], ["b"]]
