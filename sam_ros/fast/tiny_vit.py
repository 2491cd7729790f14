"""TinyViT, MobileSAM's image encoder, computed faster than by the modules that hold its weights.

The result is that of ``TinyVit.forward`` (sam_ros/core/tiny_vit.py) up to rounding. What is done differently:

- Batch norms are folded into the convolutions before them; channels come last all the way, so that no
  position is copied between convolutions and attention.
- On a CPU every part is computed for some rows of the image at a time, a few more than it keeps where a
  convolution looks at its neighbours: what comes in between stays in the caches. The first stage, whose
  256 channels of 256 x 256 positions are 64 MB, took 0.4 of the time in a trial.
- On a CPU, layers that see each position by itself are convolutions of 1 x 1 in float32 and matrix products
  in a reduced precision: 0.6 to 0.9 of the time of the other way round, in trials on an AMD EPYC.
- The biases of attention are gathered once. The padding of windows is never projected: the norm makes the
  same of all of it.
- Attention on a CPU is plain matrix products and a softmax, some windows at a time: in windows as small as
  these torch's kernel took 1.5 to 3.5 times as long in trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_ros.core.conv_norm import ConvNorm
from sam_ros.core.tiny_vit import (
    Attention,
    MBConv,
    PatchEmbed,
    PatchMerging,
    Stage,
    TinyVit,
    TinyVitBlock,
)
from sam_ros.fast.layers import (
    Convolution,
    Layer,
    Linear,
    Neck,
    add_in_pieces,
    join_windows,
    norm,
    split_windows,
)

# Threads wait for each other several times a strip, which is dear where other programs want the cores too:
# strips are as high as the caches allow. By one thread's own time, half as high cost the same and twice as
# high, in float32, 1.15 times as much (trials).
PIXELS_AT_ONCE = 1 << 17  # on a CPU, that are embedded
HIDDEN_AT_ONCE = 1 << 21  # on a CPU, values between the convolutions of a block: 8 MB of float32
POSITIONS_AT_ONCE = 2048  # on a CPU, that a block attends to, in whole rows of windows; or expands


def tiny_vit_layers(encoder: TinyVit, dtype: torch.dtype, compile: bool = False) -> list[Layer]:
    """The encoder as a list of steps, so that an encode can be cancelled between blocks.

    The first takes (1, 3, S, S) float32 normalised pixels, the last returns (1, C, S/16, S/16) float32.

    Args:
        encoder: holds the weights, on their device.
        dtype: of the matrix products and most convolutions; sums of the residual stream, norms and the
            convolutions that replace that stream stay float32.
        compile: compile the blocks with torch.compile.
    """
    stages: Any = encoder.layers  # torch's containers do not tell of what
    blocks = [step for stage in stages for step in _stage_layers(stage, dtype)]
    if compile:
        blocks = [torch.compile(block, dynamic=False) for block in blocks]
    return [_PatchEmbed(encoder.patch_embed, dtype), *blocks, Neck(encoder.neck, dtype)]


def _stage_layers(stage: Stage, dtype: torch.dtype) -> list[Layer]:
    """(1, h, w, D) float32 -> (1, h/stride, w/stride, D') float32."""
    blocks: Any = stage.blocks
    steps = [_block(block, dtype) for block in blocks]
    return steps if stage.downsample is None else [*steps, _Bottleneck(stage.downsample, dtype)]


def _block(block: MBConv | TinyVitBlock, dtype: torch.dtype) -> Layer:
    return FastMBConv(block, dtype) if isinstance(block, MBConv) else FastTinyVitBlock(block, dtype)


@dataclass(frozen=True, eq=False)
class _ChannelsLast:
    """A convolution in the dtype of its weights, (1, h, w, D) -> (1, h/s, w/s, D')."""

    convolution: Convolution

    @classmethod
    def of(cls, layer: ConvNorm, dtype: torch.dtype) -> _ChannelsLast:
        """With the weights of a module."""
        return cls(Convolution.of(layer, dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x.to(self.convolution.weight.dtype).permute(0, 3, 1, 2)  # channels last in memory
        return self.convolution(x).permute(0, 2, 3, 1)


def _pointwise(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Layer:
    """What sees each position by itself, (1, h, w, D) -> (1, h, w, D') in a dtype, in the faster of two ways.

    Args:
        weight: (D', D), or (D', D, 1, 1) of a convolution.
        bias: (D',).
        dtype: to compute in.
    """
    weight = weight.flatten(1)
    if dtype == torch.float32 and weight.device.type == "cpu":
        return _ChannelsLast(Convolution.made(weight[:, :, None, None], bias, dtype))
    return Linear(weight.to(dtype).contiguous(), bias.to(dtype))


def _rows_at_once(x: Tensor, positions: int, multiple: int = 1) -> int:
    """How many rows of an image (1, h, w, D) to compute at a time: so many positions, whole multiples.

    A GPU has no caches worth that: it takes all.
    """
    if x.device.type != "cpu":
        return x.shape[1]
    return multiple * max(1, positions // (multiple * x.shape[2]))


def _in_strips(compute: Layer, x: Tensor, rows: int, stride: int) -> Tensor:
    """compute(x) of x (1, h, w, D), so many rows at a time, a multiple of the stride.

    Where two strips meet, each is given ``stride`` rows above and one below of the other, and what comes of
    those above is left out: enough for convolutions of 3 x 3 with a total stride of that.
    """
    if rows >= x.shape[1]:
        return compute(x)
    strips = []
    for first in range(0, x.shape[1], rows):
        above = min(first, stride)
        computed = compute(x[:, first - above : first + rows + 1])
        strips.append(computed[:, above // stride : (above + rows) // stride])
    return torch.cat(strips, 1)


class _PatchEmbed:
    """(1, 3, S, S) -> (1, S/4, S/4, D) float32."""

    STRIDE = 4

    def __init__(self, module: PatchEmbed, dtype: torch.dtype) -> None:
        modules: Any = module.seq
        first, _, second = modules
        self.first, self.second = _ChannelsLast.of(first, dtype), _ChannelsLast.of(second, dtype)

    def __call__(self, pixels: Tensor) -> Tensor:
        """See the class."""
        x = pixels.permute(0, 2, 3, 1)  # (1, S, S, 3)
        rows = _rows_at_once(x, PIXELS_AT_ONCE, self.STRIDE)
        return _in_strips(lambda strip: self.second(F.gelu(self.first(strip))), x, rows, self.STRIDE).float()


class _Bottleneck:
    """Pointwise, depthwise, pointwise: (1, h, w, D) -> (1, h/stride, w/stride, D') float32."""

    def __init__(self, module: MBConv | PatchMerging, dtype: torch.dtype) -> None:
        self.expand = _pointwise(*module.conv1.folded(), dtype)
        self.depthwise = _ChannelsLast.of(module.conv2, dtype)
        self.project = _pointwise(*module.conv3.folded(), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        stride = self.depthwise.convolution.stride
        rows = _rows_at_once(x, HIDDEN_AT_ONCE // self.depthwise.convolution.groups, stride)
        return _in_strips(self.strip, x, rows, stride)

    def strip(self, x: Tensor) -> Tensor:
        """Some rows."""
        return self.project(F.gelu(self.depthwise(F.gelu(self.expand(x))))).float()


class FastMBConv(_Bottleneck):
    """``MBConv`` for one image: (1, h, w, D) float32 -> the same."""

    def strip(self, x: Tensor) -> Tensor:
        """Some rows."""
        return F.gelu(x + super().strip(x))


class FastTinyVitBlock:
    """``TinyVitBlock`` for one image: (1, h, w, D) float32 -> the same."""

    def __init__(self, block: TinyVitBlock, dtype: torch.dtype) -> None:
        self.attended = _Attention(block.attn, dtype)
        self.local = _ChannelsLast.of(block.local_conv, torch.float32)  # nothing else carries the image on
        self.norm = block.mlp.norm
        self.expand = _pointwise(block.mlp.fc1.weight, block.mlp.fc1.bias, dtype)
        self.contract = _pointwise(block.mlp.fc2.weight, block.mlp.fc2.bias, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """``TinyVitBlock.forward``; on a CPU it may change x."""
        window = self.attended.window
        x = self.local(add_in_pieces(self.attended, x, _rows_at_once(x, POSITIONS_AT_ONCE, window)))
        return add_in_pieces(self._expanded, x, _rows_at_once(x, POSITIONS_AT_ONCE))

    def _expanded(self, x: Tensor) -> Tensor:
        """What the perceptron adds, on any positions: (1, r, w, D) -> the same."""
        return self.contract(F.gelu(self.expand(norm(x, self.norm))))


class _Attention:
    """What attention adds, on rows of whole windows: (1, r, w, D) float32 -> the same, in a dtype."""

    def __init__(self, attention: Attention, dtype: torch.dtype) -> None:
        self.window, self.num_heads = attention.window_size, attention.num_heads
        self.norm = attention.norm
        self.qkv = _pointwise(*_rearranged(attention), dtype)
        self.padding = self.qkv(
            attention.norm.bias.view(1, 1, 1, -1)
        ).flatten()  # the norm of zeros is its bias
        self.project = _pointwise(attention.proj.weight, attention.proj.bias, dtype)
        self.bias = attention.bias().to(dtype)
        on_cpu = self.bias.device.type == "cpu"
        self.attend = _plain_attention if on_cpu else _fused_attention

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        windows = split_windows(self.qkv(norm(x, self.norm)), self.padding, self.window, self.num_heads)
        q, k, v = windows.flatten(2, 3).unbind(0)  # (G, N, d) each
        attended = self.attend(q, k, v, self.bias)
        return self.project(join_windows(attended, x.shape[1], x.shape[2], self.window, self.num_heads))


def _rearranged(attention: Attention) -> tuple[Tensor, Tensor]:
    """Weight (3D, D) and bias (3D,) of the projection, to (3, heads, d) channels instead of (heads, 3, d).

    Queries come out scaled.
    """
    dim = attention.qkv.weight.shape[1]
    weight = attention.qkv.weight.view(attention.num_heads, 3, -1, dim).transpose(0, 1)  # (3, heads, d, D)
    bias = attention.qkv.bias.view(attention.num_heads, 3, -1).transpose(0, 1)  # (3, heads, d)
    scale = torch.ones(3, 1, 1, device=weight.device)
    scale[0] = weight.shape[2] ** -0.5
    return (weight * scale[..., None]).reshape(3 * dim, dim), (bias * scale).flatten()


Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """(G, N, d) for scaled queries, keys, values (G, N, d) and biases (heads, N, N); G = windows * heads."""
    scores = torch.bmm(q, k.transpose(1, 2))  # (G, N, N)
    scores.view(-1, *bias.shape).add_(bias)
    return torch.bmm(scores.softmax(-1), v)


def _fused_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The same by torch's kernel."""
    by_head = (-1, len(bias), *q.shape[1:])
    q, k, v = q.reshape(by_head), k.reshape(by_head), v.reshape(by_head)  # (windows, heads, N, d)
    return F.scaled_dot_product_attention(q, k, v, bias, scale=1.0).flatten(0, 1)
