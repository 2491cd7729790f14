"""Where an image lies in a model's squares, by hand-checked cases and upstream's own functions."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from segment_anything.utils.transforms import ResizeLongestSide

from sam_ros.core.grid import Grid, logits_from_mask, padded_grid, resized_hw, squashed_grid
from sam_ros.errors import InvalidImageError
from sam_ros.masks import MASK_PROMPT_LOGIT, BoolMask

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


def test_an_image_is_padded_to_the_square_of_its_longest_side() -> None:
    assert padded_grid((480, 640), 1024) == Grid((480, 640), 1024, (768, 1024), 1024, (768, 1024))
    assert padded_grid((640, 360), 1024) == Grid((640, 360), 1024, (1024, 576), 1024, (1024, 576))


def test_the_encoders_square_may_be_smaller_than_that_of_the_prompts() -> None:
    grid = padded_grid((480, 640), 512, prompt_size=1024)
    assert grid == Grid((480, 640), 512, (384, 512), 1024, (768, 1024))
    assert grid.low_res_size == 256
    np.testing.assert_array_equal(grid.prompt_scale_xy, [1.6, 1.6])
    np.testing.assert_array_equal(grid.cell_xy, [2.5, 2.5])
    assert grid.covered_hw() == (192, 256)


def test_an_image_may_be_squashed_to_the_whole_square() -> None:
    grid = squashed_grid((480, 640), 1024)
    assert grid == Grid((480, 640), 1024, (1024, 1024), 1024, (1024, 1024))
    np.testing.assert_allclose(grid.prompt_scale_xy, [1024 / 640, 1024 / 480])
    np.testing.assert_allclose(grid.cell_xy, [640 / 256, 480 / 256])
    assert grid.covered_hw() == grid.covered_hw(beyond=1) == (256, 256)


def test_the_corners_of_an_image_are_those_of_its_part_of_the_square() -> None:
    """Rounding makes the scales of x and y differ, as they do upstream."""
    grid = padded_grid((7, 11), 128)
    assert grid.prompt_hw == (81, 128)
    np.testing.assert_allclose(np.array([11, 7]) * grid.prompt_scale_xy, [128, 81])
    coords = ResizeLongestSide(128).apply_coords(np.array([[3.0, 5.0]]), (7, 11))
    np.testing.assert_allclose(np.array([3, 5]) * grid.prompt_scale_xy, coords[0])


def test_covered_cells_count_those_that_are_covered_in_part() -> None:
    grid = padded_grid((6, 16), 16)  # 6 of 16 rows are one cell and a half
    assert grid.covered_hw() == (2, 4)
    assert grid.covered_hw(beyond=1) == (3, 4)  # there is no fifth column
    assert grid.covered_hw(beyond=9) == (4, 4)


@pytest.mark.parametrize("size_hw", [(0, 10), (10, 0), (0, 0), (1, 2049), (2049, 1)])
def test_an_image_that_vanishes_has_no_grid(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    with pytest.raises(
        InvalidImageError, match=f"image of {width} x {height} pixels is empty or too elongated"
    ) as raised:
        padded_grid(size_hw, 1024)
    assert raised.value.kind == "image shape", "counted apart from other images that cannot be used"


def test_half_a_pixel_of_the_square_is_enough_of_an_image_in_each_square() -> None:
    assert padded_grid((1, 2048), 1024).input_hw == (1, 1024)
    with pytest.raises(InvalidImageError, match="too elongated"):
        padded_grid((1, 2048), 512, prompt_size=1024)  # it vanishes in the encoder's


def test_a_squashed_image_may_be_as_elongated_as_it_likes() -> None:
    assert squashed_grid((1, 5000), 64).input_hw == (64, 64)
    with pytest.raises(InvalidImageError, match="empty"):
        squashed_grid((0, 10), 64)


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
    logits = logits_from_mask(mask, padded_grid((16, 16), 16))
    expected = np.full((4, 4), -L, np.float32)
    expected[0, 0], expected[1, 0], expected[2, 2] = L, 0, -L + 2 * L / 16
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert logits.dtype == np.float32


def test_padding_below_a_wide_image_is_outside() -> None:
    logits = logits_from_mask(np.ones((8, 16), np.uint8), padded_grid((8, 16), 16))
    np.testing.assert_allclose(logits, [[L] * 4, [L] * 4, [-L] * 4, [-L] * 4])


def test_padding_beside_a_tall_image_is_outside() -> None:
    logits = logits_from_mask(np.ones((16, 8), np.uint8), padded_grid((16, 8), 16))
    np.testing.assert_allclose(logits, [[L, L, -L, -L]] * 4)


def test_a_cell_that_the_image_covers_in_part_is_a_mean_too() -> None:
    """6 of 16 rows are image: one low-res row in full, half of the next."""
    logits = logits_from_mask(np.ones((6, 16), np.uint8), padded_grid((6, 16), 16))
    np.testing.assert_allclose(logits, [[L] * 4, [0.0] * 4, [-L] * 4, [-L] * 4], atol=1e-5)


def test_a_tiny_image_is_scaled_up() -> None:
    """2 x 4 pixels fill 2 x 4 cells of the 4 x 4 low-res square."""
    logits = logits_from_mask(np.array([[1, 0, 0, 1], [0, 0, 1, 0]]), padded_grid((2, 4), 16))
    np.testing.assert_allclose(logits, [[L, -L, -L, L], [-L, -L, L, -L], [-L] * 4, [-L] * 4], atol=1e-5)
    one_pixel = logits_from_mask(np.ones((1, 1)), padded_grid((1, 1), 16))
    np.testing.assert_allclose(one_pixel, np.full((4, 4), L), atol=1e-5)


def test_a_mask_of_another_resolution_covers_the_same_image() -> None:
    coarse = logits_from_mask(mask_of("#.", ".."), padded_grid((480, 640), 64))
    fine = logits_from_mask(np.kron(mask_of("#.", ".."), np.ones((240, 320))), padded_grid((480, 640), 64))
    np.testing.assert_allclose(coarse, fine, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_whole_factors_are_inter_area(factor: int) -> None:
    """Where low-res cells are whole pixels, OpenCV's INTER_AREA is the mean too."""
    rng = np.random.default_rng(factor)
    mask = (rng.random((48 * factor, 64 * factor)) > 0.5).astype(np.uint8)
    logits = logits_from_mask(
        mask, padded_grid((48 * factor, 64 * factor), 256)
    )  # 48 x 64 of 64 x 64 cells are image
    area = cv2.resize(mask.astype(np.float32), (64, 48), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(logits[:48], (2 * area - 1) * L, atol=1e-4)
    np.testing.assert_array_equal(logits[48:], np.full((16, 64), -L))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int64, np.float32])
