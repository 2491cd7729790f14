"""SAM's mask decoder, computed faster than by the modules of segment_anything that hold its weights.

Up to rounding, the result is that of ``predict_masks`` in segment_anything/modeling/mask_decoder.py. What is
done differently follows from there being few tokens and many image positions:

- Attention between tokens and image projects the tokens instead of the image: q (K W)' = (q W') K'. With
  fewer than internal_dim / num_heads tokens, 16 in the official models, this is less work.
- Without a mask prompt the first layer sees the same image for every prompt; its projections are made once
  per frame, see ``FirstLayer``.
- Finer levels of the image, where an encoder has them, are brought into the order of upscaled cells once per
  frame, see ``details``.
- On a CPU, what can be done to one image position after another is done to a few hundred of them before the
  next: the new image, its scores for the tokens' next attention and the first upscaling stay in the caches.
- A GPU gets all kernels of a single prompt at once, see ``cuda_graph``.

``folded`` holds a second decoder, for prompts of few tokens on a CPU, and chooses between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor

from sam_ros.fast.cuda_graph import Function, Graphed
from sam_ros.fast.details import Details, details_of, embedding_of
from sam_ros.fast.tokens import (
    OutputTokens,
    add_from_image,
    apply_norm,
    attend_to_tokens,
    join_heads,
    scaled,
    split_heads,
)
from sam_ros.fast.upscaling import Answer, Upscaling

# How much a CPU computes at a time, so that it stays in the caches.
UPSCALED_AT_ONCE = 2048  # positions of the second upscaling: 1 MB of what they become
ELEMENTS_AT_ONCE = 1 << 17  # of the image: 512 positions of the official models, all 1024 of sam_tiny

Prepared: TypeAlias = "tuple[Tensor, ...]"
"""What a decoder computes once per image, for itself alone; a CUDA graph returns nothing but tensors."""

Chunk: TypeAlias = "tuple[slice, slice]"  # which prompts, which image positions
ComputeImage: TypeAlias = "Callable[[Chunk], Tensor]"  # computes a chunk (b, n, C) of the image (B, N, C)


class Decoder(Protocol):
    """A mask decoder for prompts on one image."""

    def prepare(self, features: Tensor) -> Prepared:
        """What does not depend on prompts, from the features of one image, as its encoder makes them."""
        ...

    def decode(self, features: Tensor, prepared: Prepared, sparse: Tensor, logits: Tensor | None) -> Answer:
        """Answer B prompts of equally many tokens.

        Args:
            features: of the image: (1, C, h, w), or (1, 4C, h, w) with finer levels.
            prepared: what this decoder's ``prepare`` made of it.
            sparse: (B, T, C) tokens of the prompts.
            logits: (B, 4h, 4w) mask prompts; None where the prompts have none.
        """
        ...


class FirstLayer(NamedTuple):
    """What the first layer computes from one image alone; N = h * w image positions, H heads of d channels.

    Attributes:
        image: (1, N, C) image embedding with the learned "no mask" added.
        k, v: (1, H, N, d) for the tokens that attend to the image.
        q: (1, H, d, N) for the image that attends to the tokens.
    """

    image: Tensor
    k: Tensor
    v: Tensor
    q: Tensor


class FastMaskDecoder:
    """A ``Decoder`` for prompts of any number of tokens, on any device."""

    def __init__(self, sam: Sam) -> None:
        self._decoder, self._transformer = sam.mask_decoder, sam.mask_decoder.transformer
        self._outputs = OutputTokens(sam.mask_decoder)
        self._upscaling = Upscaling(sam.mask_decoder)
        self._mask_downscaling = sam.prompt_encoder.mask_downscaling
        self._no_mask = sam.prompt_encoder.no_mask_embed.weight[None]  # (1, 1, C)
        self._image_pe = _channels_last(sam.prompt_encoder.get_dense_pe())  # (1, N, C)
        self._size_hw = sam.prompt_encoder.image_embedding_size
        self._on_gpu = sam.device.type == "cuda"
        self.positions_at_once = ELEMENTS_AT_ONCE // self._image_pe.shape[2]
        # A GPU runs one prompt's small kernels faster than Python launches them; those of many are large.
        self._answer_one: Function = Graphed(self._answer) if self._on_gpu else self._answer
        self._answer_one_masked: Function = (
            Graphed(self._answer_masked) if self._on_gpu else self._answer_masked
        )

    def prepare(self, features: Tensor) -> Prepared:
        """See ``Decoder``: the tensors of ``FirstLayer``, then those of ``Details``."""
        return *self._first_layer(features), *details_of(self._decoder, features).tensors()

    def _first_layer(self, features: Tensor) -> FirstLayer:
        layer = self._transformer.layers[0]
        to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        image = (_channels_last(embedding_of(self._decoder, features)) + self._no_mask).contiguous()
        placed = image + self._image_pe
        return FirstLayer(
            image,
            split_heads(to_image, to_image.k_proj(placed)),
            split_heads(to_image, to_image.v_proj(image)),
            split_heads(to_tokens, to_tokens.q_proj(placed)).transpose(2, 3).contiguous(),
        )

    def decode(self, features: Tensor, prepared: Prepared, sparse: Tensor, logits: Tensor | None) -> Answer:
        """See ``Decoder``."""
        count = len(FirstLayer._fields)
        first, details = FirstLayer(*prepared[:count]), Details(*prepared[count:])
        return self.answer(features, first, details, sparse, logits)

    def answer(
        self,
        features: Tensor,
        first: FirstLayer | None,
        details: Details,
        sparse: Tensor,
        logits: Tensor | None,
    ) -> Answer:
        """``decode``, given the parts of what is prepared.

        Args:
            features, sparse, logits: see ``Decoder.decode``.
            first: None has it computed, where there are no mask prompts: only then is it of use.
            details: the image's finer levels.
        """
        is_alone = len(sparse) == 1
        if logits is None:
            first = first or self._first_layer(features)
            answer = self._answer_one if is_alone else self._answer
            computed = answer(sparse, *first, details.eighth)
        else:
            answer = self._answer_one_masked if is_alone else self._answer_masked
            embedding = embedding_of(self._decoder, features)
            dense = self._mask_downscaling(logits[:, None])  # (B, C, h, w)
            computed = answer(sparse, embedding, dense, details.eighth)
        return self._from(computed, details)

    def answer_on(self, images: Tensor, details: Details, sparse: Tensor) -> Answer:
        """Answer B prompts without masks, each on an image of its own.

        Args:
            images: (B, C, h, w).
            details: finer levels that all of them have in common.
            sparse: (B, T, C) tokens of the prompts.
        """
        no_mask = self._no_mask.view(1, -1, 1, 1)
        return self._from(self._answer_masked(sparse, images, no_mask, details.eighth), details)

    def _from(self, computed: tuple[Tensor, ...], details: Details) -> Answer:
        """From what ``_answer`` computed."""
        predicted_iou, hyper, tokens, upscaled_once = computed

        def logits_in_cells(row: int, hyper: Tensor) -> Tensor:
            return self._logits_in_cells(upscaled_once[row], details.quarter, hyper)

        return Answer(predicted_iou, hyper, tokens, self._size_hw, logits_in_cells)

    def _answer(
        self, sparse: Tensor, image: Tensor, k: Tensor, v: Tensor, q: Tensor, eighth: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Predicted IoU, hyper and output tokens, and the image upscaled once (B, N, 4, C/4).

        Args:
            sparse: (B, T, C) tokens of prompts without a mask.
            image, k, v, q: see ``FirstLayer``.
            eighth: see ``Details``.
        """
        tokens = self._outputs.before(sparse)
        layer, *later_layers = self._transformer.layers
        attention = layer.cross_attn_token_to_image
        queries = attend_to_tokens(layer, tokens, tokens)
        q_of_tokens = split_heads(attention, attention.q_proj(queries + tokens))
        k, v = (projected.expand(len(tokens), -1, -1, -1) for projected in (k, v))
        taken = attention.out_proj(join_heads(F.scaled_dot_product_attention(q_of_tokens, k, v)))
        queries = add_from_image(layer, queries, taken)
        compute_image = self._image_after_first_layer(image, q, queries, tokens)
        return self._answer_from(tokens, queries, compute_image, later_layers, eighth)

    def _answer_masked(
        self, sparse: Tensor, embedding: Tensor, dense: Tensor, eighth: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The same for mask prompts (B, C, h, w): each makes an image of its own before the first layer."""
        tokens = self._outputs.before(sparse)
        image = (_channels_last(embedding) + _channels_last(dense)).contiguous()  # (B, N, C)
        return self._answer_from(tokens, tokens, image.__getitem__, [*self._transformer.layers], eighth)

    def _answer_from(
        self,
        tokens: Tensor,
        queries: Tensor,
        compute_image: ComputeImage,
        layers: list[TwoWayAttentionBlock],
        eighth: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """From the tokens as they came and as they are, (B, T, C), and an image: the layers that are left."""
        batch = len(tokens)
        for layer in layers:
            queries = attend_to_tokens(layer, queries, tokens)
            attention = layer.cross_attn_token_to_image
            on_image = _queries_on_image(attention, queries + tokens)
            image, scores = self._computed_by_chunks(partial(self._scored, compute_image, on_image), batch)
            queries = add_from_image(layer, queries, _taken_from_image(attention, scores, image))
            compute_image = self._image_after(layer, image, queries, tokens)
        attention = self._transformer.final_attn_token_to_image
        on_image = _queries_on_image(attention, queries + tokens)
        scored_and_upscaled = partial(self._scored_and_upscaled, compute_image, on_image, eighth)
        image, scores, upscaled_once = self._computed_by_chunks(scored_and_upscaled, batch)
        return *self._outputs.read(queries + _taken_from_image(attention, scores, image)), upscaled_once

    def _image_after_first_layer(
        self, image: Tensor, q: Tensor, queries: Tensor, tokens: Tensor
    ) -> ComputeImage:
        """The image (1, N, C), once it has attended to tokens (B, T, C) with its projected ``q``."""
        layer = self._transformer.layers[0]
        attention = layer.cross_attn_image_to_token
        k = scaled(split_heads(attention, attention.k_proj(queries + tokens)))  # (B, H, T, d)
        values = _values_for_image(attention, queries)

        def compute_image(chunk: Chunk) -> Tensor:
            prompts, positions = chunk
            weights = (k[prompts] @ q[..., positions]).softmax(2).flatten(1, 2)  # (b, H * T, n)
            return _with_values(layer, image[:, positions], weights, values[prompts])

        return compute_image

    def _image_after(
        self, layer: TwoWayAttentionBlock, image: Tensor, queries: Tensor, tokens: Tensor
    ) -> ComputeImage:
        """The images (B, N, C), once they have attended to tokens (B, T, C).

        While they do, positions come last: a softmax over the few tokens is quick only across many positions.
        """
        attention = layer.cross_attn_image_to_token
        k = scaled(split_heads(attention, attention.k_proj(queries + tokens)))
        batch, heads, count, d = k.shape
        on_image = (k @ attention.q_proj.weight.view(heads, d, -1)).flatten(1, 2)  # (B, H * T, C)
        bias = (k @ attention.q_proj.bias.view(heads, d, 1)).view(batch, -1, 1)  # (B, H * T, 1)
        values = _values_for_image(attention, queries)

        def compute_image(chunk: Chunk) -> Tensor:
            prompts, positions = chunk
            placed = image[chunk] + self._image_pe[:, positions]  # (b, n, C)
            scores = bias[prompts].baddbmm(on_image[prompts], placed.transpose(1, 2))  # (b, H * T, n)
            weights = scores.view(-1, heads, count, scores.shape[2]).softmax(2).flatten(1, 2)
            return _with_values(layer, image[chunk], weights, values[prompts])

        return compute_image

    def _scored(self, compute_image: ComputeImage, on_image: Tensor, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """A chunk of the image, and its scores (b, n, H * T) for ``_queries_on_image`` (B, H * T, C)."""
        prompts, positions = chunk
        image = compute_image(chunk)
        return image, (image + self._image_pe[:, positions]) @ on_image[prompts].transpose(1, 2)

    def _scored_and_upscaled(
        self, compute_image: ComputeImage, on_image: Tensor, eighth: Tensor | None, chunk: Chunk
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``_scored``, and the chunk upscaled once, (b, n, 4, C/4)."""
        image, scores = self._scored(compute_image, on_image, chunk)
        return image, scores, self._upscaling.once(image, eighth, chunk[1])

    def _computed_by_chunks(
        self, compute: Callable[[Chunk], tuple[Tensor, ...]], batch: int
    ) -> tuple[Tensor, ...]:
        """Compute chunk by chunk of positions and join.

        Args:
            compute: makes tensors (b, n, ...) of a chunk; called with everything at once on a GPU, and where
                the image is small enough.
            batch: B.

        Returns:
            The tensors (B, N, ...).
        """
        count = self._image_pe.shape[1]
        if self._on_gpu or count <= self.positions_at_once:
            return compute((slice(None), slice(None)))
        whole: tuple[Tensor, ...] = ()
        for chunk in _chunks(batch, count, self.positions_at_once):
            parts = compute(chunk)
            whole = whole or tuple(part.new_empty(batch, count, *part.shape[2:]) for part in parts)
            for tensor, part in zip(whole, parts, strict=True):
                tensor[chunk] = part
        return whole

    def _logits_in_cells(self, upscaled_once: Tensor, quarter: Tensor | None, hyper: Tensor) -> Tensor:
        """(4N, 4, M) logits of one prompt, from its image (N, 4, C/4), for hyper (M, C/8)."""
        positions = upscaled_once.flatten(0, 1)  # (4N, C/4)
        at_once = len(positions) if self._on_gpu else UPSCALED_AT_ONCE
        chunks = [slice(first, first + at_once) for first in range(0, len(positions), at_once)]
        return torch.cat(
            [self._upscaling.logits(positions[chunk], quarter, chunk, hyper) for chunk in chunks]
        )


def _chunks(batch: int, count: int, at_once: int) -> Iterator[Chunk]:
    """One prompt after the other, so many of ``count`` positions at a time."""
    for row in range(batch):
        for first in range(0, count, at_once):
            yield slice(row, row + 1), slice(first, first + at_once)


def _channels_last(image: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return image.flatten(2).transpose(1, 2)


def _queries_on_image(attention: Attention, queries: Tensor) -> Tensor:
    """What scores the image as it is, without projecting it, for tokens (B, T, C) that attend to it.

    The bias of k_proj would shift all scores of a token alike, which its softmax takes out again: left out.

    Returns:
        (B, H * T, C), whose products with image positions are the scores.
    """
    q = scaled(split_heads(attention, attention.q_proj(queries)))  # (B, H, T, d)
    heads, d = q.shape[1], q.shape[3]
    return (q @ attention.k_proj.weight.view(heads, d, -1)).flatten(1, 2)


def _taken_from_image(attention: Attention, scores: Tensor, image: Tensor) -> Tensor:
    """(B, T, C): what tokens take from the image (B, N, C) that they score with (B, N, H * T)."""
    batch, heads, channels = len(image), attention.num_heads, image.shape[2]
    weights = scores.transpose(1, 2).softmax(-1)  # (B, H * T, N)
    gathered = (weights @ image).view(batch, heads, -1, channels)  # (B, H, T, C)
    projection = attention.v_proj.weight.view(heads, -1, channels)
    values = gathered @ projection.transpose(1, 2)  # (B, H, T, d)
    return attention.out_proj(join_heads(values) + attention.v_proj.bias)


def _values_for_image(attention: Attention, tokens: Tensor) -> Tensor:
    """(B, H * T, C): what image positions add up, by their weights, when they attend to tokens (B, T, C).

    The weights of each of H heads add up to 1, so the bias may be shared out to the heads' values.
    """
    v = split_heads(attention, attention.v_proj(tokens))  # (B, H, T, d)
    heads, d = v.shape[1], v.shape[3]
    projection = attention.out_proj.weight.T.reshape(heads, d, -1)
    return (v @ projection + attention.out_proj.bias / heads).flatten(1, 2)


def _with_values(layer: TwoWayAttentionBlock, image: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """(b, n, C): the image (b or 1, n, C) plus values (b, H * T, C) by weights (b, H * T, n), normed."""
    return apply_norm(layer.norm4, image.baddbmm(weights.transpose(1, 2), values))
