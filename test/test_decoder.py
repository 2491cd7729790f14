"""The fast decoder against MaskDecoder, whose weights it uses."""

from __future__ import annotations

import pytest
import torch
from random_models import MINIATURE, random_sam
from torch import Tensor

from sam_ros.decoder import Answer, FastMaskDecoder

SAM = random_sam(MINIATURE)
CHANNELS, SIDE = MINIATURE.prompt_embed_dim, MINIATURE.image_size // 16
BATCH = 3


def all_logits(answer: Answer) -> Tensor:
    """(B, 4, 4h, 4w)."""
    return torch.stack([answer.low_res_logits(row, torch.arange(4)) for row in range(BATCH)])


@pytest.mark.parametrize("positions_at_once", [5, SIDE * SIDE])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [0, 2, 3, 40])
def test_it_equals_upstream(tokens: int, masked: bool, positions_at_once: int) -> None:
    torch.manual_seed(tokens)
    features = torch.randn(1, CHANNELS, SIDE, SIDE)
    sparse = torch.randn(BATCH, tokens, CHANNELS)
    dense = torch.randn(BATCH, CHANNELS, SIDE, SIDE) if masked else None
    encoder, decoder = SAM.prompt_encoder, FastMaskDecoder(SAM)
    decoder.positions_at_once = positions_at_once
    no_mask = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(BATCH, -1, SIDE, SIDE)
    with torch.inference_mode():
        answer = decoder.decode(features, decoder.prepare(features), sparse, dense)
        logits, predicted_iou = SAM.mask_decoder.predict_masks(
            features, encoder.get_dense_pe(), sparse, no_mask if dense is None else dense
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
