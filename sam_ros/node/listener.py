"""What the engine tells of, and to whom."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from sam_ros.core.segmenter import Outputs
from sam_ros.node.statistics import Refusal


class Listener(Protocol):
    """What the engine tells. Called from its threads; ``on_refusal`` also from those that call the engine."""

    def wants_candidates(self) -> bool:
        """Whether the candidates of an answer will be looked at; if not, they are not made."""

    def on_outputs(self, outputs: Outputs) -> None:
        """A set of answers is ready."""

    def on_answered(self, topic: str, outputs: Outputs, touched: Collection[int]) -> None:
        """A prompt from a topic was accepted: the answers on its frame, and which objects it touched.

        The objects are told by ``created``; those of them that are missing in the answers are not seen.
        """

    def on_candidates(self, outputs: Outputs) -> None:
        """A prompt has candidates, but its object appears only in a set to come: publish just these."""

    def on_everything(self, topic: str, outputs: Outputs) -> None:
        """Everything on a frame was segmented, asked for by this topic or service."""

    def on_refusal(self, refusal: Refusal) -> None:
        """A prompt was refused, already counted."""

    def on_drop(self, kind: str, reason: str) -> None:
        """An image was dropped, already counted."""

    def on_flush(self, reason: str) -> None:
        """All frames and objects were forgotten, already counted."""

    def on_failure(self, what: str, error: Exception) -> None:
        """Something failed that no input explains."""
