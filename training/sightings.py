"""What following made of encounters: false survivals, swapped ids and returns, counted and tabulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.comparison import mask_iou
from training.encounters import Moment
from training.pictures import Mask
from training.tables import table

GONE, MOSTLY, WHOLE = 0.02, 0.5, 0.9  # shares: with less it is out of sight, mostly or wholly there with more
FOUND = 0.5  # IoU from which an object counts as found
SOON = 6  # frames within which one that returns is to be found


@dataclass(frozen=True)
class Sighting:
    """One object on one frame.

    Attributes:
        share: how much of it can be seen.
        iou: of its mask with what can be seen of it; 0 where nothing can.
        other_iou: the largest one of its mask with anything else that takes part.
        is_shown: whether it has a mask.
    """

    share: float
    iou: float
    other_iou: float
    is_shown: bool


Sightings = list[Sighting]
"""Of one object, on every frame but the one it was prompted on."""


def sighting(moment: Moment, actor: int, mask: Mask) -> Sighting:
    """What an actor's mask (H, W) is worth at a moment."""
    ious = [mask_iou(mask, truth) if truth.any() else 0.0 for truth in moment.masks]
    others = [iou for index, iou in enumerate(ious) if index != actor]
    return Sighting(moment.shares[actor], ious[actor], max(others, default=0.0), bool(mask.any()))


def survivals(seen: Sightings) -> list[bool]:
    """On each frame on which it is out of sight, whether it is shown all the same."""
    return [one.is_shown for one in seen if one.share < GONE]


def swaps(seen: Sightings) -> list[bool]:
    """On each frame, whether its mask is that of something else."""
    return [one.other_iou >= FOUND > one.iou for one in seen]


def returns(seen: Sightings) -> list[bool]:
    """Of each time that it is mostly there again after it was out of sight, whether it is found soon."""
    found, was_gone = [], False
    for index, one in enumerate(seen):
        if was_gone and one.share >= MOSTLY:
            found.append(any(later.iou >= FOUND for later in seen[index : index + SOON]))
        was_gone = one.share < GONE or (was_gone and one.share < MOSTLY)
    return found


def ious(seen: Sightings, least_share: float = MOSTLY) -> list[float]:
    """On each frame on which so much of it can be seen."""
    return [one.iou for one in seen if one.share >= least_share]


def encounter_table(by_kind: Mapping[str, Sequence[Sightings]]) -> str:
    """A row of figures for each kind of encounter, and one for all."""
    everything = [seen for some in by_kind.values() for seen in some]
    columns = [
        "what happens",
        "mean IoU",
        f"IoU while {WHOLE:.0%} is visible: mean, least",
        "shown though out of sight",
        "another's mask",
        "returns found",
    ]
    return table(columns, [_row(*item) for item in [*by_kind.items(), ("all", everything)]])


def _row(kind: str, some: Sequence[Sightings]) -> list[str]:
    whole = [iou for seen in some for iou in ious(seen, WHOLE)]
    found = [one for seen in some for one in returns(seen)]
    return [
        kind,
        f"{np.mean([iou for seen in some for iou in ious(seen)]):.3f}",
        f"{np.mean(whole):.3f}, {np.min(whole):.2f}",
        _share([one for seen in some for one in survivals(seen)]),
        _share([one for seen in some for one in swaps(seen)]),
        f"{sum(found)} of {len(found)}" if found else "-",
    ]


def _share(happened: Sequence[bool]) -> str:
    return f"{np.mean(happened):.0%}" if happened else "-"
