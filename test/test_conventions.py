"""SAM 2's way to take images and prompts, against its own predictors, with the same random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from random_models import MINIATURE_HIERA, save_random_sam
from segment_anything.utils.amg import calculate_stability_score
from test_predictor import TOLERANCE, assert_same, picture, prompts_for, upstream_answer
from upstream_sam2 import as_video_model, needs_own_code, needs_transformers, save_random_official

from sam_ros.core.grid import squashed_grid
from sam_ros.core.sam2 import Sam2
from sam_ros.fast.conventions import is_stable
from sam_ros.fast.postprocess import upscale_at_once, upscale_at_once_on_cpu
from sam_ros.masks import Masks
from sam_ros.predictor import Embedding, Predictor, load_predictor
from sam_ros.prompt import Prompt

SIZES_HW = {"landscape": (480, 640), "portrait": (640, 360), "tiny": (7, 11)}


# Against their own code, at full size.


@dataclass
class Pair:
    """Our predictor and a model's own, with equal weights."""

    ours: Predictor
    upstream: Any


@pytest.fixture(scope="module", params=[needs_own_code("sam2.1_tiny"), needs_own_code("edgetam")])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    path = tmp_path_factory.mktemp("weights") / "official.pt"
    upstream = save_random_official(request.param, path)
    ours = load_predictor(request.param, path)
    path.unlink()
    return Pair(ours, upstream)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of their own code
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
def test_every_prompt_is_answered_as_by_the_models_own_code(
    pair: Pair, size_hw: tuple[int, int], multimask: bool
) -> None:
    pair.upstream.set_image(picture(size_hw))
    embedding = pair.ours.encode(picture(size_hw))
    theirs = pair.upstream.get_image_embedding()
    torch.testing.assert_close(embedding.features[:, : theirs.shape[1]], theirs, atol=1e-3, rtol=0)
    prompts = list(prompts_for(size_hw, 256).values())
    answers = pair.ours.decode(embedding, prompts, multimask)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert_same(answer, upstream_answer(pair.upstream, prompt, multimask))


# Against transformers, in miniature.


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, Any]:
    path = tmp_path_factory.mktemp("weights") / "miniature.safetensors"
    sam = save_random_sam(MINIATURE_HIERA, path)
    assert isinstance(sam, Sam2)
    return load_predictor("sam_tiny", path), as_video_model(sam)


