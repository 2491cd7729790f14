"""What became of each object, in figures."""

from __future__ import annotations

import numpy as np

from sam_ros.core.frames import Frame
from sam_ros.core.objects import ObjectTable, SegmentedObject
from sam_ros.core.segmenter import Outputs
from sam_ros.masks import Masks
from sam_ros.tools.bag.records import MOST_ROWS, Record, Records, as_table

SECOND = 1_000_000_000


def segmented(id: str, created: int, class_id: str = "") -> SegmentedObject:
    return SegmentedObject(id, class_id, created, 1, (2, 2))


def masks(predicted_iou: float) -> Masks:
    score = np.array([predicted_iou], np.float32)
    return Masks(np.ones((1, 2, 2), np.bool_), score, score, np.zeros((1, 1, 1), np.float32))


def add(records: Records, stamp_ns: int, objects: list[SegmentedObject], seen: dict[str, float]) -> None:
    """One image with these objects alive, of which those are seen with that predicted IoU."""
    shown = tuple((one, masks(seen[one.id])) for one in objects if one.id in seen)
    records.add(ObjectTable(tuple(objects)), Outputs(Frame(1, stamp_ns, "", b""), (2, 2), shown))


CUP, PLATE = segmented("cup", 0, "crockery"), segmented("_1", 1)


def test_images_iou_and_losses_of_each_object_are_counted() -> None:
    records = Records()
    add(records, 1 * SECOND, [CUP], {"cup": 0.5})
    add(records, 2 * SECOND, [CUP, PLATE], {"cup": 1.5})  # published as 1
    add(records, 3 * SECOND, [CUP, PLATE], {"_1": 0.25})
    add(records, 4 * SECOND, [CUP], {})
    add(records, 5 * SECOND, [CUP], {"cup": 0.75})
    add(records, 6 * SECOND, [CUP], {})
    cup, plate = records.all
    assert (cup.images_seen, cup.images_alive, cup.mean_iou) == (3, 6, 0.75)
    assert cup.lost_ns == (3 * SECOND, 6 * SECOND) and cup.first_ns == SECOND
    assert (plate.images_seen, plate.images_alive, plate.mean_iou) == (1, 2, 0.25)
    assert plate.lost_ns == ()  # it was dropped, not lost
    assert as_table(records.all, SECOND).splitlines() == [
        "object  class     images seen  mean IoU  first seen  lost at",
        "cup     crockery  3 of 6       0.750     0.00 s      2.00 s, 5.00 s",
        "_1                1 of 2       0.250     2.00 s",
    ]


def test_an_object_that_was_never_seen_has_no_iou() -> None:
    records = Records()
    add(records, SECOND, [CUP], {})
    (row,) = as_table(records.all, SECOND).splitlines()[1:]
    assert row == "cup     crockery  0 of 1                 never"


def test_an_object_of_the_same_id_that_was_made_anew_is_another_one() -> None:
    records = Records()
    add(records, SECOND, [CUP], {"cup": 0.5})
    add(records, SECOND, [segmented("cup", 7)], {"cup": 0.5})
    assert [record.images_seen for record in records.all] == [1, 1]


def test_a_long_table_and_long_rows_are_cut() -> None:
    record = Record("a", lost_ns=tuple(range(0, 9 * SECOND, SECOND)))
    lines = as_table([record] * (MOST_ROWS + 3), 0).splitlines()
    assert len(lines) == MOST_ROWS + 2 and lines[-1] == "and 3 more objects"
    assert lines[1].endswith("0.00 s, 1.00 s, 2.00 s, 3.00 s, 4.00 s and 4 times more")
