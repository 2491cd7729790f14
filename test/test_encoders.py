"""What every image encoder does when a predictor runs it, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from random_models import (
    DETAILED,
    MINIATURE,
    MINIATURE_HIERA,
    MINIATURE_REP_VIT,
    MINIATURE_TINY_VIT,
    save_random_sam,
)
from test_predictor import picture

from sam_ros.core.architecture import Architecture
from sam_ros.errors import EncodeCancelledError
from sam_ros.predictor import Predictor, load_predictor

ENCODERS: dict[str, Architecture] = {
    "EfficientNet": DETAILED,
    "RepViT": MINIATURE_REP_VIT,
    "ViT": MINIATURE,
    "TinyViT": MINIATURE_TINY_VIT,
    "Hiera": MINIATURE_HIERA,
}


@pytest.fixture
def load(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Predictor]:
    """Load a fresh miniature with the given options, from a file that tells its architecture."""
    path = tmp_path / "miniature.safetensors"
    save_random_sam(ENCODERS[request.param], path)
    return lambda **options: load_predictor("sam_tiny", path, **options)


of_each = pytest.mark.parametrize("load", ENCODERS, indirect=True)


@of_each
def test_encoding_can_be_cancelled_between_layers(load: Callable[..., Predictor]) -> None:
    asked: list[int] = []

    def stop_at_the_third_question() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(EncodeCancelledError):
        load().encode(picture((10, 10)), stop_at_the_third_question)
    assert len(asked) == 3


@pytest.mark.parametrize("load", ["ViT", "TinyViT"], indirect=True)
def test_compiled_equals_eager(load: Callable[..., Predictor]) -> None:
    image = picture((60, 90))
    compiled = load(compile=True).encode(image).features
    torch.testing.assert_close(compiled, load().encode(image).features, atol=1e-4, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@of_each
def test_gpu_equals_cpu(load: Callable[..., Predictor]) -> None:
    on_gpu, on_cpu = load(device="cuda"), load()
    for image in (picture((60, 90)), picture((60, 90))[::-1].copy()):  # captured once, then replayed
        features = on_gpu.encode(image).features.cpu()
        torch.testing.assert_close(features, on_cpu.encode(image).features, atol=1e-4, rtol=0)
