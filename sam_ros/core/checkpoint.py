"""Find, verify and load the weights of a model; nothing is executed that a file contains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import safetensors
import safetensors.torch
import torch
from segment_anything.modeling import Sam

from sam_ros import weights
from sam_ros.core.architecture import Architecture, Sam2Architecture
from sam_ros.core.catalogue import MODELS
from sam_ros.core.model import PIXEL_MEAN, PIXEL_STD, build_sam
from sam_ros.core.sam2 import Sam2
from sam_ros.core.sam2_names import with_our_names
from sam_ros.errors import WeightsError

StateDict: TypeAlias = "dict[str, torch.Tensor]"

SHIPPED_SAM_TINY = Path(__file__).parents[1] / "sam_tiny.safetensors"
PUBLISHED_KEY = "model"  # SAM 2's files hold the state dict under it
ARCHITECTURE_KEY = "architecture"  # in the metadata of sam_tiny's file: Architecture.to_dict() as JSON

# Older releases run code from a crafted file even with weights_only=True: CVE-2025-32434, CVE-2026-24747.
SAFE_TORCH = (2, 10)


def load_sam(model_type: str, checkpoint: str | Path | None = None) -> Sam:
    """A ``Sam`` with its weights in float32 on the CPU, in evaluation mode.

    Args:
        model_type: one of the catalogue.
        checkpoint: a file of one's own, accepted as it is if it fits the model; None or '' takes sam_tiny
            from the package, and an official checkpoint from the cache, once its SHA-256 matches.

    Raises:
        WeightsError: the file is missing, damaged, or of another model.
        SamRosError: the model needs a package that is not installed.
    """
    if model_type not in MODELS:
        raise WeightsError(f"unknown model_type {model_type!r}; known are {', '.join(MODELS)}")
    path = _find(model_type, checkpoint)
    architecture = MODELS[model_type].architecture or read_architecture(path)
    return _assemble(architecture, _read_state_dict(path, architecture), path)


def save_state_dict(weights: StateDict, architecture: Architecture, path: Path, **metadata: str) -> None:
    """Write the weights of a ``Sam`` in the format of sam_tiny: safetensors that describe themselves."""
    described = {"format": "pt", ARCHITECTURE_KEY: json.dumps(architecture.to_dict()), **metadata}
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    safetensors.torch.save_file(tensors, path, metadata=described)


def read_architecture(path: Path) -> Architecture:
    """The architecture that a checkpoint of sam_tiny says it has.

    Raises:
        WeightsError: it is no safetensors file or lacks the description.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return Architecture.from_dict(json.loads(metadata[ARCHITECTURE_KEY]))
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} is not a sam_tiny checkpoint: it needs to be a safetensors file with "
            f"{ARCHITECTURE_KEY!r} in its metadata ({type(error).__name__}: {error})"
        ) from error


def _find(model_type: str, checkpoint: str | Path | None) -> Path:
    if checkpoint:
        return _existing(checkpoint, model_type)
    if MODELS[model_type].checkpoint is None:
        return SHIPPED_SAM_TINY
    path = weights.cached_path(model_type)
    weights.verify(path, model_type)
    return path


def _existing(checkpoint: str | Path, model_type: str) -> Path:
    try:
        path = Path(checkpoint).expanduser()
        exists = path.is_file()
    except (OSError, RuntimeError) as error:  # a folder that may not be looked into, an unknown user's home
        raise WeightsError(f"checkpoint {checkpoint} cannot be found: {error}") from error
    if not exists:
        raise WeightsError(f"checkpoint {path} does not exist; give the path of {model_type} weights")
    return path


def _read_state_dict(path: Path, architecture: Architecture) -> StateDict:
    """The tensors of a safetensors or PyTorch file by our names, as they are stored."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    loaded = _read_pytorch(path)
    if not isinstance(architecture, Sam2Architecture):
        return _checked_tensors(loaded, path)
    return with_our_names(_checked_tensors(loaded.get(PUBLISHED_KEY, loaded), path))


def _read_safetensors(path: Path) -> StateDict:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error


def _read_pytorch(path: Path) -> dict[str, Any]:
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < SAFE_TORCH:
        raise WeightsError(
            f"torch {torch.__version__} cannot read {path} safely; upgrade with: pip install 'torch>=2.10'"
        )
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise a dozen kinds, struct.error among them
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} is damaged or holds more than tensors; nothing in it was executed: {first_line}"
        ) from error
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} must hold a state dict, it holds {type(loaded).__name__}")
    return loaded


def _checked_tensors(loaded: Any, path: Path) -> StateDict:
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} must hold a state dict, it holds {type(loaded).__name__}")
    others = [name for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise WeightsError(
            f"{path} must hold nothing but tensors, {others[0]!r} is {type(loaded[others[0]]).__name__}; "
            "save the state dict of the model alone"
        )
    return loaded


def _assemble(architecture: Architecture, state_dict: StateDict, path: Path) -> Sam:
    try:
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
            sam = build_sam(architecture)
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} describes a model that cannot be: {architecture}: {error}") from error
    expected = sam.state_dict()
    _check_fit(expected, state_dict, path)
    # Not all is float32: a batch norm counts, and what it counted is in the file.
    converted = {name: tensor.to(expected[name].dtype) for name, tensor in state_dict.items()}
    sam.load_state_dict(converted, assign=True)
    sam.pixel_mean = torch.tensor(PIXEL_MEAN).view(-1, 1, 1)  # not in state dicts
    sam.pixel_std = torch.tensor(PIXEL_STD).view(-1, 1, 1)
    if isinstance(sam, Sam2):
        sam.make_tables()
    return sam.requires_grad_(False)


def _check_fit(expected: StateDict, found: StateDict, path: Path) -> None:
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3])
        raise WeightsError(
            f"{path} does not fit the model ({len(problems)} differences: {shown}); "
            "check that model_type and checkpoint belong together"
        )
