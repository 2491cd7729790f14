"""The predictor, and the fake that stands in for it, are models as the engine needs them: mypy checks it."""

from __future__ import annotations

from fake_model import FakeModel

from sam_ros.core.protocol import EmbeddedImage, PromptableModel
from sam_ros.predictor import Embedding, Predictor


def as_model(predictor: Predictor) -> PromptableModel:
    return predictor


def as_embedded_image(embedding: Embedding) -> EmbeddedImage:
    return embedding


def test_the_fake_has_all_that_the_predictor_promises() -> None:
    fake: PromptableModel = FakeModel()
    names = [name for name in vars(PromptableModel) if not name.startswith("_")]
    assert {"encode", "decode", "grid", "memory_mb"} <= set(names)
    assert all(hasattr(fake, name) for name in names)
