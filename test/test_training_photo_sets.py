"""Sets of photographs: how they are read, how often each is shown, and what is never trained on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from written_sets import write_set

from training.photo_sets import (
    LARGEST_SHARES,
    Photograph,
    PhotoSampler,
    PhotoSet,
    held_out,
    read_sets,
    shares,
    trained_on,
)

PHOTOGRAPHS = os.environ.get("SAM_ROS_PHOTOGRAPHS", "")
"""Folder with the real sets, for the test that goes through their names."""


def write_pictures(folder: Path, names: list[str], masks: int = 1) -> None:
    """Pictures of 6 x 8 pixels, red at the left; label maps whose k-th has a square of label k + 1."""
    image = np.zeros((6, 8, 3), np.uint8)
    image[:, :4, 2] = 255  # BGR
    layers = [np.zeros((6, 8), np.uint16) for _ in range(masks)]
    for index, labels in enumerate(layers):
        labels[index : index + 2, 1:3] = index + 1
    write_set(folder, dict.fromkeys(names, (image, layers)))


def named(name: str, photographs: list[str]) -> PhotoSet:
    return PhotoSet(name, tuple(Photograph(Path(f"{stem}.jpg"), ()) for stem in photographs))


def stems(photo_set: PhotoSet) -> list[str]:
    return [photograph.image.stem for photograph in photo_set.photographs]


def test_sets_are_found_at_any_depth_and_sorted(tmp_path: Path) -> None:
    write_pictures(tmp_path / "b" / "dogs", ["2", "1"])
    write_pictures(tmp_path / "a" / "deep" / "cats", ["3"])
    sets = read_sets([tmp_path / "b", tmp_path / "a"])
    assert [(each.name, stems(each)) for each in sets] == [("cats", ["3"]), ("dogs", ["1", "2"])]


def test_a_folder_without_sets_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no set of photographs"):
        read_sets([tmp_path])


def test_a_picture_has_the_objects_of_all_its_files(tmp_path: Path) -> None:
    write_pictures(tmp_path / "dogs", ["1"], masks=2)
    picture = read_sets([tmp_path])[0].picture(0, np.random.default_rng(0))
    assert picture.image[0, 0].tolist() == [255, 0, 0], "RGB"
    assert picture.areas().tolist() == [4, 4]
    assert np.argwhere(picture.mask(1))[0].tolist() == [1, 1]


def test_of_alternatives_one_is_taken(tmp_path: Path) -> None:
    write_pictures(tmp_path / "bsds500", ["1"], masks=3)
    (photo_set,) = read_sets([tmp_path])
    tops = set()
    for seed in range(20):
        picture = photo_set.picture(0, np.random.default_rng(seed))
        assert len(picture.objects) == 1
        tops.add(int(np.argwhere(picture.mask(0))[0, 0]))
    assert tops == {0, 1, 2}


def test_a_missing_picture_is_an_error(tmp_path: Path) -> None:
    photograph = Photograph(tmp_path / "gone.jpg", (tmp_path / "gone.png",))
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg is missing"):
        photograph.read()
    with pytest.raises(FileNotFoundError, match=r"gone\.png is missing"):
        photograph.read_masks()


# ---------------------------------------------------------------- what is never trained on


def test_every_tenth_photograph_is_held_out() -> None:
    sets = [named("horses", [f"{index:02d}" for index in range(25)])]
    assert stems(held_out(sets)[0]) == ["00", "10", "20"]
    assert len(trained_on(sets)[0].photographs) == 22
    assert not set(stems(trained_on(sets)[0])) & {"00", "10", "20"}


def test_of_a_series_the_neighbours_of_what_is_held_out_are_not_trained_on() -> None:
    sets = [named("food_plates", [f"{index:02d}" for index in range(25)])]
    assert stems(held_out(sets)[0]) == ["00", "10", "20"]
    assert not set(stems(trained_on(sets)[0])) & {"00", "01", "09", "10", "11", "19", "20", "21"}
    assert len(trained_on(sets)[0].photographs) == 17


def test_sets_for_evaluation_are_held_out_in_whole() -> None:
    sets = [named("bsds500_evaluate", ["1", "2", "3"]), named("horses", ["1", "2", "3"])]
    assert stems(held_out(sets)[0]) == ["1", "2", "3"]
    assert [(each.name, stems(each)) for each in trained_on(sets)] == [("horses", ["2", "3"])]


def test_a_photograph_that_one_set_holds_out_is_not_trained_on_in_another() -> None:
    sets = [
        named("bsds500", ["1", "2", "3"]),
        named("bsds500_evaluate", ["2"]),
        named("bsds_sod", ["0", "1", "2", "3"]),
        named("ecssd", ["0", "1", "2", "3"]),
    ]
    left = {each.name: stems(each) for each in trained_on(sets)}
    assert left == {"bsds500": ["3"], "bsds_sod": ["3"], "ecssd": ["1", "2", "3"]}


def test_the_same_photograph_under_another_name_is_not_trained_on() -> None:
    sets = [named("bsds500", ["140055"]), named("ecssd", ["0001", "0014", "0015"])]
    assert [stems(each) for each in trained_on(sets)] == [["0015"]]


@pytest.mark.skipif(not PHOTOGRAPHS, reason="SAM_ROS_PHOTOGRAPHS does not name the folder of photographs")
def test_no_file_is_both_trained_on_and_measured_on() -> None:
    sets = read_sets([Path(PHOTOGRAPHS)])
    contents = {photograph.image.read_bytes() for each in held_out(sets) for photograph in each.photographs}
    trained = [photograph for each in trained_on(sets) for photograph in each.photographs]
    assert len(trained) > 1000
    assert not [photograph for photograph in trained if photograph.image.read_bytes() in contents]


# ---------------------------------------------------------------- how often each is shown


def test_large_sets_are_shown_more_often_but_not_by_their_size() -> None:
    sets = [named("few", ["1"] * 4), named("many", ["1"] * 100)]
    assert shares(sets).tolist() == pytest.approx([2 / 12, 10 / 12])


def test_no_set_is_shown_more_than_its_largest_share() -> None:
    sets = [named("food_plates", ["1"] * 100), named("a", ["1"] * 100), named("b", ["1"] * 400)]
    expected = LARGEST_SHARES["food_plates"]
    assert shares(sets).tolist() == pytest.approx([expected, (1 - expected) / 3, (1 - expected) * 2 / 3])
    assert shares(sets[:1]).tolist() == [1.0]


def test_samples_come_by_set_then_by_picture(tmp_path: Path) -> None:
    write_pictures(tmp_path / "few", ["1"])
    write_pictures(tmp_path / "many", [str(index) for index in range(9)], masks=2)
    sampler = PhotoSampler(read_sets([tmp_path]))
    counts = [len(sampler.sample(np.random.default_rng(seed)).objects) for seed in range(60)]
    assert 5 < counts.count(1) < 30
