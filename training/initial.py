"""Initial weights from which a small SAM learns within the first hundred steps.

From PyTorch's own the embedding collapses to a constant: the first gradients all say "less foreground", and
the brightness of a patch drowns its edges.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn.functional import unfold

from training.batches import Batch

FOREGROUND_LOGIT = -1.0  # a mask pixel or an edge is rarer than its opposite
WHITENING_FLOOR = 0.01  # variance under which a component of the patches is noise, not to be amplified


def initialise(sam: Sam, pixel_head: nn.Conv2d, sample: Batch) -> None:
    """Set the weights that matter for a quick start; ``sample`` shows what patches look like."""
    _whiten_patches(sam, sample)
    encoder = sam.image_encoder
    encoder.pos_embed.data.copy_(_sine_positions(encoder.pos_embed.shape))
    for block in encoder.blocks:  # the residual sum keeps its size, as in GPT-2
        for layer in (block.attn.proj, block.mlp.lin2):
            layer.weight.data.mul_((2 * len(encoder.blocks)) ** -0.5)
    _look_at_prompts(sam)
    _expect_background(sam, pixel_head)


def _whiten_patches(sam: Sam, sample: Batch) -> None:
    """Embed patches by their principal components, rotated at random.

    Each is divided by the square root of its deviation: with full whitening colour would count for little,
    with none everything but colour would.
    """
    projection = sam.image_encoder.patch_embed.proj
    patches = valid_patches((sample.images - sam.pixel_mean) / sam.pixel_std, sample.valid)
    mean = patches.mean(0)
    variance, basis = torch.linalg.eigh(torch.cov(patches.T))  # ascending
    variance, basis = variance[-len(projection.weight) :], basis[:, -len(projection.weight) :]
    rotation = torch.linalg.qr(torch.randn(len(projection.weight), len(projection.weight)))[0]
    weight = rotation @ (basis / (variance + WHITENING_FLOOR) ** 0.25).T
    projection.weight.data.copy_(weight.reshape(projection.weight.shape))
    projection.bias.data.copy_(-weight @ mean)


def valid_patches(images: Tensor, valid: Tensor) -> Tensor:
    """(N, 768) the 16 x 16 patches of images (B, 3, S, S) that lie wholly outside the padding."""
    patches = unfold(images, 16, stride=16).transpose(1, 2).flatten(0, 1)
    inside = unfold(valid.float(), 16, stride=16).mean(1).flatten() == 1
    return patches[inside]


def _sine_positions(shape: torch.Size) -> Tensor:
    """(1, h, w, D) sines and cosines of row and column, somewhat smaller than the embedded patches."""
    _, height, width, channels = shape
    frequency = torch.pi * 2 ** torch.linspace(0, 3, channels // 4)
    rows = torch.linspace(-1, 1, height)[:, None] * frequency
    columns = torch.linspace(-1, 1, width)[:, None] * frequency
    waves = [rows.sin()[:, None], rows.cos()[:, None], columns.sin()[None], columns.cos()[None]]
    parts = [wave.expand(height, width, -1) for wave in waves]
    return 0.3 * torch.cat(parts, 2)[None]


def _look_at_prompts(sam: Sam) -> None:
    """Let every cross attention of the decoder begin by comparing positions.

    Prompts and image share one positional encoding, so equal query and key projections make a click look at
    its own place from the first step; from independent ones this takes hundreds of steps to be found.
    """
    transformer = sam.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        attention.q_proj.weight.data.mul_(1.8)
        attention.k_proj.weight.data.copy_(attention.q_proj.weight)


def _expect_background(sam: Sam, pixel_head: nn.Conv2d) -> None:
    """Begin at the rate of the rare class (Lin et al. 2017), so that no gradient goes into learning it."""
    pixel_head.weight.data.mul_(0.5)
    pixel_head.get_parameter("bias").data[:16] = FOREGROUND_LOGIT  # of the edges
    decoder = sam.mask_decoder
    decoder.output_upscaling[-2].bias.data[0] = 2.0  # a channel that is about 2 everywhere,
    for network in decoder.output_hypernetworks_mlps:  # and masks that weight it negatively
        network.layers[-1].bias.data[0] = FOREGROUND_LOGIT / 2
