"""Both sides of a comparison, with the same weights: this project's predictor and upstream's."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam

from benchmark.images import ImageRGB
from benchmark.timing import Effort
from sam_ros.core.architecture import Architecture
from sam_ros.core.catalogue import MODELS
from sam_ros.core.checkpoint import SHIPPED_SAM_TINY, load_sam, read_architecture
from sam_ros.core.model import build_sam
from sam_ros.predictor import Embedding, Predictor, load_predictor
from sam_ros.prompt import Prompt
from sam_ros.weights import cached_path


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line.

    Attributes:
        device: where both sides compute.
        precisions: of this project's side, empty to choose; the other's is always float32.
        compile: whether this project's encoder is compiled.
        effort: how often to repeat.
        quick: few repetitions, few pictures: to see that everything runs.
    """

    device: torch.device
    precisions: tuple[str, ...]
    compile: bool
    effort: Effort
    quick: bool


@dataclass(frozen=True)
class Weights:
    """A file of weights; ``trained`` tells whether the masks mean anything."""

    path: Path
    trained: bool


@dataclass(frozen=True, eq=False)
class Contest:
    """A model on both sides, and the image that both look at.

    Attributes:
        model_type: which model.
        weights: of both sides.
        ours: this project's, by precision.
        options: see there.
        image_rgb: (H, W, 3) uint8.
    """

    model_type: str
    weights: Weights
    ours: Mapping[str, Predictor]
    options: Options
    image_rgb: ImageRGB

    @cached_property
    def theirs(self) -> SamPredictor:
        """Upstream's predictor, in float32; not every part needs it."""
        return _load_upstream(self.model_type, self.weights.path, self.options.device)

    @cached_property
    def embeddings(self) -> dict[str, Embedding]:
        """The image as each precision encodes it; upstream's predictor has it set from then on."""
        self.theirs.set_image(self.image_rgb)
        return {precision: ours.encode(self.image_rgb) for precision, ours in self.ours.items()}

    @cached_property
    def architecture(self) -> Architecture:
        """That of the model on both sides."""
        return MODELS[self.model_type].architecture or read_architecture(self.weights.path)

    @property
    def image_size(self) -> int:
        """S, the model's input size."""
        return self.architecture.image_size

    def case(self, precision: str, **more: str) -> dict[str, str]:
        """How a result of this contest is named."""
        suffix = ", compiled" if self.options.compile else ""
        return {"model": self.model_type, "precision": precision + suffix, **more}


def open_contest(model_type: str, weights: Weights, options: Options, image_rgb: ImageRGB) -> Contest:
    """Load a model; both sides are to look at an image (H, W, 3) uint8."""
    ours = {
        precision: load_predictor(
            model_type, weights.path, str(options.device), precision, compile=options.compile
        )
        for precision in options.precisions
    }
    return Contest(model_type, weights, ours, options, image_rgb)


def _load_upstream(model_type: str, path: Path, device: torch.device) -> SamPredictor:
    """Upstream's model and predictor by upstream's code; sam_tiny, which has none, by this project's."""
    if model_type == "mobile_sam":
        return _load_mobile_sam(path, device)
    if MODELS[model_type].has_memory:
        return _load_sam2(model_type, path, device)
    if model_type in sam_model_registry:
        return SamPredictor(sam_model_registry[model_type](checkpoint=str(path)).to(device))
    return SamPredictor(load_sam(model_type, path).to(device))


def _load_mobile_sam(path: Path, device: torch.device) -> SamPredictor:
    """MobileSAM's own ``SamPredictor``, from a package that only this comparison and tests need."""
    with warnings.catch_warnings():  # torch and timm deprecate what it imports
        warnings.simplefilter("ignore")
        try:
            upstream = import_module("mobile_sam")
        except ImportError as error:
            sys.exit(f"benchmark: the code to compare mobile_sam with is missing: {error}")
    sam = upstream.sam_model_registry["vit_t"](checkpoint=str(path))
    # Its biases of attention are gathered by eval(), which it calls before it loads them.
    return upstream.SamPredictor(sam.eval().to(device))


