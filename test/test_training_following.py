"""The measurement of following: what is asked for, how it is scored, and its report."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from random_models import TRAINABLE, save_random_sam

from sam_ros.predictor import Predictor, load_predictor
from training.encounters import Encounter, encounters
from training.evaluate import VIDEO_SEED
from training.following import (
    ENCOUNTER_SEED,
    FOLLOWING,
    SHOWN,
    TRUTH,
    WAYS,
    Trial,
    draw,
    follow,
    follow_encounter,
    report,
)
from training.sightings import Sightings, ious, returns, survivals, swaps

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
    text = report({FRAMES: [trials]}, {"nothing": None})
    for way in (*WAYS, FOLLOWING, TRUTH):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {way} |")]
        every = [iou for trial in trials for iou in trial.ious(way)]
        assert row.split("|")[2].strip() == f"{np.mean(every):.3f}"
    assert "](following.jpg)" in text
    assert "## Encounters of nothing\n\nNot measured" in text


def test_the_sheet_shows_the_videos_from_left_to_right(trials: list[Trial], tmp_path: Path) -> None:
    draw([trials, trials], tmp_path / "following.jpg")
    sheet = cv2.imread(str(tmp_path / "following.jpg"))
    assert sheet.shape[1] == 2 * len(SHOWN) * 104


@pytest.fixture(scope="module")
def sam_tiny() -> Predictor:
    return load_predictor("sam_tiny")


@pytest.fixture(scope="module")
def scenes() -> list[Encounter]:
    return list(encounters(ENCOUNTER_SEED))


def followed(sam_tiny: Predictor, scenes: list[Encounter], kind: str, number: int = 0) -> list[Sightings]:
    """What the node makes of the prompted objects of one of the scenes of a kind."""
    return follow_encounter(sam_tiny, [scene for scene in scenes if scene.kind == kind][number])


def test_what_comes_in_over_the_lower_border_is_soon_seen_whole(
    sam_tiny: Predictor, scenes: list[Encounter]
) -> None:
    (seen,) = followed(sam_tiny, scenes, "enters at 14 px a frame", number=3)
    assert seen[0].share < 0.8 and min(ious(seen, 0.99)) > 0.8


def test_what_leaves_does_not_stay_painted_and_is_found_where_it_comes_back(
    sam_tiny: Predictor, scenes: list[Encounter]
) -> None:
    (seen,) = followed(sam_tiny, scenes, "smooth, leaves and enters elsewhere")
    assert len(survivals(seen)) > 10 and not any(survivals(seen))
    assert returns(seen) == [True] and seen[-1].iou > 0.8


def test_what_passes_over_an_object_does_not_take_its_mask_along(
    sam_tiny: Predictor, scenes: list[Encounter]
) -> None:
    (seen,) = followed(sam_tiny, scenes, "rough, something passes over it")
    assert not any(survivals(seen)) and returns(seen) == [True] and seen[-1].iou > 0.8


def test_look_alikes_that_pass_one_another_keep_their_ids(
    sam_tiny: Predictor, scenes: list[Encounter]
) -> None:
    both = followed(sam_tiny, scenes, "rough, look-alikes pass one another")
    assert [any(swaps(seen)) for seen in both] == [False, False]
    assert min(seen[-1].iou for seen in both) > 0.8
