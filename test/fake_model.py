"""A model that injects order and faults: it blocks, fails and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_ros.core.bank import Found, Memory, Recalled
from sam_ros.core.everything import EverythingOptions
from sam_ros.core.frames import EmbeddedFrame, Frame
from sam_ros.core.grid import Grid, padded_grid
from sam_ros.errors import EncodeCancelledError
from sam_ros.masks import Masks
from sam_ros.prompt import Prompt

SIZE_HW = (6, 8)
IMAGE_SIZE = 16
DEADLINE_SEC = 20.0
NUM_STEPS = 4  # of everything, before the last one


def fake_embedding(number: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> Any:
    """What ``FakeModel`` makes of an image of that number."""
    return SimpleNamespace(number=number, grid=padded_grid(size_hw, IMAGE_SIZE))


def embedded_frame(
    sequence: int, stamp_ns: int, frame_id: str = "camera", size_hw: tuple[int, int] = SIZE_HW
) -> EmbeddedFrame:
    """A frame that is embedded, its sequence the number."""
    return EmbeddedFrame(Frame(sequence, stamp_ns, frame_id, b""), fake_embedding(sequence, size_hw))


class FakeModel:
    """Encodes an image to the number it holds; decodes points, boxes and logits to recognisable masks."""

    model_type, precision, device, has_memory = "fake", "float32", "cpu", False

    def __init__(self) -> None:
        self.encoded: list[int] = []
        self.decoded: list[tuple[int, list[Prompt], list[bool]]] = []
        self.gates: dict[int, threading.Event] = {}
        self.started: list[int] = []
        self.decode_gate = threading.Event()
        self.decode_gate.set()
        self.decoding = threading.Event()
        self.failures: list[Exception] = []
        self.surveyed: list[tuple[int, EverythingOptions]] = []
        self.steps_allowed = threading.Semaphore(0)  # of everything; released by tests
        self.steps_begun = self.steps_taken = 0
        self.next_logits: list[npt.NDArray[np.float32]] = []
        self.scores = np.array([0.9, 0.8, 0.7], np.float32)
        self.stability_scores = np.array([0.4, 0.3, 0.2], np.float32)

    def grid(self, original_hw: tuple[int, int]) -> Grid:
        return padded_grid(original_hw, IMAGE_SIZE)

    def remember(self, *_: Any) -> list[Memory]:
        raise AssertionError("it has no memory")

    def find(self, *_: Any) -> list[Found]:
        raise AssertionError("it has no memory")

    def memory_mb(self) -> dict[str, float]:
        return {}

    def encode(self, image_rgb: npt.NDArray[np.uint8], should_stop: Callable[[], bool]) -> Any:
        number = int(image_rgb[0, 0, 0])
        self.started.append(number)
        gate = self.gates.get(number)
        while gate is not None and not gate.wait(0.01):
            if should_stop():
                raise EncodeCancelledError("cancelled")
        if self.failures:
            raise self.failures.pop()
        self.encoded.append(number)
        original_hw = (image_rgb.shape[0], image_rgb.shape[1])
        return fake_embedding(number, original_hw)

    def decode(
        self,
        embedding: Any,
        prompts: Sequence[Prompt],
        multimask_output: Sequence[bool],
        best_only: Sequence[bool],
    ) -> list[Masks]:
        self._begin_answering()
        self.decoded.append((embedding.number, list(prompts), list(multimask_output)))
        return [
            self._masks(prompt, embedding.grid.original_hw, 3 if three else 1, only_best)
            for prompt, three, only_best in zip(prompts, multimask_output, best_only, strict=True)
        ]

    def _begin_answering(self) -> None:
        self.decoding.set()
        assert self.decode_gate.wait(DEADLINE_SEC)
        if self.failures:
            raise self.failures.pop()

    def everything_in_steps(self, embedding: Any, options: EverythingOptions) -> Iterator[list[Masks] | None]:
        """Four steps, then pixels at x of 2 and 5, the second one less certain."""
        self.surveyed.append((embedding.number, options))
        for _ in range(NUM_STEPS):
            self._step()
            yield None
        clicks = [Prompt(np.array([[x, 1.0]]), np.array([1])) for x in (2, 5)]
        found = [self._masks(click, embedding.grid.original_hw, 3, only_best=False) for click in clicks]
        yield [found[0].only(0), found[1].only(1)]

    def _step(self) -> None:
        self.steps_begun += 1
        assert self.steps_allowed.acquire(timeout=DEADLINE_SEC)
        if self.failures:
            raise self.failures.pop()
        self.steps_taken += 1

    def features(self, embedding: Any) -> npt.NDArray[np.float32]:  # noqa: ARG002 as of every image
        features = np.zeros((2, 4, 4), np.float32)
        features[0, :, :2] = features[1, :, 2:] = (
            1  # the left half of an image is one thing, the right another
        )
        return features

    def _masks(self, prompt: Prompt, size_hw: tuple[int, int], num_scores: int, only_best: bool) -> Masks:
        """One pixel at the last point, or the first pixel; logits tell its x, or are those of the prompt."""
        count = 1 if only_best else num_scores
        masks = np.zeros((count, *size_hw), bool)
        x, y = (0, 0) if prompt.point_coords is None else prompt.point_coords[-1].astype(int)
        masks[:, y, x] = True
        logits = np.full((count, 4, 4), x, np.float32)
        if prompt.point_coords is None and prompt.low_res_logits is not None:
            logits[:] = self.next_logits.pop() if self.next_logits else prompt.low_res_logits
        scores = self.scores[:count]
        others = self.scores[count:num_scores]
        return Masks(masks, scores, self.stability_scores[:count], logits, others)


class FakeRememberingModel(FakeModel):
    """Also remembers: an object is where it was last, or where ``next_logits`` say; negative ones hide it."""

    has_memory = True

    def remember(self, _: Any, answers: Sequence[Masks], step: int) -> list[Memory]:
        return [Memory(step, True, None, answer.low_res_logits[0]) for answer in answers]

    def find(self, embedding: Any, recalled: Sequence[Recalled], step: int) -> list[Found]:
        self._begin_answering()
        self.recalled = list(recalled)
        return [self._found(embedding, one.features[-1][1], step) for one in recalled]

    def _found(self, embedding: Any, logits: npt.NDArray[np.float32], step: int) -> Found:
        masks = self._masks(Prompt(low_res_logits=logits), embedding.grid.original_hw, 1, only_best=True)
        found = masks.low_res_logits[0]
        return Found(masks, bool((found > 0).any()), Memory(step, False, None, found))
