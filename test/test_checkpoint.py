"""Checkpoints: what is loaded, what is verified first, what is refused, and that nothing is executed."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from random_models import MINIATURE, random_sam, save_random_sam
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from sam_ros import weights
from sam_ros.core import checkpoint
from sam_ros.core.catalogue import MODELS, OfficialCheckpoint
from sam_ros.core.checkpoint import load_sam, read_architecture, save_state_dict
from sam_ros.core.model import PIXEL_MEAN, PIXEL_STD
from sam_ros.errors import WeightsError

StateDict = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def sam() -> Sam:
    return random_sam(MINIATURE)


@pytest.fixture
def tiny_path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_random_sam(MINIATURE, path)
    return path


@pytest.fixture
def miniature_vit_b(monkeypatch: pytest.MonkeyPatch) -> None:
    """An official model that is small enough to save often."""
    monkeypatch.setitem(MODELS, "vit_b", replace(MODELS["vit_b"], architecture=MINIATURE))


def refused(model_type: str, path: Path | str | None) -> str:
    with pytest.raises(WeightsError) as caught:
        load_sam(model_type, path)
    return str(caught.value)


def assert_equal(loaded: Sam, expected: Sam) -> None:
    state_dict, expected_dict = loaded.state_dict(), expected.state_dict()
    assert state_dict.keys() == expected_dict.keys()
    for name, tensor in state_dict.items():
        torch.testing.assert_close(tensor, expected_dict[name], atol=0, rtol=0, msg=name)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    everything = [*loaded.parameters(), *loaded.buffers()]
    assert {(str(t.device), t.dtype) for t in everything} == {("cpu", torch.float32)}
    torch.testing.assert_close(loaded.pixel_mean.flatten(), torch.tensor(PIXEL_MEAN))
    torch.testing.assert_close(loaded.pixel_std.flatten(), torch.tensor(PIXEL_STD))


# sam_tiny's own format.


def test_what_was_saved_is_loaded(tiny_path: Path, sam: Sam) -> None:
    assert read_architecture(tiny_path) == MINIATURE
    assert_equal(load_sam("sam_tiny", tiny_path), sam)
    assert_equal(load_sam("sam_tiny", str(tiny_path)), sam)


def test_without_a_checkpoint_the_shipped_one_is_loaded(
    tiny_path: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHIPPED_SAM_TINY", tiny_path)
    assert_equal(load_sam("sam_tiny"), sam)
    assert_equal(load_sam("sam_tiny", ""), sam)


def test_a_home_directory_is_understood(tiny_path: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_path.parent))
    assert_equal(load_sam("sam_tiny", "~/tiny.safetensors"), sam)


def test_half_precision_storage_gives_float32(tmp_path: Path, sam: Sam) -> None:
    halves = random_sam(MINIATURE).half()
    path = tmp_path / "half.safetensors"
    save_state_dict(halves.state_dict(), MINIATURE, path)
    assert path.stat().st_size < 0.6 * sum(t.nbytes for t in sam.state_dict().values())
    assert_equal(load_sam("sam_tiny", path), halves.float())


def test_more_metadata_is_kept_beside_the_architecture(tmp_path: Path, sam: Sam) -> None:
    path = tmp_path / "described.safetensors"
    save_state_dict(sam.state_dict(), MINIATURE, path, license="Apache-2.0")
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata()["license"] == "Apache-2.0"
    assert read_architecture(path) == MINIATURE


def test_the_shipped_file_missing_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHIPPED_SAM_TINY", tmp_path / "sam_tiny.safetensors")
    assert "sam_tiny.safetensors" in refused("sam_tiny", None)


@pytest.mark.parametrize(
    "architecture",
    [
        None,
        "",
        "not json",
        "null",
        "[1, 2]",
        "7",
        "[" * 100_000,
        "[[1, 2]]",
        json.dumps({**MINIATURE.to_dict(), "encoder": "unheard of"}),
        json.dumps({**MINIATURE.to_dict(), "encoder": {}}),
        json.dumps({**MINIATURE.to_dict(), "encoder": ["vit"]}),
        json.dumps({**MINIATURE.to_dict(), "encoder": "tiny_vit"}),
        '{"encoder_embed_dim": 32}',
        json.dumps({**MINIATURE.to_dict(), "patch_size": 16}),
        json.dumps({**MINIATURE.to_dict(), "encoder_global_attn_indexes": 1}),
        json.dumps({**MINIATURE.to_dict(), "encoder_embed_dim": "wide"}),
        json.dumps({**MINIATURE.to_dict(), "encoder_embed_dim": None}),
        json.dumps({**MINIATURE.to_dict(), "encoder_embed_dim": 32.5}),
        json.dumps({**MINIATURE.to_dict(), "encoder_embed_dim": -32}),
        json.dumps({**MINIATURE.to_dict(), "encoder_embed_dim": 10**30}),
        json.dumps({**MINIATURE.to_dict(), "encoder_num_heads": 0}),
        json.dumps({**MINIATURE.to_dict(), "encoder_depth": [2]}),
        json.dumps({**MINIATURE.to_dict(), "encoder_depth": 3}),
        json.dumps({**MINIATURE.to_dict(), "image_size": 0}),
        json.dumps({**MINIATURE.to_dict(), "image_size": 1024}),
        json.dumps({**MINIATURE.to_dict(), "prompt_embed_dim": 7}),
        json.dumps({**MINIATURE.to_dict(), "encoder_global_attn_indexes": ["1"]}),
    ],
)
def test_a_description_that_is_missing_or_cannot_be_is_refused(
    architecture: str | None, tmp_path: Path, sam: Sam
) -> None:
    path = tmp_path / "described.safetensors"
    metadata = {} if architecture is None else {"architecture": architecture}
    safetensors.torch.save_file(sam.state_dict(), path, metadata=metadata)
    assert str(path) in refused("sam_tiny", path)


def test_a_pytorch_file_is_no_sam_tiny(tmp_path: Path, sam: Sam) -> None:
    path = tmp_path / "tiny.pth"
    torch.save(sam.state_dict(), path)
    assert "is not a sam_tiny checkpoint" in refused("sam_tiny", path)


# Checkpoints of one's own.


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
@pytest.mark.usefixtures("miniature_vit_b")
def test_ones_own_file_is_taken_as_it_is(suffix: str, tmp_path: Path, sam: Sam) -> None:
    path = tmp_path / f"mine{suffix}"
    save: Callable[[StateDict, Path], None] = (
        safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    )
    save(sam.state_dict(), path)
    assert_equal(load_sam("vit_b", path), sam)


@pytest.mark.usefixtures("miniature_vit_b")
def test_an_older_way_of_saving_and_half_precision_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    halves = random_sam(MINIATURE).half()
    torch.save(halves.state_dict(), path, _use_new_zipfile_serialization=False)
    assert_equal(load_sam("vit_b", path), halves.float())


@pytest.mark.parametrize("model_type", ["vit_b", "vit_l", "vit_h"])
def test_official_state_dicts_fit(model_type: str, tmp_path: Path) -> None:
    """Upstream's keys and shapes; every tensor is one stored zero, seen from everywhere."""
    with torch.device("meta"):
        upstream: StateDict = sam_model_registry[model_type]().state_dict()
    path = tmp_path / f"{model_type}.pth"
    torch.save({name: torch.zeros(1).expand(tensor.shape) for name, tensor in upstream.items()}, path)
    loaded = load_sam(model_type, path)
    assert {name: t.shape for name, t in loaded.state_dict().items()} == {
        name: t.shape for name, t in upstream.items()
    }
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])


