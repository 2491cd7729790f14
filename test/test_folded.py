"""The folded decoder against MaskDecoder, and which decoder is chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_models import DETAILED, MINIATURE, random_sam
from segment_anything.modeling import Sam
from upstream_decoder import Asked, check_against_upstream, random_prompts

from sam_ros.core.checkpoint import load_sam
from sam_ros.fast.decoder import FastMaskDecoder
from sam_ros.fast.folded import FoldedMaskDecoder, fastest_decoder, most_folded_tokens

SAM, DETAILED_SAM = random_sam(MINIATURE), random_sam(DETAILED)
BATCH = 3


def folded_decoder(sam: Sam, most_tokens: int = 1000) -> FoldedMaskDecoder:
    """It upscales five positions at a time."""
    return FoldedMaskDecoder(sam, FastMaskDecoder(sam), most_tokens, positions_at_once=5)


@pytest.mark.parametrize("tokens", [0, 2, 3, 40])
@pytest.mark.parametrize("most_tokens", [7, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_upstream(tokens: int, most_tokens: int, masked: bool) -> None:
    """Also where some prompts of the image are folded and others have too many tokens."""
    asked = random_prompts(SAM, BATCH, tokens, masked)
    check_against_upstream(folded_decoder(SAM, most_tokens), SAM, asked)


@pytest.mark.parametrize("masked", [False, True])
def test_it_adds_finer_levels_as_the_detailed_decoder_does(masked: bool) -> None:
    asked = random_prompts(DETAILED_SAM, BATCH, 2, masked)
    check_against_upstream(folded_decoder(DETAILED_SAM), DETAILED_SAM, asked)


@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_upstream_on_trained_weights(masked: bool) -> None:
    """Theirs are embeddings with channels far from 0, where variances could lose digits."""
    sam = load_sam("sam_tiny")
    torch.manual_seed(0)
    with torch.inference_mode():
        features = sam.image_encoder(torch.rand(1, 3, 8, 8).repeat_interleave(64, 2).repeat_interleave(64, 3))
    mask = 20 * torch.rand(4, *sam.prompt_encoder.mask_input_size).sub(0.5) if masked else None
    asked = Asked(features, torch.randn(4, 2, sam.prompt_encoder.embed_dim), mask)
    check_against_upstream(folded_decoder(sam), sam, asked, atol=1e-4, rtol=0)


def test_prompts_of_too_many_tokens_are_left_to_the_other_decoder() -> None:
    """To the bit: the folded one would round otherwise."""
    plain, asked = FastMaskDecoder(SAM), random_prompts(SAM, BATCH, 3, masked=False)
    with torch.inference_mode():
        expected = plain.decode(asked.features, plain.prepare(asked.features), asked.sparse, None)
        for most_tokens, is_left in ((7, True), (8, False)):
            decoder = folded_decoder(SAM, most_tokens)
            answer = decoder.decode(asked.features, decoder.prepare(asked.features), asked.sparse, None)
            logits = [it.low_res_logits(0, torch.arange(4)) for it in (answer, expected)]
            assert torch.equal(*logits) == is_left


def test_few_tokens_are_folded_where_that_is_less_work() -> None:
    official = random_sam(replace(MINIATURE, prompt_embed_dim=256))
    assert most_folded_tokens(official) == 10  # a click has 7, a box with three clicks 10
    assert isinstance(fastest_decoder(official), FoldedMaskDecoder)
    assert most_folded_tokens(SAM) < 5  # the tokens of the outputs alone
    assert isinstance(fastest_decoder(SAM), FastMaskDecoder)
