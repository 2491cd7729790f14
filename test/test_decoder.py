"""The fast decoder against MaskDecoder, whose weights it uses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_models import DETAILED, MINIATURE, random_sam
from segment_anything.modeling import Sam
from torch import Tensor

from sam_ros.core.checkpoint import load_sam
from sam_ros.fast.decoder import Answer, FastMaskDecoder
from sam_ros.fast.folded import FoldedImage

SAM, DETAILED_SAM = random_sam(MINIATURE), random_sam(DETAILED)
CHANNELS, SIDE = MINIATURE.prompt_embed_dim, MINIATURE.image_size // 16
BATCH = 3


def all_logits(answer: Answer) -> Tensor:
    """(B, 4, 4h, 4w)."""
    return torch.stack([answer.low_res_logits(row, torch.arange(4)) for row in range(BATCH)])


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prompt is decoded by ``folded``, in pieces."""
    monkeypatch.setattr("sam_ros.fast.decoder.FOLDING", 1 / 1000)
    monkeypatch.setattr("sam_ros.fast.decoder.POSITIONS_AT_ONCE", 5)


@pytest.mark.usefixtures("folding")
@pytest.mark.parametrize("tokens", [0, 2, 3, 40])
@pytest.mark.parametrize("folded_tokens", [7, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_folded_it_equals_upstream(tokens: int, folded_tokens: int, masked: bool) -> None:
    """Also where some prompts of the image are folded and others have too many tokens."""
    decoder = FastMaskDecoder(SAM)
    with torch.inference_mode():
        assert isinstance(decoder.prepare(torch.zeros(1, CHANNELS, SIDE, SIDE)).image, FoldedImage)
    decoder.folded_tokens = folded_tokens
    check_against_upstream(decoder, tokens, masked)


@pytest.mark.usefixtures("folding")
@pytest.mark.parametrize("masked", [False, True])
def test_folded_it_equals_upstream_on_trained_weights(masked: bool) -> None:
    """Theirs are embeddings with channels far from 0, where variances could lose digits."""
    sam = load_sam("sam_tiny")
    decoder = FastMaskDecoder(sam)
    torch.manual_seed(0)
    with torch.inference_mode():
        features = sam.image_encoder(torch.rand(1, 3, 8, 8).repeat_interleave(64, 2).repeat_interleave(64, 3))
        sparse, pe = torch.randn(4, 2, sam.prompt_encoder.embed_dim), sam.prompt_encoder.get_dense_pe()
        mask = 20 * torch.rand(4, *sam.prompt_encoder.mask_input_size).sub(0.5) if masked else None
        answer = decoder.decode(features, decoder.prepare(features), sparse, mask)
        _, dense = sam.prompt_encoder(None, None, None if mask is None else mask[:, None])
        logits, predicted_iou = sam.mask_decoder.predict_masks(
            features, pe, sparse, dense.expand(4, -1, -1, -1)
        )
        for row in range(4):
            ours = answer.low_res_logits(row, torch.arange(4))
            torch.testing.assert_close(ours, logits[row], atol=1e-4, rtol=0)
        torch.testing.assert_close(answer.predicted_iou, predicted_iou, atol=1e-4, rtol=0)


def test_few_tokens_are_folded_where_that_is_less_work() -> None:
    official = FastMaskDecoder(random_sam(replace(MINIATURE, prompt_embed_dim=256)))
    assert official.folded_tokens == 10  # a click has 7, a box with three clicks 10
    assert FastMaskDecoder(SAM).folded_tokens < 5  # the tokens of the outputs alone


@pytest.mark.parametrize("masked", [False, True])
def test_it_adds_finer_levels_as_the_detailed_decoder_does(masked: bool) -> None:
    decoder = FastMaskDecoder(DETAILED_SAM)
    decoder.positions_at_once = 5
    check_against_upstream(decoder, 2, masked, DETAILED_SAM)


@pytest.mark.usefixtures("folding")
@pytest.mark.parametrize("masked", [False, True])
def test_folded_it_adds_finer_levels(masked: bool) -> None:
    check_against_upstream(FastMaskDecoder(DETAILED_SAM), 2, masked, DETAILED_SAM)


def test_what_was_prepared_is_put_together_again() -> None:
    decoder = FastMaskDecoder(DETAILED_SAM)
    with torch.inference_mode():
        prepared = decoder.prepare(torch.randn(1, 128, 4, 4))
    again = decoder.prepared(*prepared.tensors())
    assert again.details is not None and prepared.details is not None
    assert again.details.quarter is prepared.details.quarter
    assert type(again.image) is type(prepared.image) and again.image[0] is prepared.image[0]


@pytest.mark.parametrize("positions_at_once", [5, SIDE * SIDE])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [0, 2, 3, 40])
def test_it_equals_upstream(tokens: int, masked: bool, positions_at_once: int) -> None:
    decoder = FastMaskDecoder(SAM)
    decoder.positions_at_once = positions_at_once
    check_against_upstream(decoder, tokens, masked)


def check_against_upstream(decoder: FastMaskDecoder, tokens: int, masked: bool, sam: Sam = SAM) -> None:
    torch.manual_seed(tokens)
    encoder = sam.prompt_encoder
    side = encoder.image_embedding_size[0]
    features = torch.randn(1, 4 * CHANNELS if decoder.is_detailed else CHANNELS, side, side)
    sparse = torch.randn(BATCH, tokens, CHANNELS)
    mask = 10 * torch.randn(BATCH, 4 * side, 4 * side) if masked else None
    with torch.inference_mode():
        answer = decoder.decode(features, decoder.prepare(features), sparse, mask)
        _, dense = encoder(None, None, None if mask is None else mask[:, None])
        logits, predicted_iou = sam.mask_decoder.predict_masks(
            features, encoder.get_dense_pe(), sparse, dense.expand(BATCH, -1, -1, -1)
        )
        torch.testing.assert_close(all_logits(answer), logits, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(answer.predicted_iou, predicted_iou, atol=1e-6, rtol=1e-4)


def test_masks_come_in_the_order_asked_for() -> None:
    features, sparse = torch.randn(1, CHANNELS, SIDE, SIDE), torch.randn(BATCH, 2, CHANNELS)
    decoder = FastMaskDecoder(SAM)
    with torch.inference_mode():
        answer = decoder.decode(features, decoder.prepare(features), sparse, None)
        chosen = answer.low_res_logits(1, torch.tensor([3, 1]))
        torch.testing.assert_close(chosen, all_logits(answer)[1, [3, 1]], atol=1e-6, rtol=1e-4)