@pytest.mark.parametrize("other", ["vit_l", "vit_h"])
def test_a_file_of_another_model_is_refused(other: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        state_dict: StateDict = sam_model_registry[other]().state_dict()
    path = tmp_path / f"{other}.pth"
    torch.save({name: torch.zeros(1).expand(tensor.shape) for name, tensor in state_dict.items()}, path)
    said = refused("vit_b", path)
    assert str(path) in said and "check that model_type and checkpoint belong together" in said


@pytest.mark.usefixtures("miniature_vit_b")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("mask_decoder.iou_token.weight"), "mask_decoder.iou_token.weight is missing"),
        (lambda d: d.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda d: d.update({7: torch.zeros(1)}), "7 is unknown"),
        (
            lambda d: d.update({"mask_decoder.iou_token.weight": torch.zeros(2, 32)}),
            r"iou_token.weight is (2, 32) instead of (1, 32)",
        ),
        (lambda d: d.clear(), "is missing"),
        (lambda d: d.update(epoch=3), "'epoch' is int"),
        (lambda d: d.update(model=dict(d)), "'model' is dict"),
    ],
)
def test_what_differs_is_named(change: Callable[[Any], None], said: str, tmp_path: Path, sam: Sam) -> None:
    state_dict = dict(sam.state_dict())
    change(state_dict)
    path = tmp_path / "other.pth"
    torch.save(state_dict, path)
    assert said in refused("vit_b", path)


@pytest.mark.usefixtures("miniature_vit_b")
def test_a_small_file_cannot_claim_much_memory(tmp_path: Path, sam: Sam) -> None:
    """A view of one stored half, a terabyte wide: refused by its shape before it becomes float32."""
    wide = torch.zeros(1, dtype=torch.float16).expand(1 << 20, 1 << 18)
    path = tmp_path / "wide.pth"
    torch.save({**sam.state_dict(), "mask_decoder.iou_token.weight": wide}, path)
    assert "(1048576, 262144) instead of (1, 32)" in refused("vit_b", path)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), "text", None])
