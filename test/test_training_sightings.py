"""Counting what following made of encounters."""

from __future__ import annotations

import numpy as np

from training.encounters import Moment
from training.sightings import Sighting, encounter_table, ious, returns, sighting, survivals, swaps


def seen(share: float, iou: float, other_iou: float = 0.0, is_shown: bool | None = None) -> Sighting:
    return Sighting(share, iou, other_iou, iou > 0 if is_shown is None else is_shown)


def test_a_mask_is_compared_with_its_own_and_with_others() -> None:
    own, other = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    own[:2], other[2:] = True, True
    moment = Moment(np.zeros((4, 4, 3), np.uint8), [own, other], [0.5, 1.0])
    assert sighting(moment, 0, other) == Sighting(0.5, 0.0, 1.0, True)
    assert sighting(moment, 1, other) == Sighting(1.0, 1.0, 0.0, True)
    assert sighting(moment, 0, np.zeros((4, 4), bool)) == Sighting(0.5, 0.0, 0.0, False)


def test_what_is_shown_though_out_of_sight_survives() -> None:
    assert survivals([seen(1, 0.9), seen(0, 0, is_shown=True), seen(0.01, 0)]) == [True, False]


def test_anothers_mask_is_a_swap_and_its_own_is_none() -> None:
    assert swaps([seen(1, 0.9, 0.6), seen(1, 0.1, 0.6), seen(0, 0, 0.9, True), seen(1, 0.1, 0.2)]) == [
        False,
        True,
        True,
        False,
    ]


def test_a_return_counts_once_and_has_some_frames_to_be_found_in() -> None:
    gone, part, there, found = seen(0, 0), seen(0.3, 0), seen(0.9, 0.1), seen(0.9, 0.8)
    assert returns([found, gone, part, there, there, found, found]) == [True]
    assert returns([found, gone, part, *[there] * 6, found]) == [False]
    assert returns([found, part, found]) == []
    assert returns([found, gone, found, gone, there]) == [True, False]


def test_only_where_enough_is_visible_its_iou_counts() -> None:
    assert ious([seen(1, 0.9), seen(0.4, 0.1), seen(0.6, 0.5)]) == [0.9, 0.5]
    assert ious([seen(1, 0.9), seen(0.4, 0.1), seen(0.6, 0.5)], 0.95) == [0.9]


def test_the_table_has_a_row_for_each_kind_and_one_for_all() -> None:
    leaves = [seen(1, 0.9), seen(0, 0, is_shown=True), seen(1, 0.7)]
    text = encounter_table({"leaves": [leaves], "stays": [[seen(1, 0.8)]]})
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in text.splitlines()}
    assert [cell.strip() for cell in rows["leaves"]] == ["0.800", "0.800, 0.70", "100%", "0%", "1 of 1"]
    assert [cell.strip() for cell in rows["stays"]] == ["0.800", "0.800, 0.80", "-", "0%", "-"]
    assert [cell.strip() for cell in rows["all"]] == ["0.800", "0.800, 0.70", "100%", "0%", "1 of 1"]
