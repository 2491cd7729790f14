"""The photographs of the evaluation: bundled, never trained on, and soundly outlined."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.photographs import (
    EVALUATION_PHOTOGRAPHS,
    OUTLINES,
    Outline,
    Photograph,
    Ring,
    load_outlines,
    load_photograph,
    photographs,
)
from training.textures import TEXTURE_PHOTOGRAPHS

FILES = sorted(OUTLINES.glob("*.json"))


def area(ring: Ring) -> float:
    return abs(cv2.contourArea(np.array(ring, np.float32)))


@pytest.fixture(scope="module")
def loaded() -> list[Photograph]:
    return list(photographs())


@pytest.mark.parametrize("file", EVALUATION_PHOTOGRAPHS)
def test_every_photograph_is_bundled(file: str) -> None:
    image = load_photograph(file)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_none_of_them_is_trained_on() -> None:
    assert not set(EVALUATION_PHOTOGRAPHS) & set(TEXTURE_PHOTOGRAPHS)


def test_a_photograph_that_is_not_bundled_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"bundles, got .*nothing\.png"):
        load_photograph("nothing.png")


def test_photographs_are_rgb() -> None:
    red, _, blue = load_photograph("astronaut.png")[400, 100]  # on the orange suit
    assert red > 2 * blue


def test_there_are_two_dozen_objects_with_names_of_their_own(loaded: list[Photograph]) -> None:
    assert sum(len(photograph.names) for photograph in loaded) >= 24
    assert all(len(set(photograph.names)) == len(photograph.names) for photograph in loaded)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_outlines_lie_in_the_photograph(path: Path) -> None:
    file, outlines = load_outlines(path)
    assert Path(file).stem == path.stem
    height, width = load_photograph(file).shape[:2]
    for outline in outlines:
        corners = np.concatenate([np.array(ring) for ring in (*outline.outer, *outline.holes)])
        assert (corners >= 0).all() and (corners <= (width, height)).all(), outline.name
        assert all(len(ring) >= 3 for ring in (*outline.outer, *outline.holes))
        assert all(area(ring) > 9 for ring in (*outline.outer, *outline.holes))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_holes_lie_inside(path: Path) -> None:
    for outline in load_outlines(path)[1]:
        whole = Outline(outline.name, outline.outer, []).mask((600, 800))
        holes = Outline(outline.name, outline.holes, []).mask((600, 800))
        assert not (holes & ~whole).any(), outline.name


def test_masks_are_as_large_as_their_outlines(loaded: list[Photograph]) -> None:
    for photograph in loaded:
        _, outlines = load_outlines((OUTLINES / photograph.file).with_suffix(".json"))
        for mask, outline in zip(photograph.masks, outlines, strict=True):
            assert mask.shape == photograph.image.shape[:2]
            expected = sum(map(area, outline.outer)) - sum(map(area, outline.holes))
            assert mask.sum() == pytest.approx(expected, rel=0.03), outline.name


def test_a_mask_is_the_pixels_whose_centres_are_inside() -> None:
    square = [(1.0, 0.4), (4.0, 0.4), (4.0, 2.6), (1.0, 2.6)]
    hole = [(2.0, 1.0), (3.0, 1.0), (3.0, 2.0), (2.0, 2.0)]
    mask = Outline("frame", [square], [hole]).mask((4, 5))
    assert mask.astype(int).tolist() == [[0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


def test_outlines_of_another_photograph_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "brick.json"
    path.write_text(json.dumps({"photograph": "brick.png", "objects": []}))
    with pytest.raises(ValueError, match=r"photograph must be one of .*, got 'brick\.png'"):
        load_outlines(path)
