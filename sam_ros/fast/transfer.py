"""Arrays to the device and back, for a GPU through page-locked memory, which it copies without the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor on a device.

    For a GPU the copy only joins its current stream: what that computes next sees it, and the caller need not
    wait.

    Args:
        array: any shape; on the CPU the tensor shares its memory.
        device: where to.
    """
    if device.type == "cpu":
        return torch.as_tensor(array)
    dtype = torch.as_tensor(np.empty(0, array.dtype)).dtype
    locked = torch.empty(array.shape, dtype=dtype, pin_memory=True)
    locked.numpy()[...] = array  # the array itself may be read-only, which tensors cannot be
    return locked.to(device, non_blocking=True)


def to_host(tensors: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
    """Tensors of one device as arrays. A GPU is waited for once, not once for each tensor."""
    device = tensors[0].device
    if device.type == "cpu":
        return [tensor.numpy() for tensor in tensors]
    locked = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for copy, tensor in zip(locked, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(device).synchronize()
    return [copy.numpy().copy() for copy in locked]  # memory that is locked for long would run out
