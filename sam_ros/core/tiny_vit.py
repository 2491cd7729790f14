"""TinyViT, the image encoder of MobileSAM, as plainly as it can be written: it holds the weights.

From the paper (Wu et al., TinyViT, https://arxiv.org/abs/2207.10666) and the official checkpoint of MobileSAM
(https://arxiv.org/abs/2306.14289), whose keys the names of the modules here make.
``sam_ros/fast/tiny_vit.py`` computes the same faster.

MobileSAM changes two things of TinyViT: the last stage keeps the stride of 16 instead of halving the image
once more, and a neck of two convolutions takes the place of the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

from sam_ros.core.architecture import TinyVitArchitecture
from sam_ros.core.conv_norm import ConvNorm

EXPANSION = 4  # hidden channels of a block to its channels, convolutions and perceptrons alike
DOWNSAMPLE_STRIDES = (2, 2, 1)  # after each stage but the last; TinyViT itself has 2 everywhere
NUM_CLASSES = 1000  # of the classifier that the encoder was pre-trained as


class TinyVit(nn.Module):
    """Normalised pixels (B, 3, S, S) -> embeddings (B, C, S/16, S/16), all float32."""

    def __init__(self, architecture: TinyVitArchitecture) -> None:
        super().__init__()
        dims = architecture.embed_dims
        self.img_size = architecture.image_size  # segment_anything's name for it
        self.patch_embed = PatchEmbed(dims[0])
        self.layers = nn.ModuleList(_stage(architecture, index) for index in range(len(dims)))
        # Never computed; they are here because the official checkpoint holds them.
        self.norm_head = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], NUM_CLASSES)
        self.neck = _neck(dims[-1], architecture.prompt_embed_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        x = self.patch_embed(pixels)  # (B, 3, S, S) -> (B, D0, S/4, S/4)
        for stage in self.layers:
            x = stage(x)  # in the end (B, D3, S/16, S/16)
        embedding: Tensor = self.neck(x)  # (B, D3, S/16, S/16) -> (B, C, S/16, S/16)
        return embedding


def _stage(architecture: TinyVitArchitecture, index: int) -> Stage:
    dim, depth = architecture.embed_dims[index], architecture.depths[index]
    heads, window = architecture.num_heads[index], architecture.window_sizes[index]
    blocks = [MBConv(dim) if index == 0 else TinyVitBlock(dim, heads, window) for _ in range(depth)]
    if index == len(architecture.embed_dims) - 1:
        return Stage(blocks, None)
    return Stage(blocks, PatchMerging(dim, architecture.embed_dims[index + 1], DOWNSAMPLE_STRIDES[index]))


def _neck(dim: int, out_dim: int) -> nn.Sequential:
    """As in segment_anything's ``ImageEncoderViT``."""
    return nn.Sequential(
        nn.Conv2d(dim, out_dim, 1, bias=False),
        LayerNorm2d(out_dim),
        nn.Conv2d(out_dim, out_dim, 3, padding=1, bias=False),
        LayerNorm2d(out_dim),
    )


class PatchEmbed(nn.Module):
    """Two convolutions that overlap, in place of a ViT's patches: (B, 3, S, S) -> (B, D, S/4, S/4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, dim // 2, 3, stride=2), nn.GELU(), ConvNorm(dim // 2, dim, 3, stride=2)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        patches: Tensor = self.seq(pixels)  # (B, 3, S, S) -> (B, D/2, S/2, S/2) -> (B, D, S/4, S/4)
        return patches


class Stage(nn.Module):
    """Blocks, and what leads to the next stage: (B, D, h, w) -> (B, D', h/stride, w/stride)."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class MBConv(nn.Module):
    """The block of the first stage, an inverted bottleneck (MobileNetV2): (B, D, h, w) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim * EXPANSION
        self.conv1 = ConvNorm(dim, hidden, 1)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        hidden = F.gelu(self.conv1(x))  # (B, D, h, w) -> (B, 4D, h, w)
        hidden = F.gelu(self.conv2(hidden))
        return F.gelu(x + self.conv3(hidden))  # (B, 4D, h, w) -> (B, D, h, w)


class PatchMerging(nn.Module):
    """Fewer positions and more channels: (B, D, h, w) -> (B, D', h/stride, w/stride)."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, out_dim, 1)
        self.conv2 = ConvNorm(out_dim, out_dim, 3, stride, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = F.gelu(self.conv1(x))  # (B, D, h, w) -> (B, D', h, w)
        x = F.gelu(self.conv2(x))  # (B, D', h, w) -> (B, D', h/stride, w/stride)
        merged: Tensor = self.conv3(x)
        return merged


class TinyVitBlock(nn.Module):
    """Attention in windows, a depthwise convolution across them, a perceptron: (B, D, h, w) -> the same."""

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.attn = Attention(dim, num_heads, window_size)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x + self._attended(x)
        x = self.local_conv(x)
        positions = x.permute(0, 2, 3, 1)  # (B, D, h, w) -> (B, h, w, D)
        return x + self.mlp(positions).permute(0, 3, 1, 2)  # (B, h, w, D) -> (B, D, h, w)

    def _attended(self, x: Tensor) -> Tensor:
        """What attention makes of (B, D, h, w), of the same shape.

        The image is padded with zeros at the right and the bottom to whole windows *before* it is normalised,
        and what the norm makes of the padding is attended to.
        """
        side, (batch, dim, height, width) = self.window_size, x.shape
        x = F.pad(x, (0, -width % side, 0, -height % side))
        down, across = x.shape[2] // side, x.shape[3] // side
        x = x.view(batch, dim, down, side, across, side)  # (B, D, n, window, m, window)
        x = x.permute(0, 2, 4, 3, 5, 1)  # (B, n, m, window, window, D)
        x = self.attn(x.reshape(-1, side * side, dim))  # (B * n * m, window^2, D)
        x = x.view(batch, down, across, side, side, dim)  # (B, n, m, window, window, D)
        x = x.permute(0, 5, 1, 3, 2, 4)  # (B, D, n, window, m, window)
        return x.reshape(batch, dim, down * side, across * side)[..., :height, :width]  # (B, D, h, w)


class Attention(nn.Module):
    """Norm and self-attention of windows with a learnt bias for each offset: (B, N, D) -> the same.

    N is the number of positions of a window, row by row.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads, self.window_size = num_heads, window_size
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))

    def bias(self) -> Tensor:
        """(heads, N, N): what is added to the products of each query and each key.

        It depends on how many rows and columns apart they are, in whichever direction.
        """
        side = self.window_size
        ticks = torch.arange(side, device=self.attention_biases.device)
        apart = (ticks[:, None] - ticks).abs()  # (window, window)
        index = apart[:, None, :, None] * side + apart[None, :, None, :]  # query y, query x, key y, key x
        return self.attention_biases[:, index.view(side**2, side**2)]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        batch, positions, dim = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, positions, self.num_heads, 3, -1)  # (B, N, heads, 3, d)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)  # (B, heads, N, d) each
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + self.bias()  # (B, heads, N, N)
        x = scores.softmax(-1) @ v  # (B, heads, N, d)
        x = x.transpose(1, 2).reshape(batch, positions, dim)  # (B, N, heads * d)
        projected: Tensor = self.proj(x)
        return projected


class Mlp(nn.Module):
    """Norm and two linear layers, on each position by itself: (..., D) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, dim * EXPANSION)
        self.fc2 = nn.Linear(dim * EXPANSION, dim)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        contracted: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return contracted
