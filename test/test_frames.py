"""Which frame a stamp means, and which frames are kept for it."""

from __future__ import annotations

import pytest
import torch

from sam_ros.core.frames import EmbeddedFrame, Frame, FrameStore
from sam_ros.predictor import Embedding

TOLERANCE_NS = 50
EMBEDDING = Embedding(torch.zeros(1), (4, 6), (4, 6))


def frame(sequence: int, stamp_ns: int) -> Frame:
    return Frame(sequence, stamp_ns, "camera", b"")


def embedded(sequence: int, stamp_ns: int) -> EmbeddedFrame:
    return EmbeddedFrame(frame(sequence, stamp_ns), EMBEDDING)


def store(
    images_kept: int = 3, embeddings_kept: int = 3, stamp_tolerance_ns: int = TOLERANCE_NS
) -> FrameStore:
    return FrameStore(images_kept, embeddings_kept, stamp_tolerance_ns)


def with_embeddings(*stamps_ns: int, embeddings_kept: int = 3) -> FrameStore:
    """A store with one embedded frame for each stamp, numbered from 1."""
    frames = store(embeddings_kept=embeddings_kept)
    for sequence, stamp_ns in enumerate(stamps_ns, 1):
        frames.add_embedding(embedded(sequence, stamp_ns))
    return frames


def sequence_of(found: EmbeddedFrame | Frame | None) -> int | None:
    return None if found is None else found.sequence


def test_an_empty_store_has_nothing() -> None:
    frames = store()
    assert frames.newest_image is None and frames.newest_embedding is None
    assert frames.find_image(0) is None and frames.find_embedding(0) is None
    assert frames.embedding_of(frame(1, 1)) is None


def test_the_exact_stamp_comes_before_a_near_one() -> None:
    frames = with_embeddings(1000, 1010, 1020)
    assert [sequence_of(frames.find_embedding(stamp)) for stamp in (1000, 1010, 1020)] == [1, 2, 3]


def test_the_nearest_is_taken_else() -> None:
    frames = with_embeddings(1000, 1100)
    assert sequence_of(frames.find_embedding(1049)) == 1
    assert sequence_of(frames.find_embedding(1051)) == 2


def test_the_tolerance_is_inclusive_on_both_sides() -> None:
    frames = with_embeddings(1000)
    assert sequence_of(frames.find_embedding(1000 - TOLERANCE_NS)) == 1
    assert sequence_of(frames.find_embedding(1000 + TOLERANCE_NS)) == 1
    assert frames.find_embedding(1000 - TOLERANCE_NS - 1) is None
    assert frames.find_embedding(1000 + TOLERANCE_NS + 1) is None


def test_without_tolerance_only_the_exact_stamp_fits() -> None:
    frames = store(stamp_tolerance_ns=0)
    frames.add_image(frame(1, 1000))
    assert sequence_of(frames.find_image(1000)) == 1
    assert frames.find_image(1001) is None


def test_stamps_of_today_are_not_rounded() -> None:
    """Nanoseconds since 1970 have more digits than a float."""
    now = 1_763_800_000_123_456_789
    frames = store(stamp_tolerance_ns=0)
    frames.add_image(frame(1, now))
    frames.add_image(frame(2, now + 1))
    assert sequence_of(frames.find_image(now)) == 1
    assert sequence_of(frames.find_image(now + 1)) == 2


def test_of_equally_near_ones_the_later_frame_is_taken() -> None:
    frames = with_embeddings(1000, 1040)
    assert sequence_of(frames.find_embedding(1020)) == 2
    frames = store()
    frames.add_embedding(embedded(2, 1040))
    frames.add_embedding(embedded(1, 1000))  # an old frame, embedded on demand
    assert sequence_of(frames.find_embedding(1020)) == 2


def test_of_frames_with_one_stamp_the_later_is_taken() -> None:
    frames = store()
    for sequence in (1, 2):
        frames.add_image(frame(sequence, 1000))
    assert sequence_of(frames.find_image(1000)) == 2


