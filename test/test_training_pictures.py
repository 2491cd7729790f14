"""Pictures and their objects, and what augmentation and cut-outs make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training import augmentation
from training.augmentation import as_a_camera, augmented, resized
from training.cutouts import Cutouts, held_out_cutouts, is_photographed, pasted
from training.pictures import Picture, picture_of_masks, picture_of_scene
from training.scenes import Scene


def squares() -> Picture:
    """Nine squares of 40 pixels, each of a brightness of its own, which no augmentation mixes up."""
    labels = np.repeat(np.repeat(np.arange(9, dtype=np.int32).reshape(3, 3), 40, 0), 40, 1)
    image = np.repeat((labels * 25 + 20).astype(np.uint8)[..., None], 3, 2)
    return picture_of_scene(Scene(image, labels, parents=(0,) * 9))


def test_a_scenes_objects_have_their_parts() -> None:
    labels = np.array([[0, 1, 2], [3, 3, 0]], np.int32)  # 2 is a part of 1, 3 of 2
    picture = picture_of_scene(Scene(np.zeros((2, 3, 3), np.uint8), labels, (0, 0, 1, 2)))
    assert picture.areas().tolist() == [4, 3, 2]
    assert picture.mask(0).astype(int).tolist() == [[0, 1, 1], [1, 1, 0]]
    assert picture.mask(1).astype(int).tolist() == [[0, 0, 1], [1, 1, 0]]


def test_a_photographs_objects_may_overlap() -> None:
    layers = np.array([[[0, 1, 1]], [[7, 7, 0]]], np.uint16)
    picture = picture_of_masks(np.zeros((1, 3, 3), np.uint8), layers)
    assert [picture.mask(index).astype(int).tolist() for index in range(2)] == [[[0, 1, 1]], [[1, 1, 0]]]
    assert picture.areas().tolist() == [2, 2]
    assert picture.is_photograph


@pytest.mark.parametrize("is_photograph", [False, True])
def test_an_augmented_picture_shows_labels_where_their_pixels_are(is_photograph: bool) -> None:
    picture = replace(squares(), is_photograph=is_photograph)
    rng = np.random.default_rng(0)
    for _ in range(20):
        shown = augmented(rng, picture, 64)
        labels = shown.layers[0]
        assert shown.image.shape == (*labels.shape, 3)
        assert max(labels.shape) == 64
        whole = [k for k in np.unique(labels) if (labels == k).sum() > 50]
        brightness = [float(np.median(shown.image[labels == k])) for k in whole]
        assert brightness == sorted(brightness)


def test_what_is_shown_is_decided_by_the_generator() -> None:
    first, same, other = (augmented(np.random.default_rng(seed), squares(), 64) for seed in (3, 3, 4))
    assert np.array_equal(first.image, same.image) and np.array_equal(first.layers, same.layers)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(("whole_share", "are_whole"), [(1.0, True), (0.0, False)])
def test_photographs_are_shown_whole_as_often_as_a_run_says(whole_share: float, are_whole: bool) -> None:
    picture, rng = replace(squares(), is_photograph=True), np.random.default_rng(0)
    labels = [np.unique(augmented(rng, picture, 64, whole_share).layers) for _ in range(10)]
    assert all(len(shown) == 9 for shown in labels) == are_whole


def test_the_longest_side_is_resized_without_new_labels() -> None:
    shown = resized(squares(), 50)
    assert shown.image.shape == (50, 50, 3)
    assert set(np.unique(shown.layers)) == set(range(9))
    assert shown.layers.dtype == np.uint16


def test_cameras_darken_and_add_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.full((40, 40, 3), 160, np.uint8)
    for share in ("DARK_SHARE", "NOISY_SHARE", "BLURRED_SHARE", "COMPRESSED_SHARE"):
        monkeypatch.setattr(augmentation, share, 0.0)
    assert np.array_equal(as_a_camera(np.random.default_rng(0), grey), grey)
    monkeypatch.setattr(augmentation, "DARK_SHARE", 1.0)
    dark = as_a_camera(np.random.default_rng(0), grey)
    assert dark.mean() < 90 and dark.std() > 0.5


# ---------------------------------------------------------------- cut-outs


def save_cutout(path: Path, opacity: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*opacity.shape, 4), (0, 0, 250, 0), np.uint8)  # red, as BGRA
    pixels[..., 3] = opacity
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def cutouts(tmp_path: Path) -> Cutouts:
    opaque = np.zeros((100, 120), np.uint8)
    opaque[10:90, 20:100] = 255
    save_cutout(tmp_path / "animals" / "square.png", opaque)
    save_cutout(tmp_path / "symbols" / "letter.png", opaque)
    save_cutout(tmp_path / "animals" / "cartoon" / "drawing.png", opaque)
    save_cutout(tmp_path / "food" / "crumb.png", opaque[:20, :40])
    return Cutouts(tmp_path)


def test_cutouts_are_photographed_things(cutouts: Cutouts, tmp_path: Path) -> None:
    assert [path.name for path in cutouts.paths] == ["square.png", "crumb.png"]
    assert not is_photographed(tmp_path / "food" / "pizza.png", tmp_path)
    found = cutouts[0]
    assert found is not None and found.shape == (80, 80, 4), "without what is transparent around it"
    assert found[40, 40].tolist() == [250, 0, 0, 255]
    assert cutouts[1] is None, "too small"
    assert cutouts.sample(np.random.default_rng(0)) is found


def test_cutouts_that_following_is_measured_on_are_never_pasted(tmp_path: Path) -> None:
    opaque = np.full((60, 60), 255, np.uint8)
    for name in (
        "food/egg.png",
        "town/stop.png",
        "town/flags/redflag.png",
        "vehicles/space/rocket.png",
        "space/moon.png",
    ):
        save_cutout(tmp_path / name, opaque)
    measured = held_out_cutouts(tmp_path)
    assert [path.name for path in measured] == ["moon.png", "stop.png"]
    assert not set(measured) & set(Cutouts(tmp_path).paths)
    assert held_out_cutouts(tmp_path / "missing") == []


def test_a_pasted_cutout_is_an_object_in_front(cutouts: Cutouts) -> None:
    blue = np.full((120, 120, 3), (0, 0, 200), np.uint8)
    picture = picture_of_masks(blue, np.ones((1, 120, 120), np.uint16))
    shown = 0
    for seed in range(12):
        result = pasted(np.random.default_rng(seed), picture, cutouts)
        behind, *front = (result.mask(index) for index in range(len(result.objects)))
        hidden = np.any(front, 0)
        assert not (behind & hidden).any() and (behind | hidden).all()
        assert sum(mask.sum() for mask in front) == hidden.sum(), "the front ones do not overlap"
        if hidden.sum() > 400:
            shown += 1
            assert result.image[hidden, 0].mean() > 130 > result.image[hidden, 2].mean()
            assert np.array_equal(picture.image[behind], blue[behind])
    assert shown > 6


def test_a_folder_without_cutouts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no cut-outs"):
        Cutouts(tmp_path)
