"""Prompt a SAM for many objects of many images at once, as training does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from sam_ros.core.efficientnet import Levels

MASK_LOGIT = 8.0  # a mask image as prompt is logits of +-8, area-resized, -8 in the padding


def decode(sam: Sam, levels: Levels, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """Every mask token's logits and predicted IoU, for equally many prompts on each of some images.

    ``DetailedMaskDecoder.predict_masks``, which takes one image only.

    Args:
        levels: of B images.
        sparse: (B * P, T, E) prompt tokens, those of an image together.
        dense: (B * P, E, h, w) mask prompt embedding.

    Returns:
        (B * P, 4, 4h, 4w) low-res logits, the single-mask output first, and (B * P, 4) predicted IoU.
    """
    decoder, count = sam.mask_decoder, len(sparse)
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output_tokens.expand(count, -1, -1), sparse], 1)  # (N, 5 + T, E)
    with exactly(sparse.device):
        position = sam.prompt_encoder.get_dense_pe().expand(count, -1, -1, -1)
    repeats = count // len(levels.embedding)
    embeddings, eighth, quarter = (level.repeat_interleave(repeats, 0) for level in levels)
    hidden, source = decoder.transformer(embeddings + dense, position, tokens)
    source = source.transpose(1, 2).reshape(embeddings.shape)  # (N, h * w, E) -> (N, E, h, w)
    upscaled = decoder.upscaled(source, eighth, quarter)  # (N, E/8, 4h, 4w)
    heads = decoder.output_hypernetworks_mlps
    weights = torch.stack([head(hidden[:, 1 + i]) for i, head in enumerate(heads)], 1)  # (N, 4, E/8)
    logits = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
    return logits.float(), decoder.iou_prediction_head(hidden[:, 0]).float()


def embed_points_and_boxes(
    sam: Sam, points: Tensor, labels: Tensor, boxes: Tensor, is_box: Tensor, clicks_before_box: int
) -> Tensor:
    """(N, K + 1, E) sparse tokens of N prompts: K clicks each, or a box and K - 1 clicks.

    ``PromptEncoder`` pads clicks without a box by one token and a box counts as two, so that both kinds come
    out equally long and go through the decoder together.

    Args:
        points: (N, K, 2) XY input pixels. Prompts with a box use the last ``clicks_before_box`` of them.
        labels: (N, K) 1 foreground, 0 background.
        boxes: (N, 4) XYXY input pixels.
        is_box: (N,) bool.
        clicks_before_box: K - 1.
    """
    encoder = sam.prompt_encoder
    with exactly(points.device):
        by_clicks = encoder._embed_points(points, labels, pad=True)
        by_box = encoder._embed_boxes(boxes)
        if clicks_before_box:
            clicks = encoder._embed_points(points[:, 1:], labels[:, 1:], pad=False)
            by_box = torch.cat([clicks, by_box], 1)
    return torch.where(is_box[:, None, None], by_box, by_clicks)


def exactly(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast: in bfloat16 a position would be pixels off."""
    return torch.autocast(device.type, enabled=False)


def embed_logits(sam: Sam, low_res_logits: Tensor | None, count: int) -> Tensor:
    """(N, E, h, w) dense embedding of logits (N, 4h, 4w), or of no mask prompt where None."""
    encoder = sam.prompt_encoder
    if low_res_logits is not None:
        return encoder._embed_masks(low_res_logits[:, None])
    size = encoder.image_embedding_size
    return encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(count, -1, *size)


@torch.no_grad()
def chosen_logits(logits: Tensor, predicted_iou: Tensor, is_box: Tensor) -> Tensor:
    """(N, h, w) logits a user would go on with: the best predicted of three after a click, else the first."""
    best = torch.where(is_box, 0, 1 + predicted_iou[:, 1:].argmax(1))
    return logits[torch.arange(len(logits)), best]


@torch.no_grad()
def sample_correction(logits: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A click where the mask is wrong, deeper inside wrong regions more often.

    Args:
        logits: (N, h, w) of the current masks.
        targets: (N, H, W) covered shares in [0, 1] at half the input size.
        generator: source of the choice.

    Returns:
        (N, 2) XY input pixels and (N,) labels: 1 on missing foreground, 0 on surplus. A click on a mask
        without error lies anywhere in the object.
    """
    width = targets.shape[-1]
    resized = interpolate(logits[:, None], targets.shape[-2:], mode="bilinear", align_corners=False)
    wanted = targets > 0.5
    error = ((resized[:, 0] > 0) != wanted).float()
    error = torch.where(error.any(-1).any(-1)[:, None, None], error, wanted.float())
    depth = avg_pool2d(error[:, None], 7, 1, 3)[:, 0] ** 3
    weight = (error * depth).flatten(1) + 1e-9
    index = torch.multinomial(weight, 1, generator=generator)[:, 0]
    jitter = torch.randint(2, (2, len(index)), generator=generator)
    points = torch.stack([index % width, index // width]) * 2 + jitter
    return points.T.float(), wanted.flatten(1)[torch.arange(len(index)), index].long()


@torch.no_grad()
def mask_prompts(targets: Tensor, generator: torch.Generator) -> Tensor:
    """(N, h, w) logits of +-MASK_LOGIT of true masks that were shifted, grown, shrunk or kept.

    ``targets`` is (N, 2h, 2w) covered shares in [0, 1].
    """
    share = avg_pool2d(targets[:, None], 2)
    kind = int(torch.randint(4, (), generator=generator))
    if kind == 1:
        share = max_pool2d(share, 3, 1, 1)
    elif kind == 2:
        share = -max_pool2d(-share, 3, 1, 1)
    elif kind == 3:
        rows, columns = torch.randint(-2, 3, (2,), generator=generator).tolist()
        share = share.roll((rows, columns), (-2, -1))
    return (2 * share[:, 0] - 1) * MASK_LOGIT
