"""Masks, boxes and label images, by hand-checked cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from sam_ros.masks import (
    BoolMask,
    Masks,
    draw_labels,
    draw_union,
    tight_box_xyxy,
)


def mask_of(*rows: str) -> BoolMask:
    """(H, W) bool; '#' is true."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def test_tight_box_is_half_open() -> None:
    assert tight_box_xyxy(mask_of("....", "..#.", "....")) == (2, 1, 3, 2)
    assert tight_box_xyxy(mask_of("#...", "....", "...#")) == (0, 0, 4, 3)
    assert tight_box_xyxy(mask_of("....", ".##.", "..#.")) == (1, 1, 3, 3)
    assert tight_box_xyxy(mask_of("#")) == (0, 0, 1, 1)


def test_an_empty_mask_has_no_box() -> None:
    assert tight_box_xyxy(mask_of("...", "...")) is None


def test_tight_box_is_of_plain_ints() -> None:
    box = tight_box_xyxy(mask_of("##"))
    assert box is not None and [type(edge) for edge in box] == [int] * 4


def union_image(masks: Sequence[BoolMask], size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    image = np.full(size_hw, 77, np.uint8)  # what was there before is gone
    draw_union(masks, image)
    return image


def label_image(
    masks: Sequence[BoolMask], scores: Sequence[float], size_hw: tuple[int, int]
) -> npt.NDArray[np.uint16]:
    image = np.full(size_hw, 777, np.uint16)
    draw_labels(masks, scores, image)
    return image


def test_union_is_255_where_any_mask_is() -> None:
    union = union_image([mask_of("#..", "..."), mask_of("##.", "..#")], (2, 3))
    np.testing.assert_array_equal(union, [[255, 255, 0], [0, 0, 255]])


def test_without_masks_union_and_labels_are_zero() -> None:
    assert not union_image([], (2, 3)).any() and not label_image([], [], (2, 3)).any()


def test_overlaps_go_to_the_higher_score_whatever_the_order() -> None:
    left, right = mask_of("##."), mask_of(".##")
    np.testing.assert_array_equal(label_image([left, right], [0.9, 0.8], (1, 3)), [[1, 1, 2]])
    np.testing.assert_array_equal(label_image([left, right], [0.8, 0.9], (1, 3)), [[1, 2, 2]])
    np.testing.assert_array_equal(label_image([right, left], [0.8, 0.9], (1, 3)), [[2, 2, 1]])


def test_ties_go_to_the_earlier() -> None:
    everywhere = mask_of("##")
    np.testing.assert_array_equal(label_image([everywhere] * 3, [0.5] * 3, (1, 2)), [[1, 1]])


def test_scores_above_one_still_differ() -> None:
    """Predicted IoU is not clamped before it decides."""
    both = [mask_of("#"), mask_of("#")]
    np.testing.assert_array_equal(label_image(both, [1.01, 1.02], (1, 1)), [[2]])
    np.testing.assert_array_equal(label_image(both, [-0.2, -0.1], (1, 1)), [[2]])


def test_labels_hold_more_objects_than_a_byte() -> None:
    masks = [np.arange(1024)[None] == i for i in range(1024)]
    labels = label_image(masks, [0.5] * 1024, (1, 1024))
    np.testing.assert_array_equal(labels[0], np.arange(1, 1025))


def test_masks_must_agree_in_number() -> None:
    masks, scores, logits = (
        np.zeros((2, 3, 4), bool),
        np.zeros(2, np.float32),
        np.zeros((2, 8, 8), np.float32),
    )
    assert len(Masks(masks, scores, scores, logits).masks) == 2
    with pytest.raises(ValueError, match=r"got counts \[2, 1, 2, 2\]"):
        Masks(masks, scores[:1], scores, logits)
    with pytest.raises(ValueError, match="got counts"):
        Masks(masks[0], scores, scores, logits)
    with pytest.raises(ValueError, match=r"got counts \[0, 0, 0, 0\]"):
        Masks(masks[:0], scores[:0], scores[:0], logits[:0])
