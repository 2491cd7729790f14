"""Measuring on the held-out photographs of sets: which objects, how many clicks, what the table says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from random_models import TRAINABLE, random_sam
from segment_anything import SamPredictor
from written_sets import write_set

from training import set_evaluation
from training.answers import KINDS, Answer, Prompted, Scores, deepest, prompted
from training.set_evaluation import (
    MOST_CLICKS,
    SetScores,
    clicks_needed,
    draw_worst,
    measure_set,
    measured,
    set_table,
)


@pytest.fixture(scope="module")
def predictor() -> SamPredictor:
    return SamPredictor(random_sam(TRAINABLE))


def write_squares(folder: Path, count: int) -> None:
    """Photographs of 40 x 60 with a square of 20, a speck and nothing else."""
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 20:40], labels[0, 0] = 1, 2
    images = {f"{index:02d}": np.repeat((labels * 90 + index)[..., None], 3, 2) for index in range(count)}
    write_set(folder, {name: (image, [labels]) for name, image in images.items()})


def square() -> Prompted:
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 20:40] = True
    return prompted(np.zeros((40, 60, 3), np.uint8), mask, [deepest(mask[0])])


def test_held_out_photographs_are_asked_for_their_large_objects(tmp_path: Path) -> None:
    write_squares(tmp_path / "dogs", 41)
    write_squares(tmp_path / "bsds500_evaluate", 3)
    asked = dict(measured([tmp_path]))
    assert {name: len(images) for name, images in asked.items()} == {"dogs": 5, "bsds500_evaluate": 3}
    assert all(len(objects.masks) == 1 for objects in asked["dogs"]), "the speck is too small"
    assert [objects.image[0, 0, 0] for objects in asked["dogs"]] == [180, 190, 200, 210, 220]
    few = dict(measured([tmp_path], most=2))
    assert [objects.image[0, 0, 0] for objects in few["dogs"]] == [180, 200], "from all over the set"


def test_a_set_is_measured_in_all_ways(predictor: SamPredictor) -> None:
    scores = measure_set(predictor, "dogs", [square(), square()])
    assert set(scores.scores) == set(KINDS)
    assert all(len(part.iou) == 2 for part in scores.scores.values())
    assert scores.clicks.shape == (2, 2)
    assert scores.grab_cut_iou.shape == (2,)
    quick = measure_set(predictor, "dogs", [square()], is_quick=True)
    assert (
        quick.clicks.shape == (1, 2) and np.isnan(quick.clicks).all() and np.isnan(quick.grab_cut_iou).all()
    )


def test_clicks_are_counted_until_each_iou_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask grows by a column of the square with every click: 0.80 with the 16th, 0.85 with the 17th."""
    objects = square()

    def growing(_predictor: object, _objects: Prompted, clicks: int) -> Any:
        for count in range(1, clicks + 1):
            mask = objects.masks.clone()
            mask[..., 20 + count :] = False
            yield Answer(mask[:, None], torch.ones(1, 1), torch.zeros(1, 1, 10, 10))

    monkeypatch.setattr(set_evaluation, "refined", growing)
    never_asked: Any = SimpleNamespace()
    assert clicks_needed(never_asked, objects).tolist() == [[16, 17]]
    monkeypatch.setattr(set_evaluation, "WANTED", (0.5, 1.01))
    assert clicks_needed(never_asked, objects).tolist() == [[10, MOST_CLICKS]]


def test_the_table_has_a_row_for_each_set_and_their_mean() -> None:
    def of(value: float, name: str = "x") -> SetScores:
        scores = Scores(*torch.full((3, 2), value))
        return SetScores(
            name, 1, dict.fromkeys(KINDS, scores), np.array([[1.0, 2], [2, 4]]), np.array([value, 1])
        )

    *_, one, two, _, mean = set_table([of(0.5), of(0.7), of(0.1, "x_evaluate")]).splitlines()
    assert one == "| x | 1 | 2 | 0.500 | 0.500 | 0.500 | 0.500 | 0.000 | 1.5 | 3.0 | 0.750 |"
    assert two.startswith("| x | 1 | 2 | 0.700")
    assert mean == "| **mean of sets** | 2 | 4 | 0.600 | 0.600 | 0.600 | 0.600 | 0.000 | 1.5 | 3.0 | 0.800 |"


def test_what_was_not_measured_is_a_dash() -> None:
    scores = Scores(*torch.full((3, 1), 0.5))
    one = SetScores("x", 1, dict.fromkeys(KINDS, scores), np.full((1, 2), np.nan), np.full(1, np.nan))
    assert set_table([one]).splitlines()[2].endswith("| 0.000 | - | - | - |")


def test_a_sheet_shows_the_worst_of_each_photograph(predictor: SamPredictor, tmp_path: Path) -> None:
    images = [square(), square()]
    iou = torch.tensor([0.9, 0.2])
    draw_worst(predictor, images, Scores(iou, iou, iou), tmp_path / "worst.jpg")
    height, width = cv2.imread(str(tmp_path / "worst.jpg")).shape[:2]
    assert width > height, "two objects beside each other"
