"""Architectures: what they tell of themselves, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from random_models import MINIATURE, MINIATURE_TINY_VIT, SMALL

from sam_ros.core.architecture import Architecture, TinyVitArchitecture, VitArchitecture
from sam_ros.core.catalogue import MODELS

OFFICIAL = [model.architecture for model in MODELS.values() if model.architecture is not None]


@pytest.mark.parametrize("architecture", [MINIATURE, SMALL, MINIATURE_TINY_VIT, *OFFICIAL])
def test_an_architecture_survives_json(architecture: Architecture) -> None:
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


def test_each_kind_of_encoder_has_its_own_name() -> None:
    assert MINIATURE.to_dict()["encoder"] == "vit"
    assert MINIATURE_TINY_VIT.to_dict()["encoder"] == "tiny_vit"


def test_without_a_kind_of_encoder_it_is_a_vit() -> None:
    """The metadata of files from before there were others."""
    values = {
        "encoder_embed_dim": 192,
        "encoder_depth": 5,
        "encoder_num_heads": 3,
        "encoder_global_attn_indexes": [2, 4],
        "image_size": 512,
        "window_size": 8,
    }
    expected = VitArchitecture(192, 5, 3, (2, 4), image_size=512, window_size=8)
    assert Architecture.from_dict(values) == expected


@pytest.mark.parametrize("name", [field.name for field in fields(VitArchitecture)])
def test_an_architecture_keeps_its_defaults_and_misses_what_has_none(name: str) -> None:
    values = MINIATURE.to_dict()
    del values[name]
    if name.startswith("encoder"):
        with pytest.raises(TypeError, match=name):
            Architecture.from_dict(values)
    else:
        assert getattr(Architecture.from_dict(values), name) == getattr(VitArchitecture(1, 1, 1, ()), name)


@pytest.mark.parametrize("name", ["embed_dims", "depths", "num_heads", "window_sizes"])
def test_a_tiny_vit_misses_what_has_no_default(name: str) -> None:
    values = MINIATURE_TINY_VIT.to_dict()
    del values[name]
    with pytest.raises(TypeError, match=name):
        Architecture.from_dict(values)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(TypeError, match="patch_size"):
        Architecture.from_dict({**MINIATURE.to_dict(), "patch_size": 8})


def test_an_unknown_kind_of_encoder_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'resnet'; known are vit, tiny_vit"):
        Architecture.from_dict({**MINIATURE.to_dict(), "encoder": "resnet"})


def test_keys_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="encoder_embed_dim"):
        Architecture.from_dict({**MINIATURE.to_dict(), "encoder": "tiny_vit"})


def test_the_official_sizes_of_mobile_sam() -> None:
    assert MODELS["mobile_sam"].architecture == TinyVitArchitecture(
        embed_dims=(64, 128, 160, 320),
        depths=(2, 2, 6, 2),
        num_heads=(2, 4, 5, 10),
        window_sizes=(7, 7, 14, 7),
    )
