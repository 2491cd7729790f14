"""Measure sam_tiny on held-out scenes: ``python -m training.evaluate`` prints a table and draws a sheet."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from torch import Tensor
from tqdm import tqdm

from sam_ros.checkpoint import SHIPPED_SAM_TINY
from training.batches import HELD_OUT_SEED, Mask, sample_click, target_labels, tight_box
from training.export import load_exported
from training.scenes import Scene, generate_scene

OBJECTS_PER_SCENE = 6
SHEET_SCENES = 8
SHEET_TILE = 144  # pixels
RED, GREEN = (235, 40, 40), (40, 220, 60)


@dataclass(frozen=True)
class Objects:
    """The N objects asked for in one scene of size (H, W), and how they are prompted.

    Attributes:
        scene: the scene.
        masks: (N, H, W) bool, what is visible of each.
        points: (N, 1, 2) float32 XY pixels, one click each.
        boxes: (N, 4) float32 XYXY half-open pixel edges, tight.
    """

    scene: Scene
    masks: Tensor
    points: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Answer:
    """Answers to N prompts: (N, C, H, W) bool masks, (N, C) predicted IoU, (N, C, h, w) logits."""

    masks: Tensor
    predicted_iou: Tensor
    low_res_logits: Tensor

    def best(self) -> Tensor:
        """(N,) index of the mask with the highest predicted IoU."""
        return self.predicted_iou.argmax(1)


def held_out(count: int, image_size: int) -> Iterator[Objects]:
    """The objects of the first ``count`` held-out scenes that have any."""
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        scene = generate_scene(seed, image_size)
        labels = target_labels(scene)
        if len(labels):
            yield _objects(scene, np.random.default_rng(seed).permutation(labels)[:OBJECTS_PER_SCENE], seed)


def _objects(scene: Scene, labels: NDArray[np.int64], seed: int) -> Objects:
    rng = np.random.default_rng(seed + 1)
    masks = np.stack([scene.mask(label) for label in labels])
    points = np.stack([sample_click(rng, mask) for mask in masks])[:, None]
    boxes = np.stack([tight_box(mask) for mask in masks])
    return Objects(scene, *(torch.from_numpy(array) for array in (masks, points, boxes)))


def iou(masks: Tensor, truth: Tensor) -> Tensor:
    """(N, C) IoU of masks (N, C, H, W) with the truth (N, H, W), both bool."""
    intersection = (masks & truth[:, None]).sum((-2, -1))
    return intersection / (masks | truth[:, None]).sum((-2, -1)).clamp(min=1)


def ask(predictor: SamPredictor, objects: Objects, kind: str) -> Answer:
    """The model's answer to one way of prompting all objects of the image that was set."""
    points, labels = objects.points, torch.ones(objects.points.shape[:2])
    if kind == "box":
        return Answer(*predictor.predict_torch(None, None, objects.boxes, multimask_output=False))
    if kind == "box, three masks":
        return Answer(*predictor.predict_torch(None, None, objects.boxes, multimask_output=True))
    answer = Answer(*predictor.predict_torch(points, labels, multimask_output=True))
    for _ in range({"click": 0, "click + 1 correction": 1, "click + 2 corrections": 2}[kind]):
        best, every = answer.best(), torch.arange(len(points))
        points, labels = _corrected(points, labels, answer.masks[every, best], objects.masks)
        logits = answer.low_res_logits[every, best][:, None]
        answer = Answer(*predictor.predict_torch(points, labels, None, logits, multimask_output=False))
    return answer


KINDS = ("click", "click + 1 correction", "click + 2 corrections", "box", "box, three masks")


