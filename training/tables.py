"""The figures of the evaluation as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.answers import Scores
from training.baselines import GRAB_CUT_ITERATIONS, TOLERANCES
from training.comparison import RANDOM_KIND, Compared, best_tolerance
from training.shape import ONE_PIECE, VisibleShape

Numbers = NDArray[np.float64]


def score_table(scores: Mapping[str, Scores]) -> str:
    """Mean IoU and the error of predicted IoU for each way of prompting."""
    columns = ["prompt", "mean IoU, mask chosen by predicted IoU", "mean IoU, best mask"]
    rows = [[kind, *_decimals(part.means().values())] for kind, part in scores.items()]
    return table([*columns, "mean absolute error of predicted IoU"], rows)


def shape_table(shapes: Sequence[VisibleShape], scores: Mapping[str, Scores]) -> str:
    """Mean IoU by the shape of the objects, which are in the order of the scores."""
    whole = np.array([shape.largest_piece >= ONE_PIECE for shape in shapes])
    filling = np.array([shape.filling for shape in shapes])
    groups = {
        f"in pieces, the largest below {100 * ONE_PIECE:.0f} %": ~whole,
        "in one piece, fills less than 30 % of its box": whole & (filling < 0.3),
        "30 to 50 %": whole & (filling >= 0.3) & (filling < 0.5),
        "50 to 70 %": whole & (filling >= 0.5) & (filling < 0.7),
        "70 % and more": whole & (filling >= 0.7),
    }
    columns = [scores["click"].iou, scores["click"].best_iou, scores["3 clicks"].iou, scores["box"].iou]
    rows = [
        [name, str(chosen.sum()), *_decimals(column.numpy()[chosen].mean() for column in columns)]
        for name, chosen in groups.items()
        if chosen.any()
    ]
    return table(["object", "how many", "click", "click, best mask", "3 clicks", "box"], rows)


def method_table(compared: Sequence[Compared]) -> str:
    """sam_tiny beside GrabCut from the same boxes, and beside flood fill from the same clicks."""
    tolerance = best_tolerance(compared)
    box, click = (np.array([one.iou(kind) for one in compared]) for kind in ("box", "click"))
    cut = np.array([one.grab_cut_iou for one in compared])
    fill = np.array([one.flood_fill_iou[tolerance] for one in compared])
    rows = [
        ["box", "sam_tiny", *_versus(box, cut), "1"],
        ["box", "GrabCut", *_versus(cut, box), _relative_time(compared, "GrabCut")],
        ["click", "sam_tiny", *_versus(click, fill), "1"],
        ["click", "flood fill", *_versus(fill, click), _relative_time(compared, "flood fill")],
    ]
    return table(["prompt", "method", "mean IoU", "median IoU", "better of the two", "time"], rows)


def method_notes(compared: Sequence[Compared]) -> str:
    """How the methods of ``method_table`` were run."""
    tolerance = TOLERANCES[best_tolerance(compared)]
    return (
        "Time is relative to sam_tiny's encode and decode of one prompt in the same run. GrabCut is OpenCV's,"
        f" {GRAB_CUT_ITERATIONS} iterations from the tight box. Flood fill takes the pixels connected to the"
        f" click that differ from it by at most {tolerance} in each channel; of the tolerances"
        f" {', '.join(map(str, TOLERANCES))} this is the best on average over these very objects, which"
        " nobody can know beforehand."
    )


def object_table(compared: Sequence[Compared]) -> str:
    """Every object, the IoU of each method, sam_tiny's worst box first."""
    tolerance = best_tolerance(compared)
    kinds = ("click", RANDOM_KIND, "3 clicks", "box")
    rows = [
        [
            one.photograph,
            one.name,
            *_decimals(one.iou(kind) for kind in kinds),
            *_decimals([one.grab_cut_iou, one.flood_fill_iou[tolerance]]),
        ]
        for one in worst_first(compared)
    ]
    return table(["photograph", "object", *kinds, "GrabCut", "flood fill"], rows)


def worst_first(compared: Sequence[Compared]) -> list[Compared]:
    """Sorted by the IoU of sam_tiny's mask from the box."""
    return sorted(compared, key=lambda one: one.iou("box"))


def _versus(own: Numbers, other: Numbers) -> list[str]:
    """Mean and median of one method's IoU, and on how many objects it is better than the other."""
    return [*_decimals([own.mean(), np.median(own)]), f"{(own > other).sum()} of {len(own)}"]


def _relative_time(compared: Sequence[Compared], method: str) -> str:
    """Total seconds of a method, in those of sam_tiny."""
    total = sum(one.seconds[method] for one in compared) / sum(one.seconds["sam_tiny"] for one in compared)
    return f"{total:.2g}"


def _decimals(values: Iterable[float]) -> list[str]:
    return [f"{value:.3f}" for value in values]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
