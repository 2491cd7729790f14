"""How far predicted IoU can be trusted: reliability of predictions, and its plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from training.answers import Scores

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Answers sorted by predicted IoU into equal bins of [0, 1], those without any left out.

    Attributes:
        counts: (B,) int64, answers in each bin.
        predicted: (B,) float64, their mean predicted IoU.
        true: (B,) float64, their mean IoU.
    """

    counts: NDArray[np.int64]
    predicted: NDArray[np.float64]
    true: NDArray[np.float64]


def reliability(predicted_iou: ArrayLike, iou: ArrayLike, bins: int = BINS) -> Reliability:
    """Sort answers (N,) into bins; predictions below 0 or above 1 go to the outermost."""
    predicted, true = np.asarray(predicted_iou, np.float64), np.asarray(iou, np.float64)
    index = np.clip(predicted * bins, 0, bins - 1).astype(np.int64)
    counts = np.bincount(index, minlength=bins)
    some = counts > 0
    sums = [np.bincount(index, weights=values, minlength=bins)[some] for values in (predicted, true)]
    return Reliability(counts[some], sums[0] / counts[some], sums[1] / counts[some])


def plot_reliability(scores: Mapping[str, Scores], path: Path) -> None:
    """Mean IoU over predicted IoU, a line for each part; larger dots stand for more answers."""
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="as predicted")
    for name, part in scores.items():
        points = reliability(part.predicted_iou, part.iou)
        (line,) = axes.plot(points.predicted, points.true, label=name)
        sizes = 200 * points.counts / points.counts.sum() + 8
        axes.scatter(points.predicted, points.true, sizes, color=line.get_color())
    axes.set(xlabel="predicted IoU", ylabel="mean IoU", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