SAM2_CONFIGS = {
    "sam2.1_tiny": "configs/sam2.1/sam2.1_hiera_t.yaml",
    "sam2.1_small": "configs/sam2.1/sam2.1_hiera_s.yaml",
    "sam2.1_base_plus": "configs/sam2.1/sam2.1_hiera_b+.yaml",
    "sam2.1_large": "configs/sam2.1/sam2.1_hiera_l.yaml",
    "edgetam": "configs/edgetam.yaml",
}


def _load_sam2(model_type: str, path: Path | None, device: torch.device) -> Any:
    """``SAM2ImagePredictor`` of rf-sam-2, or of edgetam-dimos for edgetam: both are a package sam2.

    Without a path it has the weights that it begins with.
    """
    with warnings.catch_warnings():  # torch, timm and hydra deprecate what it does
        warnings.simplefilter("ignore")
        try:
            build, predictors = import_module("sam2.build_sam"), import_module("sam2.sam2_image_predictor")
            if model_type == "edgetam":  # whose image encoder would be downloaded
                backbones: Any = import_module("sam2.modeling.backbones.timm")
                backbones.create_model = _untrained
            model = build.build_sam2(SAM2_CONFIGS[model_type], path and str(path), device=str(device))
        except ImportError as error:
            sys.exit(f"benchmark: the code to compare {model_type} with is missing: {error}")
        return predictors.SAM2ImagePredictor(model)


def _untrained(*arguments: Any, pretrained: bool, **options: Any) -> Any:  # noqa: ARG001
    return import_module("timm").create_model(*arguments, pretrained=False, **options)


def find_weights(model_type: str, folder: Path) -> Weights:
    """The shipped or downloaded weights of a model; where they are missing, random ones made in a folder."""
    if model_type == "sam_tiny":
        return Weights(SHIPPED_SAM_TINY, trained=True)
    if cached_path(model_type).is_file():
        return Weights(cached_path(model_type), trained=True)
    path = folder / f"random_{model_type}.pth"
    if not path.exists() and MODELS[model_type].has_memory:
        torch.manual_seed(0)
        model = _load_sam2(model_type, None, torch.device("cpu")).model
        torch.save({"model": model.state_dict()}, path)
    elif not path.exists():
        torch.save(random_sam(model_type).state_dict(), path)
    return Weights(path, trained=False)


def random_sam(model_type: str, seed: int = 0) -> Sam:
    """An official architecture whose every parameter is random: upstream begins some with zeros."""
    architecture = MODELS[model_type].architecture
    if architecture is None:
        raise ValueError(f"{model_type} has its architecture in its file: there is nothing to make at random")
    torch.manual_seed(seed)
    sam = build_sam(architecture).requires_grad_(False)
    for name, parameter in sam.named_parameters():
        if parameter.ndim == 1 or "pos" in name or "bias" in name:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    _measure_batch_norms(sam.image_encoder)
    return sam


def _measure_batch_norms(encoder: Any) -> None:
    """Give batch norms the statistics of noise: else a random encoder makes the same of every picture."""
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # all of what they see next, nothing of what they begin with
    if norms:
        with torch.inference_mode():
            encoder.train()(torch.randn(1, 3, encoder.img_size, encoder.img_size))
        encoder.eval()


def predict(
    theirs: SamPredictor, prompt: Prompt, multimask_output: bool
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Upstream's answer to a prompt: (C, H, W) masks, (C,) predicted IoU, (C, S/4, S/4) low-res logits."""
    logits = prompt.low_res_logits
    answer: Any = theirs.predict(
        _writable(prompt.point_coords),
        _writable(prompt.point_labels),
        _writable(prompt.box),
        None if logits is None else _writable(logits[None]),
        multimask_output,
    )
    return answer[0], answer[1], answer[2]


def _writable(array: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    """A copy: torch warns of the read-only arrays of a prompt."""
    return None if array is None else np.array(array)
