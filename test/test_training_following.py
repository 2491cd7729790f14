"""The measurement of following: what is asked for, how it is scored, and its report."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from random_models import TRAINABLE, save_random_sam

from sam_ros.predictor import Predictor, load_predictor
from training.evaluate import VIDEO_SEED
from training.following import FOLLOWING, SHOWN, TRUTH, WAYS, Trial, draw, follow, report

FRAMES = 5


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = tmp_path_factory.mktemp("model") / "trainable.safetensors"
    save_random_sam(TRAINABLE, path)
    return load_predictor("sam_tiny", path, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def trials(predictor: Predictor) -> list[Trial]:
    return list(follow(predictor, VIDEO_SEED, FRAMES))


def test_every_frame_but_the_first_is_tried_in_every_way(trials: list[Trial]) -> None:
    assert [trial.share for trial in trials] == [0.25, 0.5, 0.75, 1.0]
    for trial in trials:
        assert set(trial.masks) == {*WAYS, FOLLOWING, TRUTH}
        for masks in trial.masks.values():
            assert len(masks) == len(trial.truth)
            assert all(mask.shape == trial.image.shape[:2] for mask in masks)


def test_it_repeats(predictor: Predictor, trials: list[Trial]) -> None:
    again = list(follow(predictor, VIDEO_SEED, FRAMES))
    for one, other in zip(trials, again, strict=True):
        assert all(one.ious(way) == other.ious(way) for way in one.masks)


def test_only_objects_of_which_enough_is_visible_are_scored() -> None:
    whole = np.zeros((64, 64), bool)
    whole[:32] = True
    sliver = np.zeros_like(whole)
    sliver[0, :3] = True
    half = whole.copy()
    half[:, 32:] = False
    nothing = np.zeros_like(whole)
    trial = Trial(1.0, np.zeros((64, 64, 3), np.uint8), [whole, sliver, nothing], {"a way": [half] * 3})
    assert trial.ious("a way") == [0.5] and trial.phantoms("a way") == [True]


def test_the_report_has_a_row_for_each_way(trials: list[Trial]) -> None:
    text = report({FRAMES: [trials]})
    for way in (*WAYS, FOLLOWING, TRUTH):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {way} |")]
        every = [iou for trial in trials for iou in trial.ious(way)]
        assert row.split("|")[2].strip() == f"{np.mean(every):.3f}"
    assert "](following.jpg)" in text


def test_the_sheet_shows_the_videos_from_left_to_right(trials: list[Trial], tmp_path: Path) -> None:
    draw([trials, trials], tmp_path / "following.jpg")
    sheet = cv2.imread(str(tmp_path / "following.jpg"))
    assert sheet.shape[1] == 2 * len(SHOWN) * 104
