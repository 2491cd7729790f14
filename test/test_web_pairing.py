"""Which image the page shows, and with which answer."""

import pytest

from sam_ros.tools.web.pairing import ANSWERS_KEPT, HOLD_SEC, LATE_SEC, Pairing, hold_sec

Texts = Pairing[str, str]


def answered(pairing: Texts, stamp_ns: int, now_sec: float, num_objects: int = 1, name: str = "") -> None:
    pairing.add_labels(stamp_ns, f"labels {stamp_ns}{name}", now_sec)
    pairing.add_segments(stamp_ns, f"segments {stamp_ns}{name}", num_objects, now_sec)


def shown(pairing: Texts, now_sec: float) -> tuple[int, str | None]:
    """The stamp, and the labels if there are any, whose segments are checked to belong to them."""
    pair = pairing.newest(now_sec)
    assert pair is not None
    if pair.answer is None:
        return pair.stamp_ns, None
    assert pair.answer.segments == pair.answer.labels.replace("labels", "segments")
    return pair.stamp_ns, pair.answer.labels


def test_nothing_is_shown_before_the_first_image() -> None:
    pairing = Texts(10)
    answered(pairing, 1, 0.0)
    assert pairing.newest(0.0) is None


def test_images_are_shown_without_a_node() -> None:
    pairing = Texts(10)
    for stamp in (1, 2, 3):
        pairing.add_image(stamp, b"image")
        assert shown(pairing, 0.0) == (stamp, None)


def test_an_image_is_shown_with_the_labels_and_segments_of_its_stamp_only() -> None:
    pairing = Texts(10)
    for stamp in (1, 2, 3):
        pairing.add_image(stamp, b"image")
    pairing.add_labels(2, "labels 2", 0.0)
    assert shown(pairing, 0.0) == (3, None)  # its segments are still missing
    pairing.add_segments(1, "segments 1", 1, 0.0)
    assert shown(pairing, 0.0) == (3, None)
    pairing.add_segments(2, "segments 2", 1, 0.0)
    assert shown(pairing, 0.0) == (2, "labels 2")


def test_newer_images_wait_for_their_answer_while_there_are_objects() -> None:
    pairing = Texts(10)
    pairing.add_image(1, b"image")
    answered(pairing, 1, 0.0)
    pairing.add_image(2, b"image")
    assert shown(pairing, 0.5) == (1, "labels 1")
    answered(pairing, 2, 0.6)
    assert shown(pairing, 0.6) == (2, "labels 2")


def test_without_objects_the_newest_image_does_not_wait() -> None:
    pairing = Texts(10)
    pairing.add_image(1, b"image")
    answered(pairing, 1, 0.0, num_objects=0)
    assert shown(pairing, 0.0) == (1, "labels 1")
    pairing.add_image(2, b"image")
    assert shown(pairing, 0.0) == (2, None)


def test_images_go_on_when_no_answer_has_come_for_a_while() -> None:
    pairing = Texts(10)
    pairing.add_image(1, b"image")
    answered(pairing, 1, 0.0)
    pairing.add_image(2, b"image")
    assert shown(pairing, 0.9 * HOLD_SEC) == (1, "labels 1")
    assert shown(pairing, HOLD_SEC) == (2, None)
    answered(pairing, 2, 20.0)
    answered(pairing, 2, 20.1)
    pairing.add_image(3, b"image")
    assert shown(pairing, 20.1 + 0.9 * HOLD_SEC) == (2, "labels 2")
    assert shown(pairing, 20.1 + HOLD_SEC) == (3, None)


def test_a_slow_node_is_waited_for_longer() -> None:
    pairing = Texts(10)
    for stamp, now_sec in enumerate((0.0, 2.0, 4.1, 5.9)):
        pairing.add_image(stamp, b"image")
        answered(pairing, stamp, now_sec)
    pairing.add_image(4, b"image")
    assert shown(pairing, 11.8) == (3, "labels 3")
    assert shown(pairing, 12.0) == (4, None)


