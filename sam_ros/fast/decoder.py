"""SAM's mask decoder, computed faster than by the modules of segment_anything that hold its weights.

Up to rounding, the result is that of ``predict_masks`` in segment_anything/modeling/mask_decoder.py. What is
done differently follows from there being few tokens and many image positions:

- Cross attention projects the tokens instead of the image: q (K W)' = (q W') K'. With fewer than
  internal_dim / num_heads tokens, 16 in the official models, this is less work.
- Without a mask prompt the first layer sees the same image for every prompt; its projections are made once
  per frame, see ``FirstLayer``.
- Transposed convolutions whose stride is their kernel are matrix products on channels that come last.
- Only the masks that are wanted are computed.
- Finer levels of the image, where an encoder has them, are brought into the order of upscaled cells once per
  frame, see ``Details``.
- On a CPU what can be done to one image position after another is done to a few hundred of them before the
  next: the new image, its scores for the tokens' next attention and the first upscaling stay in the caches.
- On a CPU, prompts of few tokens do without the image's own values until it is upscaled, see ``folded``.
- A GPU gets all kernels of a single prompt at once, see ``cuda_graph``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn

from sam_ros.core.efficientnet import DetailedMaskDecoder, Levels, unpacked
from sam_ros.fast.cuda_graph import Function, Graphed
from sam_ros.fast.folded import POSITIONS_AT_ONCE, FoldedDecoder, FoldedImage, Level, PromptedImage

UPSCALED_AT_ONCE = 2048  # positions, on a CPU: what they become, 1 MB, stays in its cache
FOLDING = 3  # heads * tokens may be so many times fewer than channels: beyond, folding gains nothing
IMAGE_AT_ONCE = 1 << 17  # elements, on a CPU: 512 positions of the official models, all 1024 of sam_tiny

Piece = tuple[slice, slice]  # rows of prompts, image positions
Image = Callable[[Piece], Tensor]  # computes (b, n, C): a piece of the image (B, N, C)


class FirstLayer(NamedTuple):
    """What the first layer computes from one image alone; N = h * w image positions, H heads.

    Attributes:
        keys: (1, N, C) image embedding with the learned "no mask" added.
        k, v: (1, H, N, d) for the tokens that attend to the image.
        q: (1, H, d, N) for the image that attends to the tokens.
    """

    keys: Tensor
    k: Tensor
    v: Tensor
    q: Tensor


class Details(NamedTuple):
    """The finer levels of one image, in the order in which positions become cells of 2 x 2.

    Attributes:
        eighth: (N, 4, C/4), added to what was upscaled once.
        quarter: (4N, 4, C/8), added to what was upscaled twice.
    """

    eighth: Tensor
    quarter: Tensor

    @classmethod
    def of(cls, levels: Levels) -> Details:
        """Those of one image."""
        rows, columns = levels.embedding.shape[2:]
        eighth = levels.eighth.reshape(-1, rows, 2, columns, 2)  # C/4, h, dy, w, dx
        quarter = levels.quarter.reshape(
            -1, rows, 2, 2, columns, 2, 2
        )  # C/8, h, dy, dy of dy, w, dx, dx of dx
        return cls(
            eighth.permute(1, 3, 2, 4, 0).reshape(rows * columns, 4, -1),
            quarter.permute(1, 4, 2, 5, 3, 6, 0).reshape(4 * rows * columns, 4, -1),
        )


class Prepared(NamedTuple):
    """What does not depend on prompts; ``details`` is None for encoders without finer levels."""

    image: FirstLayer | FoldedImage
    details: Details | None = None

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, see ``FastMaskDecoder.prepared``."""
        return (*self.image, *(self.details or ()))


@dataclass(frozen=True, eq=False)
class Answer:
    """What the decoder makes of B prompts, before masks are computed.

    Attributes:
        predicted_iou: (B, 4), that of the single-mask output first.
        hyper: (B, 4, C/8), what each mask weights the channels with.
        size_hw: h, w of the image embedding.
        products: computes the (4hw, 4, M) logits of a row, given its hyper (M, C/8), in cells of 4 x 4.
    """

    predicted_iou: Tensor
    hyper: Tensor
    size_hw: tuple[int, int]
    products: Callable[[int, Tensor], Tensor]

    def low_res_logits(self, row: int, masks: Tensor) -> Tensor:
        """(M, 4h, 4w) logits of the masks with the given (M,) indexes, of prompt ``row``."""
        height, width = self.size_hw
        products = self.products(row, self.hyper[row, masks])
        cells = products.view(height, width, 2, 2, 2, 2, -1)  # h, w, dy, dx, dy of dy, dx of dx, M
        return cells.permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * height, 4 * width)