def _corrected(points: Tensor, labels: Tensor, masks: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Points (N, K + 1, 2) and labels (N, K + 1), a click in the deepest point of each error added."""
    wrong = (masks != truth).numpy()
    clicks = torch.from_numpy(np.stack([_deepest(region) for region in wrong]))
    rows, columns = clicks[:, 1].long(), clicks[:, 0].long()
    added = truth[torch.arange(len(truth)), rows, columns].float()
    return torch.cat([points, clicks[:, None]], 1), torch.cat([labels, added[:, None]], 1)


def _deepest(region: Mask) -> NDArray[np.float32]:
    """(2,) XY of the pixel furthest from the border of a region (H, W)."""
    depth = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return np.array([column, row], np.float32)


def measure(predictor: SamPredictor, scenes: int) -> dict[str, dict[str, float]]:
    """Per way of prompting: mean IoU of the chosen and of the best mask, and the error of predicted IoU."""
    samples: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    image_size = predictor.model.image_encoder.img_size
    for objects in tqdm(held_out(scenes, image_size), total=scenes, unit="scene"):
        predictor.set_image(objects.scene.image)
        for kind in KINDS:
            answer = ask(predictor, objects, kind)
            every, best = torch.arange(len(objects.masks)), answer.best()
            true = iou(answer.masks, objects.masks)
            error = (answer.predicted_iou - true)[every, best].abs()
            samples[kind].append(torch.stack([true[every, best], true.max(1).values, error]))
    columns = ("iou", "best_iou", "predicted_iou_error")
    means = {kind: torch.cat(values, 1).mean(1).tolist() for kind, values in samples.items()}
    return {kind: dict(zip(columns, values, strict=True)) for kind, values in means.items()}


def table(figures: dict[str, dict[str, float]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| prompt | mean IoU, mask chosen by predicted IoU | mean IoU, best mask | error of predicted IoU |",
        "|---|---|---|---|",
    ]
    for kind, row in figures.items():
        lines.append(f"| {kind} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |")
    return "\n".join(lines)


# ---------------------------------------------------------------- the sheet


def draw_sheet(predictor: SamPredictor, path: Path) -> None:
    """A PNG of held-out scenes, two to a row: true mask, mask from a click, mask from a box."""
    shown = held_out(SHEET_SCENES, predictor.model.image_encoder.img_size)
    tiles = [np.hstack(_row(predictor, objects)) for objects in shown]
    half = len(tiles) // 2
    sheet = np.hstack([np.vstack(tiles[:half]), np.vstack(tiles[half : 2 * half])])
    coarse = np.round(sheet / 17).astype(np.uint8) * 17  # 16 levels a channel: grain would not compress
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(coarse, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _row(predictor: SamPredictor, objects: Objects) -> list[NDArray[np.uint8]]:
    predictor.set_image(objects.scene.image)
    click, box = (ask(predictor, objects, kind) for kind in ("click", "box"))
    first = int(objects.masks.sum((1, 2)).argmax())
    masks = [objects.masks[first], click.masks[first, click.best()[first]], box.masks[first, 0]]
    pictures = [_tinted(objects.scene.image, mask.numpy()) for mask in masks]
    x, y = (int(value) for value in objects.points[first, 0])
    cv2.circle(pictures[1], (x, y), 5, RED, -1)
    left, top, right, bottom = (int(value) for value in objects.boxes[first])
    cv2.rectangle(pictures[2], (left, top), (right - 1, bottom - 1), RED, 2)
    return [_tile(picture) for picture in pictures]


def _tinted(image: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """The image (H, W, 3) with the mask (H, W) in green and outlined."""
    picture = image.copy()
    picture[mask] = (0.5 * picture[mask] + 0.5 * np.array(GREEN)).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, GREEN, 2)
    return picture


def _tile(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(SHEET_TILE, SHEET_TILE, 3): the picture on white, its longest side as long as the tile."""
    scale = (SHEET_TILE - 4) / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.full((SHEET_TILE, SHEET_TILE, 3), 255, np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small
    return tile


def main() -> None:
    """Parse the command line, measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED_SAM_TINY, help="an exported file")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--sheet", type=Path, default=Path("training/results/sheet.png"))
    arguments = parser.parse_args()
    sam, metadata = load_exported(arguments.checkpoint)
    predictor = SamPredictor(sam)
    figures = measure(predictor, arguments.scenes)
    print(f"{metadata['training_steps']} training steps, {arguments.scenes} held-out scenes\n")
    print(table(figures))
    draw_sheet(predictor, arguments.sheet)


if __name__ == "__main__":
    main()
