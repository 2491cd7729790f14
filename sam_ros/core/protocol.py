"""What the rest of the project needs of a model, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam_ros.core.bank import Found, Memory, Recalled
from sam_ros.core.everything import EverythingOptions
from sam_ros.core.grid import Grid
from sam_ros.masks import Masks
from sam_ros.prompt import Prompt


class EmbeddedImage(Protocol):
    """What a model's ``encode`` makes of one image; only that model looks inside."""

    @property
    def grid(self) -> Grid:
        """Where the image lies in the model's input and low-res logits."""


class PromptableModel(Protocol):
    """A model that encodes an image once and answers any number of prompts on it.

    ``Predictor`` is one. Its methods may be called from several threads at once.
    """

    @property
    def model_type(self) -> str:
        """Its name in the catalogue."""

    @property
    def precision(self) -> str:
        """Of the image encoder: float32, bfloat16 or float16."""

    @property
    def device(self) -> Any:
        """Where it computes; ``str`` of it is for people."""

    def grid(self, original_hw: tuple[int, int]) -> Grid:
        """Where an image (H, W) lies in the model's input and low-res logits."""

    def encode(self, image_rgb: npt.NDArray[np.uint8], should_stop: Callable[[], bool]) -> EmbeddedImage:
        """Embed an image (H, W, 3) uint8; the slow part. See ``Predictor.encode``."""

    def decode(
        self,
        embedding: Any,
        prompts: Sequence[Prompt],
        multimask_output: Sequence[bool],
        best_only: Sequence[bool],
    ) -> list[Masks]:
        """Answer prompts, in their order, on an image that this model embedded. See ``Predictor.decode``."""

    def everything_in_steps(self, embedding: Any, options: EverythingOptions) -> Iterator[list[Masks] | None]:
        """Find everything on an image that this model embedded: None after every step but the last.

        See ``Predictor.everything_in_steps``.
        """

    def features(self, embedding: Any) -> npt.NDArray[np.float32]:
        """(C, h, w): what the model sees where in an image that it embedded; not to be written to."""

    @property
    def has_memory(self) -> bool:
        """Whether it finds objects again by what it remembers of them; else the next two are not called."""

    def remember(self, embedding: Any, answers: Sequence[Masks], step: int) -> list[Memory]:
        """What to remember of prompted objects, given the first masks of the answers. See ``Predictor``."""

    def find(self, embedding: Any, recalled: Sequence[Recalled], step: int) -> list[Found]:
        """Find objects on an image by what is recalled of each. See ``Predictor.find``."""

    def memory_mb(self) -> dict[str, float]:
        """What it takes of a device's own memory, in MB, by name."""
