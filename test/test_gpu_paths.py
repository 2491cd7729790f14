"""The paths of a GPU on a machine without one.

Fake tensors know their shape, dtype and device and hold no values: what mixes devices fails, and so does what
waits for a value of the device, which would keep a CUDA graph from being captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from random_models import DETAILED, MINIATURE, MINIATURE_TINY_VIT
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from sam_ros import predictor as predictor_module
from sam_ros.core.grid import padded_grid
from sam_ros.core.model import build_sam
from sam_ros.fast import everything, postprocess, preprocess
from sam_ros.fast.efficientnet import FastStage
from sam_ros.fast.upscaling import Answer
from sam_ros.predictor import Embedding, Predictor
from sam_ros.prompt import Prompt

CUDA = torch.device("cuda", 0)
HW = (60, 90)
GRID = padded_grid(HW, MINIATURE.image_size)


def fake_to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    return torch.empty(array.shape, dtype=torch.as_tensor(array).dtype, device=device)


def fake_to_host(tensors: Sequence[Tensor]) -> list[npt.NDArray[Any]]:
    assert all(tensor.device == CUDA for tensor in tensors)
    dtypes = {torch.float32: np.float32, torch.bool: np.bool_}
    return [np.zeros(tensor.shape, dtypes[tensor.dtype]) for tensor in tensors]


ARCHITECTURES = {
    "vit": MINIATURE,
    "tiny_vit": MINIATURE_TINY_VIT,
    "efficientnet": replace(DETAILED, image_size=MINIATURE.image_size),
}
CASES = list(product(ARCHITECTURES, ["float32", "bfloat16", "float16"]))


@pytest.fixture(params=CASES, ids=" ".join)
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    """A predictor on a GPU that is not there."""
    encoder, precision = request.param
    preprocess._axes_in_order(HW, GRID.input_hw)  # looks at values, once for each size, on the CPU
    monkeypatch.setattr(predictor_module, "_stream", lambda *_, **__: None)
    monkeypatch.setattr(predictor_module, "to_device", fake_to_device)
    monkeypatch.setattr(predictor_module, "to_host", fake_to_host)
    monkeypatch.setattr(postprocess, "to_host", fake_to_host)
    monkeypatch.setattr(everything, "to_host", fake_to_host)
    monkeypatch.setattr(everything, "to_device", fake_to_device)
    monkeypatch.setattr(preprocess, "to_device", fake_to_device)
    preprocess._taps_on.cache_clear()
    with FakeTensorMode():
        with CUDA:
            sam = build_sam(ARCHITECTURES[encoder])
        sam.pixel_mean, sam.pixel_std = sam.pixel_mean.to(CUDA), sam.pixel_std.to(CUDA)
        yield Predictor(sam, model_type="sam_tiny", precision=precision)
    preprocess._taps_on.cache_clear()


def embedding(fake: Predictor) -> Embedding:
    with torch.inference_mode():
        pixels = fake._preprocess(np.zeros((*HW, 3), np.uint8), GRID)
        features, _, *prepared = fake._compute_embedding(pixels)
    return Embedding(features, GRID, tuple(prepared))


def test_an_image_is_encoded_on_the_device(fake: Predictor) -> None:
    made = embedding(fake)
    assert made.features.device == CUDA and made.features.dtype == torch.float32
    levels = 4 if isinstance(fake._encoder_layers[1], FastStage) else 1
    assert made.features.shape == (1, 32 * levels, 8, 8)


@pytest.mark.parametrize("count", [1, 9])
def test_prompts_are_decoded_on_the_device(fake: Predictor, count: int) -> None:
    logits = np.zeros((32, 32), np.float32)
    kinds = [
        Prompt(point_coords=np.ones((1, 2)), point_labels=np.ones(1, int)),
        Prompt(point_coords=np.ones((2, 2)), point_labels=np.ones(2, int), box=np.array([1.0, 2, 30, 40])),
        Prompt(box=np.array([1.0, 2, 30, 40])),
        Prompt(low_res_logits=logits),
        Prompt(box=np.array([1.0, 2, 30, 40]), low_res_logits=logits),
    ]
    answers = fake.decode(
        embedding(fake), kinds * count, multimask_output=[True, False, False, True, False] * count
    )
    assert [answer.masks.shape for answer in answers] == [(n, *HW) for n in (3, 1, 1, 3, 1)] * count


def test_everything_is_decoded_on_the_device(fake: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    low_res_logits = Answer.low_res_logits

    def counted(answer: Answer, row: int, masks: Tensor) -> Tensor:
        asked.append(len(masks))
        return low_res_logits(answer, row, masks)

    monkeypatch.setattr(Answer, "low_res_logits", counted)
    # On the host all values are 0: every predicted IoU will do, and no mask has a pixel.
    assert fake.everything(embedding(fake), points_per_side=3, pred_iou_thresh=0.0) == []
    assert asked == [3] * 9


def test_waiting_for_the_device_would_show(fake: Predictor) -> None:
    """Else the tests above would prove nothing."""
    features = embedding(fake).features
    with pytest.raises(DataDependentOutputException):
        bool(features.sum() > 0)
    with pytest.raises(RuntimeError, match="device"):
        features + torch.zeros(features.shape)
