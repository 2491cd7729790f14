"""What a prompt accepts, what it makes of it, and what it refuses by name."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from sam_ros.errors import InvalidPromptError, SamRosError
from sam_ros.prompt import Prompt

POINTS = np.array([[10.0, 20.0], [30.5, 40.25]])
LABELS = np.array([1, 0])
BOX = np.array([1.0, 2.0, 30.0, 40.0])
LOGITS = np.zeros((4, 4), np.float32)


def test_arrays_come_back_as_given_in_their_dtypes() -> None:
    prompt = Prompt(POINTS.astype(np.float32), LABELS.astype(np.uint8), BOX.astype(np.int32), LOGITS)
    assert prompt.point_coords is not None and prompt.point_coords.dtype == np.float64
    assert prompt.point_labels is not None and prompt.point_labels.dtype == np.int64
    assert prompt.box is not None and prompt.box.dtype == np.float64
    assert prompt.low_res_logits is not None and prompt.low_res_logits.dtype == np.float32
    np.testing.assert_array_equal(prompt.point_coords, [[10, 20], [30.5, 40.25]])
    np.testing.assert_array_equal(prompt.point_labels, [1, 0])
    np.testing.assert_array_equal(prompt.box, [1, 2, 30, 40])


def test_lists_and_tuples_are_accepted_at_run_time() -> None:
    lists: dict[str, Any] = {
        "point_coords": [[1, 2]],
        "point_labels": [True],
        "box": (0, 0, 5, 5),
        "low_res_logits": [[0.0, 1.0], [2.0, 3.0]],
    }
    prompt = Prompt(**lists)
    np.testing.assert_array_equal(prompt.point_coords, [[1.0, 2.0]])
    np.testing.assert_array_equal(prompt.point_labels, [1])
    np.testing.assert_array_equal(prompt.box, [0, 0, 5, 5])
    np.testing.assert_array_equal(prompt.low_res_logits, [[0, 1], [2, 3]])


def test_it_holds_read_only_copies_and_leaves_the_given_arrays_alone() -> None:
    given = {
        "point_coords": POINTS.copy(),
        "point_labels": LABELS.astype(np.int64),
        "box": BOX.copy(),
        "low_res_logits": LOGITS.copy(),
    }
    prompt = Prompt(**given)
    for name, array in given.items():
        kept = getattr(prompt, name)
        assert array.flags.writeable and not kept.flags.writeable, name
        assert not np.shares_memory(array, kept), name
        array[...] = array + 1
        assert (kept != array).all(), name
        with pytest.raises(ValueError, match="read-only"):
            kept[...] = 0


def test_a_prompt_never_changes_but_can_be_replaced() -> None:
    prompt = Prompt(box=BOX)
    with pytest.raises(FrozenInstanceError):
        prompt.box = None  # type: ignore[misc]
    moved = replace(prompt, box=BOX + 1)
    np.testing.assert_array_equal(moved.box, [2, 3, 31, 41])
    np.testing.assert_array_equal(prompt.box, BOX)


def test_coordinates_outside_of_any_image_and_reversed_boxes_pass() -> None:
    """Only shape, dtype and finiteness are the prompt's business."""
    prompt = Prompt(np.array([[-1e6, 1e6]]), np.array([1]), np.array([9.0, 9.0, -9.0, -9.0]))
    np.testing.assert_array_equal(prompt.point_coords, [[-1e6, 1e6]])
    np.testing.assert_array_equal(prompt.box, [9, 9, -9, -9])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "all are None"),
        ({"point_coords": POINTS}, "point_coords and point_labels must be given together"),
        ({"point_labels": LABELS, "box": BOX}, "point_coords and point_labels must be given together"),
        ({"point_coords": POINTS, "point_labels": [1]}, "point_labels .* 2 points, 1 labels"),
        ({"point_coords": [10, 20], "point_labels": [1]}, r"point_coords must be \(N, 2\).* got \(2,\)"),
        ({"point_coords": [[1, 2, 3]], "point_labels": [1]}, r"point_coords .* got \(1, 3\)"),
        ({"point_coords": np.empty((0, 2)), "point_labels": []}, r"point_coords .* got \(0, 2\)"),
        ({"point_coords": [[1, 2], [3]], "point_labels": [1, 1]}, "point_coords must be an array"),
        ({"point_coords": [["1", "2"]], "point_labels": [1]}, "point_coords must hold real numbers, .*<U1"),
        ({"point_coords": [[1j, 2]], "point_labels": [1]}, "point_coords must hold real numbers, .*complex"),
        ({"point_coords": [[None, 2]], "point_labels": [1]}, "point_coords must hold real numbers, .*object"),
        ({"point_coords": [[np.nan, 2]], "point_labels": [1]}, "point_coords must be finite, .*nan"),
        ({"point_coords": POINTS, "point_labels": [[1, 0]]}, r"point_labels must be \(N,\) .* got \(1, 2\)"),
        ({"point_coords": POINTS, "point_labels": [1.0, 0.0]}, "point_labels .* integers, .* float64"),
        ({"point_coords": POINTS, "point_labels": [1, 2]}, r"point_labels must be 1 .* got \[1 2\]"),
        ({"point_coords": POINTS, "point_labels": [-1, 1]}, r"point_labels must be 1 .* got \[-1  1\]"),
        ({"point_coords": POINTS, "point_labels": [[1], [1, 0]]}, "point_labels must be an array"),
        ({"box": [1, 2, 3]}, r"box must be \(4,\) XYXY, got \(3,\)"),
        ({"box": [[1, 2, 3, 4]]}, r"box must be \(4,\) XYXY, got \(1, 4\)"),
        ({"box": [1, 2, np.inf, 4]}, "box must be finite, .*inf"),
        ({"box": [True] * 4}, "box must hold real numbers, .*bool"),
        ({"low_res_logits": np.zeros((1, 4, 4))}, r"low_res_logits must be square .* got \(1, 4, 4\)"),
        ({"low_res_logits": np.zeros((4, 5))}, r"low_res_logits must be square .* got \(4, 5\)"),
        ({"low_res_logits": np.zeros((0, 0))}, r"low_res_logits must be square .* got \(0, 0\)"),
        ({"low_res_logits": np.full((4, 4), -np.inf)}, "low_res_logits must be finite, .*-inf"),
        ({"low_res_logits": np.full((4, 4), 1e300)}, "low_res_logits must be finite, .*inf"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidPromptError, match=said) as caught:
        Prompt(**fields)
    assert isinstance(caught.value, SamRosError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("num_points", "box", "logits", "num_tokens"),
    [
        (0, None, LOGITS, 0),
        (1, None, None, 2),
        (3, None, LOGITS, 4),
        (0, BOX, None, 2),
        (1, BOX, None, 3),
        (3, BOX, LOGITS, 5),
    ],
)
def test_tokens(num_points: int, box: Any, logits: Any, num_tokens: int) -> None:
    points = np.zeros((num_points, 2)) if num_points else None
    labels = np.ones(num_points, np.int64) if num_points else None
    prompt = Prompt(points, labels, box, logits)
    assert (prompt.num_points, prompt.num_tokens) == (num_points, num_tokens)


def test_only_one_point_alone_is_ambiguous() -> None:
    one, label = POINTS[:1], LABELS[:1]
    assert Prompt(one, label).is_single_point
    assert Prompt(one, np.array([0])).is_single_point
    assert not Prompt(POINTS, LABELS).is_single_point
    assert not Prompt(one, label, box=BOX).is_single_point
    assert not Prompt(one, label, low_res_logits=LOGITS).is_single_point
    assert not Prompt(box=BOX).is_single_point
    assert not Prompt(low_res_logits=LOGITS).is_single_point
