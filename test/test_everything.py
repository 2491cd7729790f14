"""Everything on an image, against upstream's SamAutomaticMaskGenerator with the same weights and options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from random_models import DETAILED, SMALL, random_sam, save_random_sam, save_random_vit_b
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_point_grid

from sam_ros.core.checkpoint import load_sam, save_state_dict
from sam_ros.core.everything import EverythingOptions, coarse_first
from sam_ros.errors import EverythingCancelledError, InvalidPromptError, ModelOutputError
from sam_ros.fast.postprocess import upscale_on_cpu
from sam_ros.masks import Masks
from sam_ros.predictor import Embedding, Predictor, load_predictor
from sam_ros.prompt import Prompt

Image = npt.NDArray[np.uint8]


def scene(height: int = 150, width: int = 200) -> Image:
    """(H, W, 3): discs and blocks of several colours and sizes on a grey table."""
    image = np.full((height, width, 3), 90, np.uint8)
    rows, columns = np.mgrid[:height, :width]
    rng = np.random.default_rng(3)
    for index in range(9):
        x, y = width * (index % 3 + 0.5) / 3, height * (index // 3 + 0.5) / 3
        radius = 6 + 2 * index
        inside = np.hypot(columns - x, rows - y) < radius
        if index % 2:
            inside = (abs(columns - x) < radius) & (abs(rows - y) < 0.7 * radius)
        image[inside] = rng.integers(0, 255, 3)
    noise = rng.normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def theirs(sam: Sam, image: Image, **options: Any) -> list[dict[str, Any]]:
    return SamAutomaticMaskGenerator(sam, **options).generate(image)


class Encoded(SamPredictor):  # type: ignore[misc]
    """Upstream's predictor with an image that this project has encoded; encoding has tests of its own."""

    def __init__(self, sam: Sam, embedding: Embedding) -> None:
        super().__init__(sam)
        self.features, self.is_image_set = embedding.features, True
        self.original_size, self.input_size = embedding.grid.original_hw, embedding.grid.input_hw

    def set_image(self, image: Image, image_format: str = "RGB") -> None:
        pass

    def reset_image(self) -> None:
        pass


def theirs_on(sam: Sam, embedding: Embedding, **options: Any) -> list[dict[str, Any]]:
    generator = SamAutomaticMaskGenerator(sam, **options)
    generator.predictor = Encoded(sam, embedding)
    return generator.generate(np.zeros((*embedding.grid.original_hw, 3), np.uint8))


def ours(predictor: Predictor, image: Image, **options: Any) -> list[Masks]:
    return predictor.everything(predictor.encode(image), **options)


def assert_same(answer: Sequence[Masks], expected: Sequence[dict[str, Any]]) -> None:
    """The same masks in the same order, each up to pixels that lie on the threshold."""
    assert len(answer) == len(expected) > 0
    for masks, record in zip(answer, expected, strict=True):
        assert masks.masks.shape == (1, *record["segmentation"].shape)
        assert masks.predicted_iou[0] == pytest.approx(record["predicted_iou"], abs=1e-4)
        assert masks.stability_score[0] == pytest.approx(record["stability_score"], abs=2e-3)
        assert np.count_nonzero(masks.masks[0] != record["segmentation"]) <= 1 + 1e-3 * record["area"]


SHIPPED: dict[str, Any] = {"points_per_side": 8, "pred_iou_thresh": 0.7, "stability_score_thresh": 0.85}


@pytest.fixture(scope="module")
def sam_tiny() -> tuple[Predictor, Sam]:
    """The shipped weights, in ours and in upstream's classes."""
    return load_predictor("sam_tiny"), load_sam("sam_tiny")


