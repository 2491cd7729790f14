"""Generated scenes: exact masks, seeds, sizes, and the prompts made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training import evaluate
from training.batches import Mixture, PictureBatches, _choose, sample_click, tight_box
from training.photographs import EVALUATION_PHOTOGRAPHS
from training.pictures import picture_of_scene
from training.pool import HELD_OUT_SEED, ScenePool
from training.scenes import Scene, _regions, generate_scene
from training.textures import TEXTURE_PHOTOGRAPHS


def test_a_seed_decides_the_scene() -> None:
    first, second, other = generate_scene(5), generate_scene(5), generate_scene(6)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", range(12))
def test_image_and_labels_agree_in_size(seed: int) -> None:
    scene = generate_scene(seed)
    assert scene.image.dtype == np.uint8
    assert scene.image.shape == (*scene.labels.shape, 3)
    assert max(scene.labels.shape) == 256
    assert scene.labels.max() < len(scene.parents)


@pytest.mark.parametrize("seed", range(12))
def test_areas_are_those_of_the_masks(seed: int) -> None:
    scene = generate_scene(seed)
    areas = [int(scene.mask(label).sum()) for label in range(1, len(scene.parents))]
    assert scene.areas()[1:].tolist() == areas


def test_a_whole_contains_its_parts_and_their_parts() -> None:
    labels = np.array([[0, 1, 2], [3, 4, 4]], np.int32)
    scene = Scene(np.zeros((2, 3, 3), np.uint8), labels, parents=(0, 0, 1, 2, 0))
    assert scene.mask(1).tolist() == [[False, True, True], [True, False, False]]
    assert scene.mask(2).tolist() == [[False, False, True], [True, False, False]]
    assert scene.mask(4).tolist() == [[False, False, False], [False, True, True]]
    assert scene.areas().tolist() == [1, 3, 2, 1, 2]


def test_parents_come_before_their_parts() -> None:
    parents = [generate_scene(seed).parents for seed in range(20)]
    assert all(parent < child for scene in parents for child, parent in enumerate(scene) if child)
    assert any(any(scene) for scene in parents)


def parts_of_wholes(composed_share: float) -> tuple[int, float]:
    """How many there are in some scenes, and the share of those wholes' pixels that they cover."""
    count, inside, everything = 0, 0, 0
    for seed in range(12):
        scene = generate_scene(seed, 128, composed_share=composed_share)
        own = np.bincount(scene.labels.ravel(), minlength=len(scene.parents))
        wholes = {parent for parent in scene.parents if parent and not scene.parents[parent]}
        count += sum(parent in wholes for parent in scene.parents)
        everything += int(scene.areas()[list(wholes)].sum())
        inside += int((scene.areas() - own)[list(wholes)].sum())
    return count, inside / everything


def test_composed_wholes_consist_of_parts() -> None:
    few, little = parts_of_wholes(0.0)
    many, most = parts_of_wholes(1.0)
    assert many > 1.5 * few
    assert little < 0.35 < 0.45 < most


@pytest.mark.parametrize("count", [2, 5])
def test_regions_divide_a_rectangle(count: int) -> None:
    regions = [_regions(np.random.default_rng(seed), 30, 50, count) for seed in range(10)]
    assert all(found.shape == (30, 50) for found in regions)
    assert {int(index) for found in regions for index in np.unique(found)} == set(range(count))
    assert all(len(np.unique(found)) > 1 for found in regions)


def test_held_out_scenes_are_neither_composed_nor_cluttered() -> None:
    """They stay as they were, so that figures can be compared."""
    held_out = next(iter(evaluate.held_out(1, 128)))
    assert np.array_equal(held_out.image, generate_scene(HELD_OUT_SEED, 128).image)
    composed = generate_scene(HELD_OUT_SEED, 128, composed_share=1.0)
    cluttered = generate_scene(HELD_OUT_SEED, 128, cluttered_share=1.0)
    assert not np.array_equal(held_out.image, composed.image)
    assert not np.array_equal(held_out.image, cluttered.image)


def areas(cluttered_share: float) -> list[int]:
    """Visible pixels of all objects of some scenes."""
    scenes = [generate_scene(seed, 128, square=True, cluttered_share=cluttered_share) for seed in range(10)]
    return [int(area) for scene in scenes for area in scene.areas()[1:] if area]


