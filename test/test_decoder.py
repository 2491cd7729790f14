"""The fast decoder against MaskDecoder, whose weights it uses."""

from __future__ import annotations

import pytest
import torch
from random_models import DETAILED, MINIATURE, random_sam
from upstream_decoder import all_logits, check_against_upstream, random_prompts

from sam_ros.fast.decoder import FastMaskDecoder

SAM, DETAILED_SAM = random_sam(MINIATURE), random_sam(DETAILED)
SIDE = MINIATURE.image_size // 16
BATCH = 3


@pytest.mark.parametrize("positions_at_once", [5, SIDE * SIDE])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [0, 2, 3, 40])
def test_it_equals_upstream(tokens: int, masked: bool, positions_at_once: int) -> None:
    decoder = FastMaskDecoder(SAM)
    decoder.positions_at_once = positions_at_once
    check_against_upstream(decoder, SAM, random_prompts(SAM, BATCH, tokens, masked))


@pytest.mark.parametrize("masked", [False, True])
def test_it_adds_finer_levels_as_the_detailed_decoder_does(masked: bool) -> None:
    decoder = FastMaskDecoder(DETAILED_SAM)
    decoder.positions_at_once = 5
    check_against_upstream(decoder, DETAILED_SAM, random_prompts(DETAILED_SAM, BATCH, 2, masked))


def test_masks_come_in_the_order_asked_for() -> None:
    decoder, asked = FastMaskDecoder(SAM), random_prompts(SAM, BATCH, 2, masked=False)
    with torch.inference_mode():
        answer = decoder.decode(asked.features, decoder.prepare(asked.features), asked.sparse, None)
        chosen = answer.low_res_logits(1, torch.tensor([3, 1]))
        torch.testing.assert_close(chosen, all_logits(answer)[1, [3, 1]], atol=1e-6, rtol=1e-4)
