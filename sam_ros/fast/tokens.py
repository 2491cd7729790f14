"""The tokens' side of SAM's mask decoder: what happens to a prompt's few tokens, however the image is kept.

Shapes: B prompts, T tokens of each, O output tokens included, C channels, H heads of d channels. O is 5, in
SAM 2 6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn

from sam_ros.core.efficientnet import DetailedMaskDecoder


class OutputTokens:
    """The tokens that SAM adds to every prompt's, and what is read from them in the end.

    One token becomes the predicted IoU of all masks. Each of the four others becomes the weights of one mask
    for the channels of the upscaled image. SAM 2 has another one behind them, see ``Sam2MaskDecoder``.

    Args:
        decoder: whose weights are used.
    """

    def __init__(self, decoder: MaskDecoder) -> None:
        self._outputs = (
            decoder.output_tokens()
            if isinstance(decoder, DetailedMaskDecoder)
            else torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        )  # (O, C)
        self._final_norm = decoder.transformer.norm_final_attn
        self._iou_head = decoder.iou_prediction_head
        self._hypernetworks = decoder.output_hypernetworks_mlps

    def __len__(self) -> int:
        return len(self._outputs)

    def before(self, sparse: Tensor) -> Tensor:
        """(B, T - O, C) -> (B, T, C): the output tokens, then the prompts' own."""
        return torch.cat([self._outputs.expand(len(sparse), -1, -1), sparse], 1)

    def read(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What (B, T, C) tokens say after all attention.

        Returns:
            (B, 4) predicted IoU and (B, 4, C/8) hyper, the weights of each mask; the single mask's first. The
            output tokens themselves (B, O, C).
        """
        queries = apply_norm(self._final_norm, queries)
        hyper = [network(queries[:, 1 + mask]) for mask, network in enumerate(self._hypernetworks)]
        return self._iou_head(queries[:, 0]), torch.stack(hyper, 1), queries[:, : len(self)]


def attend_to_tokens(layer: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor) -> Tensor:
    """Self attention: the queries (B, T, C) attend to each other.

    Args:
        layer: of the transformer.
        queries: as the layers before left them.
        tokens: as they came from the prompt; they serve as positional encoding, which the first layer leaves
            out since there the queries still are the tokens.
    """
    if layer.skip_first_layer_pe:
        return apply_norm(layer.norm1, layer.self_attn(q=queries, k=queries, v=queries))
    placed = queries + tokens
    return apply_norm(layer.norm1, queries + layer.self_attn(q=placed, k=placed, v=queries))


def add_from_image(layer: TwoWayAttentionBlock, queries: Tensor, taken: Tensor) -> Tensor:
    """The queries (B, T, C) with what they took from the image (B, T, C), through the layer's perceptron."""
    queries = apply_norm(layer.norm2, queries + taken)
    return apply_norm(layer.norm3, queries + layer.mlp(queries))


def split_heads(attention: Attention, x: Tensor) -> Tensor:
    """(B, N, H * d) -> (B, H, N, d)."""
    batch, count, _ = x.shape
    return x.reshape(batch, count, attention.num_heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, N, d) -> (B, N, H * d)."""
    return x.transpose(1, 2).flatten(2)


def scaled(x: Tensor) -> Tensor:
    """(..., d) over the root of d, by which attention scales its scores; of tokens there are far fewer."""
    return x * x.shape[-1] ** -0.5


def apply_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """The norm without the call of a module, which takes longer than the norm of a few tokens."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
