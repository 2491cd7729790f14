"""What a click leaves open: how well one does who knows every outline, but not which object is meant."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.answers import Prompted, Scores, iou, joined
from training.batches import click_density
from training.pictures import Mask


def knowing_outlines(objects: Prompted, outlines: Mask) -> Scores:
    """The best answers that there are to the clicks on ``objects``, and the IoU to be expected of them.

    A part that lies in a whole shares its pixels: a click there is on either, more likely on that of which
    the pixel is a larger share. Answered is the outline of the highest IoU to be expected. Nothing between
    two nested outlines is better, as the expected IoU is convex in the area there.

    Args:
        objects: clicked as ``sample_click`` does.
        outlines: (K, H, W) bool, all that could be meant, each as likely as the others, ``objects.masks``
            among them.
    """
    densities = np.stack([click_density(outline) for outline in outlines])
    answers = []
    for truth, (column, row) in zip(objects.masks, objects.points[:, 0].long().tolist(), strict=True):
        here = outlines[:, row, column]
        answers.append(_answer(truth, torch.from_numpy(outlines[here]), densities[here, row, column]))
    return joined(answers)


def _answer(truth: Tensor, clicked: Tensor, density: NDArray[np.float64]) -> Scores:
    """To a click on an object (H, W) that lies in each outline (C, H, W), as likely as (C,) tells."""
    likely = torch.from_numpy(density / density.sum()).float()
    expected = likely @ iou(clicked.expand(len(clicked), *clicked.shape), clicked)  # (C,)
    chosen = expected.argmax()
    true = iou(clicked[None], truth[None])[0]
    return Scores(true[chosen, None], true.max()[None], expected[chosen, None])
