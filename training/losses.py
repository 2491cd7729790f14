"""The losses of Segment Anything (Kirillov et al. 2023, appendix A) on low-res logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

FOCAL_WEIGHT = 20.0
DICE_WEIGHT = 1.0
FOCAL_GAMMA = 2.0
CHOSEN_WEIGHT = 1.0


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, C) weighted focal and dice loss of logits (N, C, h, w) against covered shares (N, 1, h, w)."""
    targets = targets.expand_as(logits)
    return FOCAL_WEIGHT * focal_loss(logits, targets) + DICE_WEIGHT * dice_loss(logits, targets)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, C) mean over the pixels, foreground and background weighted alike (alpha = 0.5 in Lin et al. 2017).

    |target - probability|^gamma extends it to targets between 0 and 1.
    """
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    error = (targets - logits.sigmoid()).abs()
    return 0.5 * (error**FOCAL_GAMMA * entropy).mean((-2, -1))


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, C) one minus the soft Dice coefficient."""
    probability = logits.sigmoid()
    overlap = (probability * targets).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (probability.sum((-2, -1)) + targets.sum((-2, -1)) + 1)


@torch.no_grad()
def true_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, C) IoU of the thresholded logits (N, C, h, w) with covered shares (N, 1, h, w) over one half."""
    foreground, wanted = logits > 0, targets > 0.5
    intersection = (foreground & wanted).sum((-2, -1))
    union = (foreground | wanted).sum((-2, -1))
    return intersection / union.clamp(min=1)


def prompt_loss(logits: Tensor, predicted_iou: Tensor, targets: Tensor, is_ambiguous: Tensor) -> Tensor:
    """Mean loss of a batch of prompts.

    The best of the three multimask outputs learns from a single click, and so does the one that a user would
    be given, that of the highest predicted IoU: what is best is known only to who knows the object, and the
    one chosen should be right as often as can be. The single-mask output learns from everything else, with
    the best of three at a smaller weight since a user may ask for three there too.

    Args:
        logits: (N, 4, h, w) of the four mask tokens, the single-mask one first.
        predicted_iou: (N, 4).
        targets: (N, 1, h, w) covered shares in [0, 1].
        is_ambiguous: (N,) bool, True for a single click.
    """
    iou = true_iou(logits, targets)
    losses = mask_loss(logits, targets)
    best_of_three = losses[:, 1:].min(1).values
    chosen = losses[:, 1:].gather(1, predicted_iou[:, 1:].argmax(1, keepdim=True))[:, 0]
    weight_single = torch.where(is_ambiguous, 0.2, 1.0)
    weight_three = torch.where(is_ambiguous, 1.0, 0.2)
    weight_chosen = torch.where(is_ambiguous, CHOSEN_WEIGHT, 0.0)
    masks = (weight_single * losses[:, 0] + weight_three * best_of_three + weight_chosen * chosen).mean()
    return masks + mse_loss(predicted_iou, iou)
