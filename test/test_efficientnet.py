"""EfficientNet-Lite as image encoder: its levels, its finer detail, and the fast steps against the module."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from random_models import DETAILED, random_sam, save_random_sam
from segment_anything import SamPredictor
from segment_anything.modeling import MaskDecoder
from torch import nn

from sam_ros.core.architecture import Architecture
from sam_ros.core.checkpoint import read_architecture
from sam_ros.core.efficientnet import ConvNorm, Levels, padding, unpacked
from sam_ros.core.model import build_sam
from sam_ros.errors import EncodeCancelledError
from sam_ros.fast.efficientnet import FastStage, efficientnet_layers
from sam_ros.fast.layers import Step
from sam_ros.predictor import is_fast, load_predictor
from sam_ros.prompt import Prompt

SAM = random_sam(DETAILED)
CPU = torch.device("cpu")


def run(steps: list[Step], pixels: torch.Tensor) -> torch.Tensor:
    state = pixels
    for step in steps:
        state = step(state)
    return state


def test_the_levels_have_the_strides_of_the_decoder() -> None:
    embedding, eighth, quarter = SAM.image_encoder.levels(torch.zeros(2, 3, 64, 64))
    assert embedding.shape == (2, 32, 4, 4)
    assert eighth.shape == (2, 8, 8, 8)
    assert quarter.shape == (2, 4, 16, 16)


def test_packed_levels_are_unpacked() -> None:
    levels = Levels(torch.randn(2, 32, 4, 4), torch.randn(2, 8, 8, 8), torch.randn(2, 4, 16, 16))
    assert levels.packed().shape == (2, 128, 4, 4)
    for ours, expected in zip(unpacked(levels.packed()), levels, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    ("width", "depth", "channels", "blocks"),
    [(1.0, 1.0, [16, 24, 40, 80, 112, 192, 320], 16), (1.1, 1.2, [16, 24, 48, 88, 120, 208, 352], 21)],
    ids=["Lite0", "Lite2"],
)
def test_the_sizes_are_those_of_efficientnet_lite(
    width: float, depth: float, channels: list[int], blocks: int
) -> None:
    architecture = replace(DETAILED, width=width, depth=depth)
    with torch.device("meta"):
        stages = build_sam(architecture).image_encoder.stages
    assert [stage[-1].project.conv.out_channels for stage in stages] == channels
    assert sum(len(stage) for stage in stages) == blocks


def test_a_convolution_and_its_norm_are_one_convolution() -> None:
    layer = SAM.image_encoder.stages[1][0].depthwise  # halves
    x = torch.randn(1, layer.conv.in_channels, 8, 8)
    before, after = padding(layer.conv)
    assert (before, after) == (0, 1)
    norm = layer.norm
    expected = F.batch_norm(
        layer.conv(F.pad(x, [before, after, before, after])),
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        eps=1e-3,
    ).clamp(0, 6)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_its_norms_count_nothing_and_are_saved() -> None:
    names = [name for name in SAM.state_dict() if "stem" in name]
    assert names == [
        "image_encoder.stem.conv.weight",
        "image_encoder.stem.norm.weight",
        "image_encoder.stem.norm.bias",
        "image_encoder.stem.norm.running_mean",
        "image_encoder.stem.norm.running_var",
    ]


def test_statistics_do_not_change_in_training() -> None:
    sam = random_sam(DETAILED).train()
    before = {name: value.clone() for name, value in sam.named_buffers()}
    sam.image_encoder(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in sam.named_buffers())


def test_without_detail_the_decoder_is_segment_anythings() -> None:
    decoder = SAM.mask_decoder
    plain = MaskDecoder(
        transformer_dim=32, transformer=decoder.transformer, num_multimask_outputs=3, iou_head_hidden_dim=16
    )
    plain.load_state_dict(decoder.state_dict())
    features = torch.randn(1, 128, 4, 4)
    features[:, 32:] = 0
    pe, sparse = SAM.prompt_encoder.get_dense_pe(), torch.randn(3, 2, 32)
    dense = torch.randn(3, 32, 4, 4)
    with torch.inference_mode():
        ours = decoder.predict_masks(features, pe, sparse, dense)
        theirs = plain.predict_masks(features[:, :32], pe, sparse, dense)
        detailed = decoder.predict_masks(features + 1, pe, sparse, dense)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(detailed[0], ours[0], atol=1e-2)


def test_the_fast_steps_equal_the_module() -> None:
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = SAM.image_encoder(pixels)
        ours = run(efficientnet_layers(SAM.image_encoder, torch.float32), pixels)
    assert expected.abs().mean() > 0.1, "there is something to compare"
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.skipif(not is_fast("bfloat16", CPU), reason="no instructions for bfloat16")
def test_bfloat16_is_close() -> None:
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = SAM.image_encoder(pixels)
        ours = run(efficientnet_layers(SAM.image_encoder, torch.bfloat16), pixels)
    assert ours.dtype == torch.float32
    error = (ours - expected).abs().mean() / expected.abs().mean()
    assert 0 < error < 0.05


def test_on_a_cpu_there_is_nothing_to_compile() -> None:
    steps = efficientnet_layers(SAM.image_encoder, torch.float32, compile=True)
    assert all(isinstance(step, FastStage) for step in steps[1:-1])


def test_every_convolution_is_found() -> None:
    count = sum(isinstance(module, ConvNorm) for module in SAM.image_encoder.modules())
    convolutions = sum(isinstance(module, nn.Conv2d) for module in SAM.image_encoder.stages.modules())
    assert count == convolutions + 1  # the stem


def test_the_architecture_is_read_from_its_description(tmp_path: Path) -> None:
    assert Architecture.from_dict(DETAILED.to_dict()) == DETAILED
    save_random_sam(DETAILED, tmp_path / "sam.safetensors")
    assert read_architecture(tmp_path / "sam.safetensors") == DETAILED


def test_the_predictor_answers_as_sam_predictor(tmp_path: Path) -> None:
    path = tmp_path / "sam.safetensors"
    upstream = SamPredictor(save_random_sam(DETAILED, path))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    upstream.set_image(image)
    predictor = load_predictor(checkpoint=path)
    embedding = predictor.encode(image)
    torch.testing.assert_close(embedding.features, upstream.features, atol=1e-4, rtol=0)
    point, label = np.array([[20.0, 30.0]]), np.array([1])
    (ours,) = predictor.decode(embedding, [Prompt(point, label)])
    _, iou, logits = upstream.predict(point, label)
    order = np.argsort(-iou)
    np.testing.assert_allclose(ours.predicted_iou, iou[order], atol=1e-4)
    np.testing.assert_allclose(ours.low_res_logits, logits[order], atol=1e-3)


def test_an_encode_is_cancelled_between_stages(tmp_path: Path) -> None:
    save_random_sam(DETAILED, tmp_path / "sam.safetensors")
    predictor = load_predictor(checkpoint=tmp_path / "sam.safetensors")
    asked: list[bool] = []

    def at_the_fourth() -> bool:
        asked.append(True)
        return len(asked) == 4

    with pytest.raises(EncodeCancelledError):
        predictor.encode(np.zeros((64, 64, 3), np.uint8), at_the_fourth)
    assert len(asked) == 4