class FastMaskDecoder:
    """Decodes prompts with equal token counts on one image."""

    def __init__(self, sam: Sam) -> None:
        decoder = sam.mask_decoder
        self.transformer = decoder.transformer
        self.output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])  # (5, C)
        self.heads, self.iou_head = decoder.output_hypernetworks_mlps, decoder.iou_prediction_head
        first, self.upscaling_norm, self.activation, second, _ = decoder.output_upscaling
        self.first_upscaling, self.second_upscaling = _upscaling(first), _upscaling(second)
        self.is_detailed = isinstance(decoder, DetailedMaskDecoder)
        encoder = sam.prompt_encoder
        self.mask_downscaling = encoder.mask_downscaling
        self.no_mask = encoder.no_mask_embed.weight[None]  # (1, 1, C)
        self.image_pe = _tokens(encoder.get_dense_pe())  # (1, N, C)
        self.size_hw = encoder.image_embedding_size
        self.positions_at_once = IMAGE_AT_ONCE // self.image_pe.shape[2]
        on_gpu = sam.device.type == "cuda"
        heads = self.transformer.final_attn_token_to_image.num_heads
        self.folded_tokens = 0 if on_gpu else int(self.image_pe.shape[2] / (FOLDING * heads))
        """How many tokens of a prompt, the five of the outputs included, are few enough for ``folded``."""
        self._folded: FoldedDecoder | None = None
        if self.folded_tokens > len(self.output_tokens):
            self._folded = FoldedDecoder(sam, self.image_pe[0], self.first_upscaling)
        self.compute_alone: Function = Graphed(self._compute) if on_gpu else self._compute
        self.compute_masked_alone: Function = (
            Graphed(self._compute_masked) if on_gpu else self._compute_masked
        )

    def prepare(self, features: Tensor) -> Prepared:
        """What does not depend on prompts, from the features of one image, as its encoder makes them."""
        embedding = self._embedding(features)
        details = Details.of(unpacked(features)) if self.is_detailed else None
        if self._folded is None:
            return Prepared(self._first_layer(embedding), details)
        return Prepared(self._folded.prepare(embedding[0].flatten(1) + self.no_mask[0].T), details)

    def prepared(self, *tensors: Tensor) -> Prepared:
        """What ``prepare`` returned, of its ``tensors``."""
        kind = FirstLayer if self._folded is None else FoldedImage
        image, details = tensors[: len(kind._fields)], tensors[len(kind._fields) :]
        return Prepared(kind(*image), Details(*details) if details else None)

    def _embedding(self, features: Tensor) -> Tensor:
        """(1, C, h, w): what is attended to."""
        return features[:, : self.image_pe.shape[2]]

    def _first_layer(self, embedding: Tensor) -> FirstLayer:
        keys = (_tokens(embedding) + self.no_mask).contiguous()
        layer = self.transformer.layers[0]
        to_image, to_token = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        placed = keys + self.image_pe
        return FirstLayer(
            keys,
            _heads(to_image, to_image.k_proj(placed)),
            _heads(to_image, to_image.v_proj(keys)),
            _heads(to_token, to_token.q_proj(placed)).transpose(2, 3).contiguous(),
        )

    def decode(self, features: Tensor, prepared: Prepared, sparse: Tensor, logits: Tensor | None) -> Answer:
        """Answer B prompts.

        Args:
            features: (1, C, h, w) image embedding, or (1, 4C, h, w) with its finer levels.
            prepared: what ``prepare`` made of it.
            sparse: (B, T, C) tokens of the prompts.
            logits: (B, 4h, 4w) mask prompts; None where the prompts have none.
        """
        image, details = prepared
        num_tokens = len(self.output_tokens) + sparse.shape[1]
        if isinstance(image, FoldedImage) and num_tokens <= self.folded_tokens:
            return self._decode_folded(prepared, sparse, logits)
        alone = len(sparse) == 1
        eighth, quarter = (None, None) if details is None else details
        if logits is None:
            first = image if isinstance(image, FirstLayer) else self._first_layer(self._embedding(features))
            compute = self.compute_alone if alone else self._compute
            computed = compute(sparse, first.keys, first.k, first.v, first.q, eighth)
        else:
            compute = self.compute_masked_alone if alone else self._compute_masked
            masks = self.mask_downscaling(logits[:, None])
            computed = compute(sparse, self._embedding(features), masks, eighth)
        predicted_iou, hyper, half_upscaled = computed

        def products(row: int, chosen: Tensor) -> Tensor:
            return self._products(half_upscaled[row], quarter, chosen)

        return Answer(predicted_iou, hyper, self.size_hw, products)

    def _decode_folded(self, prepared: Prepared, sparse: Tensor, logits: Tensor | None) -> Answer:
        """Answer prompts of few tokens."""
        folded, details = prepared
        assert self._folded is not None and isinstance(folded, FoldedImage)
        queries = tokens = self._with_output_tokens(sparse)
        *levels, last = self._folded.levels
        masks = [None] * len(tokens) if logits is None else self._folded.masks(logits)
        images = [PromptedImage(self._folded, folded, mask) for mask in masks]

        def attended(level: Level, queries: Tensor) -> Tensor:
            """(B, T, C)."""
            attention = level.to_image
            q = _heads(attention, attention.q_proj(queries))
            q = q * q.shape[-1] ** -0.5
            taken = [image.attended(level, one) for image, one in zip(images, q, strict=True)]
            return attention.out_proj(torch.stack(taken))

        for level, update, layer in zip(levels, self._folded.updates, self.transformer.layers, strict=True):
            queries = _attend_to_tokens(layer, queries, tokens)
            queries = _norm(layer.norm2, queries + attended(level, queries + tokens))
            queries = _norm(layer.norm3, queries + layer.mlp(queries))
            attention = layer.cross_attn_image_to_token
            k = _heads(attention, attention.k_proj(queries + tokens))
            k = k * k.shape[-1] ** -0.5
            v = _heads(attention, attention.v_proj(queries))
            for image, *key_and_value in zip(images, k, v, strict=True):
                image.attend(update, *key_and_value)
        queries = queries + attended(last, queries + tokens)
        predicted_iou, hyper = self._heads_of(queries)

        def products(row: int, chosen: Tensor) -> Tensor:
            return self._folded_products(images[row], details, chosen)

        return Answer(predicted_iou, hyper, self.size_hw, products)

    def _heads_of(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted IoU and hyper, see ``Answer``, of (B, T, C) tokens after all attention."""
        queries = _norm(self.transformer.norm_final_attn, queries)
        hyper = torch.stack([head(queries[:, 1 + i]) for i, head in enumerate(self.heads)], 1)
        return self.iou_head(queries[:, 0]), hyper

    def _compute(
        self, sparse: Tensor, keys: Tensor, k: Tensor, v: Tensor, q: Tensor, eighth: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Predicted IoU, hyper, and the image upscaled twofold, from the tensors of ``FirstLayer``."""
        tokens = self._with_output_tokens(sparse)
        first, *others = self.transformer.layers
        queries = _attend_to_tokens(first, tokens, tokens)
        attention = first.cross_attn_token_to_image
        k, v = (projected.expand(len(tokens), -1, -1, -1) for projected in (k, v))
        attended = F.scaled_dot_product_attention(_heads(attention, attention.q_proj(queries + tokens)), k, v)
        queries = _norm(first.norm2, queries + attention.out_proj(_joined(attended)))
        queries = _norm(first.norm3, queries + first.mlp(queries))
        attention = first.cross_attn_image_to_token
        k = _heads(attention, attention.k_proj(queries + tokens))  # (B, H, T, d)
        k, values = k * k.shape[-1] ** -0.5, _folded_values(attention, queries)

        def image(piece: Piece) -> Tensor:
            rows, positions = piece
            weights = (k[rows] @ q[..., positions]).softmax(2).flatten(1, 2)  # (b, H * T, n)
            return _updated(first, keys[:, positions], weights, values[rows])

        return self._answer(tokens, queries, image, others, eighth)

    def _compute_masked(
        self, sparse: Tensor, embedding: Tensor, dense: Tensor, eighth: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The same for mask prompts, each of which makes another image."""
        tokens = self._with_output_tokens(sparse)
        keys = (_tokens(embedding) + _tokens(dense)).contiguous()  # (B, N, C)
        return self._answer(tokens, tokens, keys.__getitem__, [*self.transformer.layers], eighth)

    def _with_output_tokens(self, sparse: Tensor) -> Tensor:
        """(B, T, C) -> (B, 5 + T, C)."""
        return torch.cat([self.output_tokens.expand(len(sparse), -1, -1), sparse], 1)

    def _answer(
        self,
        tokens: Tensor,
        queries: Tensor,
        image: Image,
        layers: list[TwoWayAttentionBlock],
        eighth: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """From (B, T, C) queries and an image: the layers that are left, and the heads."""
        for layer in layers:
            queries = _attend_to_tokens(layer, queries, tokens)
            attention = layer.cross_attn_token_to_image
            folded = _folded_queries(attention, queries + tokens)
            keys, scores = self._everywhere(partial(self._scored, image, folded), len(tokens))
            queries = _norm(layer.norm2, queries + _gathered(attention, scores, keys))
            queries = _norm(layer.norm3, queries + layer.mlp(queries))
            image = self._updated_image(layer, keys, queries, tokens)
        attention = self.transformer.final_attn_token_to_image
        folded = _folded_queries(attention, queries + tokens)
        upscale = partial(self._upscaled, image, folded, eighth)
        keys, scores, upscaled = self._everywhere(upscale, len(tokens))
        predicted_iou, hyper = self._heads_of(queries + _gathered(attention, scores, keys))
        return predicted_iou, hyper, upscaled.view(len(upscaled), *self.size_hw, 4, -1)

    def _everywhere(self, compute: Callable[[Piece], tuple[Tensor, ...]], batch: int) -> tuple[Tensor, ...]:
        """(B, N, ...) each: what is computed, (b, n, ...) each, of all pieces of B images."""
        count = self.image_pe.shape[1]
        on_cpu = self.image_pe.device.type == "cpu"
        if not on_cpu or count <= self.positions_at_once:
            return compute((slice(None), slice(None)))
        whole: tuple[Tensor, ...] = ()
        for row in range(batch):
            for first in range(0, count, self.positions_at_once):
                piece = slice(row, row + 1), slice(first, first + self.positions_at_once)
                parts = compute(piece)
                whole = whole or tuple(part.new_empty(batch, count, *part.shape[2:]) for part in parts)
                for tensor, part in zip(whole, parts, strict=True):
                    tensor[piece] = part
        return whole

    def _scored(self, image: Image, folded: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
        """A piece of the image, and its scores (b, n, H * T) for ``_folded_queries`` (B, H * T, C)."""
        rows, positions = piece
        keys = image(piece)
        return keys, (keys + self.image_pe[:, positions]) @ folded[rows].transpose(1, 2)

    def _upscaled(
        self, image: Image, folded: Tensor, eighth: Tensor | None, piece: Piece
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``_scored``, and the piece upscaled twofold, (b, n, 4, C/4), in cells of 2 x 2."""
        keys, scores = self._scored(image, folded, piece)
        upscaled = _in_cells(keys, *self.first_upscaling)
        return keys, scores, self._activated(_detailed(upscaled, eighth, piece[1]))

    def _activated(self, x: Tensor) -> Tensor:
        """What follows the first upscaling (..., C/4)."""
        norm = self.upscaling_norm
        return self.activation(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))

    def _updated_image(
        self, layer: TwoWayAttentionBlock, keys: Tensor, queries: Tensor, tokens: Tensor
    ) -> Image:
        """The image (B, N, C) after it attends to the tokens (B, T, C).

        While it does, positions come last: a softmax over the few tokens is quick only across many positions.
        """
        attention = layer.cross_attn_image_to_token
        k = _heads(attention, attention.k_proj(queries + tokens))  # (B, H, T, d)
        batch, heads, count, d = k.shape
        k = k * d**-0.5
        folded = (k @ attention.q_proj.weight.view(heads, d, -1)).flatten(1, 2)  # (B, H * T, C)
        shift = (k @ attention.q_proj.bias.view(heads, d, 1)).view(batch, -1, 1)  # (B, H * T, 1)
        values = _folded_values(attention, queries)

        def image(piece: Piece) -> Tensor:
            rows, positions = piece
            placed = keys[piece] + self.image_pe[:, positions]
            scores = torch.baddbmm(shift[rows], folded[rows], placed.transpose(1, 2))  # (b, H * T, n)
            weights = scores.view(-1, heads, count, scores.shape[2]).softmax(2).flatten(1, 2)
            return _updated(layer, keys[piece], weights, values[rows])

        return image

    def _products(self, half_upscaled: Tensor, quarter: Tensor | None, hyper: Tensor) -> Tensor:
        """(4hw, 4, M) logits of one prompt: upscaled once more, then weighted by hyper (M, C/8)."""
        positions = half_upscaled.flatten(0, 2)  # (4hw, C/4)
        at_once = UPSCALED_AT_ONCE if positions.device.type == "cpu" else len(positions)
        pieces = [slice(first, first + at_once) for first in range(0, len(positions), at_once)]
        return torch.cat([self._weighted(positions[piece], quarter, piece, hyper) for piece in pieces])

    def _folded_products(self, image: PromptedImage, details: Details | None, hyper: Tensor) -> Tensor:
        """The same, of an image that is upscaled only now."""
        eighth, quarter = (None, None) if details is None else details
        parts = []
        for first in range(0, self.image_pe.shape[1], POSITIONS_AT_ONCE):
            piece = slice(first, first + POSITIONS_AT_ONCE)
            x = image.upscaled_once(piece)
            x = self._activated(_detailed(x.view(len(x), 4, -1), eighth, piece)).flatten(0, 1)
            parts.append(self._weighted(x, quarter, slice(4 * first, 4 * first + len(x)), hyper))
        return torch.cat(parts)

    def _weighted(self, positions: Tensor, quarter: Tensor | None, piece: slice, hyper: Tensor) -> Tensor:
        """(n, 4, M) logits of a piece of the positions, (n, C/4)."""
        upscaled = _detailed(_in_cells(positions, *self.second_upscaling), quarter, piece)
        return self.activation(upscaled) @ hyper.T


def _tokens(image: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return image.flatten(2).transpose(1, 2)


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _heads(attention: Attention, x: Tensor) -> Tensor:
    """(B, N, H * d) -> (B, H, N, d)."""
    batch, count, _ = x.shape
    return x.reshape(batch, count, attention.num_heads, -1).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    """(B, H, N, d) -> (B, N, H * d)."""
    return x.transpose(1, 2).flatten(2)


def _attend_to_tokens(layer: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor) -> Tensor:
    """The self attention of the tokens (B, T, C)."""
    if layer.skip_first_layer_pe:
        return _norm(layer.norm1, layer.self_attn(q=queries, k=queries, v=queries))
    placed = queries + tokens
    return _norm(layer.norm1, queries + layer.self_attn(q=placed, k=placed, v=queries))


def _folded_queries(attention: Attention, queries: Tensor) -> Tensor:
    """(B, H * T, C): whose products with the image are the scores of tokens (B, T, C) that attend to it.

    The bias of k_proj would shift all scores of a token alike, so it is left out.
    """
    q = _heads(attention, attention.q_proj(queries))  # (B, H, T, d)
    heads, d = q.shape[1], q.shape[3]
    return ((q * d**-0.5) @ attention.k_proj.weight.view(heads, d, -1)).flatten(1, 2)


def _gathered(attention: Attention, scores: Tensor, keys: Tensor) -> Tensor:
    """(B, T, C): what tokens take from the image (B, N, C) that they score with (B, N, H * T)."""
    batch, heads, channels = len(keys), attention.num_heads, keys.shape[2]
    weights = scores.transpose(1, 2).softmax(-1)  # (B, H * T, N)
    gathered = (weights @ keys).view(batch, heads, -1, channels)  # (B, H, T, C)
    projection = attention.v_proj.weight.view(heads, -1, channels)
    values = gathered @ projection.transpose(1, 2)  # (B, H, T, d)
    return attention.out_proj(_joined(values) + attention.v_proj.bias)


def _folded_values(attention: Attention, tokens: Tensor) -> Tensor:
    """(B, H * T, C): what the image adds up when it attends to tokens (B, T, C).

    The weights of each of H heads add up to 1, so the bias may be shared out to the heads' values.
    """
    v = _heads(attention, attention.v_proj(tokens))  # (B, H, T, d)
    heads, d = v.shape[1], v.shape[3]
    projection = attention.out_proj.weight.T.reshape(heads, d, -1)
    return (v @ projection + attention.out_proj.bias / heads).flatten(1, 2)


def _updated(layer: TwoWayAttentionBlock, keys: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """(b, n, C): the image (b or 1, n, C) with the values (b, H * T, C), by weights (b, H * T, n)."""
    return _norm(layer.norm4, torch.baddbmm(keys, weights.transpose(1, 2), values))


def _detailed(upscaled: Tensor, level: Tensor | None, piece: slice) -> Tensor:
    """(..., n, 4, out) with a piece of a finer level (all positions, 4, out) added, where there is one."""
    return upscaled if level is None else upscaled.add_(level[piece])


def _upscaling(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """A transposed convolution of kernel 2 and stride 2 as a linear layer: (4 * out, in) and (4 * out,)."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # (in, out, 2, 2) -> (4 * out, in)
    return weight, layer.get_parameter("bias").repeat(4)


def _in_cells(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(..., in) -> (..., 4, out): every position becomes 2 x 2."""
    return F.linear(x, weight, bias).view(*x.shape[:-1], 4, -1)
