"""The losses, on masks small enough to work out by hand."""

from __future__ import annotations

import torch

from training.losses import (
    CHOSEN_WEIGHT,
    dice_loss,
    focal_loss,
    mask_loss,
    prompt_loss,
    true_iou,
)

SURE = 30.0  # a logit whose sigmoid is 0 or 1
TARGET = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])  # (1, 1, 2, 2)
RIGHT = (2 * TARGET - 1) * SURE
WRONG = -RIGHT


def test_a_right_mask_costs_nothing() -> None:
    assert mask_loss(RIGHT, TARGET).item() < 1e-6


def test_focal_loss_of_an_undecided_mask() -> None:
    """0.5 (alpha) * 0.25 (error squared) * ln 2."""
    assert torch.isclose(focal_loss(torch.zeros_like(TARGET), TARGET), torch.tensor(0.0866434)).all()


def test_dice_loss_of_a_wrong_mask() -> None:
    """No overlap, two pixels each, one of smoothing: 1 - 1/5."""
    assert torch.isclose(dice_loss(WRONG, TARGET), torch.tensor(0.8)).all()


def test_true_iou() -> None:
    logits = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])
    assert torch.isclose(true_iou(logits, TARGET), torch.tensor(1 / 3)).all()
    assert true_iou(RIGHT, TARGET).item() == 1
    assert true_iou(WRONG, TARGET).item() == 0


def test_a_click_needs_one_right_mask_of_three_only() -> None:
    logits = torch.cat([RIGHT, WRONG, WRONG, RIGHT], 1)
    others_wrong = torch.cat([RIGHT, WRONG, WRONG, WRONG], 1)
    iou = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    click = torch.tensor([True])
    assert prompt_loss(logits, iou, TARGET, click).item() < 1e-6
    assert prompt_loss(others_wrong, iou, TARGET, click).item() > 1


def test_a_click_needs_the_mask_that_a_user_would_be_given() -> None:
    logits = torch.cat([RIGHT, WRONG, RIGHT, WRONG], 1)
    chosen_right, chosen_wrong = torch.tensor([[0.0, 0.1, 0.9, 0.2]]), torch.tensor([[0.0, 0.9, 0.1, 0.2]])
    click, box = torch.tensor([True]), torch.tensor([False])
    difference = prompt_loss(logits, chosen_wrong, TARGET, click) - prompt_loss(
        logits, chosen_right, TARGET, click
    )
    surplus = prompt_loss(logits, chosen_wrong, TARGET, box) - prompt_loss(logits, chosen_right, TARGET, box)
    of_the_mask = difference - surplus  # what the predicted IoU itself costs is the same for both
    assert torch.isclose(of_the_mask, CHOSEN_WEIGHT * mask_loss(WRONG, TARGET)[0, 0])


def test_a_box_needs_the_single_mask() -> None:
    single_wrong = torch.cat([WRONG, RIGHT, WRONG, WRONG], 1)
    iou = true_iou(single_wrong, TARGET)
    box, click = torch.tensor([False]), torch.tensor([True])
    cost_of_box = prompt_loss(single_wrong, iou, TARGET, box)
    assert cost_of_box > 4 * prompt_loss(single_wrong, iou, TARGET, click)


def test_a_wrong_predicted_iou_costs_its_square() -> None:
    logits = torch.cat([RIGHT] * 4, 1)
    predicted = torch.full((1, 4), 0.5)
    assert torch.isclose(prompt_loss(logits, predicted, TARGET, torch.tensor([True])), torch.tensor(0.25))
