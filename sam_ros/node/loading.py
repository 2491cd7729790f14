"""Load the model and warm it up: the first inference of each kind is slow, too slow for a click."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sam_ros.core.grid import Grid
from sam_ros.node.parameters import Parameters
from sam_ros.predictor import Predictor, is_fast
from sam_ros.prompt import FOREGROUND, Prompt

TORCH_THREADS = torch.get_num_threads()  # its own choice, as long as nobody has set another


def load_warm_predictor(
    load: Callable[..., Predictor], parameters: Parameters, should_stop: Callable[[], bool], logger: Any
) -> Predictor:
    """The predictor that the parameters ask for, warmed up; says how long that took.

    Args:
        load: with the arguments of ``load_predictor``.
        parameters: which model, and how it is to run.
        should_stop: asked while it is warmed up.
        logger: of the node.

    Raises:
        SamRosError: it cannot be loaded or run, or ``should_stop`` became true.
    """
    start = time.monotonic()
    torch.set_num_threads(parameters.threads or TORCH_THREADS)  # an earlier configure may have set another
    predictor = _load(load, parameters)
    loaded = time.monotonic()
    _warn_if_slow(predictor, logger)
    warm_up(predictor, should_stop)
    logger.info(
        f"{parameters.model_type} on {predictor.device} in {predictor.precision}: loaded in "
        f"{loaded - start:.1f} s, warmed up in {time.monotonic() - loaded:.1f} s"
    )
    return predictor


def _load(load: Callable[..., Predictor], parameters: Parameters) -> Predictor:
    return load(
        parameters.model_type,
        parameters.checkpoint or None,
        parameters.device,
        parameters.precision,
        parameters.compile,
    )


def warm_up(predictor: Predictor, should_stop: Callable[[], bool]) -> None:
    """Run each kind of inference once; on a GPU twice, since the second is captured as a graph.

    Raises:
        SamRosError: the device failed, or ``should_stop`` became true.
    """
    side = predictor.image_size
    image_rgb = np.zeros((side, side, 3), np.uint8)
    for _ in range(2 if predictor.device.type == "cuda" else 1):
        embedding = predictor.encode(image_rgb, should_stop)
        for prompt in _prompts_of_each_shape(embedding.grid):
            predictor.decode(embedding, [prompt])


def _prompts_of_each_shape(grid: Grid) -> list[Prompt]:
    """Those that the first clicks will have; a box needs none of its own, its shapes are two points'."""
    points, labels = np.full((3, 2), grid.original_hw[0] / 2), np.full(3, FOREGROUND)
    logits = np.zeros((grid.low_res_size, grid.low_res_size), np.float32)
    prompts = [Prompt(points[:count], labels[:count]) for count in (1, 2, 3)]
    return [*prompts, Prompt(low_res_logits=logits), Prompt(points[:1], labels[:1], low_res_logits=logits)]


def _warn_if_slow(predictor: Predictor, logger: Any) -> None:
    if not is_fast(predictor.precision, predictor.device):
        logger.warning(
            f"torch reports no instructions for {predictor.precision} on {predictor.device}; precision auto "
            "is faster"
        )
