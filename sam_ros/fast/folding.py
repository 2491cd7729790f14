"""What the folded decoder computes once per model, and once per image; see ``folded`` for why.

A layer of the mask decoder adds to the image what its positions take from the tokens, and norms it. A norm
over the channels subtracts their mean, multiplies by a number for each position and by a gain for each
channel, and adds a shift. But for that number, all this is linear and the same for every image. So the
model's layers are followed once, as maps (C, C): of the embedding, of the values of mask prompts, and of what
each layer added. Their products with the model's projections are all that an image is multiplied with.

Shapes: N image positions, C channels, D channels inside the attentions, H heads, T tokens of a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn

from sam_ros.fast.upscaling import Upscaling


class FoldedImage(NamedTuple):
    """What is computed once per image: products of its embedding, found by their place in the first axis.

    Attributes:
        projected: (P, D, N) with the projections that ``Level`` and ``Update`` ask for.
        commons: (Q, N) with what the values of each update have in common, at each norm.
        squares: (L, N) with itself at each norm: the sum of its squared channels.
        masks: (L, M, N) with the values of mask prompts at each norm.
        upscaled: (N, 4 * C/4) with the first upscaling.
    """

    projected: Tensor
    commons: Tensor
    squares: Tensor
    masks: Tensor
    upscaled: Tensor


@dataclass(frozen=True, eq=False)
class Level:
    """The image before one layer, or before the final attention, and what tokens ask of it there.

    Attributes:
        to_image: the attention of tokens to the image.
        keys, values: places of the embedding's keys and values in ``FoldedImage.projected``.
        keys_placed: (D, N) what positional encoding adds to the keys. A bias and the image's shift are left
            out: they would add the same to all scores of a token, which its softmax takes out again.
        values_shift: (D,) what bias and shift add to the values.
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
        queries: place of the embedding's queries in ``FoldedImage.projected``.
        queries_placed: (D, N) what positional encoding, bias and shift add to the queries.
        common: (C,) what the image gains beside the tokens' values: a bias, and the shift of the norm before.
        norm: what follows.
        index: which norm that is, counted from 0: its place in ``FoldedImage.squares`` and ``masks``.
        overlaps: for each update so far, this one included, where the embedding's products at this norm are
            with the tokens' values, in ``projected``, and with what they have in common, in ``commons``.
    """

    to_tokens: Attention
    queries: int
    queries_placed: Tensor
    common: Tensor
    norm: nn.LayerNorm
    index: int
    overlaps: tuple[tuple[int, int], ...]


class Folding:
    """The maps of one model that make a ``FoldedImage`` of an embedding.

    Attributes:
        num_heads: H of all attentions.
        levels: the image before each layer and before the final attention.
        updates: how each layer changes it.
        mask_values: (M, C) the values that a mask prompt adds by its M weights, see ``mask_weights``.

    Args:
        sam: the model.
        upscaling: of its decoder.
    """

    def __init__(self, sam: Sam, upscaling: Upscaling) -> None:
        transformer = sam.mask_decoder.transformer
        self.num_heads: int = transformer.final_attn_token_to_image.num_heads
        self._no_mask = sam.prompt_encoder.no_mask_embed.weight  # (1, C)
        *self._mask_layers, last = sam.prompt_encoder.mask_downscaling
        # A mask prompt takes the place of "no mask", which the embedding has been given in ``prepare``.
        self.mask_values = torch.cat([last.weight.flatten(1).T, last.bias - self._no_mask])
        image_pe = sam.prompt_encoder.get_dense_pe()[0].flatten(1).T  # (N, C)
        walk = _Walk(image_pe.double(), self.mask_values.double())
        self.levels: list[Level] = []
        self.updates: list[Update] = []
        for layer in transformer.layers:
            self.levels.append(walk.level(layer.cross_attn_token_to_image))
            self.updates.append(walk.update(layer))
        self.levels.append(walk.level(transformer.final_attn_token_to_image))
        self._take_maps(walk)
        self._take_upscaling(walk, upscaling)

    def _take_maps(self, walk: _Walk) -> None:
        """The maps that the walk collected, each kind as one matrix."""
        self._projections = torch.cat(walk.projections, 1).T.float().contiguous()  # (P * D, C)
        self._commons = torch.stack(walk.commons).float()  # (Q, C)
        self._masks = torch.cat(walk.masks, 1).T.float().contiguous()  # (L * M, C)

    def _take_upscaling(self, walk: _Walk, upscaling: Upscaling) -> None:
        """The first upscaling of the three parts of the image, as the walk left them."""
        weight = upscaling.first_weight.detach().double().T  # (C, 4 * C/4)
        self._embedding_upscaling = (walk.embedding_map @ weight).float()
        self.values_upscaling = weight.float().contiguous()
        self.upscaling_bias = (walk.shift @ weight + upscaling.first_bias.detach().double()).float()

    def prepare(self, features: Tensor) -> FoldedImage:
        """What does not depend on prompts, from an image embedding (1, C, h, w)."""
        embedding = features[0].flatten(1) + self._no_mask.T  # (C, N)
        inside, count = self.levels[0].values_shift.shape[0], embedding.shape[1]
        return FoldedImage(
            (self._projections @ embedding).view(-1, inside, count),
            self._commons @ embedding,
            self._squares(embedding),
            (self._masks @ embedding).view(len(self.updates), -1, count),
            embedding.T @ self._embedding_upscaling,
        )

    def _squares(self, embedding: Tensor) -> Tensor:
        """(L, N): the sum of the squared channels of an embedding (C, N) at each norm, its mean taken out."""
        squares = []
        for update in self.updates:
            embedding = embedding - embedding.mean(0)
            squares.append(embedding.square().sum(0))
            embedding *= update.norm.weight[:, None]
        return torch.stack(squares)

    def mask_weights(self, logits: Tensor) -> Tensor:
        """(B, M, N): the weights of ``mask_values`` at each position, from mask prompts (B, 4h, 4w).

        The last layer of the prompt encoder for masks is a convolution of 1 x 1, whose weights are those
        values: what comes before it are their weights. The value that replaces "no mask" has weight 1.
        """
        channels = logits[:, None]
        for layer in self._mask_layers:
            channels = layer(channels)
        weights = channels.flatten(2)  # (B, M - 1, N)
        return torch.cat([weights, torch.ones_like(weights[:, :1])], 1)


@dataclass(frozen=True, eq=False)
class _Added:
    """What one update added to the image.

    Attributes:
        change: (C, C) what the norms since then made of it; the mean over channels is taken out last.
        values: (D, C) by which the tokens' values, inside the attention, become channels of the image.
        common: (C,) what is added beside, as in ``Update``.
    """

    change: Tensor
    values: Tensor
    common: Tensor


class _Walk:
    """Follows an image through the layers, and collects the maps of all that is asked of its embedding.

    In double precision: maps are multiplied with each other once, and then with every image.

    Attributes:
        projections: (C, D) each, in the order of their places.
        commons: (C,) each.
        masks: (C, M) of each norm.
        embedding_map: (C, C) what the layers so far made of the embedding.
        shift: (C,) what the image has been given at all positions alike.

    Args:
        image_pe: (N, C) positional encoding of the image.
        mask_values: (M, C) of mask prompts.
    """

    def __init__(self, image_pe: Tensor, mask_values: Tensor) -> None:
        channels = image_pe.shape[1]
        self._image_pe, self._mask_values = image_pe, mask_values
        self.embedding_map = torch.eye(channels, dtype=torch.float64, device=image_pe.device)
        self._centring = self.embedding_map - 1 / channels  # (C, C): takes out the mean over the channels
        self.shift = image_pe.new_zeros(channels)
        self._added: list[_Added] = []
        self.projections: list[Tensor] = []
        self.commons: list[Tensor] = []
        self.masks: list[Tensor] = []

    def level(self, attention: Attention) -> Level:
        """What tokens that attend to the image now ask of it."""
        keys, _ = _linear(attention.k_proj)
        values, bias = _linear(attention.v_proj)
        return Level(
            attention,
            self._place_of(self.embedding_map @ keys),
            self._place_of(self.embedding_map @ values),
            (self._image_pe @ keys).T.float().contiguous(),
            (self.shift @ values + bias).float(),
        )

    def update(self, layer: TwoWayAttentionBlock) -> Update:
        """Let the image attend to the tokens, and norm it."""
        attention, index = layer.cross_attn_image_to_token, len(self._added)
        queries, bias = _linear(attention.q_proj)
        place = self._place_of(self.embedding_map @ queries)
        placed = (self._image_pe @ queries + bias + self.shift @ queries).T.float().contiguous()
        values, values_bias = _linear(attention.out_proj)
        common = values_bias + self.shift
        self._added.append(_Added(self._centring, values, common))
        overlaps = self._norm(layer.norm4)
        return Update(attention, place, placed, common.float(), layer.norm4, index, overlaps)

    def _norm(self, norm: nn.LayerNorm) -> tuple[tuple[int, int], ...]:
        """Apply a norm to all parts of the image, but for what depends on the position.

        Returns:
            ``Update.overlaps``: its variance asks for products of the embedding with all that was added.
        """
        centred, self._mask_values = self.embedding_map @ self._centring, self._mask_values @ self._centring
        self.masks.append(centred @ self._mask_values.T)
        overlaps = tuple(self._overlap(centred, added) for added in self._added)
        gain = torch.diag(norm.weight.detach().double())
        self.embedding_map, self._mask_values = centred @ gain, self._mask_values @ gain
        self._added = [replace(it, change=it.change @ gain @ self._centring) for it in self._added]
        self.shift = norm.bias.detach().double()
        return overlaps

    def _overlap(self, centred: Tensor, added: _Added) -> tuple[int, int]:
        """Places of the embedding's products, by its map (C, C), with what an update added."""
        onto = centred @ added.change.T
        self.commons.append(onto @ added.common)
        return self._place_of(onto @ added.values.T), len(self.commons) - 1

    def _place_of(self, projection: Tensor) -> int:
        """Collect a map (C, D): its place in ``FoldedImage.projected``."""
        self.projections.append(projection)
        return len(self.projections) - 1


def _linear(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight (in, out) and bias (out,) in double precision."""
    return layer.weight.detach().double().T, layer.bias.detach().double()
