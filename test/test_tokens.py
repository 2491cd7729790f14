"""The tokens' side of the decoder against the modules whose weights it uses."""

from __future__ import annotations

import torch
from random_models import MINIATURE, random_sam

from sam_ros.fast.tokens import (
    OutputTokens,
    add_from_image,
    apply_norm,
    attend_to_tokens,
    join_heads,
    scaled,
    split_heads,
)

SAM = random_sam(MINIATURE)
CHANNELS = MINIATURE.prompt_embed_dim
LAYERS = SAM.mask_decoder.transformer.layers


def test_output_tokens_come_before_every_prompts_own() -> None:
    outputs, sparse = OutputTokens(SAM.mask_decoder), torch.randn(2, 3, CHANNELS)
    tokens = outputs.before(sparse)
    assert len(outputs) == 5 and tokens.shape == (2, 8, CHANNELS)
    for of_prompt in tokens:
        assert torch.equal(of_prompt[0], SAM.mask_decoder.iou_token.weight[0])
        assert torch.equal(of_prompt[1:5], SAM.mask_decoder.mask_tokens.weight)
    assert torch.equal(tokens[:, 5:], sparse)


def test_every_output_token_is_read_by_its_own_head() -> None:
    decoder, queries = SAM.mask_decoder, torch.randn(2, 6, CHANNELS)
    predicted_iou, hyper, outputs = OutputTokens(decoder).read(queries)
    normed = decoder.transformer.norm_final_attn(queries)
    torch.testing.assert_close(predicted_iou, decoder.iou_prediction_head(normed[:, 0]))
    torch.testing.assert_close(outputs, normed[:, :5])
    assert hyper.shape == (2, 4, CHANNELS // 8)
    for mask, network in enumerate(decoder.output_hypernetworks_mlps):
        torch.testing.assert_close(hyper[:, mask], network(normed[:, 1 + mask]))


def test_a_layers_steps_on_tokens_are_those_of_its_module() -> None:
    """With an image of zeros that projects to zeros, a layer is nothing but these."""
    tokens, queries = torch.randn(2, 6, CHANNELS), torch.randn(2, 6, CHANNELS)
    image = torch.zeros(2, 9, CHANNELS)
    for layer, skips in zip(LAYERS, (True, False), strict=True):
        assert layer.skip_first_layer_pe == skips
        expected, _ = layer(queries=queries, keys=image, query_pe=tokens, key_pe=image)
        attended = attend_to_tokens(layer, queries, tokens)
        taken = layer.cross_attn_token_to_image(q=attended + tokens, k=image, v=image)
        torch.testing.assert_close(add_from_image(layer, attended, taken), expected)


def test_heads_are_split_as_the_attention_splits_them_and_joined_again() -> None:
    attention, x = LAYERS[0].self_attn, torch.randn(2, 6, CHANNELS)
    split = split_heads(attention, x)
    assert torch.equal(split, attention._separate_heads(x, attention.num_heads))
    assert torch.equal(join_heads(split), x)


def test_queries_are_scaled_by_the_root_of_their_channels() -> None:
    assert torch.equal(scaled(torch.full((1, 4), 3.0)), torch.full((1, 4), 1.5))


def test_a_norm_is_that_of_its_module() -> None:
    x = torch.randn(3, CHANNELS)
    assert torch.equal(apply_norm(LAYERS[0].norm1, x), LAYERS[0].norm1(x))
