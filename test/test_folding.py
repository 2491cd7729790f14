"""What is computed once per image against an image that is followed through the layers itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from random_models import MINIATURE, random_sam
from torch import Tensor

from sam_ros.fast.folding import FoldedImage, Folding, Level, Update
from sam_ros.fast.upscaling import Upscaling

SAM = random_sam(MINIATURE)
CHANNELS, SIDE = MINIATURE.prompt_embed_dim, MINIATURE.image_size // 16
NORMS = [layer.norm4 for layer in SAM.mask_decoder.transformer.layers]


@pytest.fixture(scope="module")
def features() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(1, CHANNELS, SIDE, SIDE)


@pytest.fixture(scope="module")
def folding() -> Folding:
    return Folding(SAM, Upscaling(SAM.mask_decoder))


@pytest.fixture(scope="module")
def folded(folding: Folding, features: Tensor) -> FoldedImage:
    with torch.inference_mode():
        return folding.prepare(features)


def embedding_after(features: Tensor, num_norms: int) -> Tensor:
    """(N, C): the embedding after so many norms, without their scale and shift, if layers add nothing."""
    embedding = (features + SAM.prompt_encoder.no_mask_embed.weight[..., None, None])[0].flatten(1).T
    for norm in NORMS[:num_norms]:
        embedding = (embedding - embedding.mean(1, keepdim=True)) * norm.weight
    return embedding


def shift_after(num_norms: int) -> Tensor:
    return NORMS[num_norms - 1].bias if num_norms else torch.zeros(CHANNELS)


def test_tokens_find_the_keys_and_values_of_every_level(
    folding: Folding, folded: FoldedImage, features: Tensor
) -> None:
    pe = SAM.prompt_encoder.get_dense_pe()[0].flatten(1).T
    assert len(folding.levels) == 3
    for index, level in enumerate(folding.levels):
        image, shift = embedding_after(features, index), shift_after(index)
        values = level.to_image.v_proj(image + shift)
        found = folded.projected[level.values].T + level.values_shift
        torch.testing.assert_close(found, values, atol=1e-4, rtol=1e-3)
        keys = F.linear(image + pe, level.to_image.k_proj.weight)
        found = (folded.projected[level.keys] + level.keys_placed).T
        torch.testing.assert_close(found, keys, atol=1e-4, rtol=1e-3)


def test_the_image_finds_its_queries_at_every_update(
    folding: Folding, folded: FoldedImage, features: Tensor
) -> None:
    pe = SAM.prompt_encoder.get_dense_pe()[0].flatten(1).T
    for index, update in enumerate(folding.updates):
        image = embedding_after(features, index) + shift_after(index)
        found = (folded.projected[update.queries] + update.queries_placed).T
        torch.testing.assert_close(found, update.to_tokens.q_proj(image + pe), atol=1e-4, rtol=1e-3)
        common = update.to_tokens.out_proj.bias + shift_after(index)
        torch.testing.assert_close(update.common, common, atol=1e-5, rtol=1e-4)


def centred(image: Tensor) -> Tensor:
    return image - image.mean(-1, keepdim=True)


def at_norm(added: Tensor, since: int, index: int) -> Tensor:
    """What update ``since`` added, (..., C), as it is when norm ``index`` takes its variance."""
    for norm in NORMS[since:index]:
        added = centred(added) * norm.weight
    return centred(added)


def test_the_embeddings_squares_and_products_with_all_that_was_added(
    folding: Folding, folded: FoldedImage, features: Tensor
) -> None:
    tokens_values = torch.randn(4, folding.updates[0].to_tokens.internal_dim)
    for index, update in enumerate(folding.updates):
        assert update.index == index and update.norm is NORMS[index]
        embedding = centred(embedding_after(features, index))  # (N, C)
        torch.testing.assert_close(folded.squares[index], embedding.square().sum(1), atol=1e-4, rtol=1e-3)
        masks = at_norm(folding.mask_values, 0, index)
        torch.testing.assert_close(folded.masks[index], masks @ embedding.T, atol=1e-4, rtol=1e-3)
        assert len(update.overlaps) == index + 1
        for since, (place, common) in enumerate(update.overlaps):
            earlier: Update = folding.updates[since]
            channels = F.linear(tokens_values, earlier.to_tokens.out_proj.weight)  # (4, C)
            found = tokens_values @ folded.projected[place]
            expected = at_norm(channels, since, index) @ embedding.T
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
            expected = at_norm(earlier.common, since, index) @ embedding.T
            torch.testing.assert_close(folded.commons[common], expected, atol=1e-4, rtol=1e-3)


def test_the_embedding_is_upscaled_as_the_layers_leave_it(
    folding: Folding, folded: FoldedImage, features: Tensor
) -> None:
    upscaling = Upscaling(SAM.mask_decoder)
    image = embedding_after(features, 2)
    expected = F.linear(image + shift_after(2), upscaling.first_weight, upscaling.first_bias)
    torch.testing.assert_close(folded.upscaled + folding.upscaling_bias, expected, atol=1e-4, rtol=1e-3)
    values = torch.randn(3, CHANNELS)
    torch.testing.assert_close(values @ folding.values_upscaling, F.linear(values, upscaling.first_weight))


def test_weights_times_values_of_a_mask_prompt_are_what_upstream_adds(folding: Folding) -> None:
    mask = 10 * torch.randn(2, 4 * SIDE, 4 * SIDE)
    added = folding.mask_weights(mask).transpose(1, 2) @ folding.mask_values  # (B, N, C)
    _, dense = SAM.prompt_encoder(None, None, mask[:, None])
    expected = dense.flatten(2).transpose(1, 2) - SAM.prompt_encoder.no_mask_embed.weight
    torch.testing.assert_close(added, expected, atol=1e-4, rtol=1e-3)


def test_levels_ask_in_places_of_their_own(folding: Folding, folded: FoldedImage) -> None:
    def asked(it: Level | Update) -> list[int]:
        return [it.keys, it.values] if isinstance(it, Level) else [it.queries, *(p for p, _ in it.overlaps)]

    asking: list[Level | Update] = [*folding.levels, *folding.updates]
    places = [place for it in asking for place in asked(it)]
    assert sorted(places) == list(range(len(folded.projected)))
