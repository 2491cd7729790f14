"""Write the averaged weights of a training run as the safetensors file that sam_ros ships."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from segment_anything.modeling import Sam
from torch import Tensor

from sam_ros.checkpoint import SHIPPED_SAM_TINY, load_sam, save_state_dict
from sam_ros.model import Architecture


def export(checkpoint: Path, output: Path) -> None:
    """Write the averaged weights of a training ``checkpoint``, matrices in float16, to ``output``."""
    state = torch.load(checkpoint, "cpu", weights_only=True)
    prefix = "module."
    weights = {
        name.removeprefix(prefix): _narrowed(name, tensor)
        for name, tensor in state["average"].items()
        if name.startswith(prefix)
    }
    settings = state["settings"]
    save_state_dict(
        weights,
        Architecture.from_dict(settings["architecture"]),
        output,
        source="sam_ros training/: generated scenes, some of their textures from photographs in scikit-image",
        training_steps=str(state["step"]),
        training_seed=str(settings["seed"]),
    )


def _narrowed(name: str, tensor: Tensor) -> Tensor:
    """Float16, but for the few random frequencies that multiply pixel coordinates."""
    return tensor if "gaussian_matrix" in name else tensor.half()


def load_exported(path: Path) -> tuple[Sam, dict[str, str]]:
    """The float32 ``Sam`` of an exported file, and the file's metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    return load_sam("sam_tiny", path), metadata


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("training/runs/sam_tiny/checkpoint.pt"))
    parser.add_argument("--output", type=Path, default=SHIPPED_SAM_TINY)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
