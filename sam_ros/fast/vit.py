"""SAM's own image encoder, a ViT, computed faster than by the modules that hold its weights.

The result is that of ``ImageEncoderViT.forward`` (segment_anything/modeling/image_encoder.py) up to rounding.
What is done differently:

- No (tokens, tokens) bias of relative positions is ever made. On a GPU the decomposed position is folded into
  queries and keys, so that one plain scaled dot product attention computes it: with q' = [scale q, q R_row,
  q R_column] and k' = [k, onehot(row), onehot(column)], q' k' is upstream's attention, bias included. On a
  CPU the longer products cost more than adding the bias, which is made for as many queries at a time as the
  caches hold.
- Upstream pads the normalised image with zeros to whole windows and projects the padding too. It takes part
  as keys and values, which are the bias of the projection; only the real tokens are projected here.
- On a CPU the windows are attended to row by row and the MLP is computed for a few hundred positions at a
  time, and added in place: what they make stays in the caches, and little memory is asked for and given back.
- Attention in a reduced precision on a CPU is plain matrix products and a softmax, some queries at a time;
  torch's kernel for attention, which is faster in float32, took 1.6 times as long in a trial.
- Tables that depend on nothing but the weights are made once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Block, get_rel_pos
from torch import Tensor

from sam_ros.fast.layers import Layer, Linear, Neck, add_in_pieces, join_windows, norm, split_windows

ALIGNMENT = 8  # attention kernels want channels in multiples of this
POSITIONS_AT_ONCE = 512  # on a CPU, of an image, that the second half of a block expands: 6 MB
QUERIES_AT_ONCE = 256  # on a CPU, at least one row of a window
BIASES_AT_ONCE = 1 << 20  # on a CPU, 4 MB of float32
SHORT_ROW = 32  # positions: to shorter rows of a window a CPU adds more slowly than it multiplies matrices


def vit_layers(encoder: ImageEncoderViT, dtype: torch.dtype, compile: bool = False) -> list[Layer]:
    """The encoder as a list of steps, so that an encode can be cancelled between blocks.

    The first takes (1, 3, S, S) float32 normalised pixels, the last returns (1, C, S/16, S/16) float32.

    Args:
        encoder: holds the weights, on their device.
        dtype: of the matrix products; sums of the residual stream, norms and the neck's stay float32.
        compile: compile the blocks with torch.compile.
    """
    side = encoder.img_size // encoder.patch_embed.proj.kernel_size[0]
    blocks: list[Layer] = [FastBlock(block, side, dtype) for block in encoder.blocks]
    if compile:
        blocks = [torch.compile(block, dynamic=False) for block in blocks]
    return [_PatchEmbed(encoder, dtype), *blocks, Neck(encoder.neck, dtype)]


class _PatchEmbed:
    """(1, 3, S, S) -> (1, S/16, S/16, D) float32, absolute positions added."""

    def __init__(self, encoder: ImageEncoderViT, dtype: torch.dtype) -> None:
        projection = encoder.patch_embed.proj
        self.patch = projection.kernel_size[0]
        # (D, 3, p, p) -> (D, p * p * 3): patches are read row by row, channels last
        weight = projection.weight.permute(0, 2, 3, 1).flatten(1).contiguous()
        self.project = Linear(weight.to(dtype), projection.bias.to(dtype))
        self.positions = encoder.pos_embed

    def __call__(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[2] // self.patch, x.shape[3] // self.patch
        x = x.permute(0, 2, 3, 1).reshape(1, rows, self.patch, columns, self.patch * 3)
        patches = x.transpose(2, 3).reshape(1, rows, columns, -1)  # (1, rows, columns, p * p * 3)
        return self.project(patches).float() + self.positions


class FastBlock:
    """``Block`` of segment_anything for one image: (1, h, w, D) float32 -> the same."""

    def __init__(self, block: Block, side: int, dtype: torch.dtype) -> None:
        attention = block.attn
        self.window = block.window_size or side
        self.num_heads = attention.num_heads
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.qkv = Linear.of(attention.qkv, dtype)
        self.padding = attention.qkv.bias.to(dtype)  # what the projection makes of zeros
        self.project = Linear.of(attention.proj, dtype)
        self.expand, self.contract = Linear.of(block.mlp.lin1, dtype), Linear.of(block.mlp.lin2, dtype)
        self.activation = block.mlp.act
        self.scale = attention.scale
        self.rows, self.columns = (
            get_rel_pos(self.window, self.window, table).transpose(1, 2).contiguous().to(dtype)
            for table in (attention.rel_pos_h, attention.rel_pos_w)
        )  # (window, d, window) each: query position, channel, key position
        on_cpu = self.rows.device.type == "cpu"
        self.attention = _blockwise_attention if on_cpu else _folded_attention
        self.attended_rows = self.window if on_cpu else side
        self.expanded_rows = max(1, POSITIONS_AT_ONCE // side) if on_cpu else side

    def __call__(self, x: Tensor) -> Tensor:
        """``Block.forward``; on a CPU it may change x."""
        return add_in_pieces(
            self._expanded, add_in_pieces(self._attended, x, self.attended_rows), self.expanded_rows
        )

    def _attended(self, x: Tensor) -> Tensor:
        """What the first half of the block adds, on rows of whole windows: (1, r, w, D) -> the same."""
        qkv = self.qkv(norm(x, self.norm1))
        return self.project(self._attend(qkv).contiguous())  # else the weights are copied for each row

    def _expanded(self, x: Tensor) -> Tensor:
        """What the second half adds, on any positions: (1, r, w, D) -> the same."""
        return self.contract(self.activation(self.expand(norm(x, self.norm2))))

    def _attend(self, qkv: Tensor) -> Tensor:
        """(1, r, w, 3D) -> (1, r, w, D), every window and head by itself."""
        windows = split_windows(qkv, self.padding, self.window, self.num_heads)
        q, k, v = windows.unbind(0)  # (G, window, window, d) each
        k, v = k.flatten(1, 2), v.flatten(1, 2)
        attended = self.attention(q, k, v, self.rows, self.columns, self.scale)
        return join_windows(attended, qkv.shape[1], qkv.shape[2], self.window, self.num_heads)


def _folded_attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    """(G, N, d): attention with relative positions as one plain attention of longer queries and keys.

    Args:
        q: (G, window, window, d).
        k, v: (G, N, d), N = window * window.
        rows, columns: (window, d, window), for each row or column of queries, what their products add for
            each row or column of keys.
        scale: of the products of queries and keys.
    """
    d, unused = q.shape[-1], -(q.shape[-1] + 2 * q.shape[1]) % ALIGNMENT
    by_row, by_column = _by_position(q, rows, columns)
    q = F.pad(torch.cat([q * scale, by_row, by_column], -1), (0, unused)).flatten(1, 2)
    k = F.pad(torch.cat([k, _one_hot_positions(by_row).expand(len(k), -1, -1)], -1), (0, unused))
    v = F.pad(v, (0, q.shape[-1] - d))  # one kernel for all: channels must agree
    return F.scaled_dot_product_attention(q[None], k[None], v[None], scale=1.0)[0, ..., :d]


def _by_position(q: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """(g, r, window, window) each: what queries (g, r, window, d) add for rows and columns of their keys."""
    return q @ rows, (q.transpose(1, 2) @ columns).transpose(1, 2)


def _one_hot_positions(like: Tensor) -> Tensor:
    """(N, 2 * window): for each position of a window, its row and its column; in the dtype of ``like``."""
    one_hot = torch.eye(like.shape[1], dtype=like.dtype, device=like.device)
    return torch.cat([one_hot.repeat_interleave(len(one_hot), 0), one_hot.repeat(len(one_hot), 1)], 1)


def _blockwise_attention(
    q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, scale: float
) -> Tensor:
    """The same, adding what positions contribute block by block."""
    groups, window, _, _d = q.shape
    num_rows = min(max(1, QUERIES_AT_ONCE // window), window)
    at_once = min(max(1, BIASES_AT_ONCE // (num_rows * window**3)), groups)
    buffer = v.new_empty(at_once * num_rows * window**3)
    one_hot = _one_hot_positions(q).T if window < SHORT_ROW else None  # (2 * window, N)
    v = v.contiguous()
    attended = torch.empty_like(v)
    if q.dtype != torch.float32:
        k = k.transpose(1, 2).contiguous().transpose(1, 2)  # as products with them want it
    for g in (slice(start, start + at_once) for start in range(0, groups, at_once)):
        for r in (slice(first, first + num_rows) for first in range(0, window, num_rows)):
            by_row, by_column = _by_position(q[g, r], rows[r], columns)
            bias = buffer[: by_row.numel() * window].view(*by_row.shape, window)
            if one_hot is None:
                torch.add(by_row[..., None], by_column[..., None, :], out=bias)
            else:
                both = torch.cat([by_row, by_column], -1).flatten(0, 2)
                torch.mm(both, one_hot, out=bias.view(len(both), -1))
            attended[g, r.start * window : r.stop * window] = _biased_attention(
                q[g, r].flatten(1, 2), k[g], v[g], bias.flatten(3).flatten(1, 2), scale
            )
    return attended


def _biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """(g, n, d) for queries (g, n, d), keys and values (g, N, d) and a bias (g, n, N), which may change."""
    if q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q[None], k[None], v[None], bias[None], scale=scale)[0]
    return torch.bmm(bias.baddbmm_(q, k.transpose(1, 2), alpha=scale).softmax(-1), v)
