"""Measure how well objects are followed through generated video: ``python -m training.following``.

Objects of each video's first frame are prompted by their boxes there and followed to its end in several ways.
The videos are those of ``training.evaluate``, from seeds that training never uses, with more frames. Then
what enters, leaves, is hidden or meets its like (``encounters``) is followed as the node does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sam_ros.core.follower import Follower, prompt_to_follow
from sam_ros.core.frames import EmbeddedFrame, Frame
from sam_ros.core.motion import make_view
from sam_ros.core.objects import ObjectTable, SegmentedObject, Target
from sam_ros.core.segmenter import Options, Segmenter
from sam_ros.fast.postprocess import upscale_on_cpu
from sam_ros.predictor import Embedding, Predictor, load_predictor
from sam_ros.prompt import Prompt
from training.batches import tight_box
from training.comparison import mask_iou
from training.cutouts import held_out_cutouts
from training.encounters import STAMPS, Encounter, encounters
from training.evaluate import SMALLEST_SHARE, VIDEO_SEED, labels_asked_for
from training.pictures import Mask
from training.sheets import captioned, write
from training.sightings import Sightings, encounter_table, sighting
from training.tables import table
from training.tiles import view_of_all
from training.video import generate_video

FRAMES = (20, 40)  # of a video: the longer, the slower everything moves
SHOWN = (0, 1, 2, 3)  # fourths of a video of which the sheet shows the last frame
ENCOUNTER_SEED = VIDEO_SEED + 3  # of the scenes in which things meet
FOUND = 0.5  # IoU from which an object counts as found
FOLLOWING = "the same, carried on near its place, its points kept: the node's own code"
TRUTH = "box of the truth on every frame"


@dataclass(frozen=True, eq=False)
class Step:
    """One frame on which objects are to be found that were found on the frame before.

    Attributes:
        predictor, embedding: what can be asked.
        target: the frame.
        unmoved: the objects, their logits as they were when they were found last.
        moved: the same, their logits moved as the objects were; None where their points are gone.
    """

    predictor: Predictor
    embedding: Embedding
    target: Target
    unmoved: Sequence[SegmentedObject]
    moved: Sequence[SegmentedObject | None]

    @property
    def moved_or_not(self) -> list[SegmentedObject]:
        """All objects; they stay where their points are gone."""
        return [one if one is not None else was for one, was in zip(self.moved, self.unmoved, strict=True)]


Found = tuple[Mask, SegmentedObject]
"""(H, W) mask of an object on a frame, and what is to be carried on of it."""
Way = Callable[[Step], list[Found]]


def by_logits_unmoved(step: Step) -> list[Found]:
    """SAM's mask prompt, and nothing else."""
    return _asked(step, step.unmoved, _by_logits)


def by_logits_and_box_unmoved(step: Step) -> list[Found]:
    """As the node, but for the motion."""
    return _asked(step, step.unmoved, prompt_to_follow)


def moved_only(step: Step) -> list[Found]:
    """Without asking the model again."""
    return [(_as_carried(step, one), _here(one, step.target)) for one in step.moved_or_not]


def by_logits_moved(step: Step) -> list[Found]:
    """SAM's mask prompt after the motion."""
    return _asked(step, step.moved_or_not, _by_logits)


def by_logits_and_box_moved(step: Step) -> list[Found]:
    """As the node, but whatever is found is carried on, and its points are chosen anew."""
    return _asked(step, step.moved_or_not, prompt_to_follow)


WAYS: dict[str, Way] = {
    "logits of the frame before": by_logits_unmoved,
    "logits of the frame before and their box": by_logits_and_box_unmoved,
    "moved only": moved_only,
    "moved, asked by logits": by_logits_moved,
    "moved, asked by logits and box": by_logits_and_box_moved,
}
"""Less than what the node does, each way carrying on what it found itself."""


def _by_logits(one: SegmentedObject, _: Target) -> Prompt:
    return Prompt(low_res_logits=one.low_res_logits)


def _here(one: SegmentedObject, target: Target) -> SegmentedObject:
    return replace(one, logits_sequence=target.sequence)


def _as_carried(step: Step, one: SegmentedObject) -> Mask:
    """(H, W) the object as its logits are."""
    logits = np.asarray(one.low_res_logits)
    return np.asarray(upscale_on_cpu(logits, step.embedding.grid) > 0)


def _asked(
    step: Step,
    objects: Sequence[SegmentedObject],
    prompt: Callable[[SegmentedObject, Target], Prompt | None],
) -> list[Found]:
    """The answers to the prompts; without a prompt, or an answer, the object as it was carried."""
    prompts = [prompt(one, step.target) for one in objects]
    given = [one for one in prompts if one is not None]
    answers = iter(step.predictor.decode(step.embedding, given, False))
    found: list[Found] = []
    for one, asked in zip(objects, prompts, strict=True):
        answer = next(answers) if asked is not None else None
        if answer is None or not answer.masks.any():
            found.append((_as_carried(step, one), _here(one, step.target)))
        else:
            found.append((answer.masks[0], one.decoded(answer.low_res_logits[0], step.target.sequence)))
    return found


