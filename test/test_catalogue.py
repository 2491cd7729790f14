"""The catalogue: that its rows are true, and that docs/models.md tells the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from upstream_sam2 import needs_transformers

from sam_ros.core.catalogue import MODELS, Model, OfficialCheckpoint
from sam_ros.core.checkpoint import SHIPPED_SAM_TINY, load_sam, read_architecture
from sam_ros.core.model import build_sam
from sam_ros.node.parameters import Parameters
from sam_ros.weights import cached_path

SAM2_FILES = {
    "sam2.1_tiny": ("7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 156_008_466),
    "sam2.1_small": ("6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 184_416_285),
    "sam2.1_base_plus": ("a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 323_606_802),
    "sam2.1_large": ("2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 898_083_611),
    "edgetam": ("ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df", None),
}

PAGE = (Path(__file__).parents[1] / "docs/models.md").read_text()


def with_what_it_needs(model: Model) -> Any:
    """A test's parameter: a model, skipped where what it is built of is missing."""
    return pytest.param(model.model_type, marks=needs_transformers if model.has_memory else ())


@pytest.mark.parametrize(
    "model_type", [with_what_it_needs(model) for model in MODELS.values() if model.architecture]
)
def test_sizes_are_those_of_the_architecture(model_type: str) -> None:
    model = MODELS[model_type]
    assert model.architecture is not None
    with torch.device("meta"):
        sam = build_sam(model.architecture)
    assert model.num_parameters == sum(parameter.numel() for parameter in sam.parameters())
    assert model.input_size == model.architecture.image_size == sam.image_encoder.img_size


def test_the_sizes_of_what_ships_are_those_of_its_file() -> None:
    model = MODELS["sam_tiny"]
    assert model.num_parameters == sum(parameter.numel() for parameter in load_sam("sam_tiny").parameters())
    assert model.input_size == read_architecture(SHIPPED_SAM_TINY).image_size


def test_every_row_is_named_as_its_key_and_can_be_chosen() -> None:
    for model_type, model in MODELS.items():
        assert model.model_type == model_type
        assert Parameters(model_type=model_type).model_type == model_type
    assert next(iter(MODELS)) == Parameters().model_type == "sam_tiny"


@pytest.mark.parametrize("model_type", [name for name, model in MODELS.items() if model.checkpoint])
def test_official_files_have_whole_digests_and_their_own_names(model_type: str) -> None:
    checkpoint = MODELS[model_type].checkpoint
    assert checkpoint is not None
    assert len(bytes.fromhex(checkpoint.sha256)) == 32
    address = urlsplit(checkpoint.url)
    assert address.scheme == "https" and address.path.endswith(f"/{checkpoint.file_name}")
    assert cached_path(model_type).name == checkpoint.file_name
    if checkpoint.size_bytes is not None:  # the numbers, and something around them
        overhead = checkpoint.size_bytes - 4 * MODELS[model_type].num_parameters
        assert 0 < overhead < 2e-2 * checkpoint.size_bytes


def test_the_published_files_are_pinned() -> None:
    """By what their publishers say of them; written here a second time against a slip of the hand."""
    assert MODELS["mobile_sam"].checkpoint == OfficialCheckpoint(
        "mobile_sam.pt",
        "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt",
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        40_728_226,
    )
    for model_type, (sha256, size_bytes) in SAM2_FILES.items():
        published = MODELS[model_type].checkpoint
        assert published is not None
        assert (published.sha256, published.size_bytes) == (sha256, size_bytes)
    for model_type in ("vit_b", "vit_l", "vit_h"):
        checkpoint = MODELS[model_type].checkpoint
        assert checkpoint is not None
        assert checkpoint.url.startswith("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_")


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        (None, "shipped"),
        (OfficialCheckpoint("a", "b", "c"), "about 40 MB"),
        (OfficialCheckpoint("a", "b", "c", 41_499_999), "41 MB"),
        (OfficialCheckpoint("a", "b", "c", 260_000), "0.3 MB"),
    ],
)
def test_download_sizes_are_for_a_person_to_read(checkpoint: OfficialCheckpoint | None, said: str) -> None:
    assert Model("m", "", "MIT", 1024, 10_000_000, checkpoint=checkpoint).download_size == said


def test_the_page_of_models_has_every_one_as_the_catalogue_tells_it() -> None:
    _head, *rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{model.model_type}` | {model.description} | {model.num_parameters / 1e6:.1f} M | "
        f"{model.input_size} px | {model.download_size} | {model.licence} |"
        for model in MODELS.values()
    ]
