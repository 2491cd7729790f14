"""Sheets of small pictures: prompts, answers and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from segment_anything import SamPredictor

from training.answers import Prompted, ask
from training.comparison import Compared, mask_iou
from training.tables import worst_first
from training.tiles import Picture, view_around, view_of_all

CAPTION = 13  # pixels above a row
MARGIN = 0.6  # shown around a photographed object, in sides of its box
LARGEST_FILE = 400_000  # bytes
QUALITIES = (90, 80, 70, 60, 50, 40, 30)


def draw_objects(predictor: SamPredictor, shown: Sequence[tuple[Prompted, int]], path: Path) -> None:
    """One object of each image, two to a row: truth, mask from a click, mask from a box."""
    write([_object_row(predictor, objects, index) for objects, index in shown], path)


def _object_row(predictor: SamPredictor, objects: Prompted, index: int) -> Picture:
    predictor.set_image(objects.image)
    click, box = (ask(predictor, objects, kind).chosen_masks()[index].numpy() for kind in ("click", "box"))
    truth, view = objects.masks[index].numpy(), view_of_all(objects.image)
    tiles = [view.tile(objects.image, mask) for mask in (truth, click, box)]
    view.draw_click(tiles[1], objects.points[index, 0].numpy())
    view.draw_box(tiles[2], objects.boxes[index].numpy())
    return captioned(f"truth, click {mask_iou(click, truth):.2f}, box {mask_iou(box, truth):.2f}", tiles)


def largest(objects: Prompted) -> int:
    """Index of the largest object."""
    return int(objects.masks.sum((1, 2)).argmax())


def draw_photographs(compared: Sequence[Compared], path: Path) -> None:
    """Every object of the photographs: prompts, mask from a click, from a box, GrabCut's, truth.

    Two to a row, the left column first, sam_tiny's worst mask from a box at its top.
    """
    write([_compared_row(one) for one in worst_first(compared)], path)


def _compared_row(one: Compared) -> Picture:
    view = view_around(one.box, one.image, MARGIN)
    masks = [None, one.masks["click"], one.masks["box"], one.masks["GrabCut"], one.truth]
    tiles = [view.tile(one.image, mask) for mask in masks]
    view.draw_box(tiles[0], one.box)
    view.draw_click(tiles[0], one.click)
    values = f"click {one.iou('click'):.2f}, box {one.iou('box'):.2f}, GrabCut {one.grab_cut_iou:.2f}"
    return captioned(f"{one.name}: {values}", tiles)


def captioned(caption: str, tiles: Sequence[Picture]) -> Picture:
    """Tiles side by side, their caption above."""
    row = np.hstack(tiles)
    strip = np.full((CAPTION, row.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, caption, (2, CAPTION - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, row])


def write(rows: Sequence[Picture], path: Path) -> None:
    """Rows in two columns, as a JPEG of the best of ``QUALITIES`` that stays below ``LARGEST_FILE``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = cv2.cvtColor(_two_columns(rows), cv2.COLOR_RGB2BGR)
    for quality in QUALITIES:
        content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(content) < LARGEST_FILE:
            break
    path.write_bytes(content)


def _two_columns(rows: Sequence[Picture]) -> Picture:
    """Equally large rows under one another, the second half beside the first."""
    left = -(-len(rows) // 2)
    white = np.full_like(rows[0], 255)
    right = [*rows[left:], *[white] * (2 * left - len(rows))]
    return np.hstack([np.vstack(rows[:left]), np.vstack(right)])