@dataclass(frozen=True, eq=False)
class Trial:
    """One frame of a video, and what each way found on it of the objects that can be seen.

    Attributes:
        share: how far into the video the frame is, from 0 to 1.
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) of each object of the first frame, empty where it is out of sight.
        masks: (H, W) of each object, by way.
    """

    share: float
    image: NDArray[np.uint8]
    truth: list[Mask]
    masks: dict[str, list[Mask]]

    def ious(self, way: str) -> list[float]:
        """Of the objects of which enough is visible to be asked for."""
        smallest = SMALLEST_SHARE * max(self.image.shape) ** 2
        pairs = zip(self.masks[way], self.truth, strict=True)
        return [mask_iou(mask, truth) for mask, truth in pairs if truth.sum() >= smallest]

    def phantoms(self, way: str) -> list[bool]:
        """Whether something is shown, of the objects of which nothing is to be seen."""
        pairs = zip(self.masks[way], self.truth, strict=True)
        return [bool(mask.any()) for mask, truth in pairs if not truth.any()]


Videos = list[list[Trial]]
"""Every frame of each video."""


def follow(predictor: Predictor, seed: int, frames: int) -> Iterator[Trial]:
    """Every frame of a video but the first, of the objects that the first one is prompted for."""
    video = generate_video(seed, predictor.image_size, frames)
    first = next(video)
    labels = labels_asked_for(first, seed).tolist()
    if not labels:
        return
    embedding, follower, node = predictor.encode(first.image), Follower(), NodeFollowing(predictor)
    follower.add(0, make_view(first.image))
    start = _prompted(predictor, embedding, [first.mask(label) for label in labels])
    node.begin(first.image, start)
    states = dict.fromkeys(WAYS, start)
    for sequence, scene in enumerate(video, 1):
        embedding = predictor.encode(scene.image)
        follower.add(sequence, make_view(scene.image))
        target = Target(sequence, embedding.grid)
        truth = [scene.mask(label) for label in labels]
        masks = {
            TRUTH: _from_boxes(predictor, embedding, truth),
            FOLLOWING: node.masks(sequence, scene.image, embedding),
        }
        for name, way in WAYS.items():
            moved = {one.created: one for one, _ in follower.expected(states[name], target)}
            before = states[name]
            found = way(Step(predictor, embedding, target, before, [moved.get(o.created) for o in before]))
            masks[name] = [mask for mask, _ in found]
            states[name] = [one for _, one in found]
        yield Trial(sequence / (frames - 1), scene.image, truth, masks)


class NodeFollowing:
    """Following by the code that the node runs, frame by frame."""

    def __init__(self, predictor: Predictor) -> None:
        self._segmenter, self._options = Segmenter(predictor), Options()
        self._table = ObjectTable()

    def begin(self, image: NDArray[np.uint8], objects: Sequence[SegmentedObject]) -> None:
        """See frame 0, (H, W, 3) uint8 RGB, and the objects that were prompted on it."""
        self._segmenter.see(0, image)
        self._table = ObjectTable(tuple(objects), num_created=len(objects))

    def masks(self, sequence: int, image: NDArray[np.uint8], embedding: Embedding) -> list[Mask]:
        """(H, W) of each object on the next frame, empty where it is not shown."""
        self._segmenter.see(sequence, image)
        frame = EmbeddedFrame(Frame(sequence, sequence, "", b""), embedding)
        result = self._segmenter.followed(self._table, self._options, frame)
        self._table = result.table
        shown = {one.created: answer.masks[0] for one, answer in result.outputs.objects}
        nothing = np.zeros(embedding.grid.original_hw, np.bool_)
        return [shown.get(one.created, nothing) for one in self._table.objects]


def follow_encounter(predictor: Predictor, encounter: Encounter) -> list[Sightings]:
    """What is made of each actor that is prompted, by its tight box on the first frame."""
    moments = encounter.moments()
    first = next(moments)
    actors = [index for index, actor in enumerate(encounter.actors) if actor.is_prompted]
    node = NodeFollowing(predictor)
    embedding = predictor.encode(first.image)
    node.begin(first.image, _prompted(predictor, embedding, [first.masks[actor] for actor in actors]))
    seen: list[Sightings] = [[] for _ in actors]
    for sequence, moment in enumerate(moments, 1):
        masks = node.masks(sequence, moment.image, predictor.encode(moment.image))
        for sightings, actor, mask in zip(seen, actors, masks, strict=True):
            sightings.append(sighting(moment, actor, mask))
    return seen


def _prompted(predictor: Predictor, embedding: Embedding, truth: Sequence[Mask]) -> list[SegmentedObject]:
    """Objects prompted on frame 0, by their tight boxes."""
    prompts = [Prompt(box=tight_box(mask).astype(np.float64)) for mask in truth]
    answers = predictor.decode(embedding, prompts, False)
    size_hw = embedding.grid.original_hw
    return [
        SegmentedObject("", "", index, 0, size_hw, low_res_logits=answer.low_res_logits[0])
        for index, answer in enumerate(answers)
    ]


