"""What segment_anything's own mask decoder answers, and prompts at random to ask it with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from sam_ros.core.efficientnet import PACKED, DetailedMaskDecoder
from sam_ros.fast.decoder import Decoder
from sam_ros.fast.upscaling import Answer


@dataclass(frozen=True)
class Asked:
    """What a decoder is asked: features (1, C, h, w), sparse (B, T, C), mask prompts (B, 4h, 4w) or None."""

    features: Tensor
    sparse: Tensor
    mask: Tensor | None


def random_prompts(sam: Sam, batch: int, tokens: int, masked: bool) -> Asked:
    """Prompts of so many tokens on some image, with finer levels where the model has them."""
    torch.manual_seed(tokens)
    channels, side = sam.prompt_encoder.embed_dim, sam.prompt_encoder.image_embedding_size[0]
    is_detailed = isinstance(sam.mask_decoder, DetailedMaskDecoder)
    return Asked(
        torch.randn(1, PACKED * channels if is_detailed else channels, side, side),
        torch.randn(batch, tokens, channels),
        10 * torch.randn(batch, 4 * side, 4 * side) if masked else None,
    )


def all_logits(answer: Answer) -> Tensor:
    """(B, 4, 4h, 4w)."""
    rows = range(len(answer.predicted_iou))
    return torch.stack([answer.low_res_logits(row, torch.arange(4)) for row in rows])


def check_against_upstream(
    decoder: Decoder, sam: Sam, asked: Asked, atol: float = 1e-6, rtol: float = 1e-4
) -> None:
    """A decoder answers as ``MaskDecoder.predict_masks``."""
    encoder, mask = sam.prompt_encoder, asked.mask
    with torch.inference_mode():
        answer = decoder.decode(asked.features, decoder.prepare(asked.features), asked.sparse, mask)
        _, dense = encoder(None, None, None if mask is None else mask[:, None])
        logits, predicted_iou = sam.mask_decoder.predict_masks(
            asked.features, encoder.get_dense_pe(), asked.sparse, dense.expand(len(asked.sparse), -1, -1, -1)
        )
        torch.testing.assert_close(all_logits(answer), logits, atol=atol, rtol=rtol)
        torch.testing.assert_close(answer.predicted_iou, predicted_iou, atol=atol, rtol=rtol)
