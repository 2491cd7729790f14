"""MobileSAM's own code, from the package mobilesam-mirror, as an oracle; tests skip where it is missing."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import randomise

needs_mobile_sam = pytest.mark.skipif(
    importlib.util.find_spec("mobile_sam") is None or importlib.util.find_spec("timm") is None,
    reason="needs mobilesam-mirror and timm, see standalone/requirements.in",
)


def load_mobile_sam(checkpoint: Path | None = None) -> Any:
    """Upstream's ``SamPredictor`` with these weights, or with those that a model begins with."""
    with warnings.catch_warnings():  # torch deprecates what timm does when it is imported
        warnings.simplefilter("ignore")
        import mobile_sam
    sam = mobile_sam.sam_model_registry["vit_t"](checkpoint=checkpoint)
    # Upstream gathers its biases of attention in eval(), which it calls before it loads them.
    return mobile_sam.SamPredictor(sam.eval())


def save_random_mobile_sam(path: Path, seed: int = 0) -> None:
    """Save a random model as the official checkpoint is saved."""
    torch.manual_seed(seed)
    torch.save(randomise(load_mobile_sam().model).state_dict(), path)
