"""A frame's whole life: it comes, is encoded or given up, is found by its stamp, and is forgotten."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from sam_ros.core.protocol import EmbeddedImage
from sam_ros.errors import SamRosError


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image as it came.

    Attributes:
        sequence: counts the frames of this node; identifies the frame even where stamps repeat.
        stamp_ns: of the image's header, in nanoseconds.
        frame_id: of the image's header.
        data: the serialized message.
        arrived_sec: when it came, by ``time.monotonic``; of a recording, when it came then.
    """

    sequence: int
    stamp_ns: int
    frame_id: str
    data: bytes
    arrived_sec: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, eq=False)
class EmbeddedFrame:
    """A frame with its embedding."""

    frame: Frame
    embedding: EmbeddedImage

    @property
    def stamp_ns(self) -> int:
        """The frame's stamp, in nanoseconds."""
        return self.frame.stamp_ns

    @property
    def sequence(self) -> int:
        """The frame's sequence."""
        return self.frame.sequence

    @property
    def size_hw(self) -> tuple[int, int]:
        """(H, W) of its image."""
        return self.embedding.grid.original_hw


@dataclass(frozen=True, eq=False)
class UnencodedFrame:
    """A frame that is answered without being encoded, and the (H, W) of its image."""

    frame: Frame
    size_hw: tuple[int, int]

    @property
    def sequence(self) -> int:
        """The frame's sequence."""
        return self.frame.sequence


class Arrival(Enum):
    """How an image comes after those that came before, by its header."""

    NEXT = "it is the next one"
    LATE = "it was overtaken by an image with a later stamp"
    OTHER_CAMERA = "another camera publishes on the same topic"
    JUMP_BACK = "the clock jumped back, or another recording began"


class Order(Enum):
    """How an embedded frame comes after those that were embedded before."""

    NEXT = "newer than all before, by arrival and by stamp"
    EARLIER = "it came before one that is embedded already: a prompt asked for it"
    OUT_OF_ORDER = "it came after all before, but its stamp is not later"
    FORGOTTEN = "all frames were forgotten while it was being encoded"


def order_after(last: Frame | None, frame: Frame) -> Order:
    """How an embedded frame comes after the newest that is in order, if there is one.

    Stamps have to increase strictly; only a camera that leaves them all at zero is excused.
    """
    if last is None:
        return Order.NEXT
    if frame.sequence <= last.sequence:
        return Order.EARLIER
    has_stamps = bool(last.stamp_ns or frame.stamp_ns)
    return Order.OUT_OF_ORDER if has_stamps and frame.stamp_ns <= last.stamp_ns else Order.NEXT


JUMP_NS = 2_000_000_000  # an image stamped so far back is of another recording, not late
LATE_IN_ORDER = 3  # so many late images in a row, in order among themselves, are of another recording too
CAMERA_GONE_SEC = 2.0  # without an image for so long, by stamps or by arrival, a camera is gone
STAMPS_KEPT = 4096  # of images that came: 2 minutes at 30 Hz


class Seen(NamedTuple):
    """The stamp of a camera's image, and when it came, in seconds."""

    stamp_ns: int
    arrived_sec: float

    def is_shortly_before(self, later: Seen) -> bool:
        """Whether a camera with this image is not gone when that one comes."""
        stamps_sec = abs(later.stamp_ns - self.stamp_ns) / 1e9
        return stamps_sec < CAMERA_GONE_SEC and later.arrived_sec - self.arrived_sec < CAMERA_GONE_SEC


_Stamped = TypeVar("_Stamped", Frame, EmbeddedFrame)


