"""SAM's mask decoder for prompts of few tokens, without computing the image that it updates.

The decoder's layers change the image (N, C) by what its positions take from the tokens: with H heads and T
tokens, weights (N, H * T) times values (H * T, C), followed by a norm over the channels. So after every layer
the image is still

    scale (N, 1) * embedding (N, C) @ map (C, C) + weights (N, R) @ values (R, C) + shift (C,)

where the map is the model's and R is H * T for each layer. A mask prompt adds M channels times the model's
values (M, C); it is there from the start, as if a layer had added it. All that is ever asked of the image are
its products with the model's projections, and its variance over the channels for the next norm. Those of the
first summand are made once per image, those of the second need only products with the small values: half the
work that the image itself would be, and far less memory to go through. Up to rounding the result is the same.

Weights and scores are kept with positions last: a softmax over the few tokens is quick only across many
positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

POSITIONS_AT_ONCE = 512  # upscaled at a time: what they become, 1 MB, stays in a cache


class FoldedImage(NamedTuple):
    """What is computed once per image; N positions, D channels inside the attentions.

    Attributes:
        projected: (P, D, N) the embedding's products with all projections of ``Level``, in order.
        shifts: (Q, N) its products with what the layers' values have in common, see ``Level``.
        squares: (L, N) the sum of its squared channels at each norm of the image.
        masks: (L, M, N) its products with the values of mask prompts at each norm.
        upscaled: (N, C) its product with the first upscaling.
    """

    projected: Tensor
    shifts: Tensor
    squares: Tensor
    masks: Tensor
    upscaled: Tensor


@dataclass(frozen=True, eq=False)
class Level:
    """The image before one layer, or before the final attention, and what is asked of it there.

    Attributes:
        to_image: the attention of tokens to it.
        keys, values: their places in ``FoldedImage.projected``.
        keys_placed: (D, N) what its positional encoding adds to the keys; a bias would shift all scores of a
            token alike, so it is left out.
        values_shift: (D,) added to the values.
    """

    to_image: Attention
    keys: int
    values: int
    keys_placed: Tensor
    values_shift: Tensor


@dataclass(frozen=True, eq=False)
class Update:
    """How one layer changes the image.

    Attributes:
        to_tokens: the attention of the image to the tokens.
        queries: their place in ``FoldedImage.projected``.
        queries_placed: (D, N) what positional encoding, bias and shift add to the queries.
        shift: (C,) what the image gains beside the tokens' values: a bias, and the shift of the norm before.
        norm: what follows.
        square: its place in ``FoldedImage.squares``.
        overlaps: for each update so far, this one included, the places of the embedding's products with its
            values, and with its shift, at this norm.
    """

    to_tokens: Attention
    queries: int
    queries_placed: Tensor
    shift: Tensor
    norm: nn.LayerNorm
    square: int
    overlaps: tuple[tuple[int, int], ...]


class FoldedDecoder:
    """The image's side of the decoder.

    Args:
        sam: the model.
        image_pe: (N, C) positional encoding of the image.
        first_upscaling: weight (4 * C/4, C) and bias of the first upscaling.
    """

    def __init__(self, sam: Sam, image_pe: Tensor, first_upscaling: tuple[Tensor, Tensor]) -> None:
        transformer = sam.mask_decoder.transformer
        self.num_heads: int = transformer.final_attn_token_to_image.num_heads
        channels = image_pe.shape[1]
        pe = image_pe.double()
        centring = torch.eye(channels, dtype=torch.float64, device=pe.device) - 1 / channels
        embedded = torch.eye(channels, dtype=torch.float64, device=pe.device)  # map of the embedding so far
        shift = pe.new_zeros(channels)
        projections: list[Tensor] = []  # (C, D) each
        shifts: list[Tensor] = []  # (C,) each
        values_maps: list[tuple[Tensor, Tensor, Tensor]] = []  # of each update: map so far, of tokens, of all

        *self._mask_channels, last = sam.prompt_encoder.mask_downscaling
        instead = last.bias - sam.prompt_encoder.no_mask_embed.weight  # (1, C)
        self.mask_values = torch.cat([last.weight.flatten(1).T, instead])  # (M, C)
        of_masks = self.mask_values.double()  # as the norms so far leave them
        masks: list[Tensor] = []  # (C, M) each

        def place_of(weight: Tensor) -> int:
            projections.append(weight)
            return len(projections) - 1

        def level(attention: Attention) -> Level:
            keys, _ = _linear(attention.k_proj)
            values, bias = _linear(attention.v_proj)
            return Level(
                attention,
                place_of(embedded @ keys),
                place_of(embedded @ values),
                (pe @ keys).T.float().contiguous(),
                (shift @ values + bias).float(),
            )

        self.levels: list[Level] = []
        self.updates: list[Update] = []
        self._gains: list[Tensor] = []  # (C, 1) of each norm
        for layer in transformer.layers:
            self.levels.append(level(layer.cross_attn_token_to_image))
            attention = layer.cross_attn_image_to_token
            queries, bias = _linear(attention.q_proj)
            values, values_bias = _linear(attention.out_proj)
            queries_place = place_of(embedded @ queries)
            queries_placed = (pe @ queries + bias + shift @ queries).T.float().contiguous()
            common = values_bias + shift
            values_maps.append((centring, values, common))
            normed, of_masks = embedded @ centring, of_masks @ centring
            masks.append(normed @ of_masks.T)
            overlaps = []
            for values_map, of_tokens, of_all in values_maps:
                onto = normed @ values_map.T
                shifts.append(onto @ of_all)
                overlaps.append((place_of(onto @ of_tokens.T), len(shifts) - 1))
            square = len(self.updates)
            self.updates.append(
                Update(
                    attention,
                    queries_place,
                    queries_placed,
                    common.float(),
                    layer.norm4,
                    square,
                    tuple(overlaps),
                )
            )
            self._gains.append(layer.norm4.weight[:, None])
            scaled = torch.diag(layer.norm4.weight.detach().double())
            embedded, of_masks = normed @ scaled, of_masks @ scaled
            values_maps = [(onto @ scaled @ centring, v, g) for onto, v, g in values_maps]
            shift = layer.norm4.bias.detach().double()
        self.levels.append(level(transformer.final_attn_token_to_image))

        self._projections = torch.cat(projections, 1).T.float().contiguous()  # (P * D, C)
        self._shifts = torch.stack(shifts).float()  # (Q, C)
        self._masks = torch.cat(masks, 1).T.float().contiguous()  # (L * M, C)
        weight, bias = (tensor.detach().double() for tensor in first_upscaling)
        self._embedded_upscaling = (embedded @ weight.T).float()
        self.upscaling = weight.T.float().contiguous()  # (C, 4 * C/4)
        self.upscaling_bias = (shift @ weight.T + bias).float()

    def prepare(self, keys: Tensor) -> FoldedImage:
        """What does not depend on prompts, from an image embedding (C, N)."""
        inside = self.levels[0].values_shift.shape[0]
        squares, normed = [], keys
        for gain in self._gains:
            normed = normed - normed.mean(0)
            squares.append(normed.square().sum(0))
            normed *= gain
        return FoldedImage(
            (self._projections @ keys).view(-1, inside, keys.shape[1]),
            self._shifts @ keys,
            torch.stack(squares),
            (self._masks @ keys).view(len(self._gains), -1, keys.shape[1]),
            keys.T @ self._embedded_upscaling,
        )

    def masks(self, logits: Tensor) -> Tensor:
        """(B, M, N): what the values of mask prompts are weighted with, from low-res logits (B, 4h, 4w)."""
        channels = logits[:, None]
        for layer in self._mask_channels:
            channels = layer(channels)
        channels = channels.flatten(2)
        return torch.cat([channels, torch.ones_like(channels[:, :1])], 1)  # the last weighs the bias


class PromptedImage:
    """The image as one prompt changes it; starts as the embedding.

    Args:
        decoder: of the model.
        folded: what the decoder prepared of the image.
        mask: (M, N) of the prompt's mask, see ``FoldedDecoder.masks``.
    """

    def __init__(self, decoder: FoldedDecoder, folded: FoldedImage, mask: Tensor | None = None) -> None:
        self._decoder, self._folded, self._num_heads = decoder, folded, decoder.num_heads
        count = len(folded.upscaled)
        self._scale = folded.upscaled.new_ones(count)
        self._weights = folded.upscaled.new_empty(0, count) if mask is None else mask  # (R, N)
        self._values = decoder.mask_values[: len(self._weights)]  # (R, C)
        self._num_masks = len(self._weights)
        self._from_tokens: list[Tensor] = []  # (H, T, d) of each update

    def attended(self, level: Level, queries: Tensor) -> Tensor:
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
        gained = (values @ out).flatten(0, 1) + update.shift / heads
        self._weights = torch.cat([self._weights, scores.softmax(1).flatten(0, 1)])
        self._values = torch.cat([self._values, gained])
        self._from_tokens.append(values)
        self._normalize(update)

    def _normalize(self, update: Update) -> None:
        """Apply the norm, but for its shift."""
        values = self._values - self._values.mean(1, keepdim=True)
        parts = [
            torch.baddbmm(self._folded.shifts[shift] / self._num_heads, tokens, self._projected(place))
            for tokens, (place, shift) in zip(self._from_tokens, update.overlaps, strict=True)
        ]
        of_mask = self._folded.masks[update.square, : self._num_masks]
        # The embedding with the values, (R, N).
        overlaps = torch.cat([of_mask, *(part.flatten(0, 1) for part in parts)])
        overlaps *= self._scale
        overlaps.addmm_(values @ values.T, self._weights, beta=2)
        overlaps *= self._weights
        variance = overlaps.sum(0).addcmul_(self._scale.square(), self._folded.squares[update.square])
        variance /= values.shape[1]
        # A sum of both signs may round below 0.
        factor = variance.clamp_min_(0).add_(update.norm.eps).rsqrt_()
        self._weights *= factor
        self._scale = self._scale * factor
        self._values = values * update.norm.weight

    @cached_property
    def _upscaled_values(self) -> Tensor:
        return self._values @ self._decoder.upscaling

    def upscaled_once(self, positions: slice) -> Tensor:
        """(n, C): a piece of the image after the first upscaling."""
        decoder = self._decoder
        x = self._folded.upscaled[positions] * self._scale[positions, None]
        x += decoder.upscaling_bias
        return x.addmm_(self._weights[:, positions].T, self._upscaled_values)

    def _projected(self, place: int) -> Tensor:
        """(H, d, N)."""
        projected = self._folded.projected[place]
        return projected.view(self._num_heads, -1, projected.shape[1])

    def _values_in_heads(self, projection: nn.Linear) -> Tensor:
        """(H, R, d): the values, projected."""
        projected = F.linear(self._values, projection.weight)
        heads = self._num_heads
        return projected.view(len(projected), heads, projected.shape[1] // heads).transpose(0, 1)

    def _scores(self, tokens: Tensor, place: int, placed: Tensor, projection: nn.Linear) -> Tensor:
        """(H, T, N): products of tokens (H, T, d) with the projected image."""
        scores = torch.bmm(tokens, self._projected(place))
        scores *= self._scale
        scores.baddbmm_(tokens, placed.view(self._num_heads, -1, placed.shape[1]))
        of_values = torch.bmm(tokens, self._values_in_heads(projection).transpose(1, 2)).flatten(0, 1)
        scores.flatten(0, 1).addmm_(of_values, self._weights)
        return scores


def _linear(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight (in, out) and bias (out,), in double precision: maps are multiplied once, images often."""
    return layer.weight.detach().double().T, layer.bias.detach().double()
