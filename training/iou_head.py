"""Fit the head that predicts IoU, with all other weights frozen: ``python -m training.iou_head``.

While a run learns, its masks keep changing and its pictures are cropped and altered, so the head lags behind.
Here the masks stand still. Each prompt is given once, on the whole picture, as a user would give it; the head
then learns from what the decoder hands it for that prompt, many times over.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamPredictor
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from sam_ros.core.checkpoint import SHIPPED_SAM_TINY
from training.answers import Answer, Prompted, ask, deepest, iou, prompted, refined
from training.batches import jittered, sample_click
from training.export import load_exported, save_exported
from training.photo_sets import read_sets, trained_on
from training.pictures import Picture, picture_of_scene
from training.pool import ScenePool
from training.set_evaluation import large_objects, spread
from training.textures import Rng

CLICKS = 3  # the first and two corrections
MASKS = 4  # of the decoder, the single mask first
RATE = 5e-4
WEIGHT_DECAY = 0.01
BATCH = 256


@dataclass(frozen=True)
class Seen:
    """What the head was given for N prompts, and what it should have said.

    Attributes:
        tokens: (N, E) of the predicted IoU, after the decoder's attention.
        iou: (N, 4) of each mask with the object; NaN for a mask that such a prompt does not offer.
    """

    tokens: Tensor
    iou: Tensor


def pictures(
    folders: Sequence[Path], per_set: int, pool: ScenePool, scenes: int, rng: Rng
) -> Iterator[Picture]:
    """At most so many photographs of each set that may be trained on, and the first scenes of the pool."""
    for photo_set in trained_on(read_sets(folders)):
        for index in spread(photo_set, per_set):
            yield photo_set.picture(index, rng)
    for index in range(scenes):
        yield picture_of_scene(pool[index])


def prompts(picture: Picture, rng: Rng) -> Prompted | None:
    """The large objects of a picture, None if there is none.

    Half of them are prompted by their deepest points and tight boxes, the others by clicks anywhere on them
    and boxes that are off. Another prompt of the same object would teach the head less than another object.
    """
    masks = large_objects(picture, rng)
    if not masks:
        return None
    exact = (len(masks) + int(rng.integers(2))) // 2
    clicks = [*map(deepest, masks[:exact]), *(sample_click(rng, mask) for mask in masks[exact:])]
    objects = prompted(picture.image, np.stack(masks), clicks)
    boxes = objects.boxes.numpy()
    boxes = np.stack([*boxes[:exact], *(jittered(rng, box) for box in boxes[exact:])])
    return replace(objects, boxes=torch.from_numpy(boxes))


def collect(predictor: SamPredictor, images: Iterable[Prompted]) -> Seen:
    """Prompt for all objects of some images by clicks, corrections and boxes, as evaluation does."""
    given: list[Tensor] = []
    head = predictor.model.mask_decoder.iou_prediction_head
    hook = head.register_forward_pre_hook(lambda _head, inputs: given.append(inputs[0]))
    wanted: list[Tensor] = []
    for objects in images:
        predictor.set_image(objects.image)
        wanted += [_true_iou(answer, objects) for answer in _answers(predictor, objects)]
    hook.remove()
    return Seen(torch.cat(given), torch.cat(wanted))


def _answers(predictor: SamPredictor, objects: Prompted) -> Iterator[Answer]:
    """One for each way of prompting, each from one run of the decoder."""
    yield from refined(predictor, objects, CLICKS)
    yield ask(predictor, objects, "box")
    yield ask(predictor, objects, "box, three masks")


def _true_iou(answer: Answer, objects: Prompted) -> Tensor:
    """(N, 4), NaN where a mask was not offered: the first of three, the three of a single one."""
    offered = iou(answer.masks, objects.masks)
    before = 0 if offered.shape[1] == 1 else 1
    return pad(offered, (before, MASKS - before - offered.shape[1]), value=float("nan"))


def fit(head: nn.Module, seen: Seen, epochs: int, seed: int = 0) -> None:
    """Let the head learn the expected IoU, in place: squared error, AdamW, the rate falling to zero."""
    generator = torch.Generator().manual_seed(seed)
    samples = TensorDataset(seen.tokens, seen.iou)
    loader = DataLoader(samples, BATCH, shuffle=True, generator=generator)
    head.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * len(loader))
    for _ in tqdm(range(epochs), unit="epoch"):
        for tokens, wanted in loader:
            is_offered = ~wanted.isnan()
            loss = (head(tokens) - wanted)[is_offered].square().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    head.requires_grad_(False)


def main() -> None:
    """Parse the command line, prompt, fit and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--weights", type=Path, default=SHIPPED_SAM_TINY, help="exported file; default: %(default)s")
    add("--output", type=Path, help="file to write; default: the same")
    add("--photographs", type=Path, nargs="+", required=True, help="folders with sets of photographs")
    add("--per-set", type=int, default=250, help="at most so many photographs of each; default: %(default)s")
    add("--pool", type=Path, default=Path("training/runs/scenes"), help="folder of generated scenes")
    add("--scenes", type=int, default=200, help="of the pool; default: %(default)s")
    add("--epochs", type=int, default=8, help="default: %(default)s")
    arguments = parser.parse_args()
    sam, metadata = load_exported(arguments.weights)
    rng = np.random.default_rng(0)
    pool = ScenePool(max(1, arguments.scenes), arguments.pool)
    shown = pictures(arguments.photographs, arguments.per_set, pool, arguments.scenes, rng)
    asked = (objects for picture in tqdm(shown, unit="picture") if (objects := prompts(picture, rng)))
    seen = collect(SamPredictor(sam), asked)
    print(f"{len(seen.tokens)} answers")
    fit(sam.mask_decoder.iou_prediction_head, seen, arguments.epochs)
    save_exported(sam, metadata, arguments.output or arguments.weights)


if __name__ == "__main__":
    main()
