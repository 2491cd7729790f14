"""SAM's mask decoder for prompts of few tokens on a CPU, without computing the image that it updates.

The decoder's layers change the image (N, C) by what its positions take from the tokens: with H heads and T
tokens, weights (N, H * T) times values (H * T, C), followed by a norm over the channels. So after every layer
the image is still

    scale (N, 1) * embedding (N, C) @ map (C, C) + weights (N, R) @ values (R, C) + shift (C,)

where the map is the model's and R is H * T for each layer. A mask prompt adds M channels times the model's
values (M, C); it is there from the start, as if a layer had added it. All that is ever asked of the image are
its products with the model's projections, and its variance over the channels for the next norm. Those of the
first summand are made once per image, see ``folding``; those of the second need only products with the small
values: half the work that the image itself would be, and far less memory to go through. Up to rounding the
result is the same.

A click on ViT-B is 1.3 times as fast as with ``decoder``, 16 mixed prompts 1.6 times; with sam_tiny, which
has half as many channels, nothing is gained (benchmark/README.md).

Weights and scores are kept with positions last: a softmax over the few tokens is quick only across many
positions.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from torch import Tensor, nn

from sam_ros.fast.decoder import Decoder, FastMaskDecoder, Prepared
from sam_ros.fast.details import Details, details_of, embedding_of
from sam_ros.fast.folding import FoldedImage, Folding, Level, Update
from sam_ros.fast.tokens import OutputTokens, add_from_image, attend_to_tokens, scaled, split_heads
from sam_ros.fast.upscaling import POSITIONS_IN_CELL, Answer, Upscaling

POSITIONS_AT_ONCE = 512  # upscaled at a time: what they become, 1 MB, stays in a cache
FEWER_THAN_CHANNELS = 3  # heads * tokens have to be so many times fewer: with more, folding gains nothing


def fastest_decoder(sam: Sam) -> Decoder:
    """The decoder for a model where it is: folded on a CPU, if the model has channels enough for that."""
    plain = FastMaskDecoder(sam)
    most_tokens = 0 if sam.device.type == "cuda" else most_folded_tokens(sam)
    if most_tokens <= len(OutputTokens(sam.mask_decoder)):
        return plain
    return FoldedMaskDecoder(sam, plain, most_tokens)


def most_folded_tokens(sam: Sam) -> int:
    """How many tokens of a prompt, the five of the outputs included, are few enough to be folded."""
    attention = sam.mask_decoder.transformer.final_attn_token_to_image
    return int(attention.embedding_dim / (FEWER_THAN_CHANNELS * attention.num_heads))


class FoldedMaskDecoder:
    """A ``Decoder`` that folds prompts of few tokens, and leaves others to another decoder.

    Args:
        sam: the model.
        plain: for prompts of more tokens.
        most_tokens: of a prompt that is folded, the five of the outputs included.
        positions_at_once: how many are upscaled at a time.
    """

    def __init__(
        self,
        sam: Sam,
        plain: FastMaskDecoder,
        most_tokens: int,
        positions_at_once: int = POSITIONS_AT_ONCE,
    ) -> None:
        self._plain, self._most_tokens, self._positions_at_once = plain, most_tokens, positions_at_once
        self._decoder, self._transformer = sam.mask_decoder, sam.mask_decoder.transformer
        self._outputs = OutputTokens(sam.mask_decoder)
        self._upscaling = Upscaling(sam.mask_decoder)
        self._folding = Folding(sam, self._upscaling)
        self._size_hw = sam.prompt_encoder.image_embedding_size

    def prepare(self, features: Tensor) -> Prepared:
        """See ``Decoder``: the tensors of ``FoldedImage``, then those of ``Details``."""
        folded = self._folding.prepare(embedding_of(self._decoder, features))
        return *folded, *details_of(self._decoder, features).tensors()

    def decode(self, features: Tensor, prepared: Prepared, sparse: Tensor, logits: Tensor | None) -> Answer:
        """See ``Decoder``."""
        count = len(FoldedImage._fields)
        folded, details = FoldedImage(*prepared[:count]), Details(*prepared[count:])
        if len(self._outputs) + sparse.shape[1] > self._most_tokens:
            return self._plain.answer(features, None, details, sparse, logits)
        tokens = self._outputs.before(sparse)  # (B, T, C)
        images = self._images(folded, len(tokens), logits)
        read = self._outputs.read(self._through_layers(tokens, images))

        def logits_in_cells(row: int, hyper: Tensor) -> Tensor:
            return self._logits_in_cells(images[row], details, hyper)

        return Answer(*read, self._size_hw, logits_in_cells)

    def _images(self, folded: FoldedImage, batch: int, logits: Tensor | None) -> list[PromptedImage]:
        """The image of each of B prompts, as it is before the first layer."""
        if logits is None:
            return [PromptedImage(self._folding, folded) for _ in range(batch)]
        return [PromptedImage(self._folding, folded, mask) for mask in self._folding.mask_weights(logits)]

    def _through_layers(self, tokens: Tensor, images: list[PromptedImage]) -> Tensor:
        """What (B, T, C) tokens become; the images change with them."""
        queries = tokens
        *levels, last = self._folding.levels
        layers = zip(self._transformer.layers, levels, self._folding.updates, strict=True)
        for layer, level, update in layers:
            queries = attend_to_tokens(layer, queries, tokens)
            queries = add_from_image(layer, queries, _taken_from_images(images, level, queries + tokens))
            _attend_to_queries(images, update, queries, tokens)
        return queries + _taken_from_images(images, last, queries + tokens)

    def _logits_in_cells(self, image: PromptedImage, details: Details, hyper: Tensor) -> Tensor:
        """(4N, 4, M) logits of one prompt for hyper (M, C/8); its image is upscaled only now."""
        count, at_once = self._size_hw[0] * self._size_hw[1], self._positions_at_once
        parts = []
        for first in range(0, count, at_once):
            positions = slice(first, first + at_once)
            upscaled = image.upscaled_once(positions)  # (n, 4, C/4)
            upscaled = self._upscaling.activated(upscaled, details.eighth, positions).flatten(0, 1)
            in_cell = slice(POSITIONS_IN_CELL * first, POSITIONS_IN_CELL * (first + at_once))
            parts.append(self._upscaling.logits(upscaled, details.quarter, in_cell, hyper))
        return torch.cat(parts)


def _taken_from_images(images: list[PromptedImage], level: Level, queries: Tensor) -> Tensor:
    """(B, T, C): what the tokens of each prompt take from its image; queries (B, T, C)."""
    attention = level.to_image
    q = scaled(split_heads(attention, attention.q_proj(queries)))  # (B, H, T, d)
    taken = [image.taken_by(level, of_prompt) for image, of_prompt in zip(images, q, strict=True)]
    return attention.out_proj(torch.stack(taken))


def _attend_to_queries(images: list[PromptedImage], update: Update, queries: Tensor, tokens: Tensor) -> None:
    """Let each prompt's image attend to its tokens, (B, T, C): queries as they are, tokens as they came."""
    attention = update.to_tokens
    k = scaled(split_heads(attention, attention.k_proj(queries + tokens)))  # (B, H, T, d)
    v = split_heads(attention, attention.v_proj(queries))
    for image, key, value in zip(images, k, v, strict=True):
        image.attend(update, key, value)


