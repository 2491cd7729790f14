"""How the engine works: one frozen value that may be replaced while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from sam_ros.core.everything import EverythingOptions
from sam_ros.core.follower import VIEWS_KEPT
from sam_ros.core.segmenter import Options


@dataclass(frozen=True)
class Settings(Options):
    """How the engine works, and the segmenter for it; may change while it runs.

    Attributes:
        encode: which frames to encode: always as many as there is time for, with_objects only while there are
            objects or prompts, on_prompt those that are prompted on.
        follow: answer on every frame, the objects moved along; else once for each prompt, on its frame. Not
            with on_prompt.
        max_rate_hz: encode at most so often without being asked; 0 is unlimited.
        images_kept, embeddings_kept, stamp_tolerance_ns: see ``FrameStore``.
        everything: how to segment everything; a request says in which region.
    """

    encode: str = "always"
    follow: bool = False
    max_rate_hz: float = 0.0
    images_kept: int = 30
    embeddings_kept: int = 8
    stamp_tolerance_ns: int = 50_000_000
    everything: EverythingOptions = field(default_factory=EverythingOptions)

    @property
    def is_following(self) -> bool:
        """Whether objects are followed from frame to frame."""
        return self.follow and self.encode != "on_prompt"

    @property
    def views_kept(self) -> int:
        """How many frames the follower remembers: at least as far back as a prompt may reach."""
        return max(VIEWS_KEPT, self.images_kept + self.embeddings_kept)
