"""Pre-processing against PIL and upstream: equal to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from random_models import MINIATURE, random_sam
from segment_anything.utils.transforms import ResizeLongestSide

from sam_ros.core.grid import Grid, padded_grid, squashed_grid
from sam_ros.fast.preprocess import CpuPreprocessor, GpuPreprocessor, resize_as_pil

SAM = random_sam(MINIATURE)
PREPROCESSORS: list[Any] = [GpuPreprocessor, CpuPreprocessor]  # the former's arithmetic runs on a CPU too

SIZES_HW = [
    (480, 640),
    (719, 1283),
    (640, 360),
    (7, 11),
    (1, 1),
    (128, 128),
    (40, 1500),
    (64, 128),
    (600, 333),
]


def picture(size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_the_encoders_input_is_upstreams_to_the_bit(size_hw: tuple[int, int]) -> None:
    image, side = picture(size_hw), MINIATURE.image_size
    resized = torch.as_tensor(ResizeLongestSide(side).apply_image(image))
    expected = SAM.preprocess(resized.permute(2, 0, 1).contiguous()[None])
    ours = CpuPreprocessor(SAM.pixel_mean, SAM.pixel_std)(image, padded_grid(size_hw, side))
    assert ours.dtype == torch.float32
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("wanted_hw", [(96, 128), (1024, 577), (5, 3), (480, 640)])
def test_the_resize_of_the_gpu_is_pils_to_the_bit(
    size_hw: tuple[int, int], wanted_hw: tuple[int, int]
) -> None:
    image = picture(size_hw)
    expected = Image.fromarray(image).resize(wanted_hw[::-1], Image.Resampling.BILINEAR)
    ours = resize_as_pil(torch.as_tensor(image), wanted_hw)
    assert torch.equal(ours, torch.as_tensor(np.array(expected)))


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_the_input_made_on_a_gpu_is_the_same(size_hw: tuple[int, int]) -> None:
    """The path of a GPU, run on the CPU."""
    image, grid = picture(size_hw), padded_grid(size_hw, MINIATURE.image_size)
    on_gpu, on_cpu = (kind(SAM.pixel_mean, SAM.pixel_std)(image, grid) for kind in PREPROCESSORS)
    assert torch.equal(on_gpu, on_cpu)


@pytest.mark.parametrize("kind", PREPROCESSORS)
@pytest.mark.parametrize(
    ("grid", "side", "resized_hw"),
    [
        (padded_grid((480, 640), 512, prompt_size=1024), 512, (384, 512)),
        (padded_grid((640, 360), 64, prompt_size=128), 64, (64, 36)),
        (squashed_grid((480, 640), 96), 96, (96, 96)),
        (squashed_grid((40, 1500), 96), 96, (96, 96)),
    ],
    ids=["encoded at 512, prompted at 1024", "a tall one", "squashed", "squashed a lot"],
)
def test_other_grids_place_the_image_by_pils_resize_and_padding(
    kind: Any, grid: Grid, side: int, resized_hw: tuple[int, int]
) -> None:
    image, (height, width) = picture(grid.original_hw), resized_hw
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    expected = torch.zeros(1, 3, side, side)
    normalised = (torch.tensor(resized).permute(2, 0, 1) - SAM.pixel_mean) / SAM.pixel_std
    expected[0, :, :height, :width] = normalised
    assert torch.equal(kind(SAM.pixel_mean, SAM.pixel_std)(image, grid), expected)


def test_the_image_stays_as_it_was() -> None:
    image = picture((30, 40))
    before = image.copy()
    CpuPreprocessor(SAM.pixel_mean, SAM.pixel_std)(image, padded_grid((30, 40), MINIATURE.image_size))
    assert np.array_equal(image, before)
