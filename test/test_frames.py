"""Which frame a stamp means, and which frames are kept for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fake_model import fake_embedding

from sam_ros.core.frames import Arrival, EmbeddedFrame, Frame, FrameStore, Order, UnencodedFrame
from sam_ros.errors import SamRosError

TOLERANCE_NS = 50
SECOND = 1_000_000_000
EMBEDDING = fake_embedding()


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
        frames.finish(embedded(sequence, stamp_ns))
    return frames


def add_images(frames: FrameStore, *stamps_ns: int) -> list[Frame]:
    return [frames.add_image(stamp_ns, "camera", b"") for stamp_ns in stamps_ns]


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


def test_without_an_exact_stamp_the_nearest_is_taken() -> None:
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
    add_images(frames, 1000)
    assert sequence_of(frames.find_image(1000)) == 1
    assert frames.find_image(1001) is None


def test_stamps_of_today_are_not_rounded() -> None:
    """Nanoseconds since 1970 have more digits than a float."""
    now = 1_763_800_000_123_456_789
    frames = store(stamp_tolerance_ns=0)
    add_images(frames, now, now + 1)
    assert sequence_of(frames.find_image(now)) == 1
    assert sequence_of(frames.find_image(now + 1)) == 2


def test_of_equally_near_ones_the_later_frame_is_taken() -> None:
    frames = with_embeddings(1000, 1040)
    assert sequence_of(frames.find_embedding(1020)) == 2
    frames = store()
    frames.finish(embedded(2, 1040))
    frames.finish(embedded(1, 1000))  # an old frame, embedded on demand
    assert sequence_of(frames.find_embedding(1020)) == 2


def test_of_frames_with_one_stamp_the_later_is_taken() -> None:
    frames = store()
    add_images(frames, 1000, 1000)
    assert sequence_of(frames.find_image(1000)) == 2


def test_images_beyond_the_limit_are_forgotten_oldest_first() -> None:
    frames = store(images_kept=2, stamp_tolerance_ns=0)
    add_images(frames, 1000, 2000, 3000)
    assert frames.find_image(1000) is None
    assert sequence_of(frames.find_image(2000)) == 2
    assert sequence_of(frames.newest_image) == 3


def test_the_newest_image_stays_even_if_none_is_to_be_kept() -> None:
    frames = store(images_kept=0, stamp_tolerance_ns=0)
    add_images(frames, 1000, 2000)
    assert sequence_of(frames.newest_image) == 2
    assert frames.find_image(1000) is None


def test_embeddings_beyond_the_limit_are_forgotten_oldest_first() -> None:
    frames = with_embeddings(1000, 2000, 3000, 4000, embeddings_kept=2)
    assert frames.find_embedding(1000) is None and frames.find_embedding(2000) is None
    assert sequence_of(frames.find_embedding(3000)) == 3
    assert sequence_of(frames.newest_embedding) == 4


def test_the_newest_embedding_is_the_newest_frames() -> None:
    frames = with_embeddings(1000, 2000)
    frames.finish(embedded(0, 500))
    assert sequence_of(frames.newest_embedding) == 2
    frames.finish(embedded(7, 100))  # a later frame, whatever its stamp
    assert sequence_of(frames.newest_embedding) == 7


@pytest.mark.parametrize("embeddings_kept", [1, 2, 3])
def test_old_frames_embedded_on_demand_never_push_out_the_newest(embeddings_kept: int) -> None:
    """Else a prompt for the newest embedding would land on a frame long gone."""
    frames = store(embeddings_kept=embeddings_kept)
    frames.finish(embedded(9, 9000))
    for sequence in (1, 2, 3, 4):
        frames.finish(embedded(sequence, 1000 * sequence))
    assert sequence_of(frames.newest_embedding) == 9
    kept = [s for s in (1, 2, 3, 4) if frames.find_embedding(1000 * s) is not None]
    assert kept == [1, 2, 3, 4][5 - embeddings_kept :]


@pytest.mark.parametrize(("embeddings_kept", "left"), [(1, [7]), (2, [2, 7]), (3, [2, 6, 7])])
def test_a_held_embedding_stays_where_more_than_the_newest_is_kept(
    embeddings_kept: int, left: list[int]
) -> None:
    frames = FrameStore(images_kept=10, embeddings_kept=embeddings_kept, stamp_tolerance_ns=0)
    for sequence in range(1, 8):
        frames.finish(embedded(sequence, 1000 * sequence), held=2)
    assert [n for n in range(1, 8) if frames.embedding_with(n) is not None] == left


@pytest.mark.parametrize(("embeddings_kept", "left"), [(1, [4]), (2, [1, 4]), (3, [1, 3, 4])])
def test_an_embedding_is_put_back_where_more_than_the_newest_is_kept(
    embeddings_kept: int, left: list[int]
) -> None:
    frames, old = store(embeddings_kept=embeddings_kept), embedded(1, 1000)
    for one in (old, *(embedded(sequence, 1000 * sequence) for sequence in (2, 3, 4))):
        frames.finish(one)
    for _ in range(2):
        frames.put_back(old)
    assert [n for n in range(1, 5) if frames.embedding_with(n) is not None] == left


def test_smaller_limits_forget_at_once_and_larger_ones_keep_more() -> None:
    frames = with_embeddings(1000, 2000, 3000)
    add_images(frames, 1000, 2000, 3000)
    frames.configure(images_kept=1, embeddings_kept=1, stamp_tolerance_ns=TOLERANCE_NS)
    assert frames.find_image(2000) is None and frames.find_embedding(2000) is None
    assert sequence_of(frames.find_image(3000)) == sequence_of(frames.find_embedding(3000)) == 3
    frames.configure(images_kept=3, embeddings_kept=3, stamp_tolerance_ns=TOLERANCE_NS)
    for sequence in (4, 5):
        add_images(frames, 1000 * sequence)
        frames.finish(embedded(sequence, 1000 * sequence))
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
    frames.finish(EmbeddedFrame(first, EMBEDDING))
    assert sequence_of(frames.embedding_of(first)) == 1
    assert frames.embedding_of(second) is None


def test_the_newest_size_is_that_of_the_newest_frame_in_order_also_if_it_was_passed_over() -> None:
    frames = with_embeddings(1000)
    assert frames.newest_hw == EMBEDDING.grid.original_hw
    frames.finish(UnencodedFrame(frame(3, 3000), (12, 4)))
    frames.finish(embedded(2, 2000))  # on demand
    assert frames.newest_hw == (12, 4)
    frames.clear()
    assert frames.newest_hw is None


def test_clear_forgets_everything() -> None:
    frames = with_embeddings(1000)
    (forgotten,) = add_images(frames, 1000)
    frames.clear()
    assert frames.newest_image is None and frames.newest_embedding is None
    assert frames.find_image(1000) is None and frames.find_embedding(1000) is None
    assert frames.is_forgotten(forgotten) and not frames.is_forgotten(*add_images(frames, 1000))


def test_frames_are_numbered_on_and_on() -> None:
    frames = store()
    add_images(frames, 1000, 2000)
    frames.clear()
    assert [frame.sequence for frame in add_images(frames, 500, 600)] == [3, 4]
    assert frames.num_frames == 4


def test_each_image_is_to_be_tried_once() -> None:
    frames = store()
    assert frames.newest_untried is None
    first, second = add_images(frames, 1000, 2000)
    assert sequence_of(frames.newest_untried) == 2
    frames.begin_encoding(second)
    assert sequence_of(frames.newest_untried) is None and sequence_of(frames.encoding) == 2
    frames.finish(EmbeddedFrame(second, EMBEDDING))
    assert sequence_of(frames.encoding) is None
    frames.begin_encoding(first)  # for a prompt
    (third,) = add_images(frames, 3000)
    frames.give_up(first, SamRosError("broken"))
    assert sequence_of(frames.newest_untried) == third.sequence and sequence_of(frames.encoding) is None
    assert str(frames.error_of(first)) == "broken" and frames.error_of(third) is None


def test_a_frame_forgotten_while_it_is_encoded_is_not_kept() -> None:
    frames = store()
    (old,) = add_images(frames, 1000)
    frames.begin_encoding(old)
    frames.clear()
    assert frames.encoding is None
    assert frames.finish(EmbeddedFrame(old, EMBEDDING)) is Order.FORGOTTEN
    assert frames.newest_embedding is None


@pytest.mark.parametrize(
    ("stamps_ns", "expected"),
    [
        ([1000, 2000, 3000], [Order.NEXT] * 3),
        ([1000, 1000, 2000], [Order.NEXT, Order.OUT_OF_ORDER, Order.NEXT]),
        ([1000, 980, 990], [Order.NEXT, Order.OUT_OF_ORDER, Order.OUT_OF_ORDER]),
        ([0, 0], [Order.NEXT] * 2),
    ],
    ids=["increasing", "repeated", "going back", "without stamps"],
)
def test_the_order_of_embedded_frames(stamps_ns: list[int], expected: list[Order]) -> None:
    frames = store()
    images = add_images(frames, *stamps_ns)
    assert [frames.finish(EmbeddedFrame(image, EMBEDDING)) for image in images] == expected


def test_an_older_frame_embedded_for_a_prompt_is_earlier() -> None:
    frames = store()
    first, second = add_images(frames, 1000, 2000)
    assert frames.finish(EmbeddedFrame(second, EMBEDDING)) is Order.NEXT
    assert frames.finish(EmbeddedFrame(first, EMBEDDING)) is Order.EARLIER


def test_a_stamp_means_an_embedding_before_an_image() -> None:
    frames = store()
    first, second = add_images(frames, 1000, 2000)
    assert frames.find(1000, encode_always=True) == (None, first)
    frames.finish(embedded := EmbeddedFrame(first, EMBEDDING))
    assert frames.find(1000, encode_always=True) == (embedded, None)
    assert frames.find(2000, encode_always=True) == (None, second)
    assert frames.find(9000, encode_always=True) == (None, None)


def test_the_frame_that_is_being_encoded_is_found_though_its_image_is_gone() -> None:
    frames = store(images_kept=1)
    (first,) = add_images(frames, 1000)
    frames.begin_encoding(first)
    add_images(frames, 2000)
    assert frames.find(1010, encode_always=True) == (None, first)


def test_stamp_zero_is_the_newest_embedding_or_on_prompt_the_newest_image() -> None:
    frames = store()
    assert frames.find(0, encode_always=True) == (None, None)
    first, second = add_images(frames, 1000, 2000)
    assert frames.find(0, encode_always=True) == (None, second)
    frames.finish(embedded := EmbeddedFrame(first, EMBEDDING))
    assert frames.find(0, encode_always=True) == (embedded, None)
    assert frames.find(0, encode_always=False) == (None, second)


def test_why_a_frame_is_missing() -> None:
    frames = store()
    assert frames.explain_missing(0).kind == "no image" and frames.may_still_come(5)
    add_images(frames, 2 * SECOND)
    late, early = frames.explain_missing(3 * SECOND), frames.explain_missing(1 * SECOND)
    assert late.kind == "too new" and "1.000 s newer" in str(late) and frames.may_still_come(3 * SECOND)
    assert early.kind == "stale" and "1.000 s older" in str(early)
    assert not frames.may_still_come(1 * SECOND) and frames.may_still_come(0)


def arrivals(frames: FrameStore, *stamps_ms: int, frame_ids: Sequence[str] = "") -> list[Arrival]:
    """How images of these stamps come; those that are taken are stored, as the engine does."""
    found = []
    for index, stamp_ms in enumerate(stamps_ms):
        frame_id = frame_ids[index] if frame_ids else "camera"
        arrival = frames.arrival(stamp_ms * 1_000_000, frame_id)
        if arrival is Arrival.JUMP_BACK:
            frames.clear()
        if arrival in (Arrival.NEXT, Arrival.JUMP_BACK):
            frames.add_image(stamp_ms * 1_000_000, frame_id, b"")
        found.append(arrival)
    return found


NEXT, LATE, JUMP, OTHER = Arrival.NEXT, Arrival.LATE, Arrival.JUMP_BACK, Arrival.OTHER_CAMERA


@pytest.mark.parametrize(
    ("stamps_ms", "expected"),
    [
        ([7000, 9000, 8900, 10000], [NEXT, NEXT, LATE, NEXT]),
        ([100, 300, 200, 500, 400, 700, 600], [NEXT, NEXT, LATE, NEXT, LATE, NEXT, LATE]),
        ([900, 800, 700, 600, 1000], [NEXT, LATE, LATE, LATE, NEXT]),  # the other way round
        ([5000, 3001, 3000, 6000], [NEXT, LATE, JUMP, NEXT]),
        ([500, 1000, 1500, 0, 500, 1000, 1500], [NEXT, NEXT, NEXT, LATE, LATE, JUMP, NEXT]),
        ([0, 0, 0], [NEXT, NEXT, NEXT]),
    ],
    ids=["two swapped", "swapped in pairs", "reversed", "two seconds back", "a short bag loops", "no stamps"],
)
def test_how_images_arrive(stamps_ms: list[int], expected: list[Arrival]) -> None:
    assert arrivals(store(), *stamps_ms) == expected


def test_a_bag_that_loops_is_taken_on_every_loop() -> None:
    """Shorter than stamp_tolerance, which has nothing to do with it."""
    frames = store(stamp_tolerance_ns=2 * SECOND)
    loop = range(0, 1500, 100)
    first, *later = [arrivals(frames, *loop) for _ in range(4)]
    assert first == [NEXT] * 15
    assert later == [[LATE, LATE, JUMP] + [NEXT] * 12] * 3


@pytest.mark.parametrize(
    ("frame_ids", "stamps_ms", "expected"),
    [
        ("aabbb", [0, 100, 200, 300, 400], [NEXT] * 5),
        ("ababab", [0, 100, 200, 300, 400, 500], [NEXT, NEXT, NEXT, OTHER, NEXT, OTHER]),
        ("ababb", [0, 100, 200, 300, 2300], [NEXT, NEXT, NEXT, OTHER, NEXT]),
        ("aba", [0, 100, 9000], [NEXT] * 3),
        (["cam", "cam", "", "", ""], [0, 100, 200, 300, 400], [NEXT] * 5),
    ],
    ids=[
        "it changed",
        "two at once",
        "the first one ends",
        "it changed back much later",
        "it has no name any more",
    ],
)
def test_two_cameras_on_one_topic(
    frame_ids: Sequence[str], stamps_ms: list[int], expected: list[Arrival]
) -> None:
    assert arrivals(store(), *stamps_ms, frame_ids=frame_ids) == expected


@pytest.mark.parametrize(
    ("frame_ids", "arrived_sec", "expected"),
    [
        ("ababb", [0, 0.5, 1, 1.5, 3], [NEXT, NEXT, NEXT, OTHER, NEXT]),
        ("aba", [0, 0.5, 9], [NEXT] * 3),
        ("ababab", [0, 0.5, 1, 1.5, 2, 2.5], [NEXT, NEXT, NEXT, OTHER, NEXT, OTHER]),
    ],
    ids=["the first one ends", "it changed back much later", "two at once"],
)
def test_cameras_without_stamps_are_told_apart_by_when_their_images_come(
    frame_ids: str, arrived_sec: Sequence[float], expected: list[Arrival]
) -> None:
    now_sec = 0.0
    frames = FrameStore(3, 3, TOLERANCE_NS, clock=lambda: now_sec)
    found = []
    for frame_id, now_sec in zip(frame_ids, arrived_sec, strict=True):  # noqa: B007 the clock reads it
        found += arrivals(frames, 0, frame_ids=frame_id)
    assert found == expected


def test_a_frame_that_never_arrived_is_told_from_one_that_is_no_longer_kept() -> None:
    frames = store(images_kept=1, stamp_tolerance_ns=0)
    arrivals(frames, 1000, 2000, 3000)
    kept, lost, before = (frames.explain_missing(ms * 1_000_000) for ms in (1000, 1500, 400))
    assert "no longer kept" in str(kept)
    assert "no image of its stamp arrived; the nearest one is 0.500 s away" in str(lost)
    assert "0.600 s older than the first image" in str(before)
    assert {error.kind for error in (kept, lost, before)} == {"stale"}
