"""The evaluation of sam_tiny: prompts, scores, baselines, videos, calibration and the report."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from random_models import TRAINABLE, random_sam
from segment_anything import SamPredictor

from training.ambiguity import knowing_outlines
from training.answers import KINDS, Answer, Scores, ask, correction, deepest, iou, joined, prompted, score
from training.baselines import flood_fill, grab_cut
from training.batches import click_density, sample_click
from training.calibration import reliability
from training.comparison import RANDOM_CLICKS, RANDOM_KIND, compare, pooled
from training.evaluate import (
    PARTS,
    Settings,
    evaluate,
    held_out,
    held_out_frames,
    limit_of_clicks,
    worst,
)
from training.photographs import Photograph
from training.scenes import Scene
from training.shape import VisibleShape, shape_of
from training.sheets import write
from training.tables import method_table, object_table, score_table, shape_table
from training.tiles import TILE, View, view_around
from training.video import Shape, affine, cut_shapes, generate_video, render


@pytest.fixture(scope="module")
def predictor() -> SamPredictor:
    return SamPredictor(random_sam(TRAINABLE))


def photograph() -> Photograph:
    """A red square on green, 40 x 60."""
    image = np.full((40, 60, 3), (20, 160, 40), np.uint8)
    masks = np.zeros((1, 40, 60), bool)
    masks[0, 10:30, 20:40] = True
    image[masks[0]] = (220, 30, 30)
    return Photograph("square.png", image, ("square",), masks)


# ---------------------------------------------------------------- scores


def test_iou_is_intersection_over_union() -> None:
    truth = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]]).bool()
    masks = torch.tensor([[[[1, 0, 1, 0]], [[1, 1, 0, 0]]], [[[0, 0, 0, 0]], [[1, 0, 0, 0]]]]).bool()
    assert torch.allclose(iou(masks, truth), torch.tensor([[1 / 3, 1.0], [1.0, 0.0]]))


def test_the_mask_of_the_highest_predicted_iou_is_scored() -> None:
    truth = torch.tensor([[[1, 1]]]).bool()
    masks = torch.tensor([[[[1, 0]], [[1, 1]]]]).bool()
    answer = Answer(masks, torch.tensor([[0.9, 0.4]]), torch.zeros(1, 2, 1, 1))
    scores = score(answer, truth)
    assert (scores.iou.item(), scores.best_iou.item()) == (0.5, 1.0)
    assert scores.means() == pytest.approx({"iou": 0.5, "best_iou": 1.0, "predicted_iou_error": 0.4})


def test_scores_are_joined_in_order() -> None:
    first, second = (Scores(*torch.tensor([[value], [value + 1], [value + 2]])) for value in (0.0, 5.0))
    assert joined([first, second]).best_iou.tolist() == [1.0, 6.0]


# ---------------------------------------------------------------- prompts


def test_the_deepest_point_keeps_away_from_borders_and_from_the_edge_of_the_image() -> None:
    region = np.zeros((9, 12), bool)
    region[0:5, 0:5] = True
    assert deepest(region).tolist() == [2, 2]


def test_corrections_click_where_the_mask_is_wrong() -> None:
    truth = np.zeros((20, 30), bool)
    truth[5:10, 5:10] = True
    missed, spilt = truth.copy(), truth.copy()
    missed[5:10, 5:10] = False
    spilt[12:19, 20:27] = True
    click, inside = correction(missed, truth)
    assert (click.tolist(), inside) == ([7, 7], True)
    click, inside = correction(spilt, truth)
    assert (click.tolist(), inside) == ([23, 15], False)


def test_a_perfect_mask_is_clicked_once_more() -> None:
    truth = np.zeros((20, 30), bool)
    truth[5:10, 5:10] = True
    click, inside = correction(truth, truth)
    assert (click.tolist(), inside) == ([7, 7], True)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_of_the_size_of_the_image(predictor: SamPredictor, kind: str) -> None:
    taken = photograph()
    objects = prompted(taken.image, np.repeat(taken.masks, 2, 0), [deepest(taken.masks[0])] * 2)
    predictor.set_image(objects.image)
    answer = ask(predictor, objects, kind)
    offered = 3 if kind in ("click", "box, three masks") else 1
    assert answer.masks.dtype == torch.bool and answer.masks.shape == (2, offered, 40, 60)
    assert answer.predicted_iou.shape == (2, offered)


def test_prompts_reach_the_model_as_the_predictor_would_pass_them(predictor: SamPredictor) -> None:
    taken = photograph()  # smaller than the model's input: coordinates are scaled
    objects = prompted(taken.image, taken.masks, [np.array([25, 15], np.float32)])
    predictor.set_image(objects.image)
    masks, predicted, _ = predictor.predict(np.array([[25, 15]]), np.array([1]))
    answer = ask(predictor, objects, "click")
    assert np.array_equal(answer.masks[0].numpy(), masks)
    assert np.allclose(answer.predicted_iou[0].numpy(), predicted, atol=1e-6)
    masks, _, _ = predictor.predict(box=np.array([20, 10, 40, 30]), multimask_output=False)
    assert np.array_equal(ask(predictor, objects, "box").masks[0].numpy(), masks)


# ---------------------------------------------------------------- what a click leaves open


def nested() -> np.ndarray:
    """(3, 20, 20): a whole of 200 pixels, a part of 50 in it, and another object."""
    outlines = np.zeros((3, 20, 20), bool)
    outlines[0, :, :10] = True
    outlines[1, 5:10, :10] = True
    outlines[2, :, 12:] = True
    return outlines


def clicked_at(outlines: np.ndarray, index: int, *xy: int) -> Scores:
    objects = prompted(
        np.zeros((20, 20, 3), np.uint8), outlines[index : index + 1], [np.array(xy, np.float32)]
    )
    return knowing_outlines(objects, outlines)


def test_a_click_on_one_object_alone_is_answered_in_full() -> None:
    outlines = nested()
    for index, xy in ((0, (5, 15)), (2, (15, 7))):
        scores = clicked_at(outlines, index, *xy)
        assert [value.item() for value in (scores.iou, scores.best_iou, scores.predicted_iou)] == [1, 1, 1]


def test_a_click_on_part_and_whole_is_answered_by_what_is_likely_meant() -> None:
    outlines = nested()
    part = [click_density(outline)[7, 5] for outline in outlines[:2]]
    share = part[1] / sum(part)
    assert share > 0.5, "a click in the middle of a part is more often on the part"
    expected = share + (1 - share) * 50 / 200
    for index, truth in ((0, 50 / 200), (1, 1.0)):
        scores = clicked_at(outlines, index, 5, 7)
        assert scores.iou.item() == pytest.approx(truth) and scores.best_iou.item() == 1
        assert scores.predicted_iou.item() == pytest.approx(expected)


def test_clicks_are_as_dense_as_they_are_sampled() -> None:
    rng, mask = np.random.default_rng(0), np.zeros((6, 8), bool)
    mask[1:6, 2:7] = True
    counts, number = np.zeros(mask.shape), 20_000
    for _ in range(number):
        column, row = sample_click(rng, mask).astype(int)
        counts[row, column] += 1
    assert click_density(mask).sum() == pytest.approx(1)
    assert np.allclose(counts / number, click_density(mask), atol=0.006)


def test_there_is_a_limit_to_what_a_click_can_tell() -> None:
    limit = limit_of_clicks(4, 64)
    count = sum(len(objects.masks) for objects in held_out(4, 64))
    assert len(limit.iou) == count and (limit.best_iou == 1).all()
    assert 0.8 < limit.iou.mean() < 1


# ---------------------------------------------------------------- baselines


def test_grab_cut_finds_a_square_in_its_box() -> None:
    taken = photograph()
    mask = grab_cut(taken.image, np.array([20, 10, 40, 30], np.float32))
    assert mask.dtype == bool and mask.shape == (40, 60)
    assert not (mask & ~taken.masks[0]).any()


def test_grab_cut_from_a_box_around_everything_takes_everything() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    assert grab_cut(image, np.array([0, 0, 30, 20], np.float32)).all()


def test_flood_fill_spreads_to_what_is_alike() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[1:3, 1:3] = 100
    image[1, 3] = 110
    image[3, 5] = 100  # alike, but not connected
    mask = flood_fill(image, np.array([1, 1], np.float32), 10)
    assert mask.dtype == bool
    assert mask.astype(int).tolist() == [[0] * 6, [0, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]
    assert flood_fill(image, np.array([1, 1], np.float32), 9).sum() == 4
    assert image[1, 1, 0] == 100, "the image is left as it was"


# ---------------------------------------------------------------- video


def square_scene() -> Scene:
    """A square of 4 pixels, label 1, on a scene of 10 x 12."""
    labels = np.zeros((10, 12), np.int32)
    labels[4:6, 5:7] = 1
    image = np.repeat((labels * 200).astype(np.uint8)[..., None], 3, 2)
    return Scene(image, labels, (0, 0))


def test_a_moved_camera_moves_image_and_mask() -> None:
    frame = render(square_scene(), affine(0, 1, (5, 4), (2, 1)), [], [])
    expected = np.zeros((10, 12), bool)
    expected[1:3, 2:4] = True
    assert np.array_equal(frame.mask(1), expected)
    assert np.array_equal(frame.image[..., 0] == 200, expected)


def test_a_shape_covers_what_is_behind_it() -> None:
    mask = np.zeros((10, 12), bool)
    mask[0:3, 0:3] = True
    shape = Shape(np.full((10, 12, 3), 90, np.uint8), mask)
    frame = render(square_scene(), affine(0, 1, (0, 0), (0, 0)), [shape], [affine(0, 1, (0, 0), (6, 4))])
    assert frame.parents == (0, 0, 0)
    assert np.argwhere(frame.mask(1)).tolist() == [[4, 5], [5, 5]]
    assert np.argwhere(frame.mask(2)).tolist() == [[y, x] for y in (4, 5, 6) for x in (6, 7, 8)]
    assert (frame.image[frame.mask(2)] == 90).all()


def test_affine_shows_the_source_at_its_place_in_the_frame() -> None:
    matrix = affine(np.pi / 2, 2.0, (30, 40), (10, 20))
    assert matrix @ [10, 20, 1] == pytest.approx([30, 40])
    assert matrix @ [11, 20, 1] == pytest.approx([30, 42])


def test_only_wholes_of_some_size_are_cut_out() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[:, :10] = 1  # half of the scene
    labels[0:4, 12:16] = 2
    labels[1:3, 13:15] = 3  # a part of 2
    labels[10:13, 12:15] = 4
    labels[19, 19] = 5
    shapes = cut_shapes(Scene(np.zeros((20, 20, 3), np.uint8), labels, (0, 0, 0, 2, 0, 0)))
    assert [int(shape.mask.sum()) for shape in shapes] == [16, 9]


def test_videos_repeat_and_move() -> None:
    first, second = (list(generate_video(1, 64, 4)) for _ in range(2))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(first, second, strict=True))
    assert all(not np.array_equal(a.image, b.image) for a, b in pairwise(first))
    assert all(frame.labels.max() < len(frame.parents) for frame in first)


# ---------------------------------------------------------------- calibration


def test_reliability_bins() -> None:
    points = reliability([0.1, 0.3, 0.9, 1.2, -0.5], [0.2, 0.4, 1.0, 0.6, 0.0], bins=2)
    assert points.counts.tolist() == [3, 2]
    assert points.predicted == pytest.approx([-0.1 / 3, 1.05])
    assert points.true == pytest.approx([0.2, 0.8])


def test_bins_without_answers_are_left_out() -> None:
    points = reliability([0.05, 0.95], [0.0, 1.0])
    assert points.counts.tolist() == [1, 1]


# ---------------------------------------------------------------- tables, pictures, the whole


def test_a_photograph_is_compared_by_every_method(predictor: SamPredictor) -> None:
    (compared,) = compare(predictor, photograph())
    assert compared.click.tolist() == [29, 19]
    assert compared.box.tolist() == [20, 10, 40, 30]
    assert compared.flood_fill_iou.max() == 1
    assert list(pooled([compared])) == ["click", RANDOM_KIND, "3 clicks", "box", "box, three masks"]
    assert len(compared.scores[RANDOM_KIND].iou) == RANDOM_CLICKS
    assert {mask.shape for mask in compared.masks.values()} == {(40, 60)}
    assert "| flood fill | 1.000 |" in method_table([compared])
    assert object_table([compared]).splitlines()[-1].startswith("| square.png | square | ")


def test_a_table_of_scores() -> None:
    scores = Scores(torch.tensor([0.5, 0.7]), torch.tensor([0.5, 0.9]), torch.tensor([0.6, 0.6]))
    assert score_table({"click": scores}).splitlines()[-1] == "| click | 0.600 | 0.700 | 0.100 |"


def test_a_view_around_a_box_stays_in_the_image() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    assert view_around(np.array([20, 10, 40, 30], np.float32), image, 0.25) == View(15, 5, 45, 35)
    assert view_around(np.array([50, 10, 60, 20], np.float32), image, 1.0) == View(40, 0, 60, 30)


def test_a_tile_shows_the_mask_in_green() -> None:
    taken = photograph()
    tile = View(10, 0, 50, 40).tile(taken.image, taken.masks[0])
    assert tile.shape == (TILE, TILE, 3)
    red, green, _ = (int(value) for value in tile[50, 50])
    assert green > red - 100 and red > 100, "the red square, tinted"


def test_sheets_are_small_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 500, 3)).astype(np.uint8)
    write([noise, noise, noise], tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").stat().st_size < 400_000
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape == (600, 1000, 3)


def test_held_out_objects_repeat() -> None:
    first, second = ([*held_out(2, 64), *held_out_frames(1, 64)] for _ in range(2))
    assert first, "there are objects"
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.points, b.points) and torch.equal(a.masks, b.masks)


def test_the_worst_come_first(predictor: SamPredictor) -> None:
    images = list(held_out(4, 64))
    found = worst(predictor, images, 2)
    scored = []
    for objects, index in found:
        predictor.set_image(objects.image)
        scored.append(score(ask(predictor, objects, "box"), objects.masks).iou[index].item())
    assert len(found) == 2 and scored == sorted(scored)


def test_the_report_has_every_part(predictor: SamPredictor, tmp_path: Path) -> None:
    outlines, output = tmp_path / "outlines", tmp_path / "output"
    outlines.mkdir()
    square = {"name": "coin", "outer": [[[25, 37], [65, 37], [65, 72], [25, 72]]]}
    (outlines / "coins.json").write_text(json.dumps({"photograph": "coins.png", "objects": [square]}))
    report = evaluate(predictor, "7", Settings(Path(), 2, 1, output, PARTS, outlines))
    assert report.startswith("# Evaluation of sam_tiny after 7 training steps\n")
    assert (
        "2 held-out scenes" in report and "1 generated videos" in report and "| coins.png | coin |" in report
    )
    assert "Skipped: name their folders with --photographs." in report
    pictures = {path.name for path in output.iterdir()}
    assert pictures == {"scenes.jpg", "scenes_worst.jpg", "video.jpg", "photographs.jpg", "reliability.png"}
    assert all(f"]({name})" in report for name in pictures)


def test_the_shape_of_an_object() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:4, 5:10] = True  # 10 pixels
    assert shape_of(mask) == VisibleShape(1.0, 1.0)
    mask[8:10, 5:10] = True
    mask[9, 9] = False  # 9 more
    shape = shape_of(mask)
    assert shape.largest_piece == pytest.approx(10 / 19)
    assert shape.filling == pytest.approx(19 / 40)


def test_objects_are_told_apart_by_their_shape() -> None:
    iou = torch.tensor([0.2, 0.4, 0.9])
    scores = dict.fromkeys(("click", "3 clicks", "box"), Scores(iou, iou + 0.05, iou))
    table = shape_table([VisibleShape(0.5, 0.9), VisibleShape(1.0, 0.2), VisibleShape(1.0, 0.8)], scores)
    assert table.splitlines()[2:] == [
        "| in pieces, the largest below 95 % | 1 | 0.200 | 0.250 | 0.200 | 0.200 |",
        "| in one piece, fills less than 30 % of its box | 1 | 0.400 | 0.450 | 0.400 | 0.400 |",
        "| 70 % and more | 1 | 0.900 | 0.950 | 0.900 | 0.900 |",
    ]
