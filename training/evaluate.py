"""Measure sam_tiny on scenes, video and photographs: ``python -m training.evaluate`` prints tables and draws.

Scenes and videos are generated from seeds that training never uses; photographs are those that scikit-image
bundles, outlined by hand, and those that training holds out of the sets it is given. All answers are those of
segment_anything's own ``SamPredictor``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from segment_anything import SamPredictor
from tqdm import tqdm

from sam_ros.core.checkpoint import SHIPPED_SAM_TINY
from training.ambiguity import knowing_outlines
from training.answers import KINDS, Prompted, Scores, ask, joined, prompted, score
from training.batches import sample_click, target_labels
from training.calibration import plot_reliability
from training.comparison import compare_all, pooled
from training.export import load_exported
from training.photographs import OUTLINES, photographs
from training.pictures import Mask
from training.pool import HELD_OUT_SEED
from training.scenes import Scene, generate_scene
from training.set_evaluation import (
    MOST_CLICKS,
    OBJECTS_PER_PHOTOGRAPH,
    draw_worst,
    measure_set,
    measured,
    set_table,
)
from training.shape import shape_of
from training.sheets import draw_objects, draw_photographs, largest
from training.tables import method_notes, method_table, object_table, score_table, shape_table
from training.video import generate_video

OBJECTS_PER_SCENE = 6
SMALLEST_SHARE = (20 / 256) ** 2  # of the square of the longest side; smaller objects are not asked for
SHOWN = 12  # objects on each sheet of generated ones
VIDEO_SEED = HELD_OUT_SEED + 1_000_000
FRAMES = 10  # of each video
EVERY = 3  # frames, one is shown
PARTS = ("scenes", "video", "photographs", "sets")
SHEET_KINDS = ("click", "box")
QUICK = {"scenes": 30, "videos": 2, "per_set": 6}  # to look at a run while it goes on


@dataclass(frozen=True)
class Settings:
    """What is measured and where the results go."""

    checkpoint: Path
    scenes: int
    videos: int
    output: Path
    parts: tuple[str, ...]
    outlines: Path = OUTLINES
    sets: tuple[Path, ...] = ()
    per_set: int | None = None
    sheets: Path | None = None
    is_quick: bool = False


def held_out(count: int, image_size: int) -> Iterator[Prompted]:
    """The objects of the first ``count`` held-out scenes, without the scenes that have none."""
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        yield from _objects(generate_scene(seed, image_size), seed)


def held_out_frames(videos: int, image_size: int) -> Iterator[Prompted]:
    """The objects of every frame of held-out videos."""
    for seed in range(VIDEO_SEED, VIDEO_SEED + videos):
        for frame in generate_video(seed, image_size, FRAMES):
            yield from _objects(frame, seed)


def _objects(scene: Scene, seed: int) -> Iterator[Prompted]:
    """At most ``OBJECTS_PER_SCENE`` objects, each with a random click; nothing if there is no large one."""
    labels = labels_asked_for(scene, seed)
    if not len(labels):
        return
    rng = np.random.default_rng(seed + 1)
    masks = _masks(scene, labels)
    yield prompted(scene.image, masks, [sample_click(rng, mask) for mask in masks])


def labels_asked_for(scene: Scene, seed: int) -> NDArray[np.int64]:
    """(N,) the objects of a scene that are prompted, at most ``OBJECTS_PER_SCENE``."""
    return np.random.default_rng(seed).permutation(_large(scene))[:OBJECTS_PER_SCENE]


def _large(scene: Scene) -> NDArray[np.int64]:
    """Labels of the objects that may be asked for."""
    return target_labels(scene.areas(), SMALLEST_SHARE * max(scene.labels.shape) ** 2)


def _masks(scene: Scene, labels: NDArray[np.int64]) -> Mask:
    """(N, H, W) bool."""
    return np.stack([scene.mask(label) for label in labels])


def limit_of_clicks(count: int, image_size: int) -> Scores:
    """Of the clicks of ``held_out``: what one can score who knows every outline, but not which is meant."""
    scores = []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        scene = generate_scene(seed, image_size)
        for objects in _objects(scene, seed):
            scores.append(knowing_outlines(objects, _masks(scene, _large(scene))))
    return joined(scores)


def measure_images(predictor: SamPredictor, images: Iterable[Prompted]) -> dict[str, Scores]:
    """The scores of all objects of all images, by way of prompting."""
    scores: dict[str, list[Scores]] = {kind: [] for kind in KINDS}
    for objects in tqdm(images, unit="image"):
        predictor.set_image(objects.image)
        for kind in KINDS:
            scores[kind].append(score(ask(predictor, objects, kind), objects.masks))
    return {kind: joined(parts) for kind, parts in scores.items()}


def measure(predictor: SamPredictor, scenes: int) -> dict[str, dict[str, float]]:
    """On held-out scenes, per way of prompting: what ``Scores.means`` tells."""
    images = held_out(scenes, predictor.model.image_encoder.img_size)
    return {kind: part.means() for kind, part in measure_images(predictor, images).items()}


def worst(predictor: SamPredictor, images: Iterable[Prompted], count: int) -> list[tuple[Prompted, int]]:
    """The objects, each of another image, that are found worst from their boxes, the worst first."""
    found = []
    for objects in images:
        predictor.set_image(objects.image)
        iou = score(ask(predictor, objects, "box"), objects.masks).iou
        found.append((iou.min().item(), objects, int(iou.argmin())))
    found.sort(key=lambda entry: entry[0])
    return [(objects, index) for _, objects, index in found[:count]]


# ---------------------------------------------------------------- the report


def evaluate(predictor: SamPredictor, steps: str, settings: Settings) -> str:
    """Measure and draw the parts that were asked for; the report as Markdown."""
    sections = [f"# Evaluation of sam_tiny after {steps} training steps"]
    scores: dict[str, Scores] = {}
    parts = {"scenes": _scenes, "video": _video, "photographs": _photographs, "sets": _sets}
    for name in settings.parts:
        text, by_kind = parts[name](predictor, settings)
        sections.append(text)
        if by_kind:
            scores[name] = joined(list(by_kind.values()))
    plot_reliability(scores, settings.output / "reliability.png")
    return "\n\n".join([*sections, _calibration(scores)]) + "\n"


Part = tuple[str, dict[str, Scores]]
"""The text of a section, and its scores by way of prompting."""


def _scenes(predictor: SamPredictor, settings: Settings) -> Part:
    size = predictor.model.image_encoder.img_size
    images = list(held_out(settings.scenes, size))  # 2 MB each
    scores = measure_images(predictor, images)
    first = [(objects, largest(objects)) for objects in images[:SHOWN]]
    draw_objects(predictor, first, settings.output / "scenes.jpg")
    failures = worst(predictor, images, SHOWN)
    draw_objects(predictor, failures, settings.output / "scenes_worst.jpg")
    title = f"## {settings.scenes} held-out scenes, {len(scores['box'].iou)} objects"
    pictures = (
        "True mask, mask from a click, mask from a box, of the largest object of each of the first scenes:"
        "\n\n![Scenes](scenes.jpg)\n\nThe same of the objects that are found worst from their boxes:"
        "\n\n![Failures](scenes_worst.jpg)"
    )
    shapes = [shape_of(mask) for objects in images for mask in objects.masks.numpy()]
    table = score_table({**scores, "click, every outline known": limit_of_clicks(settings.scenes, size)})
    return f"{title}\n\n{table}\n\n{shape_table(shapes, scores)}\n\n{pictures}", scores


def _video(predictor: SamPredictor, settings: Settings) -> Part:
    size = predictor.model.image_encoder.img_size
    scores = measure_images(predictor, held_out_frames(settings.videos, size))
    frames = islice(held_out_frames(settings.videos, size), 0, EVERY * SHOWN, EVERY)
    draw_objects(
        predictor, [(objects, largest(objects)) for objects in frames], settings.output / "video.jpg"
    )
    title = f"## {settings.videos} generated videos of {FRAMES} frames, {len(scores['box'].iou)} objects"
    return f"{title}\n\n{score_table(scores)}\n\nEvery third frame, as above:\n\n![Frames](video.jpg)", scores


def _photographs(predictor: SamPredictor, settings: Settings) -> Part:
    compared = compare_all(predictor, list(photographs(settings.outlines)))
    draw_photographs(compared, settings.output / "photographs.jpg")
    scores = pooled(compared)
    sections = [
        f"## Photographs, {len(compared)} objects outlined by hand",
        score_table(scores),
        method_table(compared),
        method_notes(compared),
        object_table(compared),
        "Prompts, mask from a click, from a box, GrabCut's, truth; worst box first:",
        "![Photographs](photographs.jpg)",
    ]
    return "\n\n".join(sections), scores


def _sets(predictor: SamPredictor, settings: Settings) -> Part:
    title = "## Held-out photographs of the sets"
    if not settings.sets:
        return f"{title}\n\nSkipped: name their folders with --photographs.", {}
    images = dict(measured(settings.sets, settings.per_set))
    found = [measure_set(predictor, name, of_set, settings.is_quick) for name, of_set in images.items()]
    scores = {kind: joined([one.scores[kind] for one in found]) for kind in found[0].scores}
    if settings.sheets is not None:
        everything = [objects for of_set in images.values() for objects in of_set]
        for kind in SHEET_KINDS:
            draw_worst(predictor, everything, scores[kind], settings.sheets / f"worst_{kind}.jpg")
    sections = [
        title,
        set_table(found),
        f"At most {OBJECTS_PER_PHOTOGRAPH} objects of each photograph, clicked where they are deepest. NoC is"
        f" the number of clicks that reach an IoU, {MOST_CLICKS} where none does; *off by* is the mean"
        " absolute error of the predicted IoU of a click.",
    ]
    return "\n\n".join(sections), scores


def _calibration(scores: dict[str, Scores]) -> str:
    errors = [f"{name} {part.means()['predicted_iou_error']:.3f}" for name, part in scores.items()]
    text = f"Mean absolute error of predicted IoU, over all ways of prompting: {', '.join(errors)}."
    return f"## Calibration\n\n{text}\n\n![Reliability](reliability.png)"


def main() -> None:
    """Parse the command line, measure, draw, print the report and write it."""
    settings = _parse()
    sam, metadata = load_exported(settings.checkpoint)
    report = evaluate(SamPredictor(sam), metadata["training_steps"], settings)
    (settings.output / "evaluation.md").write_text(report)
    print(report)


def _parse() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED_SAM_TINY, help="an exported file")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument(
        "--photographs", type=Path, nargs="*", default=[], help="folders with the sets of photographs"
    )
    parser.add_argument("--per-set", type=int, help="at most so many photographs of each; default: all")
    parser.add_argument("--sheets", type=Path, help="folder of sheets of them, which stay out of the project")
    parser.add_argument("--quick", action="store_true", help="few of everything, to watch a run")
    parser.add_argument("--output", type=Path, default=Path("training/results"), help="folder of the results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(QUICK)
    return Settings(
        arguments.checkpoint,
        arguments.scenes,
        arguments.videos,
        arguments.output,
        tuple(arguments.parts),
        sets=tuple(arguments.photographs),
        per_set=arguments.per_set,
        sheets=arguments.sheets,
        is_quick=arguments.quick,
    )


if __name__ == "__main__":
    main()
