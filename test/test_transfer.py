"""Arrays to the device and back: the same values, and on the CPU no copies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam_ros.fast.transfer import to_device, to_host

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ARRAYS = [
    np.arange(12, dtype=np.uint8).reshape(2, 6),
    np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 1, 2),
    np.array([True, False]),
    np.empty((0, 4), np.int64),
    np.arange(24, dtype=np.float64).reshape(4, 6)[::2, ::3],
]
BY_DTYPE = pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))


@BY_DTYPE
def test_the_cpu_shares_the_memory_of_an_array(array: npt.NDArray[np.generic]) -> None:
    tensor = to_device(array, CPU)
    assert np.shares_memory(tensor.numpy(), array) or not array.size
    (back,) = to_host([tensor])
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_tensors_come_back_in_their_order() -> None:
    first, second = to_host([torch.ones(2, 3), torch.zeros(4, dtype=torch.bool)])
    assert first.shape == (2, 3) and first.all()
    assert second.dtype == np.bool_ and not second.any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@BY_DTYPE
def test_a_gpu_gets_the_values_and_gives_them_back(array: npt.NDArray[np.generic]) -> None:
    read_only = array.copy()
    read_only.flags.writeable = False
    tensor = to_device(read_only, GPU)
    assert tensor.device.type == "cuda"
    (back,) = to_host([tensor])
    assert back.dtype == array.dtype and back.flags.writeable
    np.testing.assert_array_equal(back, array)
