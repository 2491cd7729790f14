"""Hiera, SAM 2's image encoder, computed faster than by the modules of transformers that hold its weights.

The result is that of ``Sam2HieraDetModel.forward`` and the neck behind it, up to rounding. What is done
differently:

- Positions are interpolated to the image once; the scale of queries is part of their projection.
- The padding of windows is never projected: what the projection makes of zeros is its bias.
- On a CPU every part is computed for some rows of the image at a time: what comes in between stays in the
  caches. Attention there is plain matrix products and a softmax, but in float32 over the whole image.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ros.core.sam2 import Sam2ImageEncoder
from sam_ros.fast.layers import Linear, Step, add_in_pieces, join_windows, norm, split_windows
from sam_ros.fast.pyramid import FastPyramid, State

HIDDEN_AT_ONCE = 1 << 20  # on a CPU, values between the layers of a perceptron: 4 MB of float32
POSITIONS_AT_ONCE = 4096  # on a CPU, that a block attends to, in whole rows of windows
QUERIES_AT_ONCE = 256  # on a CPU, of attention to the whole image in a reduced precision
POOLED = 2  # positions in each direction to one, where a stage begins


def hiera_layers(encoder: Sam2ImageEncoder, dtype: torch.dtype, compile: bool = False) -> list[Step]:
    """The encoder as a list of steps, so that an encode can be cancelled between blocks.

    The first takes (1, 3, S, S) float32 normalised pixels, the last returns (1, 4C, S/16, S/16) float32; what
    is between is their own affair.

    Args:
        encoder: holds the weights, on their device.
        dtype: of the matrix products; sums of the residual stream and norms stay float32.
        compile: compile the blocks with torch.compile.
    """
    hiera: Any = encoder.backbone
    blocks = [FastHieraBlock(block, dtype) for block in hiera.blocks]
    compiled = [torch.compile(block, dynamic=False) for block in blocks] if compile else blocks
    ends = set(hiera.stage_ends)
    steps: list[Step] = [_Kept(block, index in ends) for index, block in enumerate(compiled)]
    return [_PatchEmbed(hiera, encoder.img_size, dtype), *steps, FastPyramid(encoder, dtype)]


class _PatchEmbed:
    """(1, 3, S, S) -> (1, S/4, S/4, D) float32, positions added."""

    def __init__(self, hiera: Any, image_size: int, dtype: torch.dtype) -> None:
        projection: nn.Conv2d = hiera.patch_embed.projection
        self.weight = projection.weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = projection.get_parameter("bias").to(dtype)
        self.stride, self.padding = projection.stride, projection.padding
        side = image_size // projection.stride[0]
        self.positions = hiera._get_pos_embed((side, side)).contiguous()  # (1, S/4, S/4, D)

    def __call__(self, pixels: Tensor) -> State:
        x = pixels.to(self.weight.dtype, memory_format=torch.channels_last)
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return (x.permute(0, 2, 3, 1).float() + self.positions,)


class _Kept:
    """A block; where it ends a stage, what it makes is kept for the neck."""

    def __init__(self, block: Any, is_kept: bool) -> None:
        self.block, self.is_kept = block, is_kept

    def __call__(self, state: State) -> State:
        *kept, x = state
        x = self.block(x)
        return (*kept, x, x) if self.is_kept else (*kept, x)


class FastHieraBlock:
    """``Sam2MultiScaleBlock`` for one image: (1, h, w, D) float32 -> (1, h/stride, w/stride, D') float32.

    On a CPU it may change what it is given, unless it begins a stage.
    """

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        attention = block.attn
        self.window, self.num_heads = block.window_size, attention.num_attention_heads
        self.norm1, self.norm2 = block.layer_norm1, block.layer_norm2
        self.qkv = _scaled_qkv(attention, dtype)
        self.padding = torch.as_tensor(self.qkv.bias)  # what the projection makes of zeros
        self.project = Linear.of(attention.proj, dtype)
        self.shortcut = Linear.of(block.proj, dtype) if block.dim != block.dim_out else None
        self.expand, self.contract = (
            Linear.of(block.mlp.proj_in, dtype),
            Linear.of(block.mlp.proj_out, dtype),
        )
        self.activation = block.mlp.activation
        self.begins_stage = block.query_stride is not None
        self.on_cpu = self.padding.device.type == "cpu"

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.begins_stage or self.shortcut is not None:
            x = self._shortened(x)
        else:
            x = add_in_pieces(self._attended, x, self._rows_of_windows(x))
        return add_in_pieces(self._expanded, x, self._rows_expanded(x))

    def _attended(self, x: Tensor) -> Tensor:
        """What attention adds, on rows of whole windows: (1, r, w, D) -> the same."""
        return self._attend(norm(x, self.norm1))

    def _shortened(self, x: Tensor) -> Tensor:
        """The first half of a block that begins a stage: (1, h, w, D) -> (1, h/2, w/2, D')."""
        normed = norm(x, self.norm1)
        shortcut = x if self.shortcut is None else self.shortcut(normed).float()
        return (_pooled(shortcut) if self.begins_stage else shortcut) + self._attend(normed)

    def _expanded(self, x: Tensor) -> Tensor:
        """What the perceptron adds, on any positions: (1, r, w, D) -> the same."""
        return self.contract(self.activation(self.expand(norm(x, self.norm2))))

    def _attend(self, normed: Tensor) -> Tensor:
        """(1, r, w, D) -> (1, r/stride, w/stride, D'), every window and head by itself."""
        height, width = normed.shape[1:3]
        window = self.window or height
        windows = split_windows(self.qkv(normed), self.padding, window, self.num_heads)
        q, k, v = windows.unbind(0)  # (G, window, window, d) each
        if self.begins_stage:
            q, height, width, window = (
                _pooled(q),
                height // POOLED,
                width // POOLED,
                window // POOLED,
            )
        attend = _attention_in_windows if self.window and self.on_cpu else _attention
        attended = attend(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2))
        return self.project(join_windows(attended, height, width, window, self.num_heads).contiguous())

    def _rows_of_windows(self, x: Tensor) -> int:
        """How many rows of an image (1, h, w, D) are attended to at a time: all, or whole windows."""
        if not self.on_cpu or not self.window:
            return x.shape[1]
        return self.window * max(1, POSITIONS_AT_ONCE // (self.window * x.shape[2]))

    def _rows_expanded(self, x: Tensor) -> int:
        if not self.on_cpu:
            return x.shape[1]
        return max(1, HIDDEN_AT_ONCE // (len(self.expand.weight) * x.shape[2]))


def _scaled_qkv(attention: Any, dtype: torch.dtype) -> Linear:
    """The projection to queries, keys and values, (3D, D), whose queries come out scaled."""
    weight, bias = attention.qkv.weight.detach().clone(), attention.qkv.bias.detach().clone()
    queries = len(bias) // 3
    weight[:queries] *= attention.scale
    bias[:queries] *= attention.scale
    return Linear(weight.to(dtype), bias.to(dtype))


def _pooled(x: Tensor) -> Tensor:
    """(G, h, w, d) -> (G, h/2, w/2, d): the largest of each cell, channel by channel."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), POOLED).permute(0, 2, 3, 1)


def _attention_in_windows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(G, n, d) for scaled queries (G, n, d), keys and values (G, N, d)."""
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same over the whole image, or on a GPU: by torch's kernel, where that is fast."""
    if q.device.type != "cpu" or q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q[None], k[None], v[None], scale=1.0)[0]
    return torch.cat([_attention_in_windows(part, k, v) for part in torch.split(q, QUERIES_AT_ONCE, 1)], 1)