class FrameStore:
    """Numbers frames as they come, and keeps the last images (serialized) and the last embeddings.

    Not thread-safe: its owner locks.

    Args:
        images_kept, embeddings_kept, stamp_tolerance_ns: see ``configure``.
        clock: when an image comes, in seconds; of a recording, when it came.
    """

    def __init__(
        self,
        images_kept: int,
        embeddings_kept: int,
        stamp_tolerance_ns: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._images: deque[Frame] = deque()
        self._embeddings: deque[EmbeddedFrame] = deque()
        self._errors: WeakKeyDictionary[Frame, SamRosError] = WeakKeyDictionary()  # live as long as frames
        self._encoding: Frame | None = None
        self._newest_in_order: Frame | None = None  # of those embedded or passed over
        self._late_in_order: list[int] = []  # stamps of the last images, if all of them were late
        self._last_seen: dict[str, Seen] = {}  # of each camera that was taken, by frame_id
        self._rival: str | None = None  # frame_id of a camera that publishes beside the one that is taken
        self._stamps: deque[int] = deque(maxlen=STAMPS_KEPT)
        self._last_tried = 0  # sequence of the newest frame that was encoded or given up
        self._last_forgotten = 0  # sequence of the last frame before the last ``clear``
        self.num_frames = 0
        """How many frames ever came; the sequence of the newest one."""
        self.newest_hw: tuple[int, int] | None = None
        """(H, W) of the newest frame in order that was embedded or passed over."""
        self.configure(images_kept, embeddings_kept, stamp_tolerance_ns)

    def configure(self, images_kept: int, embeddings_kept: int, stamp_tolerance_ns: int) -> None:
        """Change the limits; what exceeds them is forgotten, oldest first.

        The newest image always stays, whatever ``images_kept``: it is the one to encode next.
        """
        self.stamp_tolerance_ns = stamp_tolerance_ns
        self._images = deque(self._images, maxlen=max(1, images_kept))
        self._embeddings_kept = max(1, embeddings_kept)
        self._forget_embeddings()

    # A frame comes, is encoded or given up.

    def arrival(self, stamp_ns: int, frame_id: str) -> Arrival:
        """How an image comes; to be asked once for each, in order of arrival.

        An image that is late by less than two seconds was overtaken on its way. One that is later, or the
        third late one in a row while those are in order, belongs to a clock that jumped back: so does a bag
        that loops, however short it is.
        """
        newest = self.newest_image
        if newest is None:
            return Arrival.NEXT
        if self._is_of_rival(stamp_ns, frame_id):
            return Arrival.OTHER_CAMERA
        if stamp_ns >= newest.stamp_ns:
            self._late_in_order.clear()
            return Arrival.NEXT
        if self._late_in_order and stamp_ns <= self._late_in_order[-1]:
            self._late_in_order.clear()
        self._late_in_order.append(stamp_ns)
        is_jump = newest.stamp_ns - stamp_ns >= JUMP_NS or len(self._late_in_order) >= LATE_IN_ORDER
        return Arrival.JUMP_BACK if is_jump else Arrival.LATE

    def _is_of_rival(self, stamp_ns: int, frame_id: str) -> bool:
        """Whether a second camera publishes on the topic of the first, which goes on.

        When the frame_id changes, it is the camera that changed; only once the first one comes back are there
        two, and the second one's images are left out for as long as the first one's come.
        """
        camera = self._images[-1].frame_id
        if frame_id == camera:
            return False
        now = Seen(stamp_ns, self._clock())
        if frame_id == self._rival:
            return self._last_seen[camera].is_shortly_before(now)
        if frame_id in self._last_seen and self._last_seen[frame_id].is_shortly_before(now):
            self._rival = camera
        return False

    def add_image(self, stamp_ns: int, frame_id: str, data: bytes) -> Frame:
        """Number an image and remember it, forgetting the oldest beyond ``images_kept``."""
        self.num_frames += 1
        frame = Frame(self.num_frames, stamp_ns, frame_id, data, self._clock())
        self._images.append(frame)
        self._stamps.append(stamp_ns)
        if frame_id not in self._last_seen and len(self._last_seen) > 1:
            self._last_seen.clear()  # a topic has a few cameras at most
        self._last_seen[frame_id] = Seen(stamp_ns, frame.arrived_sec)
        return frame

    @property
    def newest_untried(self) -> Frame | None:
        """The image that came last, unless it, or a later one, was taken to be encoded already."""
        newest = self.newest_image
        return newest if newest is not None and newest.sequence > self._last_tried else None

    def begin_encoding(self, frame: Frame) -> None:
        """Say that a frame is being encoded from now on."""
        self._encoding = frame
        self._last_tried = max(self._last_tried, frame.sequence)

    @property
    def encoding(self) -> Frame | None:
        """The frame that is being encoded, unless it was forgotten meanwhile."""
        frame = self._encoding
        return None if frame is None or self.is_forgotten(frame) else frame

    def finish(self, done: EmbeddedFrame | UnencodedFrame, held: int = 0) -> Order:
        """Say what became of the frame that was being encoded.

        An embedding is remembered, the one computed longest ago beyond ``embeddings_kept`` forgotten; the
        newest frame's always stays, however many old frames are embedded after it. One of before the last
        ``clear`` is not kept.

        Args:
            done: the frame with its embedding, or passed over.
            held: sequence of a frame whose embedding stays, too, where more than one is kept.
        """
        self._encoding = None
        if self.is_forgotten(done.frame):
            return Order.FORGOTTEN
        if isinstance(done, EmbeddedFrame):
            self._embeddings.append(done)
            self._forget_embeddings(held)
        order = self._order(done.frame)
        if order is Order.NEXT:
            self._newest_in_order, self.newest_hw = done.frame, done.size_hw
        return order

    def put_back(self, embedded: EmbeddedFrame) -> None:
        """Keep an embedding again that was forgotten while a prompt waited, where more than one is kept."""
        if self.embedding_with(embedded.sequence) is None:
            self._embeddings.appendleft(embedded)
            self._forget_embeddings(embedded.sequence)

    def _order(self, frame: Frame) -> Order:
        return order_after(self._newest_in_order, frame)

    def give_up(self, frame: Frame, error: SamRosError) -> None:
        """Say that the frame that was being encoded cannot be, and why."""
        self._encoding = None
        self.refuse(frame, error)

    def refuse(self, frame: Frame, error: SamRosError) -> None:
        """Say that a frame cannot be encoded, and why."""
        self._errors[frame] = error
        self._last_tried = max(self._last_tried, frame.sequence)

    def error_of(self, frame: Frame) -> SamRosError | None:
        """Why a frame was given up, if it was."""
        return self._errors.get(frame)

    # It is forgotten.

    def clear(self) -> None:
        """Forget all frames, also the one that is being encoded."""
        self._images.clear()
        self._embeddings.clear()
        self._newest_in_order = self.newest_hw = None
        self._late_in_order.clear()
        self._last_seen.clear()
        self._rival = None
        self._stamps.clear()
        self._last_forgotten = self.num_frames

    def is_forgotten(self, frame: Frame) -> bool:
        """Whether a frame came before the last ``clear``."""
        return frame.sequence <= self._last_forgotten

    def _forget_embeddings(self, held: int = 0) -> None:
        newest = self.newest_embedding
        while len(self._embeddings) > self._embeddings_kept:
            others = [e for e in self._embeddings if e is not newest]
            self._embeddings.remove(next((e for e in others if e.sequence != held), others[0]))

    # It is found by its stamp.

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

    def embedding_with(self, sequence: int) -> EmbeddedFrame | None:
        """The embedding of the frame with this sequence, if it is kept."""
        return next((e for e in self._embeddings if e.sequence == sequence), None)

    def find_embedding(self, stamp_ns: int) -> EmbeddedFrame | None:
        """The embedding with exactly this stamp, else the nearest within the tolerance."""
        return self._nearest(self._embeddings, stamp_ns)

    def find_image(self, stamp_ns: int) -> Frame | None:
        """The image with exactly this stamp, else the nearest within the tolerance."""
        return self._nearest(self._images, stamp_ns)

    def find(self, stamp_ns: int, *, encode_always: bool) -> tuple[EmbeddedFrame | None, Frame | None]:
        """The embedded frame that a prompt's stamp means, else the frame to encode for it; or neither.

        Args:
            stamp_ns: of the prompt; 0 means the newest embedding or, where frames are encoded only for
                prompts, the newest image.
            encode_always: whether every frame is encoded that there is time for.
        """
        if stamp_ns == 0:
            return self._find_newest(encode_always)
        embedded, encoding = self.find_embedding(stamp_ns), self.encoding
        if embedded is not None:
            return embedded, None
        if encoding is not None and abs(encoding.stamp_ns - stamp_ns) <= self.stamp_tolerance_ns:
            return None, encoding
        return None, self.find_image(stamp_ns)

    def _find_newest(self, encode_always: bool) -> tuple[EmbeddedFrame | None, Frame | None]:
        image = self.newest_image
        if image is None:
            return None, None
        embedded = self.newest_embedding if encode_always else self.embedding_of(image)
        if embedded is not None:
            return embedded, None
        return None, (self.encoding or image) if encode_always else image

    def may_still_come(self, stamp_ns: int) -> bool:
        """Whether an image of this stamp can still come; for stamp 0 that is any image."""
        newest = self.newest_image
        return newest is None or stamp_ns == 0 or stamp_ns > newest.stamp_ns

    def explain_missing(self, stamp_ns: int) -> SamRosError:
        """Why there is no frame for a prompt's stamp."""
        newest = self.newest_image
        if newest is None:
            return SamRosError("no image has come yet", "no image")
        ahead_sec = (stamp_ns - newest.stamp_ns) / 1e9
        if ahead_sec > 0:
            return SamRosError(f"its stamp is {ahead_sec:.3f} s newer than the newest image", "too new")
        nearest_ns = min(self._stamps, key=lambda arrived_ns: abs(arrived_ns - stamp_ns))
        if abs(nearest_ns - stamp_ns) > self.stamp_tolerance_ns:
            return self._explain_never_arrived(stamp_ns, nearest_ns)
        return SamRosError(
            f"its stamp is {-ahead_sec:.3f} s older than the newest image and its frame is no longer kept; "
            "raise images_kept or embeddings_kept",
            "stale",
        )

    def _explain_never_arrived(self, stamp_ns: int, nearest_ns: int) -> SamRosError:
        if stamp_ns < self._stamps[0]:
            return SamRosError(
                f"its stamp is {(self._stamps[0] - stamp_ns) / 1e9:.3f} s older than the first image that is "
                "remembered",
                "stale",
            )
        return SamRosError(
            f"no image of its stamp arrived; the nearest one is {abs(nearest_ns - stamp_ns) / 1e9:.3f} s "
            f"away, stamp_tolerance is {self.stamp_tolerance_ns / 1e9:g} s",
            "stale",
        )

    def _nearest(self, items: Iterable[_Stamped], stamp_ns: int) -> _Stamped | None:
        """Of equally near ones, the frame that came last."""
        nearest = min(items, key=lambda item: (abs(item.stamp_ns - stamp_ns), -item.sequence), default=None)
        if nearest is None or abs(nearest.stamp_ns - stamp_ns) > self.stamp_tolerance_ns:
            return None
        return nearest