def test_a_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    assert "must hold a state dict" in refused("vit_b", path)


@pytest.mark.parametrize("model_type", ["sam_tiny", "vit_b"])
def test_a_missing_file_is_refused(model_type: str, tmp_path: Path) -> None:
    said = refused(model_type, tmp_path / "nowhere.pth")
    assert "nowhere.pth does not exist" in said and model_type in said
    assert "does not exist" in refused(model_type, tmp_path)
    assert "cannot be found" in refused(model_type, tmp_path / ("x" * 300))
    assert "cannot be found" in refused(model_type, "~nobody of that name/weights.pth")


@pytest.mark.parametrize("name", ["tiny.safetensors", "tiny.pth", "old.pth"])
@pytest.mark.usefixtures("miniature_vit_b")
@pytest.mark.filterwarnings("ignore")  # torch warns of some damage before it raises
def test_damaged_files_are_refused_wherever_they_end(name: str, tmp_path: Path) -> None:
    content = {f"tensor {i}": torch.full((5, 3), float(i)) for i in range(4)}
    path = tmp_path / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=name != "old.pth")
    data = path.read_bytes()
    for length in range(0, len(data), 11):
        path.write_bytes(data[:length])
        assert str(path) in refused("vit_b", path)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", bytes(1000), b"PK\x03\x04", b"\x80\x02}q\x00.", b"<html>404</html>"]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.filterwarnings("ignore")
def test_garbage_is_refused(data: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(data)
    assert str(path) in refused("vit_b", path)
    assert "is not a sam_tiny checkpoint" in refused("sam_tiny", path)


class Malice:
    """Unpickled without care, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def as_torch(content: object, path: Path) -> None:
    torch.save(content, path)


def as_old_torch(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [as_torch, as_old_torch, as_pickle])
@pytest.mark.filterwarnings("ignore")
def test_a_malicious_pickle_is_not_executed(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "malicious.pth"
    save({"weight": torch.zeros(1), "payload": Malice(marker)}, path)
    assert "nothing in it was executed" in refused("vit_b", path)
    refused("sam_tiny", path)
    renamed = path.rename(tmp_path / "malicious.safetensors")
    refused("vit_b", renamed)
    refused("sam_tiny", renamed)
    assert not marker.exists()


def test_the_malice_would_work(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    marker, path = tmp_path / "executed", tmp_path / "malicious.pth"
    as_torch({"payload": Malice(marker)}, path)
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_a_torch_that_would_execute_is_not_used(
    tmp_path: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.pth"
    torch.save(sam.state_dict(), path)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    assert "cannot read" in refused("vit_b", path) and "'torch>=2.10'" in refused("vit_b", path)


# Official checkpoints.


@pytest.fixture
def official(tmp_path: Path, sam: Sam, miniature_vit_b: None, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """A cache with a verified vit_b in it, which is a miniature."""
    monkeypatch.setenv("SAM_ROS_CACHE", str(tmp_path))
    path = tmp_path / "official.pth"
    torch.save(sam.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    pinned = OfficialCheckpoint(path.name, "https://example.org/official.pth", digest)
    monkeypatch.setitem(MODELS, "vit_b", replace(MODELS["vit_b"], checkpoint=pinned))
    return path


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("nothing", [None, ""])
def test_the_verified_download_is_loaded(nothing: str | None, sam: Sam) -> None:
    assert_equal(load_sam("vit_b", nothing), sam)


def test_a_download_of_another_digest_is_never_read(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("read before it was verified")

    official.write_bytes(official.read_bytes() + b"\x00")
    monkeypatch.setattr(torch, "load", never)
    said = refused("vit_b", None)
    assert "SHA-256" in said and "ros2 run sam_ros weights vit_b" in said


def test_a_missing_download_says_how_to_get_it(official: Path) -> None:
    official.unlink()
    said = refused("vit_b", None)
    assert "is missing" in said and ".venv/bin/weights vit_b" in said


def test_the_real_digests_are_asked_for(tmp_path: Path, sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_ROS_CACHE", str(tmp_path))
    for model_type in (name for name, model in MODELS.items() if model.checkpoint):
        torch.save(sam.state_dict(), weights.cached_path(model_type))
        assert f"weights {model_type}" in refused(model_type, None)


@pytest.mark.parametrize("model_type", ["", "vit_t", "VIT_B", "sam_tiny.safetensors"])
def test_unknown_models_are_refused(model_type: str) -> None:
    assert "known are sam_tiny, vit_b, vit_l, vit_h, mobile_sam" in refused(model_type, None)
