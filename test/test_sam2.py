"""SAM 2 and EdgeTAM as modules: their published files, and what happens without transformers or network."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_models import MINIATURE_HIERA, MINIATURE_REP_VIT, official_architecture, save_random_sam
from upstream_sam2 import OFFICIAL_CONFIGS, build_official, needs_own_code, needs_transformers

from sam_ros.core.architecture import Sam2Architecture
from sam_ros.core.checkpoint import load_sam
from sam_ros.core.efficientnet import unpacked
from sam_ros.core.model import build_sam
from sam_ros.core.sam2_names import with_our_names
from sam_ros.errors import WeightsError

MINIATURES = {"hiera": MINIATURE_HIERA, "rep_vit": MINIATURE_REP_VIT}

KEYS_AND_SHAPES: dict[str, str] = {
    "sam2.1_tiny": "8e826e14ff422dea33b52f6aceb7866d50a21132db24ea3d2604f1f9ac317a2e",
    "sam2.1_small": "4b57a481cda57adaa15b934de7e692111eb235f1b8f19ee1cf6a0018023d29e3",
    "sam2.1_base_plus": "6c1b468fa5c9d1e96bd1577619262d6ff9c4ea81468c4da55ff76a8e467f76e0",
    "sam2.1_large": "b002488360ba8fd4347e7b24fa54bf7ebea9e12c35c3bbe1b633a89b08c3e717",
    "edgetam": "edf0d6a56c9d744ab9cabf55b1ed5deb82b7200ccd60dd43af5a2569f540dfb3",
}
"""SHA-256 of what ``described`` says of each model, as it was when it equalled the model's own code."""


def described(state_dict: dict[str, torch.Tensor]) -> list[str]:
    """A line for each weight: its name, shape and type."""
    return sorted(f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in state_dict.items())


@pytest.mark.parametrize("model_type", [needs_own_code(model_type) for model_type in OFFICIAL_CONFIGS])
def test_names_and_shapes_are_those_of_the_published_file(model_type: str) -> None:
    with torch.device("meta"):
        official = build_official(model_type).state_dict()
        ours = build_sam(official_architecture(model_type)).state_dict()
    assert described(with_our_names(official)) == described(ours)


@needs_transformers
@pytest.mark.parametrize("model_type", KEYS_AND_SHAPES)
def test_names_and_shapes_are_still_what_they_were_then(model_type: str) -> None:
    with torch.device("meta"):
        lines = described(build_sam(official_architecture(model_type)).state_dict())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == KEYS_AND_SHAPES[model_type]


@needs_transformers
@pytest.mark.parametrize("architecture", MINIATURES.values(), ids=MINIATURES)
def test_features_hold_the_embedding_and_two_finer_levels(
    architecture: Sam2Architecture, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    sam = save_random_sam(architecture, path)
    pixels = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        features, expected = load_sam("sam_tiny", path).image_encoder(pixels), sam.image_encoder(pixels)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)  # channels may lie otherwise
    embedding, eighth, quarter = unpacked(features)
    assert embedding.shape == (1, 128, 8, 8)
    assert eighth.shape == (1, 32, 16, 16)
    assert quarter.shape == (1, 16, 32, 32)


@needs_transformers
def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    other = save_random_sam(replace(MINIATURE_HIERA, embed_dim=24), tmp_path / "other.safetensors")
    torch.save({"model": other.state_dict()}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="does not fit the model"):
        load_sam("sam2.1_tiny", tmp_path / "other.pt")


@needs_transformers
@pytest.mark.parametrize("value", [{"model": [1]}, {"model": {"a": "b"}}, {"a": 1}])
def test_files_that_hold_something_else_are_refused(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="must hold"):
        load_sam("sam2.1_tiny", tmp_path / "other.pt")


LOAD = """
import sys
{before}
from sam_ros.errors import SamRosError
from sam_ros.predictor import load_predictor
assert sys.modules.get("transformers") is None
try:
    print(load_predictor("sam_tiny", {path!r}).model_type)
except SamRosError as error:
    print(error)
"""


def load_in_a_process_of_its_own(path: Path, before: str) -> str:
    program = LOAD.format(path=str(path), before=before)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@needs_transformers
def test_without_transformers_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    """And nothing imports it before such a model is asked for."""
    save_random_sam(MINIATURE_HIERA, tmp_path / "model.safetensors")
    said = load_in_a_process_of_its_own(tmp_path / "model.safetensors", "sys.modules['transformers'] = None")
    assert "pip install 'transformers>=5.24,<6'" in said and "Python 3.11" in said


@needs_transformers
@pytest.mark.parametrize("architecture", MINIATURES.values(), ids=MINIATURES)
def test_loading_needs_no_network(architecture: Sam2Architecture, tmp_path: Path) -> None:
    save_random_sam(architecture, tmp_path / "model.safetensors")
    refuse = "import socket\ndef refuse(*_, **__): raise AssertionError('network')\n"
    refuse += "socket.socket.connect = socket.getaddrinfo = refuse"
    assert load_in_a_process_of_its_own(tmp_path / "model.safetensors", refuse) == "sam_tiny\n"
