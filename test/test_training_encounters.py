"""The generated scenes in which things enter, leave, hide one another and meet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.encounters import (
    HEIGHT,
    SPEEDS,
    WIDTH,
    Encounter,
    Moment,
    cutouts,
    encounters,
)

SEED = 1_000_003


@pytest.fixture(scope="module")
def all_of_a_seed() -> list[Encounter]:
    return list(encounters(SEED))


def moments(some: list[Encounter], kind: str) -> list[Moment]:
    return next(list(one.moments()) for one in some if one.kind == kind)


def test_they_repeat(all_of_a_seed: list[Encounter]) -> None:
    again = list(encounters(SEED))
    assert [one.kind for one in again] == [one.kind for one in all_of_a_seed]
    np.testing.assert_array_equal(again[-1].moment(5).image, all_of_a_seed[-1].moment(5).image)


def test_masks_do_not_overlap_and_shares_are_of_what_is_visible(all_of_a_seed: list[Encounter]) -> None:
    for moment in moments(all_of_a_seed, "smooth, goes behind another"):
        assert moment.image.shape == (HEIGHT, WIDTH, 3)
        assert np.sum(moment.masks, axis=0).max() <= 1
        assert all((share > 0) == mask.any() for share, mask in zip(moment.shares, moment.masks, strict=True))


@pytest.mark.parametrize("speed", SPEEDS)
def test_what_enters_is_half_visible_at_first_and_then_whole(
    all_of_a_seed: list[Encounter], speed: int
) -> None:
    some = [one for one in all_of_a_seed if one.kind.startswith(f"enters at {speed} ")]
    assert len(some) == 8
    for one in some:
        shares = [moment.shares[0] for moment in one.moments()]
        assert 0.4 < shares[0] < 0.6 and min(shares[-5:]) > 0.99


def test_a_camera_that_pans_moves_the_background(all_of_a_seed: list[Encounter]) -> None:
    still = moments(all_of_a_seed, "enters at 5 px a frame")
    panned = moments(all_of_a_seed, "enters at 5 px a frame, the camera pans")
    np.testing.assert_array_equal(still[0].image[100:, 200:], still[9].image[100:, 200:])
    assert (panned[0].image[100:, 200:] != panned[9].image[100:, 200:]).mean() > 0.2


@pytest.mark.parametrize("surface", ["smooth", "rough"])
@pytest.mark.parametrize(
    "what",
    [
        "leaves and returns",
        "leaves and enters elsewhere",
        "is taken away and put down elsewhere",
        "something passes over it",
        "goes behind another",
        "leaves a look-alike and returns",
    ],
)
def test_what_goes_is_out_of_sight_for_a_while_and_there_again(
    all_of_a_seed: list[Encounter], surface: str, what: str
) -> None:
    shares = np.array([moment.shares[0] for moment in moments(all_of_a_seed, f"{surface}, {what}")])
    assert shares[0] > 0.9 and shares[-1] > 0.9 and (shares < 0.02).sum() >= 3


def test_look_alikes_look_alike(all_of_a_seed: list[Encounter]) -> None:
    (one,) = [each for each in all_of_a_seed if each.kind == "rough, look-alikes pass one another"]
    assert one.actors[0].sprite is one.actors[1].sprite
    assert all(actor.is_prompted for actor in one.actors)
    assert one.actors[0].course[0, 0] < one.actors[1].course[0, 0]
    assert one.actors[0].course[-1, 0] > one.actors[1].course[-1, 0]


def test_what_a_file_shows_is_neither_smooth_nor_rough(tmp_path: Path) -> None:
    pixels = np.full((60, 60, 4), (200, 30, 10, 255), np.uint8)
    assert cv2.imwrite(str(tmp_path / "thing.png"), pixels)
    kinds = [each.kind for each in encounters(SEED, [tmp_path / "thing.png"])]
    assert kinds.count("leaves and returns") == 2
    assert not any("smooth" in kind or "rough" in kind for kind in kinds)


def test_cut_outs_are_what_is_opaque_in_a_file(tmp_path: Path) -> None:
    pixels = np.zeros((80, 40, 4), np.uint8)
    pixels[10:70, 5:35] = (200, 30, 10, 255)
    assert cv2.imwrite(str(tmp_path / "thing.png"), pixels)
    assert cv2.imwrite(str(tmp_path / "opaque.png"), pixels[..., :3])
    make = cutouts(sorted(tmp_path.glob("*.png")))
    sprite = make(np.random.default_rng(0), 40.0, 0.0)
    assert sprite.mask.shape == (88, 44) and 0.5 < sprite.mask.mean() < 0.6
    np.testing.assert_array_equal(sprite.image[44, 22], [10, 30, 200])
