"""The head that predicts IoU is fitted to a model's own answers, and nothing else of the file changes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_models import DETAILED, random_sam, save_random_sam
from safetensors import safe_open
from safetensors.torch import load_file
from segment_anything import SamPredictor
from written_sets import write_set

from training import iou_head
from training.answers import ask, deepest, iou
from training.batches import tight_box
from training.export import load_exported, save_exported
from training.iou_head import MASKS, Seen, collect, fit, pictures, prompts
from training.pictures import Picture, picture_of_masks
from training.pool import ScenePool


def two_squares() -> Picture:
    labels = np.zeros((1, 40, 60), np.uint16)
    labels[0, 10:30, 5:25], labels[0, 5:35, 30:55] = 1, 2
    return picture_of_masks(np.repeat(labels[0, ..., None] * 90, 3, 2).astype(np.uint8), labels)


def write_squares(folder: Path, count: int) -> None:
    picture = two_squares()
    images = {f"{index:02d}": picture.image + np.uint8(index) for index in range(count)}
    write_set(folder, {name: (image, list(picture.layers[:1])) for name, image in images.items()})


def test_half_of_the_objects_are_prompted_exactly() -> None:
    off = []
    for seed in range(8):
        objects = prompts(two_squares(), np.random.default_rng(seed))
        assert objects is not None and len(objects.masks) == 2
        (exact, other), (deep, anywhere) = objects.masks.numpy(), objects.points[:, 0].numpy()
        assert np.array_equal(deep, deepest(exact)) and other[int(anywhere[1]), int(anywhere[0])]
        assert np.array_equal(objects.boxes[0], tight_box(exact))
        off.append(np.abs(objects.boxes[1].numpy() - tight_box(other)).max())
    assert 0 < max(off) <= 0.1 * 30
    empty = replace(two_squares(), objects=())
    assert prompts(empty, np.random.default_rng(0)) is None


def test_the_head_sees_each_answer_with_the_iou_of_the_masks_that_it_offers() -> None:
    predictor = SamPredictor(random_sam(DETAILED))
    objects = prompts(two_squares(), np.random.default_rng(0))
    assert objects is not None
    count = len(objects.masks)
    seen = collect(predictor, [objects, objects])
    answers = 2 * 5 * count  # a click, two corrections, a box with one mask and with three
    assert seen.tokens.shape == (answers, DETAILED.prompt_embed_dim) and seen.iou.shape == (answers, MASKS)
    is_offered = ~seen.iou[: 5 * count].isnan().reshape(5, count, MASKS)
    of_three, of_one = [False, True, True, True], [True, False, False, False]
    assert is_offered[:, 0].tolist() == [of_three, of_one, of_one, of_one, of_three]
    predictor.set_image(objects.image)
    click = ask(predictor, objects, "click")
    assert torch.equal(seen.iou[:count, 1:], iou(click.masks, objects.masks))
    with torch.no_grad():
        told = predictor.model.mask_decoder.iou_prediction_head(seen.tokens[:count])
    torch.testing.assert_close(told[:, 1:], click.predicted_iou)


def test_the_head_learns_the_mean_of_what_was_offered() -> None:
    head = random_sam(DETAILED).mask_decoder.iou_prediction_head
    tokens = torch.randn(600, DETAILED.prompt_embed_dim, generator=torch.Generator().manual_seed(1))
    wanted = torch.full((600, MASKS), 0.25)
    wanted[:, 2] = 0.5 + 0.25 * (tokens[:, 0] > 0)
    wanted[:300, 0] = float("nan")
    fit(head, Seen(tokens, wanted), epochs=300)
    error = (head(tokens) - wanted).abs()
    assert error.nanmean(0).max() < 0.1
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_photographs_that_are_measured_on_are_not_shown(tmp_path: Path) -> None:
    write_squares(tmp_path / "dogs", 21)
    pool = ScenePool(2, None)
    shown = list(pictures([tmp_path], 100, pool, 2, np.random.default_rng(0)))
    levels = [int(picture.image[0, 0, 0]) for picture in shown if picture.is_photograph]
    assert sorted(levels) == [index for index in range(21) if index % 10]
    assert len(shown) == len(levels) + 2
    assert len(list(pictures([tmp_path], 4, pool, 0, np.random.default_rng(0)))) == 4


def test_only_the_head_changes_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_squares(tmp_path / "dogs", 5)
    exact, before, after = (tmp_path / f"{name}.safetensors" for name in ("exact", "before", "after"))
    save_random_sam(DETAILED, exact)
    save_exported(*load_exported(exact), before)  # matrices in float16, as they are shipped
    command = ["--weights", before, "--output", after, "--photographs", tmp_path, "--scenes", "0"]
    monkeypatch.setattr(sys, "argv", ["iou_head", *map(str, command)])
    iou_head.main()
    old, new = load_file(before), load_file(after)
    changed = {name for name in old if not torch.equal(old[name], new.pop(name))}
    assert changed == {name for name in old if name.startswith("mask_decoder.iou_prediction_head.")}
    assert not new
    with safe_open(before, "pt") as one, safe_open(after, "pt") as other:
        assert one.metadata() == other.metadata()
