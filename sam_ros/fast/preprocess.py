"""An image as the encoder takes it: resized as PIL does it, bit for bit, then normalised and padded.

``ResizeLongestSide.apply_image`` and ``Sam.preprocess`` of segment_anything together. On the CPU PIL itself
resizes and a table normalises; on a GPU the image is uploaded as it came and PIL's integer arithmetic is
repeated there. SAM 2 resizes in another way, see ``SquashingPreprocessor``.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sam_ros.core.grid import Grid
from sam_ros.fast.transfer import to_device

PRECISION_BITS = 22  # of the weights in Pillow's src/libImaging/Resample.c: 32 - 8 - 2

Bytes = npt.NDArray[np.uint8]


class CpuPreprocessor:
    """Turns images into the encoder's input on the CPU.

    Args:
        pixel_mean, pixel_std: (3, 1, 1) float32.
    """

    def __init__(self, pixel_mean: Tensor, pixel_std: Tensor) -> None:
        normalised = (torch.arange(256).expand(3, 1, -1) - pixel_mean) / pixel_std  # (3, 1, 256)
        self._table = normalised.permute(1, 2, 0).numpy()  # (1, 256, 3)

    def __call__(self, image_rgb: Bytes, grid: Grid) -> Tensor:
        """The encoder's input, S being the grid's ``input_size``.

        Args:
            image_rgb: (H, W, 3) uint8.
            grid: where the image is to lie.

        Returns:
            (1, 3, S, S) float32, channels last in memory, zero in the padding: the mean colour, as upstream
            pads after it has normalised.
        """
        height, width = grid.input_hw
        resized = Image.fromarray(image_rgb).resize((width, height), Image.Resampling.BILINEAR)
        padded = np.empty((grid.input_size, grid.input_size, 3), np.float32)
        padded[height:], padded[:height, width:] = 0, 0
        padded[:height, :width] = cv2.LUT(np.asarray(resized), self._table)
        return torch.from_numpy(padded).permute(2, 0, 1)[None]


class GpuPreprocessor:
    """Turns images into the encoder's input on a GPU, which gets them as they came.

    Args:
        pixel_mean, pixel_std: (3, 1, 1) float32, on the device.
    """

    def __init__(self, pixel_mean: Tensor, pixel_std: Tensor) -> None:
        self._pixel_mean, self._pixel_std = pixel_mean, pixel_std

    def __call__(self, image_rgb: Bytes, grid: Grid) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, S, S) float32 on the device; see ``CpuPreprocessor``."""
        height, width = grid.input_hw
        resized = resize_as_pil(to_device(image_rgb, self._pixel_mean.device), grid.input_hw)
        normalised = (resized.permute(2, 0, 1) - self._pixel_mean) / self._pixel_std
        left_right_top_bottom = (0, grid.input_size - width, 0, grid.input_size - height)
        return torch.nn.functional.pad(normalised, left_right_top_bottom)[None]


class SquashingPreprocessor:
    """Stretches images to the encoder's square as SAM 2 does it: in floating point, on any device.

    ``SAM2Transforms`` of sam2/utils/transforms.py, whose ``Resize`` takes tensors.

    Args:
        pixel_mean, pixel_std: (3, 1, 1) float32, on the device.
    """

    def __init__(self, pixel_mean: Tensor, pixel_std: Tensor) -> None:
        self._pixel_mean, self._pixel_std = pixel_mean, pixel_std

    def __call__(self, image_rgb: Bytes, grid: Grid) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, S, S) float32 on the device."""
        # Tensors cannot be read-only, as the image of a message is.
        image = np.require(image_rgb, requirements=["C_CONTIGUOUS", "WRITEABLE"])
        pixels = to_device(image, self._pixel_mean.device).permute(2, 0, 1)[None]
        stretched = torch.nn.functional.interpolate(
            pixels.float(), grid.input_hw, mode="bilinear", align_corners=False, antialias=True
        )
        return (stretched - self._pixel_mean) / self._pixel_std


def resize_as_pil(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(H, W, C) uint8 -> (h, w, C) uint8: PIL's bilinear ``resize``, in whole numbers as PIL computes it."""
    for axis in _axes_in_order((image.shape[0], image.shape[1]), size_hw):
        image = _resize_axis(image, axis, size_hw[axis])
    return image


@lru_cache(maxsize=64)
def _axes_in_order(input_hw: tuple[int, int], output_hw: tuple[int, int]) -> tuple[int, ...]:
    """The axes that change, in the order in which Pillow resizes them: 0 rows, 1 columns.

    Values are rounded after the first pass, so the order decides bits. Pillow takes columns first, or rows
    where that is less work (since python-pillow/Pillow#9549). The rule depends on its version, so both orders
    are tried on noise, once for each pair of sizes.
    """
    axes = tuple(axis for axis in (1, 0) if input_hw[axis] != output_hw[axis])
    noise = np.random.default_rng(0).integers(0, 256, input_hw, dtype=np.uint8)
    resized = np.asarray(Image.fromarray(noise).resize(output_hw[::-1], Image.Resampling.BILINEAR))
    columns_first = torch.as_tensor(noise)[..., None]  # (H, W, 1)
    for axis in axes:
        columns_first = _resize_axis(columns_first, axis, output_hw[axis])
    return axes if np.array_equal(columns_first[..., 0].numpy(), resized) else axes[::-1]


def _resize_axis(image: Tensor, axis: int, length: int) -> Tensor:
    """(H, W, C) uint8, with ``length`` rows (axis 0) or columns (axis 1); each value a weighted mean."""
    indexes, weights = _taps_on(image.device, image.shape[axis], length)
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    # PIL starts from one half, so that the shift below rounds to the nearest.
    total = torch.full((), 1 << (PRECISION_BITS - 1), dtype=torch.int32, device=image.device)
    for index, weight in zip(indexes, weights, strict=True):
        total = total + image.index_select(axis, index).int() * weight.view(shape)
    return (total >> PRECISION_BITS).clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _taps_on(device: torch.device, input_length: int, output_length: int) -> tuple[Tensor, Tensor]:
    """(K, n) int64 and (K, n) int32 tensors, see ``_taps``."""
    indexes, weights = _taps(input_length, output_length)
    # Copies from ordinary memory are waited for, so that what is cached here serves every stream.
    return torch.as_tensor(indexes, device=device), torch.as_tensor(weights, device=device)


def _taps(input_length: int, output_length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """What a resize of one axis reads: ``precompute_coeffs`` in Pillow's Resample.c.

    Returns:
        (K, n) input positions and (K, n) weights of each of the n output positions, the weights in units of
        2 ** -PRECISION_BITS; positions beyond the input's end are repeated with weight 0.
    """
    scale = input_length / output_length
    support = max(scale, 1.0)
    centres = (np.arange(output_length) + 0.5) * scale
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + support + 0.5).astype(np.int64), input_length)
    count = int((last - first).max())
    positions = first[None] + np.arange(count)[:, None]  # (K, n)
    distances = np.abs(positions - centres + 0.5) / support
    weights = np.where(positions < last, np.clip(1 - distances, 0, None), 0)
    total = np.zeros(output_length)
    for row in weights:  # added one after the other, as PIL does
        total += row
    scaled = weights * (1 / total) * (1 << PRECISION_BITS)
    return np.minimum(positions, input_length - 1), (scaled + 0.5).astype(np.int32)