@pytest.fixture(scope="module")
def embedded(sam_tiny: tuple[Predictor, Sam]) -> Embedding:
    return sam_tiny[0].encode(scene())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"points_per_batch": 5},
        {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.6, "box_nms_thresh": 0.3},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "points_per_side": 3},
        {"stability_score_offset": 0.3, "stability_score_thresh": 0.95},
        {"min_mask_region_area": 30},
    ],
    ids=lambda options: " ".join(options) or "as shipped",
)
def test_sam_tiny_finds_what_the_generator_finds(
    sam_tiny: tuple[Predictor, Sam], options: dict[str, Any]
) -> None:
    predictor, sam = sam_tiny
    chosen = SHIPPED | options
    assert_same(ours(predictor, scene(), **chosen), theirs(sam, scene(), **chosen))


def test_a_batch_is_no_more_than_a_batch(sam_tiny: tuple[Predictor, Sam]) -> None:
    """However many points there are to a batch, their masks are the same."""
    predictor, _ = sam_tiny
    whole, parts = (ours(predictor, scene(), **SHIPPED, points_per_batch=n) for n in (64, 7))
    assert len(whole) == len(parts)
    for one, other in zip(whole, parts, strict=True):
        assert (one.masks != other.masks).mean() < 1e-4  # rounding at the threshold


@pytest.fixture(params=["as the official ones, with a small encoder", "ViT-B"])
def random_pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Predictor, Sam]:
    """Random weights: masks of noise all over the image, from a decoder without finer levels."""
    path = tmp_path / "random.pth"
    if request.param == "ViT-B":
        sam = save_random_vit_b(path)
        return load_predictor("vit_b", path), sam
    path = path.with_suffix(".safetensors")
    sam = save_random_sam(SMALL, path)
    return load_predictor("sam_tiny", path), sam


def test_random_weights_find_what_the_generator_finds(random_pair: tuple[Predictor, Sam]) -> None:
    predictor, sam = random_pair
    embedding = predictor.encode(scene(90, 160))
    iou, stability = spread_of(predictor, embedding, 4)
    options: dict[str, Any] = {
        "points_per_side": 4,
        "pred_iou_thresh": iou,
        "stability_score_thresh": stability,
        "box_nms_thresh": 0.98,
    }
    assert_same(predictor.everything(embedding, **options), theirs_on(sam, embedding, **options))


