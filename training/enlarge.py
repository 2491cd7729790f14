"""Give a SAM that learned on small images the weights to go on with larger ones."""

from __future__ import annotations

from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn.functional import interpolate

from sam_ros.core.architecture import Architecture
from sam_ros.core.model import build_sam


def enlarged(sam: Sam, architecture: Architecture) -> Sam:
    """A copy of ``sam`` as ``architecture``, which differs in ``image_size`` alone, in training mode.

    Tables of positions are interpolated, absolute ones (1, h, w, C) and relative ones (2h - 1, C).
    """
    larger = build_sam(architecture)
    wanted, given = larger.state_dict(), sam.state_dict()
    larger.load_state_dict({name: _fitted(tensor, wanted[name]) for name, tensor in given.items()})
    return larger.train()


def _fitted(tensor: Tensor, wanted: Tensor) -> Tensor:
    if tensor.shape == wanted.shape:
        return tensor
    if tensor.ndim == 4:  # (1, h, w, C)
        channels_first = tensor.permute(0, 3, 1, 2)
        grid = interpolate(channels_first, wanted.shape[1:3], mode="bicubic", align_corners=False)
        return grid.permute(0, 2, 3, 1)
    table = interpolate(tensor.T[None], wanted.shape[0], mode="linear", align_corners=True)
    return table[0].T