def test_images_beyond_the_limit_are_forgotten_oldest_first() -> None:
    frames = store(images_kept=2, stamp_tolerance_ns=0)
    for sequence in (1, 2, 3):
        frames.add_image(frame(sequence, 1000 * sequence))
    assert frames.find_image(1000) is None
    assert sequence_of(frames.find_image(2000)) == 2
    assert sequence_of(frames.newest_image) == 3


def test_the_newest_image_stays_even_if_none_is_to_be_kept() -> None:
    frames = store(images_kept=0, stamp_tolerance_ns=0)
    frames.add_image(frame(1, 1000))
    frames.add_image(frame(2, 2000))
    assert sequence_of(frames.newest_image) == 2
    assert frames.find_image(1000) is None


def test_embeddings_beyond_the_limit_are_forgotten_oldest_first() -> None:
    frames = with_embeddings(1000, 2000, 3000, 4000, embeddings_kept=2)
    assert frames.find_embedding(1000) is None and frames.find_embedding(2000) is None
    assert sequence_of(frames.find_embedding(3000)) == 3
    assert sequence_of(frames.newest_embedding) == 4


def test_the_newest_embedding_is_the_newest_frames() -> None:
    frames = with_embeddings(1000, 2000)
    frames.add_embedding(embedded(0, 500))
    assert sequence_of(frames.newest_embedding) == 2
    frames.add_embedding(embedded(7, 100))  # a later frame, whatever its stamp
    assert sequence_of(frames.newest_embedding) == 7


@pytest.mark.parametrize("embeddings_kept", [1, 2, 3])
def test_old_frames_embedded_on_demand_never_push_out_the_newest(embeddings_kept: int) -> None:
    """Else a prompt for the newest embedding would land on a frame long gone."""
    frames = store(embeddings_kept=embeddings_kept)
    frames.add_embedding(embedded(9, 9000))
    for sequence in (1, 2, 3, 4):
        frames.add_embedding(embedded(sequence, 1000 * sequence))
    assert sequence_of(frames.newest_embedding) == 9
    kept = [s for s in (1, 2, 3, 4) if frames.find_embedding(1000 * s) is not None]
    assert kept == [1, 2, 3, 4][5 - embeddings_kept :]


def test_smaller_limits_forget_at_once_and_larger_ones_keep_more() -> None:
    frames = with_embeddings(1000, 2000, 3000)
    for sequence in (1, 2, 3):
        frames.add_image(frame(sequence, 1000 * sequence))
    frames.configure(images_kept=1, embeddings_kept=1, stamp_tolerance_ns=TOLERANCE_NS)
    assert frames.find_image(2000) is None and frames.find_embedding(2000) is None
    assert sequence_of(frames.find_image(3000)) == sequence_of(frames.find_embedding(3000)) == 3
    frames.configure(images_kept=3, embeddings_kept=3, stamp_tolerance_ns=TOLERANCE_NS)
    for sequence in (4, 5):
        frames.add_image(frame(sequence, 1000 * sequence))
        frames.add_embedding(embedded(sequence, 1000 * sequence))
    for stamp_ns in (3000, 4000, 5000):
        assert frames.find_image(stamp_ns) is not None
        assert frames.find_embedding(stamp_ns) is not None


def test_the_tolerance_changes_at_once() -> None:
    frames = with_embeddings(1000)
    frames.configure(images_kept=3, embeddings_kept=3, stamp_tolerance_ns=500)
    assert sequence_of(frames.find_embedding(1400)) == 1
    frames.configure(images_kept=3, embeddings_kept=3, stamp_tolerance_ns=0)
    assert frames.find_embedding(1001) is None


def test_the_embedding_of_a_frame_is_found_by_the_frame_not_its_stamp() -> None:
    frames = store()
    first, second = frame(1, 1000), frame(2, 1000)
    frames.add_embedding(EmbeddedFrame(first, EMBEDDING))
    assert sequence_of(frames.embedding_of(first)) == 1
    assert frames.embedding_of(second) is None


def test_clear_forgets_everything() -> None:
    frames = with_embeddings(1000)
    frames.add_image(frame(1, 1000))
    frames.clear()
    assert frames.newest_image is None and frames.newest_embedding is None
    assert frames.find_image(1000) is None and frames.find_embedding(1000) is None
