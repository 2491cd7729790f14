"""Everything on an encoded image of 720p: ``everything`` against ``SamAutomaticMaskGenerator``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from benchmark.contest import Contest
from benchmark.quality import Mask, grid_clicks, mask_iou
from benchmark.results import Result
from benchmark.timing import Action, interleaved, peak_figures, peak_mb
from sam_ros.core.catalogue import MODELS
from sam_ros.masks import Masks
from sam_ros.predictor import Embedding

THEIRS = "SamAutomaticMaskGenerator"
POINTS_PER_SIDE = 16  # what robots use; its default, 32, takes upstream minutes
MIN_PREDICTED_IOU, MIN_STABILITY_SCORE = 0.8, 0.9  # of the node, on the scale of SAM's own weights
PASSING = 0.3  # of masks with random weights, whose numbers mean nothing: about as many as with trained ones
SKIPPED = {"all": False, "but those on small masks found before": True}  # skip_covered
FEWEST_ROUNDS = 3  # upstream takes half a minute with ViT-B
SAME_IOU = 0.99


class _Encoded(SamPredictor):  # type: ignore[misc]
    """Upstream's predictor, which keeps the image that it was given first: only what follows is measured."""

    def set_image(self, image: npt.NDArray[np.uint8], image_format: str = "RGB") -> None:
        if not self.is_image_set:
            super().set_image(image, image_format)

    def reset_image(self) -> None:
        if not hasattr(self, "is_image_set"):
            super().reset_image()


def measure(contest: Contest, machine: Mapping[str, Any]) -> list[Result]:  # noqa: ARG001 as of every part
    """One result for each precision, for all points of the grid and for those that are not covered."""
    embeddings = {precision: ours.encode(contest.image_rgb) for precision, ours in contest.ours.items()}
    options: dict[str, Any] = {"points_per_side": POINTS_PER_SIDE, **thresholds(contest, embeddings)}
    generate = partial(generator(contest, options).generate, contest.image_rgb)
    actions: dict[str, Action] = {THEIRS: generate}
    for precision, ours in contest.ours.items():
        for points, skips in SKIPPED.items():
            find = partial(ours.everything, embeddings[precision], **options, skip_covered=skips)
            actions[f"{precision} {points}"] = find
    effort = contest.options.effort
    effort = replace(effort, min_rounds=min(FEWEST_ROUNDS, effort.min_rounds))
    timings = interleaved(actions, effort, contest.options.device)
    expected = [record["segmentation"] for record in generate()]
    results = []
    for precision, ours in contest.ours.items():
        for points, skips in SKIPPED.items():
            timing, case = timings[f"{precision} {points}"], contest.case(precision, points=points)
            found = ours.everything(embeddings[precision], **options, skip_covered=skips)
            figures = {**agreement(found, expected), **peak_figures(timing, timings[THEIRS])}
            peak = peak_mb(timing, timings[THEIRS])
            results.append(Result("everything", case, timing.seconds, timings[THEIRS].seconds, figures, peak))
    return results


def generator(contest: Contest, options: Mapping[str, Any]) -> SamAutomaticMaskGenerator:
    """Upstream's, with the image encoded."""
    theirs = SamAutomaticMaskGenerator(contest.theirs.model, **options)
    theirs.predictor = _Encoded(contest.theirs.model)
    theirs.predictor.set_image(contest.image_rgb)
    return theirs


def thresholds(contest: Contest, embeddings: Mapping[str, Embedding]) -> dict[str, float]:
    """The node's; for random weights those that let as many masks pass on this image."""
    if contest.weights.trained:
        model = MODELS[contest.model_type]
        return {
            "pred_iou_thresh": MIN_PREDICTED_IOU * model.confidence,
            "stability_score_thresh": MIN_STABILITY_SCORE,
            "stability_score_offset": model.stability_offset,
        }
    ours, embedding = next((ours, embeddings[precision]) for precision, ours in contest.ours.items())
    answers = ours.decode(embedding, grid_clicks(contest.image_rgb.shape[:2]))
    share = 1 - PASSING**0.5  # of each of the two
    return {
        "pred_iou_thresh": float(np.quantile(np.concatenate([a.predicted_iou for a in answers]), share)),
        "stability_score_thresh": float(
            np.quantile(np.concatenate([a.stability_score for a in answers]), share)
        ),
    }


def agreement(found: Sequence[Masks], expected: Sequence[Mask]) -> dict[str, float]:
    """How many masks there are, how many of upstream's are found again, and the least IoU of these."""
    best = [max((mask_iou(masks.masks[0], one) for masks in found), default=0.0) for one in expected]
    same = [iou for iou in best if iou > SAME_IOU]
    return {
        "masks": float(len(found)),
        "by the other": float(len(expected)),
        "of these the same": float(len(same)),
        "least IoU of these": min(same, default=0.0),
    }
