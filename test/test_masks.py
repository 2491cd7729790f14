"""Masks, boxes, label images and mask prompts, by hand-checked cases and upstream's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from segment_anything.utils.transforms import ResizeLongestSide

from sam_ros.masks import (
    MASK_PROMPT_LOGIT,
    BoolMask,
    Masks,
    draw_labels,
    draw_union,
    logits_from_mask,
    resized_hw,
    tight_box_xyxy,
)

L = MASK_PROMPT_LOGIT


def mask_of(*rows: str) -> BoolMask:
    """(H, W) bool; '#' is true."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def blob(size_hw: tuple[int, int]) -> BoolMask:
    """An ellipse with a bite, away from the borders."""
    h, w = size_hw
    y, x = np.mgrid[:h, :w]
    ellipse = ((x - 0.5 * w) / (0.3 * w)) ** 2 + ((y - 0.45 * h) / (0.35 * h)) ** 2 < 1
    bite = (x > 0.55 * w) & (y > 0.5 * h)
    result: BoolMask = ellipse & ~bite
    return result


def upscaled(logits: npt.NDArray[np.float32], original_hw: tuple[int, int], image_size: int) -> BoolMask:
    """(S/4, S/4) logits -> (H, W) mask, as Sam.postprocess_masks does it."""
    input_h, input_w = resized_hw(original_hw, image_size)
    square = torch.nn.functional.interpolate(
        torch.as_tensor(logits)[None, None], (image_size, image_size), mode="bilinear", align_corners=False
    )
    full_size = torch.nn.functional.interpolate(
        square[..., :input_h, :input_w], original_hw, mode="bilinear", align_corners=False
    )
    result: BoolMask = full_size[0, 0].numpy() > 0
    return result


def iou(a: BoolMask, b: BoolMask) -> float:
    return float((a & b).sum() / (a | b).sum())


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


def test_resized_size_is_upstreams() -> None:
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 1024), (480, 640), (1080, 1920), (1, 2048), (2048, 5), (1025, 3), (683, 1024)]
    sizes += [(int(h), int(w)) for h, w in rng.integers(1, 5000, (2000, 2))]
    for size_hw in sizes:
        for image_size in (128, 256, 1024):
            expected = ResizeLongestSide.get_preprocess_shape(*size_hw, image_size)
            assert resized_hw(size_hw, image_size) == expected, size_hw


def test_a_mask_of_the_models_size_becomes_means_of_four_by_four() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:4, :4] = 255  # one cell in full
    mask[4:8, :2] = 1  # half of the next
    mask[8, 8] = 7  # a sixteenth of another
    logits = logits_from_mask(mask, (16, 16), 16)
    expected = np.full((4, 4), -L, np.float32)
    expected[0, 0], expected[1, 0], expected[2, 2] = L, 0, -L + 2 * L / 16
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert logits.dtype == np.float32


def test_padding_below_a_wide_image_is_outside() -> None:
    logits = logits_from_mask(np.ones((8, 16), np.uint8), (8, 16), 16)
    np.testing.assert_allclose(logits, [[L] * 4, [L] * 4, [-L] * 4, [-L] * 4])


def test_padding_beside_a_tall_image_is_outside() -> None:
    logits = logits_from_mask(np.ones((16, 8), np.uint8), (16, 8), 16)
    np.testing.assert_allclose(logits, [[L, L, -L, -L]] * 4)


def test_a_cell_that_the_image_covers_in_part_is_a_mean_too() -> None:
    """6 of 16 rows are image: one low-res row in full, half of the next."""
    logits = logits_from_mask(np.ones((6, 16), np.uint8), (6, 16), 16)
    np.testing.assert_allclose(logits, [[L] * 4, [0.0] * 4, [-L] * 4, [-L] * 4], atol=1e-5)


def test_a_tiny_image_is_scaled_up() -> None:
    """2 x 4 pixels fill 2 x 4 cells of the 4 x 4 low-res square."""
    logits = logits_from_mask(np.array([[1, 0, 0, 1], [0, 0, 1, 0]]), (2, 4), 16)
    np.testing.assert_allclose(logits, [[L, -L, -L, L], [-L, -L, L, -L], [-L] * 4, [-L] * 4], atol=1e-5)
    one_pixel = logits_from_mask(np.ones((1, 1)), (1, 1), 16)
    np.testing.assert_allclose(one_pixel, np.full((4, 4), L), atol=1e-5)


def test_a_mask_of_another_resolution_covers_the_same_image() -> None:
    coarse = logits_from_mask(mask_of("#.", ".."), (480, 640), 64)
    fine = logits_from_mask(np.kron(mask_of("#.", ".."), np.ones((240, 320))), (480, 640), 64)
    np.testing.assert_allclose(coarse, fine, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_whole_factors_are_inter_area(factor: int) -> None:
    """Where low-res cells are whole pixels, OpenCV's INTER_AREA is the mean too."""
    rng = np.random.default_rng(factor)
    mask = (rng.random((48 * factor, 64 * factor)) > 0.5).astype(np.uint8)
    logits = logits_from_mask(mask, mask.shape, 256)  # 48 x 64 of 64 x 64 cells are image
    area = cv2.resize(mask.astype(np.float32), (64, 48), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(logits[:48], (2 * area - 1) * L, atol=1e-4)
    np.testing.assert_array_equal(logits[48:], np.full((16, 64), -L))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int64, np.float32])
def test_any_dtype_will_do_and_nonzero_is_foreground(dtype: Any) -> None:
    mask = np.zeros((8, 8), dtype)
    mask[:4, :4] = 1
    mask[4:, 4:] = np.array(200).astype(dtype)
    expected = logits_from_mask(mask != 0, (8, 8), 8)
    np.testing.assert_array_equal(logits_from_mask(mask, (8, 8), 8), expected)
    np.testing.assert_allclose(expected, [[L, -L], [-L, L]])


@pytest.mark.parametrize("size_hw", [(1, 3), (7, 11), (333, 517), (719, 1279), (1037, 2048)])
def test_logits_stay_within_their_bounds(size_hw: tuple[int, int]) -> None:
    logits = logits_from_mask(np.ones(size_hw, np.uint8), size_hw, 1024)
    assert logits.shape == (256, 256)
    assert logits.max() <= L and logits.min() >= -L
    rows = resized_hw(size_hw, 1024)[0] // 4
    np.testing.assert_allclose(logits[:rows], L, atol=1e-4)


def test_the_given_mask_is_not_changed() -> None:
    mask = np.full((5, 6), 9, np.uint8)
    logits_from_mask(mask, (5, 6), 16)
    assert (mask == 9).all()


@pytest.mark.parametrize("size_hw", [(480, 640), (1080, 1920), (640, 361), (333, 517), (60, 90)])
def test_upscaled_logits_give_the_mask_back(size_hw: tuple[int, int]) -> None:
    mask = blob(size_hw)
    logits = logits_from_mask(mask, size_hw, 1024)
    assert iou(upscaled(logits, size_hw, 1024), mask) > 0.97


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