class PromptedImage:
    """The image as one prompt changes it, in the parts that the module names; starts as the embedding.

    Args:
        folding: of the model.
        folded: what was prepared of the image.
        mask: (M, N) weights of the prompt's mask, see ``Folding.mask_weights``; None without a mask prompt.
    """

    def __init__(self, folding: Folding, folded: FoldedImage, mask: Tensor | None = None) -> None:
        self._folding, self._folded, self._num_heads = folding, folded, folding.num_heads
        count = len(folded.upscaled)
        self._scale = folded.upscaled.new_ones(count)
        self._weights = folded.upscaled.new_empty(0, count) if mask is None else mask  # (R, N)
        self._values = folding.mask_values[: len(self._weights)]  # (R, C)
        self._num_masks = len(self._weights)
        self._from_tokens: list[Tensor] = []  # (H, T, d) of each update: values, before they become channels

    def taken_by(self, level: Level, queries: Tensor) -> Tensor:
        """(T, D): what tokens take from the image, with queries (H, T, d), already scaled."""
        attention = level.to_image
        scores = self._scores(queries, level.keys, level.keys_placed, attention.k_proj)
        attending = scores.flatten(0, 1).softmax(1)  # (H * T, N)
        heads, count, _ = queries.shape
        of_weights = (attending @ self._weights.T).view(heads, count, len(self._weights))
        attending *= self._scale
        embedded = self._projected(level.values).transpose(1, 2)  # (H, N, d)
        taken = torch.bmm(attending.view(heads, count, -1), embedded)
        taken = torch.baddbmm(taken, of_weights, self._values_in_heads(attention.v_proj))
        return taken.transpose(0, 1).flatten(1) + level.values_shift

    def attend(self, update: Update, keys: Tensor, values: Tensor) -> None:
        """Change by attending to tokens with keys, already scaled, and values, (H, T, d) both."""
        scores = self._scores(keys, update.queries, update.queries_placed, update.to_tokens.q_proj)
        heads, channels = self._num_heads, self._values.shape[1]
        out = update.to_tokens.out_proj.weight.T.reshape(heads, -1, channels)  # (H, d, C)
        # The weights of each head add up to 1, so that what is common may be shared out to the values.
        gained = (values @ out).flatten(0, 1) + update.common / heads
        self._weights = torch.cat([self._weights, scores.softmax(1).flatten(0, 1)])
        self._values = torch.cat([self._values, gained])
        self._from_tokens.append(values)
        self._normalize(update)

    def _normalize(self, update: Update) -> None:
        """Apply the norm that follows, but for its shift, which the model's maps hold."""
        values = self._values - self._values.mean(1, keepdim=True)
        # Multiplied into all parts alike: by 1 / sqrt(variance) now, by the gain of each channel below.
        factor = self._variance(update, values).add_(update.norm.eps).rsqrt_()
        self._weights *= factor
        self._scale = self._scale * factor
        self._values = values * update.norm.weight

    def _variance(self, update: Update, values: Tensor) -> Tensor:
        """(N,): the variance over the channels at each position, given the values (R, C) without their mean.

        Of a sum e + Σ w v of embedding and weighted values it is e² + Σ w (2 e v + Σ w' v v'), divided by C.
        """
        overlaps = self._products_with_values(update)  # (R, N)
        overlaps *= self._scale
        overlaps.addmm_(values @ values.T, self._weights, beta=2)
        overlaps *= self._weights
        variance = overlaps.sum(0).addcmul_(self._scale.square(), self._folded.squares[update.index])
        variance /= values.shape[1]
        return variance.clamp_min_(0)  # a sum of both signs may round below 0

    def _products_with_values(self, update: Update) -> Tensor:
        """(R, N): the embedding's products, at this norm, with the values of the mask and of all updates."""
        of_mask = self._folded.masks[update.index, : self._num_masks]
        of_updates = [
            torch.baddbmm(self._folded.commons[common] / self._num_heads, tokens, self._projected(place))
            for tokens, (place, common) in zip(self._from_tokens, update.overlaps, strict=True)
        ]  # (H, T, N) each
        return torch.cat([of_mask, *(products.flatten(0, 1) for products in of_updates)])

    @cached_property
    def _upscaled_values(self) -> Tensor:
        """(R, 4 * C/4); after all layers, when the values no longer change."""
        return self._values @ self._folding.values_upscaling

    def upscaled_once(self, positions: slice) -> Tensor:
        """(n, 4, C/4): a chunk of the image after the first upscaling, without what follows it."""
        upscaled = self._folded.upscaled[positions] * self._scale[positions, None]
        upscaled += self._folding.upscaling_bias
        upscaled.addmm_(self._weights[:, positions].T, self._upscaled_values)  # (n, 4 * C/4)
        return upscaled.view(len(upscaled), POSITIONS_IN_CELL, -1)

    def _projected(self, place: int) -> Tensor:
        """(H, d, N): a product of the embedding."""
        projected = self._folded.projected[place]
        return projected.view(self._num_heads, -1, projected.shape[1])

    def _values_in_heads(self, projection: nn.Linear) -> Tensor:
        """(H, R, d): the values, projected."""
        projected = F.linear(self._values, projection.weight)
        heads = self._num_heads
        return projected.view(len(projected), heads, projected.shape[1] // heads).transpose(0, 1)

    def _scores(self, tokens: Tensor, place: int, placed: Tensor, projection: nn.Linear) -> Tensor:
        """(H, T, N): products of tokens (H, T, d) with the projected image.

        Args:
            tokens: queries or keys.
            place: of the embedding's projection in ``FoldedImage.projected``.
            placed: (D, N) what is added to it.
            projection: of the values.
        """
        scores = torch.bmm(tokens, self._projected(place))
        scores *= self._scale
        scores.baddbmm_(tokens, placed.view(self._num_heads, -1, placed.shape[1]))
        of_values = torch.bmm(tokens, self._values_in_heads(projection).transpose(1, 2)).flatten(0, 1)
        scores.flatten(0, 1).addmm_(of_values, self._weights)
        return scores
