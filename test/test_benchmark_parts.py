"""Each part of the benchmark on a miniature model: what it compares is the same on both sides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_models import (
    DETAILED,
    MINIATURE,
    MINIATURE_REP_VIT,
    MINIATURE_TINY_VIT,
    official_architecture,
    save_random_sam,
)
from random_models import random_sam as small_random_sam
from torch.utils.flop_counter import FlopCounterMode
from upstream_mobile_sam import needs_mobile_sam
from upstream_sam2 import needs_transformers

from benchmark import (
    breakdown,
    click,
    encode,
    everything,
    following,
    lifting,
    messages,
    preprocess,
    prompts,
    quality,
    remembering,
)
from benchmark.contest import Contest, Options, Weights, find_weights, open_contest, random_sam
from benchmark.floor import click_multiply_adds, encoder_multiply_adds, floor_sec
from benchmark.images import HD, photograph
from benchmark.mixture import KINDS, mixed_prompts
from benchmark.quality import agreement, grid_clicks, largest_difference, mask_iou
from benchmark.results import Result
from benchmark.timing import Effort
from sam_ros.core.architecture import Architecture
from sam_ros.core.checkpoint import SHIPPED_SAM_TINY
from sam_ros.core.grid import padded_grid
from sam_ros.fast.folded import fastest_decoder
from sam_ros.predictor import load_predictor
from sam_ros.prompt import Prompt
from training.train import SAM_TINY

MACHINE: dict[str, Any] = {"device type": "cpu", "matrix products in float32 (GFLOP/s)": 100.0}
OPTIONS = Options(torch.device("cpu"), ("float32", "bfloat16"), False, Effort(0.0, 1, 1), quick=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model only waits for its threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Contest:
    path = tmp_path_factory.mktemp("weights") / "miniature.safetensors"
    save_random_sam(MINIATURE, path)
    return open_contest("sam_tiny", Weights(path, trained=True), OPTIONS, photograph((72, 128)))


def of_float32(results: list[Result]) -> list[Result]:
    return [result for result in results if result.case["precision"] == "float32"]


@needs_transformers
def test_remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "COUNTS", (1, 2))
    path = tmp_path / "miniature.safetensors"
    save_random_sam(MINIATURE_REP_VIT, path)
    ours = {"float32": load_predictor("sam_tiny", path)}
    weights, image_rgb = Weights(path, trained=False), photograph((72, 128))
    one, two = remembering.measure(Contest("sam_tiny", weights, ours, OPTIONS, image_rgb), MACHINE)
    assert [one.case["objects"], two.case["objects"]] == ["1", "2"]
    for result in (one, two):
        frames, *shares = result.figures.values()
        assert frames > 0 and len(shares) == 4 and sum(shares) == pytest.approx(100)


def test_a_model_without_memory_remembers_nothing(contest: Contest) -> None:
    assert remembering.measure(contest, MACHINE) == []


def test_encode(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encode.SCENES, True, 1)
    monkeypatch.setattr(quality, "CLICKS_A_SIDE", 2)
    exact, reduced = encode.measure(contest, MACHINE)
    assert exact.ratio is not None and reduced.ratio is not None
    assert exact.figures["embedding differs by"] < 1e-4 < reduced.figures["embedding differs by"]
    assert exact.figures["logits differ by"] < 1e-3
    assert exact.figures["times the floor"] > 1
    assert "times the floor" not in reduced.figures  # its rate was not measured
    assert 0 <= reduced.figures["mask IoU, scenes"] <= reduced.figures["same mask, scenes"] <= 1
    assert 0 <= reduced.figures["mask IoU, photographs"] <= reduced.figures["same mask, photographs"] <= 1


def test_click(contest: Contest) -> None:
    results = of_float32(click.measure(contest, MACHINE))
    assert [result.case["masks"] for result in results] == ["the best", "all three"]
    assert results[0].figures["times the floor"] > 1
    assert all(result.figures["logits differ by"] < 1e-3 for result in results)


def test_prompts_beyond_the_loop_are_extrapolated(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "COUNTS", (1, 16))
    one, many = of_float32(prompts.measure(contest, MACHINE))
    assert [one.case["prompts"], many.case["prompts"]] == ["1", "16"]
    assert [one.figures["prompts in the loop"], many.figures["prompts in the loop"]] == [1, 8]
    assert max(one.figures["logits differ by"], many.figures["logits differ by"]) < 1e-3


def test_everything(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everything, "POINTS_PER_SIDE", 4)
    monkeypatch.setattr(everything, "MIN_PREDICTED_IOU", 0.0)
    monkeypatch.setattr(everything, "MIN_STABILITY_SCORE", 0.0)
    every, fewer = of_float32(everything.measure(contest, MACHINE))
    assert every.ratio is not None and fewer.ratio is not None
    assert every.figures["masks"] == every.figures["by the other"] == every.figures["of these the same"] > 0
    untrained = replace(contest, weights=replace(contest.weights, trained=False))
    chosen = everything.thresholds(untrained, untrained.embeddings)
    answers = untrained.ours["float32"].decode(untrained.embeddings["float32"], grid_clicks((72, 128)))
    passing = [a.predicted_iou > chosen["pred_iou_thresh"] for a in answers]
    assert 0.4 < np.mean(passing) < 0.7


def test_preprocess(contest: Contest) -> None:
    results = of_float32(preprocess.measure(contest, MACHINE))
    assert [result.case["image"] for result in results] == ["640 x 480", "1280 x 720", "1920 x 1080"]
    assert all(result.figures == {"values that differ": 0, "by levels": 0} for result in results)


def test_following(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "COUNTS", (1, 9))
    one, many = of_float32(following.measure(contest, MACHINE))
    assert [one.case["objects"], many.case["objects"]] == ["1", "9"]
    assert one.ratio is not None and many.ratio is not None
    logits = following.round_objects(9, padded_grid((72, 128), 128))
    middles = [np.argwhere(one > 0).mean(axis=0) for one in logits]  # row, column in cells of 4 input pixels
    np.testing.assert_allclose(middles[0], [0.625, 1.5], atol=0.5)
    np.testing.assert_allclose(middles[8], [2.875, 1.5], atol=0.5)


def test_breakdown(contest: Contest) -> None:
    results = of_float32(breakdown.measure(contest, MACHINE))
    assert [r.case["what"] for r in results] == ["encode", "pre-processing", "one click", "8 mixed prompts"]
    for result in results:
        assert sum(result.figures.values()) == pytest.approx(1000 * result.ours_sec[0])
    encoded, preprocessed = results[0].figures, results[1].figures
    assert encoded["matrix products (ms)"] > 0 and encoded["attention (ms)"] > 0
    assert preprocessed["matrix products (ms)"] == 0 < preprocessed["outside torch (ms)"]
    assert breakdown.measure(contest, {"device type": "cuda"}) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_parts_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "COUNTS", (16,))
    save_random_sam(MINIATURE, tmp_path / "miniature.safetensors")
    weights = Weights(tmp_path / "miniature.safetensors", trained=False)
    contest = open_contest(
        "sam_tiny", weights, replace(OPTIONS, device=torch.device("cuda")), photograph((72, 128))
    )
    for part in (encode, click, prompts, preprocess):
        for result in of_float32(part.measure(contest, {"device type": "cuda"})):
            assert result.ratio is not None and result.peak_mb is not None
            assert result.figures.get("logits differ by", 0.0) < 1e-3


def test_lifting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifting, "SIZES_HW", {HD: (360, 640)})
    results = lifting.measure(OPTIONS)
    assert [(result.case["boxes"], result.case["depth"]) for result in results] == [
        (boxes, encoding)
        for boxes in (lifting.CAMERA_FRAME, lifting.UPRIGHT)
        for encoding in ("32FC1", "16UC1")
    ]
    for result in results:
        assert result.ratio is not None
        assert result.figures["centroid off (mm)"] < 10
        assert result.figures["side off (mm)"] < 20


def test_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SIZES_HW", {"64 x 48": (48, 64)})
    results = messages.measure(OPTIONS)
    assert all(result.ours_sec and result.case["image"] == "64 x 48" for result in results)
    assert [result.case["conversion"] for result in results][-3:] == [
        "a frame in, its masks out, 1 object",
        "a frame in, its masks out, 1 object, candidates",
        "a frame in, its masks out, 8 objects",
    ]


def test_discs_lie_side_by_side() -> None:
    masks = [masks.masks for _, masks in messages.discs(2, (80, 200))]
    assert masks[0].shape == (3, 80, 200)
    assert masks[0][0, 40, 50] and masks[1][0, 40, 150]
    assert not (masks[0] & masks[1]).any()


def test_weights_are_the_shipped_ones_or_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_ROS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "random_vit_b.pth").touch()
    assert find_weights("sam_tiny", tmp_path) == Weights(SHIPPED_SAM_TINY, trained=True)
    assert find_weights("vit_b", tmp_path) == Weights(tmp_path / "random_vit_b.pth", trained=False)


def test_a_downloaded_checkpoint_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_ROS_CACHE", str(tmp_path))
    path = tmp_path / "sam_vit_b_01ec64.pth"
    path.touch()
    assert find_weights("vit_b", tmp_path) == Weights(path, trained=True)


@pytest.mark.parametrize(("model_type", "giga"), [("vit_b", 486), ("vit_l", 1493), ("vit_h", 2981)])
def test_multiply_adds_are_those_of_the_official_models(model_type: str, giga: int) -> None:
    assert round(encoder_multiply_adds(official_architecture(model_type)) / 1e9) == giga


def test_multiply_adds_of_mobile_sam_are_those_of_its_products() -> None:
    sam = small_random_sam(MINIATURE_TINY_VIT)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        sam.image_encoder(torch.zeros(1, 3, 128, 128))
    assert encoder_multiply_adds(MINIATURE_TINY_VIT) == counter.get_total_flops() / 2
    assert round(encoder_multiply_adds(official_architecture("mobile_sam")) / 1e9) == 39


def test_multiply_adds_of_efficientnet_are_those_of_its_products() -> None:
    sam = small_random_sam(DETAILED)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        sam.image_encoder(torch.zeros(1, 3, 64, 64))
    assert encoder_multiply_adds(DETAILED) == counter.get_total_flops() / 2
    assert round(encoder_multiply_adds(SAM_TINY) / 1e8) == 24


def test_multiply_adds_of_another_encoder_are_not_made_up() -> None:
    with pytest.raises(TypeError, match="not known for Architecture"):
        encoder_multiply_adds(Architecture())


def test_floor_counts_two_operations_for_a_multiply_add() -> None:
    assert floor_sec(3_000_000, 2e6) == 3.0


def _operations(_: torch.Size, a: torch.Size, b: torch.Size, *__: object, **___: object) -> int:
    """Of a product that is added in place, which torch's counter does not know."""
    return 2 * math.prod(a) * b[-1]