def spread_of(predictor: Predictor, embedding: Embedding, points_per_side: int) -> tuple[float, float]:
    """Thresholds that half of the masks of a grid pass, and between two of these: none is near."""
    points = EverythingOptions(points_per_side).points(embedding.grid.original_hw)
    answers = predictor.decode(embedding, [Prompt(point[None], np.array([1])) for point in points])
    thresholds = []
    for name in ("predicted_iou", "stability_score"):
        values = np.sort(np.concatenate([getattr(answer, name) for answer in answers]))
        gaps = np.diff(values)[len(values) // 4 : 3 * len(values) // 4]
        at = len(values) // 4 + int(gaps.argmax())
        thresholds.append(float(values[at : at + 2].mean()))
    return thresholds[0], thresholds[1]


def test_masks_come_with_their_logits(sam_tiny: tuple[Predictor, Sam], embedded: Embedding) -> None:
    predictor, _ = sam_tiny
    found = predictor.everything(embedded, **SHIPPED)
    prompts = [Prompt(low_res_logits=masks.low_res_logits[0]) for masks in found]
    assert all(np.isfinite(prompt.low_res_logits).all() for prompt in prompts)  # type: ignore[arg-type]
    for masks in found:
        full = upscale_on_cpu(masks.low_res_logits[0], embedded.grid)
        assert (masks.masks[0] != (full > 0)).mean() < 1e-4


def test_in_a_region_only_what_lies_in_it(sam_tiny: tuple[Predictor, Sam], embedded: Embedding) -> None:
    predictor, _ = sam_tiny
    region = (0.0, 0.0, 70.0, 160.0)
    found = predictor.everything(embedded, **SHIPPED, region=region)
    assert found
    for masks in found:
        assert masks.masks[0, :, :70].sum() >= masks.masks.sum() / 2
    everywhere = predictor.everything(embedded, **SHIPPED)
    assert any(masks.masks[0, :, :70].sum() < masks.masks.sum() / 2 for masks in everywhere)


def test_small_masks_are_left_out(sam_tiny: tuple[Predictor, Sam], embedded: Embedding) -> None:
    predictor, _ = sam_tiny
    areas = [int(masks.masks.sum()) for masks in predictor.everything(embedded, **SHIPPED)]
    least = sorted(areas)[len(areas) // 2]
    found = predictor.everything(embedded, **SHIPPED, min_area=least)
    assert [int(masks.masks.sum()) for masks in found] == [area for area in areas if area >= least]


def test_covered_points_are_skipped(sam_tiny: tuple[Predictor, Sam], embedded: Embedding) -> None:
    """Fewer points find the discs and blocks all the same."""
    predictor, _ = sam_tiny
    options = SHIPPED | {"points_per_side": 16, "points_per_batch": 2}
    chosen = {**options, "skip_covered": True}
    batches = [
        sum(1 for _ in predictor.everything_in_steps(embedded, EverythingOptions(**one)))
        for one in (options, chosen)
    ]
    assert batches[1] < batches[0]
    small = [
        masks.masks[0] for masks in predictor.everything(embedded, **options) if masks.masks.mean() < 0.05
    ]
    fewer = [masks.masks[0] for masks in predictor.everything(embedded, **chosen)]
    best = [max((one & other).sum() / (one | other).sum() for other in fewer) for one in small]
    assert np.mean(np.array(best) > 0.7) > 0.9


def test_it_can_be_cancelled(sam_tiny: tuple[Predictor, Sam], embedded: Embedding) -> None:
    predictor, _ = sam_tiny
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(len(asked) == 2)
        return asked[-1]

    with pytest.raises(EverythingCancelledError):
        predictor.everything(embedded, **SHIPPED, points_per_batch=4, should_stop=should_stop)
    assert len(asked) == 3


def test_where_nothing_is_good_enough_nothing_is_found(
    sam_tiny: tuple[Predictor, Sam], embedded: Embedding
) -> None:
    assert sam_tiny[0].everything(embedded, pred_iou_thresh=2.0, points_per_side=4) == []
    assert sam_tiny[0].everything(embedded, stability_score_thresh=1.1, points_per_side=4) == []


def test_answers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "detailed.safetensors"
    sam = random_sam(DETAILED)
    sam.mask_decoder.iou_prediction_head.layers[-1].bias.fill_(float("nan"))
    save_state_dict(sam.state_dict(), DETAILED, path)
    predictor = load_predictor("sam_tiny", path)
    with pytest.raises(ModelOutputError, match="predicted IoU"):
        predictor.everything(predictor.encode(scene()), points_per_side=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": 0}, "points_per_side must be at least 1, got 0"),
        ({"points_per_batch": 0}, "points_per_batch must be at least 1, got 0"),
        ({"region": (5.0, 5.0, 5.0, 9.0)}, "region must be XYXY"),
        ({"region": (0.0, 0.0, float("nan"), 9.0)}, "region must be XYXY"),
        ({"region": (500.0, 0.0, 600.0, 9.0)}, "outside the image of 200 x 150"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_mean_nothing_are_refused(
    sam_tiny: tuple[Predictor, Sam], embedded: Embedding, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidPromptError, match=message):
        sam_tiny[0].everything(embedded, **options)


def test_the_grid_is_upstreams() -> None:
    points = EverythingOptions(points_per_side=5).points((30, 40))
    np.testing.assert_allclose(points, build_point_grid(5) * [40, 30])
    inside = EverythingOptions(points_per_side=2, region=(-8.0, 10.0, 8.0, 20.0)).points((30, 40))
    assert inside.tolist() == [[2, 12.5], [6, 12.5], [2, 17.5], [6, 17.5]]


def test_a_coarse_grid_comes_first() -> None:
    order = coarse_first(16)
    assert sorted(order) == list(range(256))
    assert [divmod(int(index), 16) for index in order[:4]] == [(3, 3), (3, 11), (11, 3), (11, 11)]
    assert {tuple(i % 4 for i in divmod(int(index), 16)) for index in order[:16]} == {(3, 3)}
    assert coarse_first(1).tolist() == [0]
