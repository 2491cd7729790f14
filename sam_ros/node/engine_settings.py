"""The node's parameters as settings of the engine."""

from __future__ import annotations

from sam_ros.core.catalogue import MODELS
from sam_ros.core.everything import EverythingOptions
from sam_ros.node.parameters import Parameters
from sam_ros.node.settings import Settings

EVERYTHING_BATCH = 16  # points: prompts and followed frames wait for one batch at most


def engine_settings(parameters: Parameters) -> Settings:
    """How the engine works with these parameters."""
    return Settings(
        encode=parameters.encode,
        follow=parameters.follow,
        max_rate_hz=parameters.max_rate,
        images_kept=parameters.images_kept,
        embeddings_kept=parameters.embeddings_kept,
        stamp_tolerance_ns=round(parameters.stamp_tolerance * 1e9),
        follower=parameters.follower,
        click_mode=parameters.click_mode,
        multimask_output=parameters.multimask_output,
        max_objects=parameters.max_objects,
        min_predicted_iou=parameters.min_predicted_iou,
        min_stability_score=parameters.min_stability_score,
        everything=_everything_options(parameters),
    )


def _everything_options(parameters: Parameters) -> EverythingOptions:
    """The thresholds are on the scale of SAM's own weights: one pair serves all models."""
    model = MODELS[parameters.model_type]
    return EverythingOptions(
        points_per_side=parameters.everything_points_per_side,
        points_per_batch=EVERYTHING_BATCH,
        pred_iou_thresh=parameters.everything_min_predicted_iou * model.confidence,
        stability_score_thresh=parameters.everything_min_stability_score,
        stability_score_offset=model.stability_offset,
        box_nms_thresh=parameters.everything_nms_iou,
        min_mask_region_area=parameters.everything_min_area,
        min_area=parameters.everything_min_area,
        skip_covered=True,
    )