def stretched(image: npt.NDArray[np.uint8], size: int) -> torch.Tensor:
    """(1, 3, S, S) as SAM 2's own transforms make it: to floats, resized, normalised."""
    pixels = torch.as_tensor(image).permute(2, 0, 1)[None] / 255
    pixels = torch.nn.functional.interpolate(
        pixels, (size, size), mode="bilinear", align_corners=False, antialias=True
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def transformers_answer(model: Any, embeddings: Any, prompt: Prompt, grid: Any, multimask: bool) -> Masks:
    """What its prompt encoder and mask decoder say, sorted best first."""
    scale = grid.prompt_scale_xy
    coords, labels = [], []
    if prompt.box is not None:
        coords += [prompt.box[:2] * scale, prompt.box[2:] * scale]
        labels += [2, 3]
    if prompt.point_coords is not None and prompt.point_labels is not None:
        coords += [*(prompt.point_coords * scale)]
        labels += [*prompt.point_labels]
    masks = None if prompt.low_res_logits is None else torch.tensor(prompt.low_res_logits)[None, None]
    points = torch.tensor(np.array(coords), dtype=torch.float32)[None, None] if coords else None
    sparse, dense = model.prompt_encoder(
        points, torch.tensor(np.array(labels))[None, None] if labels else None, None, masks
    )
    if sparse is None:
        sparse = torch.zeros(1, 1, 0, dense.shape[1])
    logits, iou, _, _ = model.mask_decoder(
        image_embeddings=embeddings[-1],
        image_positional_embeddings=model.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        high_resolution_features=list(embeddings[:-1]),
    )
    full_size = torch.nn.functional.interpolate(logits[0], grid.original_hw, mode="bilinear")[0]
    order = torch.argsort(-iou[0, 0], stable=True)
    stability = calculate_stability_score(full_size, 0.0, 1.0).nan_to_num(0.0)
    return Masks(
        (full_size[order] > 0).numpy(),
        iou[0, 0, order].numpy(),
        stability[order].numpy(),
        logits[0, 0, order].clamp(-32, 32).numpy(),
    )


@needs_transformers
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
def test_every_prompt_is_answered_as_by_transformers(
    miniature: tuple[Predictor, Any], size_hw: tuple[int, int], multimask: bool
) -> None:
    ours, model = miniature
    with torch.inference_mode():
        embeddings = model.get_image_embeddings(stretched(picture(size_hw), 128))
        embedding = ours.encode(picture(size_hw))
        torch.testing.assert_close(embedding.features[:, :128], embeddings[-1], atol=1e-4, rtol=0)
        prompts = list(prompts_for(size_hw, 32).values())
        answers = ours.decode(embedding, prompts, multimask)
        for prompt, answer in zip(prompts, answers, strict=True):
            expected = transformers_answer(model, embeddings, prompt, embedding.grid, multimask)
            assert_same(answer, expected)


@needs_transformers
def test_an_image_that_may_not_be_written_to_is_encoded(miniature: tuple[Predictor, Any]) -> None:
    """As that of a message; torch would warn, which fails."""
    ours, _ = miniature
    image = picture((20, 30))
    image.flags.writeable = False
    flipped = image[::-1]
    assert torch.equal(ours.encode(image).features, ours.encode(image.copy()).features)
    assert torch.equal(ours.encode(flipped).features, ours.encode(flipped.copy()).features)


@needs_transformers
def test_the_best_of_three_stands_for_a_single_mask_that_is_not_stable(
    miniature: tuple[Predictor, Any],
) -> None:
    """Both happen, in one call."""
    ours, _ = miniature
    embedding = ours.encode(picture((480, 640)))
    prompts = list(prompts_for((480, 640), 32).values())
    singles = ours.decode(embedding, prompts, multimask_output=False)
    bests = ours.decode(embedding, prompts, best_only=True)
    are_best = [
        np.allclose(single.low_res_logits, best.low_res_logits, atol=TOLERANCE)
        for single, best in zip(singles, bests, strict=True)
    ]
    assert any(are_best)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([1.0] * 98 + [0.01] * 2, True),
        ([1.0] * 97 + [-0.01] * 3, False),
        ([1.0] * 50 + [-1.0] * 50, True),
        ([-1.0] * 100, True),
    ],
)
def test_a_mask_is_stable_where_98_of_100_stay(logits: list[float], expected: bool) -> None:
    assert bool(is_stable(torch.tensor(logits).view(1, 10, 10))) is expected


@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
def test_logits_are_enlarged_once_on_both_devices(size_hw: tuple[int, int]) -> None:
    grid, logits = squashed_grid(size_hw, 128), torch.randn(2, 32, 32)
    expected = torch.nn.functional.interpolate(logits[None], size_hw, mode="bilinear")[0]
    assert torch.equal(upscale_at_once(logits, grid), expected)
    on_cpu = np.stack([upscale_at_once_on_cpu(one.numpy(), grid) for one in logits])
    np.testing.assert_allclose(on_cpu, expected.numpy(), atol=5e-5)


@needs_transformers
def test_bfloat16_makes_nearly_the_same_masks(tmp_path: Path) -> None:
    path = tmp_path / "miniature.safetensors"
    save_random_sam(MINIATURE_HIERA, path)
    image, prompts = picture((480, 640)), list(prompts_for((480, 640), 32).values())
    embeddings: list[tuple[Predictor, Embedding]] = []
    for precision in ("float32", "bfloat16"):
        predictor = load_predictor("sam_tiny", path, precision=precision)
        embeddings.append((predictor, predictor.encode(image)))
    exact, reduced = ([*p.decode(e, prompts, best_only=True)] for p, e in embeddings)
    for one, other in zip(exact, reduced, strict=True):
        assert (one.masks != other.masks).mean() < 0.05