def test_an_image_that_is_shown_with_its_masks_is_not_forgotten_meanwhile() -> None:
    pairing = Texts(2)
    pairing.add_image(1, b"image")
    answered(pairing, 1, 0.0)
    assert shown(pairing, 0.0) == (1, "labels 1")
    for stamp in (2, 3, 4):
        pairing.add_image(stamp, b"image")
    assert shown(pairing, 0.9 * HOLD_SEC) == (1, "labels 1")
    answered(pairing, 1, 0.9 * HOLD_SEC, name=" again")  # to a click on it
    assert shown(pairing, HOLD_SEC) == (1, "labels 1 again")
    assert pairing.num_unpaired == 0
    answered(pairing, 3, HOLD_SEC)
    assert shown(pairing, HOLD_SEC) == (3, "labels 3")
    assert shown(pairing, 2 * HOLD_SEC) == (4, None)
    assert list(pairing._images) == [3, 4]


def test_answers_that_come_too_late_do_not_keep_an_older_one_on_the_screen() -> None:
    pairing = Texts(2)
    for stamp in (1, 2, 3, 4):
        pairing.add_image(stamp, b"image")
    answered(pairing, 3, 0.0)
    assert shown(pairing, 0.0) == (3, "labels 3")
    for stamp in (5, 6, 7):
        pairing.add_image(stamp, b"image")
    for num_answers in range(1, 6):
        answered(pairing, 1, 0.3 * num_answers, name=f" {num_answers}")
    assert shown(pairing, 0.9 * HOLD_SEC) == (3, "labels 3")
    assert shown(pairing, 1.5) == (7, None)


@pytest.mark.parametrize(("encode_sec", "is_waited_for"), [(0.0, False), (3.5, True), (1.0, False)])
def test_a_node_that_takes_long_to_encode_is_waited_for_too(encode_sec: float, is_waited_for: bool) -> None:
    pairing = Texts(10)
    pairing.encode_sec = encode_sec
    for stamp, now_sec in enumerate((0.0, 4.0, 8.2, 12.1)):
        pairing.add_image(stamp, b"image")
        answered(pairing, stamp, now_sec)
    pairing.add_image(4, b"image")
    assert shown(pairing, 16.1) == ((3, "labels 3") if is_waited_for else (4, None))
    assert shown(pairing, 24.2) == (4, None)


def test_images_go_on_soon_after_each_click_where_the_node_does_not_follow() -> None:
    pairing = Texts(10)
    for stamp, now_sec in enumerate((0.0, 8.0, 9.5, 12.4, 13.0, 33.0)):
        pairing.add_image(2 * stamp, b"image")
        answered(pairing, 2 * stamp, now_sec)
        pairing.add_image(2 * stamp + 1, b"image")
        assert shown(pairing, now_sec + 0.5 * HOLD_SEC) == (2 * stamp, f"labels {2 * stamp}")
        if stamp != 3:  # the next click comes before
            assert shown(pairing, now_sec + HOLD_SEC) == (2 * stamp + 1, None)


@pytest.mark.parametrize(
    ("periods_sec", "expected_sec"),
    [
        ((), HOLD_SEC),
        ((2.0, 2.0), HOLD_SEC),  # too few to tell
        ((2.0, 2.0, 2.0), 6.0),
        ((2.0, 0.3, 1.8, 2.0, 2.2), 6.0),  # a click was answered in between
        ((0.1, 2.9, 1.4, 0.6, 2.2), HOLD_SEC),  # clicks only
        ((0.1, 0.1, 0.1), HOLD_SEC),
    ],
)
def test_only_answers_that_come_regularly_say_when_the_next_is_due(
    periods_sec: tuple[float, ...], expected_sec: float
) -> None:
    assert hold_sec(periods_sec) == pytest.approx(expected_sec)