def test_any_dtype_will_do_and_nonzero_is_foreground(dtype: Any) -> None:
    mask = np.zeros((8, 8), dtype)
    mask[:4, :4] = 1
    mask[4:, 4:] = np.array(200).astype(dtype)
    expected = logits_from_mask(mask != 0, padded_grid((8, 8), 8))
    np.testing.assert_array_equal(logits_from_mask(mask, padded_grid((8, 8), 8)), expected)
    np.testing.assert_allclose(expected, [[L, -L], [-L, L]])


@pytest.mark.parametrize("size_hw", [(1, 3), (7, 11), (333, 517), (719, 1279), (1037, 2048)])
def test_logits_stay_within_their_bounds(size_hw: tuple[int, int]) -> None:
    logits = logits_from_mask(np.ones(size_hw, np.uint8), padded_grid(size_hw, 1024))
    assert logits.shape == (256, 256)
    assert logits.max() <= L and logits.min() >= -L
    rows = resized_hw(size_hw, 1024)[0] // 4
    np.testing.assert_allclose(logits[:rows], L, atol=1e-4)


def test_the_given_mask_is_not_changed() -> None:
    mask = np.full((5, 6), 9, np.uint8)
    logits_from_mask(mask, padded_grid((5, 6), 16))
    assert (mask == 9).all()


@pytest.mark.parametrize("size_hw", [(480, 640), (1080, 1920), (640, 361), (333, 517), (60, 90)])
def test_upscaled_logits_give_the_mask_back(size_hw: tuple[int, int]) -> None:
    mask = blob(size_hw)
    logits = logits_from_mask(mask, padded_grid(size_hw, 1024))
    assert iou(upscaled(logits, size_hw, 1024), mask) > 0.97


def test_a_mask_prompt_lies_in_the_square_of_the_prompts() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 0, 1, 0]])
    smaller = logits_from_mask(mask, padded_grid((2, 4), 8, prompt_size=16))
    np.testing.assert_array_equal(smaller, logits_from_mask(mask, padded_grid((2, 4), 16)))


def test_a_mask_prompt_is_squashed_with_its_image() -> None:
    logits = logits_from_mask(np.array([[1, 0, 0, 1], [0, 0, 1, 0]]), squashed_grid((2, 4), 16))
    top, bottom = [L, -L, -L, L], [-L, -L, L, -L]
    np.testing.assert_allclose(logits, [top, top, bottom, bottom], atol=1e-5)
