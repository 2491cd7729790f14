"""Prompts as tokens: SAM's, and SAM 2's, where a box is two points and padded like them."""

from __future__ import annotations

import numpy as np
import pytest

from sam_ros.core.prompt_tokens import batches_of_one_kind, tokens_of
from sam_ros.prompt import Prompt

POINT = Prompt(np.array([[2.0, 4.0]]), np.array([1]))
BOX = Prompt(box=np.array([1.0, 2, 3, 4]))
BOTH = Prompt(np.array([[2.0, 4.0]]), np.array([0]), np.array([1.0, 2, 3, 4]))
LOGITS = Prompt(low_res_logits=np.zeros((4, 4), np.float32))
SCALE_XY = np.array([10.0, 100.0])


@pytest.mark.parametrize(
    ("prompt", "pads_boxes", "coords", "labels"),
    [
        (POINT, False, [[20, 400], [0, 0]], [1, -1]),
        (POINT, True, [[20, 400], [0, 0]], [1, -1]),
        (BOX, False, [[10, 200], [30, 400]], [2, 3]),
        (BOX, True, [[10, 200], [30, 400], [0, 0]], [2, 3, -1]),
        (BOTH, False, [[20, 400], [10, 200], [30, 400]], [0, 2, 3]),
        (BOTH, True, [[20, 400], [10, 200], [30, 400], [0, 0]], [0, 2, 3, -1]),
    ],
)
def test_points_come_first_then_the_box_then_the_padding(
    prompt: Prompt, pads_boxes: bool, coords: list[list[float]], labels: list[int]
) -> None:
    made, made_labels = tokens_of([prompt], SCALE_XY, pads_boxes=pads_boxes)
    assert made.dtype == np.float32
    assert made.tolist() == [coords] and made_labels.tolist() == [labels]


@pytest.mark.parametrize("pads_boxes", [False, True])
def test_logits_alone_have_no_tokens(pads_boxes: bool) -> None:
    coords, labels = tokens_of([LOGITS, LOGITS], SCALE_XY, pads_boxes=pads_boxes)
    assert coords.shape == (2, 0, 2) and labels.shape == (2, 0)


def test_a_box_goes_with_a_point_where_it_has_as_many_tokens() -> None:
    prompts = [POINT, BOX, POINT, LOGITS, BOX]
    assert list(batches_of_one_kind(prompts, 8, pads_boxes=False)) == [[0, 1, 2, 4], [3]]
    assert list(batches_of_one_kind(prompts, 8, pads_boxes=True)) == [[0, 2], [1, 4], [3]]


def test_batches_hold_so_many_at_most_and_logits_are_apart() -> None:
    with_logits = Prompt(POINT.point_coords, POINT.point_labels, low_res_logits=np.zeros((4, 4), np.float32))
    prompts = [POINT] * 3 + [with_logits]
    assert list(batches_of_one_kind(prompts, 2, pads_boxes=True)) == [[0, 1], [2], [3]]