def test_cluttered_scenes_have_more_and_smaller_objects() -> None:
    plain, cluttered = areas(0.0), areas(1.0)
    assert len(cluttered) > 2 * len(plain)
    assert np.median(cluttered) < 0.5 * np.median(plain)
    assert max(cluttered) > 0.5 * max(plain)


def scene_of(labels: NDArray[np.int32]) -> Scene:
    return Scene(np.zeros((*labels.shape, 3), np.uint8), labels, (0,) * (labels.max() + 1))


def test_small_objects_are_prompted_but_no_slivers() -> None:
    labels = np.zeros((100, 100), np.int32)
    labels[10:22, 10:22] = 1  # small
    labels[40:90, 60:64] = labels[86:90, 20:64] = 2  # two narrow sides of what something hides
    labels[50:59, 30:39] = 3  # smaller than SMALLEST_AREA
    chosen = _choose(np.random.default_rng(0), picture_of_scene(scene_of(labels)), 3)
    assert [mask.sum() for mask in chosen] == [144, 144, 144]
    labels[10:22, 10:22] = 0
    assert _choose(np.random.default_rng(0), picture_of_scene(scene_of(labels)), 3) == []


def test_larger_objects_are_prompted_more_often() -> None:
    labels = np.zeros((200, 200), np.int32)
    labels[:100] = 1
    for label in range(2, 10):
        labels[150:165, 20 * label : 20 * label + 15] = label
    draws = [
        _choose(np.random.default_rng(seed), picture_of_scene(scene_of(labels)), 1) for seed in range(200)
    ]
    large = sum(mask.sum() == 20000 for (mask,) in draws)
    assert 1.5 / 9 < large / 200 < 0.6


def test_tight_box_is_half_open_pixel_edges() -> None:
    mask = np.zeros((10, 20), bool)
    mask[3:5, 7:12] = True
    assert tight_box(mask).tolist() == [7, 3, 12, 5]


def test_clicks_hit_the_mask() -> None:
    mask = np.zeros((10, 20), bool)
    mask[3:5, 7:12] = True
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = sample_click(rng, mask).astype(int)
        assert mask[y, x]


def test_a_batch_is_decided_by_step_and_seed() -> None:
    batches = [PictureBatches(Mixture(ScenePool(6, None)), 2, 3, 64, seed) for seed in (0, 0, 1)]
    first, same, other = (data[7] for data in batches)
    assert first.images.equal(same.images)
    assert first.points.equal(same.points)
    assert not first.images.equal(other.images)


def test_the_fields_of_a_batch_fit_together() -> None:
    batch = PictureBatches(Mixture(ScenePool(6, None)), 3, 4, 64, 0)[0]
    assert batch.images.shape == (3, 3, 64, 64)
    assert not batch.images[~batch.valid.expand_as(batch.images)].any()
    assert batch.targets.shape == (3, 4, 32, 32)
    for scene in range(3):
        for prompt in range(4):
            x, y = batch.points[scene, prompt].long().tolist()
            assert batch.targets[scene, prompt, y // 2, x // 2] > 0


def test_a_square_scene_is_square() -> None:
    assert generate_scene(3, 96, square=True).labels.shape == (96, 96)


def test_the_pool_gives_the_same_scene_from_disk(tmp_path: Path) -> None:
    made, kept = ScenePool(2, None)[1], ScenePool(2, tmp_path)
    for scene in (kept[1], kept[1]):
        assert np.array_equal(scene.image, made.image)
        assert np.array_equal(scene.labels, made.labels) and scene.labels.dtype == np.int32
        assert scene.parents == made.parents
    assert [path.name for path in tmp_path.iterdir()] == ["0000001.npz"]


def test_the_pool_leaves_held_out_scenes_alone() -> None:
    with pytest.raises(ValueError, match="held out"):
        ScenePool(HELD_OUT_SEED + 1, None)


def test_no_photograph_of_the_evaluation_is_a_texture() -> None:
    assert not set(TEXTURE_PHOTOGRAPHS) & set(EVALUATION_PHOTOGRAPHS)