def test_multiply_adds_of_a_click_are_those_of_its_products() -> None:
    """All that torch counts but for the tokens' own layers."""
    sam = random_sam("vit_b")
    decoder = fastest_decoder(sam)
    with torch.inference_mode():
        embedding = torch.zeros(1, 256, 64, 64)
        first = decoder.prepare(embedding)
        in_place = {torch.ops.aten.addmm_: _operations, torch.ops.aten.baddbmm_: _operations}
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            answer = decoder.decode(embedding, first, torch.zeros(1, 2, 256), None)
            answer.low_res_logits(0, torch.tensor([1]))
    counted = counter.get_total_flops() / 2
    assert 0.9 * counted < click_multiply_adds(official_architecture("vit_b")) < counted


@needs_mobile_sam
def test_mobile_sam_is_compared_with_its_own_predictor(tmp_path: Path) -> None:
    weights = find_weights("mobile_sam", tmp_path)
    exact_only = replace(OPTIONS, precisions=("float32",))
    contest = open_contest("mobile_sam", weights, exact_only, photograph((72, 128)))
    assert type(contest.theirs).__module__ == "mobile_sam.predictor"
    (result,) = encode.measure(contest, MACHINE)
    assert result.figures["embedding differs by"] < 1e-4
    assert result.figures["logits differ by"] < 1e-3


