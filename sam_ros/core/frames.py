"""The frames that a prompt can still refer to: recent images and recent embeddings, found by stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from sam_ros.predictor import Embedding


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image as it came.

    Attributes:
        sequence: counts the frames of this node; identifies the frame even where stamps repeat.
        stamp_ns: of the image's header, in nanoseconds.
        frame_id: of the image's header.
        data: the serialized message.
    """

    sequence: int
    stamp_ns: int
    frame_id: str
    data: bytes


@dataclass(frozen=True, eq=False)
class EmbeddedFrame:
    """A frame with its embedding."""

    frame: Frame
    embedding: Embedding

    @property
    def stamp_ns(self) -> int:
        """The frame's stamp, in nanoseconds."""
        return self.frame.stamp_ns

    @property
    def sequence(self) -> int:
        """The frame's sequence."""
        return self.frame.sequence


_Stamped = TypeVar("_Stamped", Frame, EmbeddedFrame)


class FrameStore:
    """Keeps the last images (serialized) and the last embeddings. Not thread-safe: its owner locks."""

    def __init__(self, images_kept: int, embeddings_kept: int, stamp_tolerance_ns: int) -> None:
        self._images: deque[Frame] = deque()
        self._embeddings: deque[EmbeddedFrame] = deque()
        self.configure(images_kept, embeddings_kept, stamp_tolerance_ns)

    def configure(self, images_kept: int, embeddings_kept: int, stamp_tolerance_ns: int) -> None:
        """Change the limits; what exceeds them is forgotten, oldest first.

        The newest image always stays, whatever ``images_kept``: it is the one to encode next.
        """
        self.stamp_tolerance_ns = stamp_tolerance_ns
        self._images = deque(self._images, maxlen=max(1, images_kept))
        self._embeddings_kept = max(1, embeddings_kept)
        self._forget_embeddings()

    def add_image(self, frame: Frame) -> None:
        """Remember an image, forgetting the oldest beyond ``images_kept``."""
        self._images.append(frame)

    def add_embedding(self, embedded: EmbeddedFrame) -> None:
        """Remember an embedding, forgetting the one computed longest ago beyond ``embeddings_kept``.

        The newest frame's always stays, however many old frames are embedded after it.
        """
        self._embeddings.append(embedded)
        self._forget_embeddings()

    def clear(self) -> None:
        """Forget everything."""
        self._images.clear()
        self._embeddings.clear()

    @property
    def newest_image(self) -> Frame | None:
        """The image that came last."""
        return self._images[-1] if self._images else None

    @property
    def newest_embedding(self) -> EmbeddedFrame | None:
        """The embedding of the frame that came last, of those embedded."""
        return max(self._embeddings, key=lambda embedded: embedded.sequence, default=None)

    def embedding_of(self, frame: Frame) -> EmbeddedFrame | None:
        """The embedding of exactly this frame, if it is kept."""
        return next((e for e in self._embeddings if e.frame is frame), None)

    def find_embedding(self, stamp_ns: int) -> EmbeddedFrame | None:
        """The embedding with exactly this stamp, else the nearest within the tolerance."""
        return self._nearest(self._embeddings, stamp_ns)

    def find_image(self, stamp_ns: int) -> Frame | None:
        """The image with exactly this stamp, else the nearest within the tolerance."""
        return self._nearest(self._images, stamp_ns)

    def _forget_embeddings(self) -> None:
        newest = self.newest_embedding
        while len(self._embeddings) > self._embeddings_kept:
            self._embeddings.remove(next(e for e in self._embeddings if e is not newest))

    def _nearest(self, items: Iterable[_Stamped], stamp_ns: int) -> _Stamped | None:
        """Of equally near ones, the frame that came last."""
        nearest = min(items, key=lambda item: (abs(item.stamp_ns - stamp_ns), -item.sequence), default=None)
        if nearest is None or abs(nearest.stamp_ns - stamp_ns) > self.stamp_tolerance_ns:
            return None
        return nearest