def _from_boxes(predictor: Predictor, embedding: Embedding, truth: Sequence[Mask]) -> list[Mask]:
    """What the model makes of the tight boxes of what is visible."""
    visible = [index for index, mask in enumerate(truth) if mask.any()]
    prompts = [Prompt(box=tight_box(truth[index]).astype(np.float64)) for index in visible]
    masks = [np.zeros_like(mask) for mask in truth]
    for index, answer in zip(visible, predictor.decode(embedding, prompts, False), strict=True):
        masks[index] = answer.masks[0]
    return masks


Encountered = dict[str, list[Sightings]]
"""What happens, and what was made of each object to which it happened."""


def follow_encounters(predictor: Predictor, seeds: Sequence[int], paths: list[Path] | None) -> Encountered:
    """Encounters over the scenes of some seeds, of blobs or of what PNG files show."""
    by_kind: Encountered = {}
    for seed in tqdm(seeds, unit="scene"):
        for encounter in encounters(seed, paths):
            by_kind.setdefault(encounter.kind, []).extend(follow_encounter(predictor, encounter))
    return by_kind


def report(videos: dict[int, Videos], met: dict[str, Encountered | None]) -> str:
    """Tables of the videos of each length, and of encounters by what is met there; None: not measured."""
    sections = ["# Following objects through generated video"]
    for frames, some_videos in videos.items():
        some = [trial for video in some_videos for trial in video]
        rows = []
        for name in [*WAYS, FOLLOWING, TRUTH]:
            every = np.array([iou for trial in some for iou in trial.ious(name)])
            late = np.array([iou for trial in some if trial.share > 0.75 for iou in trial.ious(name)])
            gone = [shown for trial in some for shown in trial.phantoms(name)]
            figures = [f"{every.mean():.3f}", f"{late.mean():.3f}", f"{(late >= FOUND).mean():.2f}"]
            rows.append([name, *figures, f"{np.mean(gone):.2f}" if gone else "-"])
        columns = [
            "way",
            "mean IoU",
            "in the last quarter",
            f"found there (IoU >= {FOUND})",
            "shown though gone",
        ]
        title = f"## Videos of {frames} frames, {len(every)} objects in them, {len(gone)} that are gone"
        sections += [title, table(columns, rows)]
    for name, encountered in met.items():
        missing = "Not measured: there are no such files."
        measured = missing if encountered is None else encounter_table(encountered)
        sections += [f"## Encounters of {name}", measured]
    pictures = "Of each video the largest object, followed: the last frame of each quarter."
    return "\n\n".join([*sections, pictures, "![Following](following.jpg)"]) + "\n"


def draw(videos: Videos, path: Path) -> None:
    """The object of each video that is largest at its end, as it was followed; its outline is the truth's."""
    rows = []
    for video in videos:
        largest = int(np.argmax([mask.sum() for mask in video[-1].truth]))
        shown = [video[(quarter + 1) * len(video) // 4 - 1] for quarter in SHOWN]
        tiles, ious = [], []
        for trial in shown:
            mask, truth = trial.masks[FOLLOWING][largest], trial.truth[largest]
            image = trial.image.copy()
            outlines, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(image, outlines, -1, (255, 255, 255), 3)
            tiles.append(view_of_all(image).tile(image, mask))
            ious.append(f"{mask_iou(mask, truth):.2f}" if truth.any() else "out of sight")
        rows.append(captioned("IoU " + ", ".join(ious), tiles))
    write(rows, path)


def main() -> None:
    """Parse the command line, measure, draw, print the report and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--scenes", type=int, default=3, help="in which things meet")
    parser.add_argument("--stamps", type=Path, default=STAMPS, help="folder of PNG files with opacity")
    parser.add_argument("--output", type=Path, default=Path("training/results"), help="folder of the results")
    arguments = parser.parse_args()
    predictor = load_predictor("sam_tiny", device="cpu", precision="float32")
    seeds = range(VIDEO_SEED, VIDEO_SEED + arguments.videos)
    videos = {}
    for frames in FRAMES:
        tried = (list(follow(predictor, seed, frames)) for seed in tqdm(seeds, unit="video"))
        videos[frames] = [video for video in tried if video]  # without those that begin with no object
    scenes = range(ENCOUNTER_SEED, ENCOUNTER_SEED + arguments.scenes)
    files = held_out_cutouts(arguments.stamps)
    met = {
        "generated blobs": follow_encounters(predictor, scenes, None),
        "photographed things that were never trained on": follow_encounters(predictor, scenes, files)
        if files
        else None,
    }
    draw(videos[FRAMES[-1]], arguments.output / "following.jpg")
    text = report(videos, met)
    (arguments.output / "following.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