def test_every_kind_of_prompt_is_in_the_mixture() -> None:
    made = mixed_prompts(2 * len(KINDS), (72, 128), 128)
    for prompt, kind in zip(made, KINDS * 2, strict=True):
        assert prompt.num_points == kind.clicks
        assert (prompt.box is not None) == kind.box
        assert (prompt.low_res_logits is not None) == kind.mask
    assert made[0].point_coords is not None and made[8].point_coords is not None
    assert not np.array_equal(made[0].point_coords, made[8].point_coords)


def test_prompts_lie_in_the_image() -> None:
    def inside(prompt: Prompt) -> bool:
        corners = [] if prompt.box is None else [*prompt.box.reshape(2, 2)]
        points = [*corners, *([] if prompt.point_coords is None else prompt.point_coords)]
        return all(0 <= x <= 128 and 0 <= y <= 72 for x, y in points)

    assert all(map(inside, mixed_prompts(64, (72, 128), 128)))


def test_the_same_prompts_are_made_again() -> None:
    one, other = (mixed_prompts(1, (72, 128), 128)[0].point_coords for _ in range(2))
    assert one is not None and other is not None
    assert np.array_equal(one, other)


def test_mask_iou() -> None:
    left, top = np.zeros((2, 2), bool), np.zeros((2, 2), bool)
    assert mask_iou(left, top) == 1.0
    left[:, 0], top[0] = True, True
    assert mask_iou(left, top) == 1 / 3


def test_difference_is_from_the_most_similar() -> None:
    ours = np.array([[1.0, 2.0], [5.0, 5.0]], np.float32)
    theirs = np.array([[5.0, 5.25], [1.0, 2.5]], np.float32)
    assert largest_difference(ours, theirs) == 0.5


def test_a_predictor_agrees_with_itself(contest: Contest) -> None:
    exact = contest.ours["float32"]
    found = agreement(exact, exact, [contest.image_rgb])
    assert (found.chosen, found.same) == (1.0, 1.0)


def test_clicks_are_spread_over_the_image() -> None:
    points = [
        prompt.point_coords.tolist() for prompt in grid_clicks((80, 160)) if prompt.point_coords is not None
    ]
    assert points[:2] == [[[20.0, 10.0]], [[60.0, 10.0]]]
    assert points[-1] == [[140.0, 70.0]]
