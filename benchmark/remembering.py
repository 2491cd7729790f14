"""Frames per second where objects are followed by the model's memory, and what takes the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmark.contest import Contest
from benchmark.results import Result, spread
from benchmark.timing import Action, interleaved, peak_mb
from sam_ros.core.bank import FRAMES_RECALLED, Bank, Recalled
from sam_ros.fast.details import Details
from sam_ros.predictor import Embedding, Predictor
from sam_ros.prompt import FOREGROUND, Prompt

COUNTS = (1, 4, 16)  # objects
ENCODER, ATTENTION, DECODER, REMEMBERING = "encoder", "memory attention", "decoder", "memory encoder"


def measure(contest: Contest, machine: Mapping[str, Any]) -> list[Result]:  # noqa: ARG001 as of every part
    """One result for each number of objects and each precision; none for a model without memory."""
    return [
        _measure(contest, precision, count)
        for count in COUNTS
        for precision, ours in contest.ours.items()
        if ours.has_memory
    ]


def _measure(contest: Contest, precision: str, count: int) -> Result:
    """A frame with so many objects: it is encoded, and each of them is found and remembered."""
    predictor = contest.ours[precision]
    embedding = predictor.encode(contest.image_rgb)
    recalled, step = full_bank(predictor, embedding).recalled(FRAMES_RECALLED + 1), FRAMES_RECALLED + 1

    def follow() -> None:
        predictor.find(predictor.encode(contest.image_rgb), [recalled] * count, step)

    effort = replace(contest.options.effort, min_rounds=2)
    timing = interleaved({"follow": follow}, effort, contest.options.device)["follow"]
    shares = interleaved(_parts(contest, predictor, embedding, recalled), effort, contest.options.device)
    seconds = {name: spread(part.seconds).median for name, part in shares.items()}
    seconds = {name: it if name == ENCODER else count * it for name, it in seconds.items()}
    total = sum(seconds.values())
    frames = 1 / spread(timing.seconds).median
    return Result(
        "remembering",
        contest.case(precision, objects=str(count)),
        timing.seconds,
        (),
        {"frames/s": frames, **{f"{name} (%)": 100 * it / total for name, it in seconds.items()}},
        peak_mb(timing, timing),
    )


def full_bank(predictor: Predictor, embedding: Embedding) -> Bank:
    """What is remembered of an object that was clicked on and then followed: as much as is ever recalled."""
    height, width = embedding.grid.original_hw
    click = Prompt(np.array([[width / 2, height / 2]]), np.array([FOREGROUND]))
    answers = predictor.decode(embedding, [click], best_only=True)
    bank = Bank().with_memory(predictor.remember(embedding, answers, 0)[0])
    for step in range(1, FRAMES_RECALLED + 1):
        (found,) = predictor.find(embedding, [bank.recalled(step)], step)
        bank = bank.with_memory(found.memory)
    return bank


def _parts(
    contest: Contest, predictor: Predictor, embedding: Embedding, recalled: Recalled
) -> dict[str, Action]:
    """What is done for a frame, and for one of its objects."""
    memory, details = predictor._own_memory(), Details(*embedding.prepared[-2:])
    with torch.inference_mode():
        images = memory._conditioned(memory._image(embedding.features), [recalled])
        found = memory.decoded(embedding.features, details, [recalled])

    def attend() -> None:
        with torch.inference_mode():
            memory._conditioned(memory._image(embedding.features), [recalled])

    def decode() -> None:
        with torch.inference_mode():
            answer = memory._decoder.answer_on(images, details, memory._padding[None])
            answer.low_res_logits(0, torch.ones(1, dtype=torch.int64, device=images.device))

    def remember() -> None:
        with torch.inference_mode():
            memory.features(embedding.features, found.logits, found.scores, is_prompted=False)

    return {
        ENCODER: partial(predictor.encode, contest.image_rgb),
        ATTENTION: attend,
        DECODER: decode,
        REMEMBERING: remember,
    }
