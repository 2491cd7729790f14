"""Which image is shown next, and with which answer: equal stamps only, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

ANSWERS_KEPT = 16
IMAGES_KEPT = 60
IMAGES_KEPT_MB = 1000  # 1.3 s of raw 4K at 30 Hz; a whole second and more of anything smaller
LATE_ANSWERS = 2  # in a row, to be told: one alone may be the node's first, which takes longer
LATE_SEC = 30.0  # after so long without another answer nobody knows whether the next one is late
HOLD_SEC = 1.0  # an answer with objects is looked at for so long before images without one are shown again
HOLD_PERIODS = 3.0  # a node that answers slowly, and regularly, is waited for so many of its periods
LONGEST_PERIOD_SEC = 3.0  # what comes later than this is no next answer: a person has clicked again
ENCODE_PERIODS = 1.5  # or later than so many encodes, if these take longer
PERIODS_KEPT = 5
PERIODS_ALIKE = 3  # of them, for the answers to be regular
LIKENESS = 0.3  # how far a period may be from their median, in parts of it

Labels = TypeVar("Labels")
Segments = TypeVar("Segments")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Answer(Generic[Labels, Segments]):
    """The labels and segments of one frame.

    Attributes:
        revision: counts the answers; a frame may be answered again.
        num_objects: in it.
        taken_sec: when it was complete.
    """

    labels: Labels
    segments: Segments
    revision: int
    num_objects: int
    taken_sec: float


@dataclass(frozen=True)
class Pair(Generic[Labels, Segments]):
    """An image, still serialized, and the answer to it if there is one."""

    stamp_ns: int
    image: bytes
    answer: Answer[Labels, Segments] | None

    @property
    def key(self) -> tuple[int, int]:
        """Equal for what looks the same: an answer without objects is none."""
        return self.stamp_ns, self.answer.revision if self.answer and self.answer.num_objects else 0


class Pairing(Generic[Labels, Segments]):
    """Takes images, labels and segments in any order and says what to show.

    While the newest answer has objects, only answered images are shown, so that a mask never lies on another
    frame. Without objects, or when no answer has come for a while, the newest image is shown as it is.

    Attributes:
        num_unpaired: answers whose image had been forgotten, or never came.
        encode_sec: how long an encode of the node takes; 0 as long as that is not known.
    """

    def __init__(self, images_kept: int = IMAGES_KEPT, images_kept_mb: int = IMAGES_KEPT_MB) -> None:
        self.num_unpaired = 0
        self.encode_sec = 0.0
        self._images_kept, self._images_kept_mb = images_kept, images_kept_mb
        self._images: OrderedDict[int, bytes] = OrderedDict()
        self._num_bytes = 0
        self._held: tuple[int, bytes] | None = None  # stamp and image last shown with an answer
        self._forgotten_ns: int | None = None  # stamp of the image that was forgotten last
        self._num_late = 0  # answers in a row whose image had been forgotten
        self._labels: OrderedDict[int, Labels] = OrderedDict()  # that wait for their segments
        self._segments: OrderedDict[int, tuple[Segments, int]] = OrderedDict()  # that wait for their labels
        self._answers: OrderedDict[int, Answer[Labels, Segments]] = OrderedDict()
        self._revision = 0
        self._answered_sec = float("-inf")
        self._periods_sec: deque[float] = deque(maxlen=PERIODS_KEPT)

    def add_image(self, stamp_ns: int, image: bytes) -> None:
        """Take an image; the oldest are forgotten."""
        self._num_bytes += len(image) - len(self._images.pop(stamp_ns, b""))
        self._images[stamp_ns] = image
        while len(self._images) > self._images_kept or (
            len(self._images) > 1 and self._num_bytes > 1_000_000 * self._images_kept_mb
        ):
            self._forgotten_ns, forgotten = self._images.popitem(last=False)
            self._num_bytes -= len(forgotten)

    def add_labels(self, stamp_ns: int, labels: Labels, now_sec: float) -> None:
        """Take the labels of a frame."""
        _put(self._labels, stamp_ns, labels)
        self._complete(stamp_ns, now_sec)

    def add_segments(self, stamp_ns: int, segments: Segments, num_objects: int, now_sec: float) -> None:
        """Take the segments of a frame, of so many objects."""
        _put(self._segments, stamp_ns, (segments, num_objects))
        self._complete(stamp_ns, now_sec)

    def newest(self, now_sec: float) -> Pair[Labels, Segments] | None:
        """What to show now; None before the first image."""
        self._held = self._newest_answered_image()
        if self._held is not None:
            answer = self._answers[self._held[0]]
            if answer.num_objects and now_sec - answer.taken_sec < hold_sec(self._periods_sec):
                return Pair(*self._held, answer)
        if not self._images:
            return None
        stamp_ns, image = next(reversed(self._images.items()))
        return Pair(stamp_ns, image, self._answers.get(stamp_ns))

    @property
    def has_objects(self) -> bool:
        """Whether the answer that came last has objects, whether it is shown or not."""
        answer = next(reversed(self._answers.values()), None)
        return answer is not None and answer.num_objects > 0

    def late(self, now_sec: float) -> str:
        """Why no masks are shown though answers keep coming, in words; '' where there is no such reason."""
        if self._num_late < LATE_ANSWERS or now_sec - self._answered_sec >= LATE_SEC:
            return ""
        num_images = len(self._images)
        if num_images == self._images_kept:
            return f"masks come later than the {num_images} images kept: raise images_kept"
        return (
            f"masks come later than the {num_images} images that {self._images_kept_mb} MB hold: raise "
            "images_kept_mb, or have smaller or compressed images"
        )

    def _newest_answered_image(self) -> tuple[int, bytes] | None:
        """Stamp and image of the answer that came last among those whose image is here."""
        images = ((stamp_ns, self._image(stamp_ns)) for stamp_ns in reversed(self._answers))
        return next(((stamp_ns, image) for stamp_ns, image in images if image is not None), None)

    def _image(self, stamp_ns: int) -> bytes | None:
        """An image that is kept, or that is still shown with its answer although newer ones have come."""
        held = self._held[1] if self._held and self._held[0] == stamp_ns else None
        return self._images.get(stamp_ns, held)

    def _complete(self, stamp_ns: int, now_sec: float) -> None:
        """Make an answer of the two halves once both are there.

        Both are used up, so that a second answer to the same frame is never mixed with the first one.
        """
        if stamp_ns not in self._labels or stamp_ns not in self._segments:
            return
        labels, (segments, num_objects) = self._labels.pop(stamp_ns), self._segments.pop(stamp_ns)
        self._revision += 1
        self._answers.pop(stamp_ns, None)  # to the end: the order is that of coming
        _put(self._answers, stamp_ns, Answer(labels, segments, self._revision, num_objects, now_sec))
        self._note_image(stamp_ns)
        self._note_period(now_sec - self._answered_sec)
        self._answered_sec = now_sec

    def _note_image(self, stamp_ns: int) -> None:
        """Count an answer whose image is not here; one that never came does not tell of a late answer."""
        if self._image(stamp_ns) is not None:
            self._num_late = 0
            return
        self.num_unpaired += 1
        if self._forgotten_ns is not None and stamp_ns <= self._forgotten_ns:
            self._num_late += 1

    def _note_period(self, period_sec: float) -> None:
        if period_sec > max(LONGEST_PERIOD_SEC, ENCODE_PERIODS * self.encode_sec):
            self._periods_sec.clear()
        else:
            self._periods_sec.append(period_sec)


def hold_sec(periods_sec: Sequence[float]) -> float:
    """How long the newest answer with objects is shown, by the times between the last answers, in seconds.

    Only answers that come regularly say when the next one is due: those to a person's clicks do not, where
    the node does not follow.
    """
    if not periods_sec:
        return HOLD_SEC
    period_sec = median(periods_sec)
    alike = sum(abs(one_sec - period_sec) <= LIKENESS * period_sec for one_sec in periods_sec)
    return max(HOLD_SEC, HOLD_PERIODS * period_sec) if alike >= PERIODS_ALIKE else HOLD_SEC


def _put(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    while len(kept) > ANSWERS_KEPT:
        kept.popitem(last=False)
