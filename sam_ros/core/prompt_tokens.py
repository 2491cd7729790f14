"""Prompts as the coordinates and labels that SAM's prompt encoder takes, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sam_ros.prompt import Prompt

# How PromptEncoder labels tokens that are not points, whose labels are 0 and 1.
PADDING_LABEL, BOX_TOP_LEFT_LABEL, BOX_BOTTOM_RIGHT_LABEL = -1, 2, 3

Tokens: TypeAlias = "tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]"
"""(..., T, 2) coordinates in the square that prompts refer to, and (..., T) labels."""


def batches_of_one_kind(prompts: Sequence[Prompt], most: int, *, pads_boxes: bool) -> Iterator[list[int]]:
    """Indexes of prompts with equal token counts, with or without low-res logits, at most ``most`` at a time.

    Padding to a common count would change the results: SAM attends to padding tokens. Without logits the
    decoder sees the same image for all.

    Args:
        prompts: of one image.
        most: in a batch.
        pads_boxes: see ``tokens_of``.
    """
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, prompt in enumerate(prompts):
        count = prompt.num_tokens + (1 if pads_boxes and prompt.box is not None else 0)
        groups.setdefault((count, prompt.low_res_logits is None), []).append(index)
    for indexes in groups.values():
        for start in range(0, len(indexes), most):
            yield indexes[start : start + most]


def tokens_of(prompts: Sequence[Prompt], scale_xy: npt.NDArray[np.float64], *, pads_boxes: bool) -> Tokens:
    """(B, T, 2) float32 coordinates and (B, T) labels of B prompts of T tokens each.

    Args:
        prompts: of one kind, see ``batches_of_one_kind``.
        scale_xy: (2,) image pixels times this are coordinates in the square that prompts refer to.
        pads_boxes: a padding token ends prompts with a box too, as in SAM 2, where a box is but two points;
            else only prompts without one, as in SAM. A prompt of nothing but logits has no tokens.
    """
    pairs = [_tokens_of_one(prompt, scale_xy, pads_boxes) for prompt in prompts]
    return np.stack([coords for coords, _ in pairs]), np.stack([labels for _, labels in pairs])


def _tokens_of_one(prompt: Prompt, scale_xy: npt.NDArray[np.float64], pads_boxes: bool) -> Tokens:
    """(T, 2) and (T,): the points, then the box's corners, then the padding token."""
    coords, labels = [np.empty((0, 2))], [np.empty(0, np.int64)]
    if prompt.point_coords is not None and prompt.point_labels is not None:
        coords.append(prompt.point_coords * scale_xy)
        labels.append(prompt.point_labels)
    if prompt.box is not None:
        coords.append(prompt.box.reshape(2, 2) * scale_xy)
        labels.append(np.array([BOX_TOP_LEFT_LABEL, BOX_BOTTOM_RIGHT_LABEL]))
    if prompt.num_tokens and (pads_boxes or prompt.box is None):
        coords.append(np.zeros((1, 2)))
        labels.append(np.array([PADDING_LABEL]))
    return np.concatenate(coords).astype(np.float32), np.concatenate(labels)
