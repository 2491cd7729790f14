"""SAM 2's memory against transformers' own streaming session, with the same random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from random_models import MINIATURE_HIERA, MINIATURE_REP_VIT, save_random_sam
from test_conventions import stretched
from test_predictor import TOLERANCE
from torch import Tensor
from upstream_sam2 import Prompts, as_session, needs_transformers, prompt_session

from sam_ros.core.architecture import Sam2Architecture
from sam_ros.core.bank import Bank, Recalled
from sam_ros.core.sam2 import Sam2
from sam_ros.fast.memory import NO_OBJECT_LOGIT, kinds, sine_positions
from sam_ros.predictor import Predictor, load_predictor
from sam_ros.prompt import Prompt

SIZE_HW = (96, 120)
CORRECTED_ON, LENGTH = 5, 10
MINIATURES = {"SAM 2": (MINIATURE_HIERA, 0), "EdgeTAM": (MINIATURE_REP_VIT, 6)}
OUT_OF_SIGHT = (MINIATURE_REP_VIT, 0)
"""Random weights with which what was prompted is there afterwards, and such with which it is not."""


def frame(number: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3): blotches that move, and noise."""
    rng = np.random.default_rng(7)
    coarse = np.kron(rng.integers(0, 200, (12, 15, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    moved = np.roll(coarse, (2 * number, 3 * number), axis=(0, 1))
    noise = np.random.default_rng(number).integers(0, 40, (*SIZE_HW, 3), dtype=np.uint8)
    return moved + noise


def prompts_on(number: int) -> dict[int, Prompt]:
    """By object: a click and a box on the first frame, and a correction later."""
    if number == 0:
        return {
            0: Prompt(np.array([[30.0, 40.0]]), np.array([1])),
            1: Prompt(box=np.array([50.0, 20.0, 100.0, 80.0])),
        }
    if number == CORRECTED_ON:
        return {0: Prompt(np.array([[60.0, 50.0], [10.0, 10.0]]), np.array([1, 0]))}
    return {}


@pytest.fixture(scope="module", params=MINIATURES.values(), ids=[*MINIATURES])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, Any]:
    architecture, seed = request.param
    return load_both(architecture, seed, tmp_path_factory.mktemp("weights") / "miniature.safetensors")


def load_both(architecture: Sam2Architecture, seed: int, path: Path) -> tuple[Predictor, Any]:
    """Ours, and a session of transformers with the same weights."""
    sam = save_random_sam(architecture, path, seed)
    assert isinstance(sam, Sam2)
    return load_predictor("sam_tiny", path), as_session(sam)


def followed(predictor: Predictor, numbers: Sequence[int]) -> list[dict[int, npt.NDArray[np.float32]]]:
    """The logits of each object on each frame, all followed together."""
    banks: dict[int, Bank] = {}
    logits = []
    for number in numbers:
        embedding, prompts = predictor.encode(frame(number)), prompts_on(number)
        three = [prompt.num_tokens == 2 and prompt.box is None for prompt in prompts.values()]
        answers = predictor.decode(embedding, list(prompts.values()), three, best_only=True)
        remembered = predictor.remember(embedding, answers, number)
        unprompted = [one for one in banks if one not in prompts]
        found = predictor.find(embedding, [banks[one].recalled(number) for one in unprompted], number)
        memories = dict(zip(prompts, remembered, strict=True))
        memories |= {one: it.memory for one, it in zip(unprompted, found, strict=True)}
        banks |= {one: banks.get(one, Bank()).with_memory(it) for one, it in memories.items()}
        masks = dict(zip(prompts, answers, strict=True))
        masks |= {one: it.masks for one, it in zip(unprompted, found, strict=True)}
        logits.append({one: it.low_res_logits[0] for one, it in masks.items()})
    return logits


@needs_transformers
def test_ten_frames_two_objects_and_a_correction_are_followed_as_by_transformers(
    both: tuple[Predictor, Any],
) -> None:
    assert_followed_as_by_transformers(*both)


@needs_transformers
def test_what_is_out_of_sight_for_transformers_is_out_of_sight(tmp_path: Path) -> None:
    predictor, theirs = load_both(*OUT_OF_SIGHT, path=tmp_path / "miniature.safetensors")
    assert_followed_as_by_transformers(predictor, theirs)
    ours = followed(predictor, range(2))
    assert all(logits.max() == NO_OBJECT_LOGIT for logits in ours[1].values())


def assert_followed_as_by_transformers(predictor: Predictor, theirs: Any) -> None:
    model, session = theirs
    ours = followed(predictor, range(LENGTH))
    for number in range(LENGTH):
        prompts: Prompts = prompts_on(number)
        scale = predictor.grid(SIZE_HW).prompt_scale_xy
        expected_of = prompt_session(model, session, stretched(frame(number), 128)[0], prompts, scale)
        for one, expected in expected_of.items():
            if one in prompts and expected.max() == NO_OBJECT_LOGIT:
                continue  # what is asked for is answered, whether the model thinks it is there or not
            np.testing.assert_allclose(
                ours[number][one], expected, atol=TOLERANCE, rtol=0, err_msg=f"object {one} on {number}"
            )


@needs_transformers
def test_memory_makes_a_difference(both: tuple[Predictor, Any]) -> None:
    """Else parity would prove nothing: on the same frames both objects are found otherwise."""
    predictor, _ = both
    unprompted = [ours for number, ours in enumerate(followed(predictor, range(LENGTH))) if number % 5]
    assert max(np.abs(ours[0] - ours[1]).max() for ours in unprompted) > 10 * TOLERANCE


@needs_transformers
def test_objects_together_are_what_they_are_alone(both: tuple[Predictor, Any]) -> None:
    predictor, _ = both
    embedding = predictor.encode(frame(0))
    answers = predictor.decode(embedding, list(prompts_on(0).values()), False)
    memories = predictor.remember(embedding, answers, 0)
    recalled = [Bank().with_memory(memory).recalled(1) for memory in memories]
    later = predictor.encode(frame(1))
    together = predictor.find(later, recalled, 1)
    for one, it in zip(recalled, together, strict=True):
        (alone,) = predictor.find(later, [one], 1)
        assert alone.is_there == it.is_there
        np.testing.assert_allclose(
            alone.masks.low_res_logits, it.masks.low_res_logits, atol=TOLERANCE, rtol=0
        )


@needs_transformers
def test_a_model_without_memory_says_so() -> None:
    predictor = load_predictor("sam_tiny")
    assert not predictor.has_memory
    embedding = predictor.encode(frame(0))
    with pytest.raises(ValueError, match="sam_tiny has no memory"):
        predictor.find(embedding, [], 0)


def test_objects_of_one_kind_are_found_together() -> None:
    def recalled(frames: int, pointers: int) -> Recalled:
        return Recalled(((1, None),) * frames, ((1, None),) * pointers)

    objects = [recalled(1, 1), recalled(2, 2), recalled(1, 1), recalled(1, 1), recalled(2, 3)]
    assert list(kinds(objects, 2)) == [[0, 2], [3], [1], [4]]


def test_positions_are_sines_of_rows_then_of_columns() -> None:
    positions: Tensor = sine_positions(4, 2)
    step = torch.tensor([0.5, 1.0]) * 2 * torch.pi
    assert positions.shape == (4, 4)
    torch.testing.assert_close(positions[:, 0], step.sin().repeat_interleave(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(positions[:, 3], step.cos().repeat(2), atol=1e-4, rtol=0)