def test_a_frame_that_is_answered_again_is_shown_again_and_halves_are_never_mixed() -> None:
    pairing = Texts(10)
    pairing.add_image(1, b"image")
    answered(pairing, 1, 0.0)
    first = pairing.newest(0.0)
    pairing.add_labels(1, "labels 1 again", 0.1)
    assert shown(pairing, 0.1) == (1, "labels 1")
    pairing.add_segments(1, "segments 1 again", 1, 0.1)
    assert shown(pairing, 0.1) == (1, "labels 1 again")
    second = pairing.newest(0.1)
    assert first is not None and second is not None
    assert first.key != second.key


def test_an_answer_without_objects_looks_like_none() -> None:
    pairing = Texts(10)
    pairing.add_image(1, b"image")
    before = pairing.newest(0.0)
    answered(pairing, 1, 0.0, num_objects=0)
    after = pairing.newest(0.0)
    assert before is not None and after is not None
    assert before.key == after.key


def test_an_answer_to_an_older_frame_is_shown_when_it_comes_last() -> None:
    """As after a click on a frame that stood still on the page."""
    pairing = Texts(10)
    for stamp in (1, 2):
        pairing.add_image(stamp, b"image")
        answered(pairing, stamp, 0.0)
    answered(pairing, 1, 0.1, name=" again")
    assert shown(pairing, 0.1) == (1, "labels 1 again")


def test_memory_is_bounded() -> None:
    pairing = Texts(5)
    for stamp in range(100):
        pairing.add_image(stamp, b"image")
        pairing.add_labels(stamp, "labels", 0.0)
    for stamp in range(100):
        pairing.add_segments(stamp, "segments", 1, 0.0)
    assert list(pairing._images) == [95, 96, 97, 98, 99]
    assert len(pairing._labels) == 0
    assert max(len(pairing._segments), len(pairing._answers)) == ANSWERS_KEPT


def test_an_answer_whose_image_is_forgotten_is_counted_and_not_shown() -> None:
    pairing = Texts(2)
    for stamp in (1, 2, 3):
        pairing.add_image(stamp, b"image")
    answered(pairing, 1, 0.0)
    assert pairing.num_unpaired == 1
    assert shown(pairing, 0.0) == (3, None)


def test_answers_that_all_come_too_late_are_told_until_one_has_its_image() -> None:
    pairing = Texts(2)
    for stamp in range(1, 6):
        pairing.add_image(stamp, b"image")
    answered(pairing, 1, 0.0)
    assert pairing.late(0.0) == ""  # one alone may be the node's first, which takes longer
    answered(pairing, 3, 4.0, num_objects=0)
    assert pairing.late(4.0) == "masks come later than the 2 images kept: raise images_kept"
    assert pairing.late(4.0 + 0.9 * LATE_SEC) != ""
    assert pairing.late(4.0 + LATE_SEC) == ""  # no answers come any more
    answered(pairing, 3, 50.0)
    assert pairing.late(50.0) != ""
    answered(pairing, 4, 51.0)
    assert pairing.late(51.0) == ""
    answered(pairing, 3, 52.0)
    assert pairing.late(52.0) == ""


def test_images_that_are_too_large_to_be_kept_are_told_as_the_reason() -> None:
    pairing = Texts(100, images_kept_mb=1)
    for stamp in range(1, 6):
        pairing.add_image(stamp, bytes(400_000))
    assert list(pairing._images) == [4, 5]
    for now_sec in (0.0, 1.0):
        answered(pairing, 3, now_sec)
    assert pairing.late(1.0) == (
        "masks come later than the 2 images that 1 MB hold: raise images_kept_mb, or have smaller or "
        "compressed images"
    )


def test_answers_whose_images_never_came_are_not_late() -> None:
    pairing = Texts(10)
    for stamp in (1, 2):
        answered(pairing, stamp, 0.0)  # the page has only just been opened
    for stamp in (4, 6, 8):
        pairing.add_image(stamp, b"image")
    for stamp in (3, 5, 7):
        answered(pairing, stamp, 1.0)
    assert (pairing.num_unpaired, pairing.late(1.0)) == (5, "")
