"""Write the averaged weights of a training run as the safetensors file that sam_ros ships."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from segment_anything.modeling import Sam
from torch import Tensor

from sam_ros.core.architecture import Architecture
from sam_ros.core.checkpoint import SHIPPED_SAM_TINY, load_sam, save_state_dict


def export(checkpoint: Path, output: Path, before: Path | None = None, share: float = 0.5) -> None:
    """Write the averaged weights of a training ``checkpoint``, matrices in float16, to ``output``.

    Args:
        checkpoint: of the run.
        output: safetensors file.
        before: exported file of the same architecture that the run began with. Weights between both keep most
            of what either has learned (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
        share: of the run's weights, the rest are those of ``before``.

    Raises:
        ValueError: ``before`` is of another architecture.
    """
    state = torch.load(checkpoint, "cpu", weights_only=True)
    prefix = "module."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in state["average"].items()
        if name.startswith(prefix)
    }
    settings = state["settings"]
    if before is not None:
        weights = _between(load_file(before), weights, share, before)
    save_state_dict(
        _narrowed(weights),
        Architecture.from_dict(settings["architecture"]),
        output,
        source="sam_ros training/: photographs, cut-outs, generated scenes; licences in docs/sam_tiny.md",
        training_steps=str(state["step"]),
        training_seed=str(settings["seed"]),
    )


def _between(
    before: dict[str, Tensor], after: dict[str, Tensor], share: float, path: Path
) -> dict[str, Tensor]:
    """``share`` of the weights ``after``, the rest of those ``before``, from ``path``."""
    if {name: w.shape for name, w in before.items()} != {name: w.shape for name, w in after.items()}:
        raise ValueError(f"{path} has another architecture than the checkpoint; export without it")
    return {name: torch.lerp(before[name].float(), weight, share) for name, weight in after.items()}


def _narrowed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices in float16, but for the few random frequencies that multiply pixel coordinates.

    What there is once for each channel stays: the variances of batch norms span many orders of magnitude.
    """
    return {
        name: tensor if tensor.ndim < 2 or "gaussian_matrix" in name else tensor.half()
        for name, tensor in weights.items()
    }


def load_exported(path: Path) -> tuple[Sam, dict[str, str]]:
    """The float32 ``Sam`` of an exported file, and the file's metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    return load_sam("sam_tiny", path), metadata


def save_exported(sam: Sam, metadata: dict[str, str], output: Path) -> None:
    """Write what ``load_exported`` read, with other weights by now."""
    save_file(_narrowed(sam.state_dict()), output, metadata)


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("training/runs/sam_tiny/checkpoint.pt"))
    parser.add_argument("--output", type=Path, default=SHIPPED_SAM_TINY)
    parser.add_argument("--before", type=Path, help="exported file to mix the weights with")
    parser.add_argument("--share", type=float, default=0.5, help="of the checkpoint in that mixture")
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.output, arguments.before, arguments.share)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
