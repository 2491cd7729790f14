"""Measure a model on the held-out photographs of sets: clicks, boxes, the clicks that are needed, GrabCut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from torch import Tensor
from tqdm import tqdm

from training.answers import KINDS, Prompted, Scores, ask, deepest, joined, prompted, refined, score
from training.baselines import grab_cut
from training.comparison import mask_iou
from training.photo_sets import EVALUATION_SUFFIX, PhotoSet, held_out, read_sets
from training.pictures import Mask, Picture
from training.sheets import draw_objects
from training.tables import table

OBJECTS_PER_PHOTOGRAPH = 5
SMALLEST_SHARE = 0.003  # of the photograph; smaller objects are not asked for
WANTED = (0.80, 0.85)  # IoU for which clicks are counted
MOST_CLICKS = 20  # as papers on interactive segmentation count: not reached is 20
SEED = 19
DRAWN = 48  # on a sheet


@dataclass(frozen=True)
class SetScores:
    """Of the N objects of a set.

    Attributes:
        name: of the set.
        photographs: how many.
        scores: by way of prompting.
        clicks: (N, 2) how many reach each of ``WANTED``, NaN where they were not counted.
        grab_cut_iou: (N,) of GrabCut from the same box, NaN where it was not asked.
    """

    name: str
    photographs: int
    scores: dict[str, Scores]
    clicks: NDArray[np.float64]
    grab_cut_iou: NDArray[np.float64]


def measured(folders: Sequence[Path], most: int | None = None) -> Iterator[tuple[str, list[Prompted]]]:
    """The held-out photographs of every set below some folders that hold objects, at most so many of each."""
    for photo_set in held_out(read_sets(folders)):
        asked = [objects for index in spread(photo_set, most) for objects in _asked_for(photo_set, index)]
        if asked:
            yield photo_set.name, asked


def spread(photo_set: PhotoSet, most: int | None) -> list[int]:
    """Indexes of at most so many photographs, from all over a set."""
    count = len(photo_set.photographs)
    return sorted({index * count // min(most or count, count) for index in range(min(most or count, count))})


def _asked_for(photo_set: PhotoSet, index: int) -> Iterator[Prompted]:
    """The objects of a photograph that are prompted, clicked where deepest; nothing if all are small."""
    rng = np.random.default_rng((SEED, index))
    picture = photo_set.picture(index, rng)
    masks = large_objects(picture, rng)
    if masks:
        yield prompted(picture.image, np.stack(masks), [deepest(mask) for mask in masks])


def large_objects(picture: Picture, rng: np.random.Generator) -> list[Mask]:
    """Some of the objects of a picture, (H, W) each, none smaller than ``SMALLEST_SHARE``."""
    areas = picture.areas()
    large = np.flatnonzero(areas >= SMALLEST_SHARE * picture.layers[0].size)
    return [picture.mask(int(index)) for index in rng.permutation(large)[:OBJECTS_PER_PHOTOGRAPH]]


def measure_set(
    predictor: SamPredictor, name: str, images: Sequence[Prompted], is_quick: bool = False
) -> SetScores:
    """Prompt for all objects of a set in all ways; quickly, without counting clicks and without GrabCut."""
    scores: dict[str, list[Scores]] = {kind: [] for kind in KINDS}
    clicks, cuts = [], []
    for objects in tqdm(images, desc=name, unit="image"):
        predictor.set_image(objects.image)
        for kind in KINDS:
            scores[kind].append(score(ask(predictor, objects, kind), objects.masks))
        clicks.append(unknown(objects) if is_quick else clicks_needed(predictor, objects))
        cuts.append(unknown(objects)[:, 0] if is_quick else _grab_cut_iou(objects))
    by_kind = {kind: joined(parts) for kind, parts in scores.items()}
    return SetScores(name, len(images), by_kind, np.concatenate(clicks), np.concatenate(cuts))


def unknown(objects: Prompted) -> NDArray[np.float64]:
    """(N, 2) NaN."""
    return np.full((len(objects.masks), len(WANTED)), np.nan)


def _grab_cut_iou(objects: Prompted) -> NDArray[np.float64]:
    """(N,) from their boxes."""
    pairs = zip(objects.boxes, objects.masks, strict=True)
    return np.array([mask_iou(grab_cut(objects.image, box.numpy()), mask.numpy()) for box, mask in pairs])


def clicks_needed(predictor: SamPredictor, objects: Prompted) -> NDArray[np.float64]:
    """(N, 2) clicks until the mask has each IoU of ``WANTED``; the image is set; at most ``MOST_CLICKS``."""
    needed = np.full((len(objects.masks), len(WANTED)), float(MOST_CLICKS))
    for count, iou in enumerate(_click_by_click(predictor, objects), 1):
        for column, wanted in enumerate(WANTED):
            reached = (iou.numpy() >= wanted) & (needed[:, column] == MOST_CLICKS)
            needed[reached, column] = count
        if (iou.numpy() >= max(WANTED)).all() or (needed < MOST_CLICKS).all():
            break
    return needed


def _click_by_click(predictor: SamPredictor, objects: Prompted) -> Iterator[Tensor]:
    """(N,) IoU after the first click, the second, ..."""
    for answer in refined(predictor, objects, MOST_CLICKS):
        yield score(answer, objects.masks).iou


def set_table(sets: Sequence[SetScores]) -> str:
    """A row for each set, and the mean of those of which others are trained on."""
    columns = ["set", "photographs", "objects", *KINDS[:1], "best of three", *KINDS[1:3], "off by"]
    columns += [f"NoC@{100 * wanted:.0f}" for wanted in WANTED] + ["GrabCut"]
    rows = [
        [each.name, str(each.photographs), str(len(each.clicks)), *_numbers(_figures(each))] for each in sets
    ]
    familiar = [each for each in sets if not each.name.endswith(EVALUATION_SUFFIX)]
    if not familiar:
        return table(columns, rows)
    totals = [sum(each.photographs for each in familiar), sum(len(each.clicks) for each in familiar)]
    mean = np.mean([_figures(each) for each in familiar], 0)
    return table(columns, [*rows, ["**mean of sets**", *map(str, totals), *_numbers(mean)]])


def _figures(one: SetScores) -> list[float]:
    click = one.scores["click"].means()
    others = [one.scores[kind].means()["iou"] for kind in KINDS[1:3]]
    mean_clicks = one.clicks.mean(0).tolist()
    error = click["predicted_iou_error"]
    return [click["iou"], click["best_iou"], *others, error, *mean_clicks, float(one.grab_cut_iou.mean())]


def _numbers(row: Iterable[float]) -> list[str]:
    """With three decimals, but numbers of clicks with one; a dash for what was not measured."""
    decimals = [3] * 5 + [1] * len(WANTED) + [3]
    return [
        "-" if np.isnan(value) else f"{value:.{count}f}" for value, count in zip(row, decimals, strict=True)
    ]


def draw_worst(predictor: SamPredictor, images: Sequence[Prompted], scores: Scores, path: Path) -> None:
    """A sheet of the objects, each of another photograph, with the lowest of some scores, worst first."""
    owners = [(image, index) for image in images for index in range(len(image.masks))]
    chosen: list[tuple[Prompted, int]] = []
    for position in torch.argsort(scores.iou).tolist():
        if all(owners[position][0] is not image for image, _ in chosen):
            chosen.append(owners[position])
    draw_objects(predictor, chosen[:DRAWN], path)
