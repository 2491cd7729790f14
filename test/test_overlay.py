"""The overlay: masks, labels and prompts are where they belong, on images of any size."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sam_ros.core.objects import Point, SegmentedObject
from sam_ros.core.overlay import (
    BACKGROUND_RGB,
    FOREGROUND_RGB,
    MASK_OPACITY,
    PALETTE_RGB,
    WHITE,
    colour_of,
    draw_everything,
    draw_overlay,
)
from sam_ros.masks import BoolMask, Masks

SIZE_HW = (240, 320)


def grey(size_hw: tuple[int, int] = SIZE_HW) -> npt.NDArray[np.uint8]:
    return np.full((*size_hw, 3), 100, np.uint8)


def answer(mask: BoolMask, predicted_iou: float = 0.5) -> Masks:
    scores = np.array([predicted_iou], np.float32)
    return Masks(mask[None], scores, scores, np.zeros((1, 4, 4), np.float32))


def rectangle(x0: int, y0: int, x1: int, y1: int, size_hw: tuple[int, int] = SIZE_HW) -> BoolMask:
    mask = np.zeros(size_hw, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def segmented(created: int = 0, id: str = "_1", class_id: str = "", **prompt: Any) -> SegmentedObject:
    return SegmentedObject(id, class_id, created, 1, SIZE_HW, **prompt)


def blended(created: int) -> npt.NDArray[np.float64]:
    """The colour of an object's mask on grey."""
    return 100 * (1 - MASK_OPACITY) + np.array(PALETTE_RGB[created]) * MASK_OPACITY


def test_an_overlay_without_objects_is_a_copy_of_the_image() -> None:
    image = grey()
    drawn = draw_overlay(image, [], 1)
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_drawing_an_overlay_does_not_change_the_image() -> None:
    image = grey()
    image.flags.writeable = False
    one = segmented(points=(Point(5, 5, 1),), box_xyxy=(1, 1, 50, 50))
    drawn = draw_overlay(image, [(one, answer(rectangle(10, 10, 50, 50)))], 1)
    assert (image == 100).all() and (drawn != image).any()
    assert drawn.shape == image.shape and drawn.dtype == np.uint8


def test_masks_are_tinted_inside_and_nothing_far_outside() -> None:
    objects = [
        (segmented(0), answer(rectangle(20, 100, 100, 160))),
        (segmented(1, "_2"), answer(rectangle(200, 100, 300, 160))),
    ]
    drawn = draw_overlay(grey(), objects, 1)
    for index, (x0, x1) in enumerate([(20, 100), (200, 300)]):
        inside = drawn[103:157, x0 + 3 : x1 - 3].reshape(-1, 3)
        np.testing.assert_allclose(inside, np.broadcast_to(blended(index), inside.shape), atol=1)
        np.testing.assert_array_equal(drawn[130, x0], PALETTE_RGB[index])  # the outline
    assert (drawn[165:] == 100).all()
    assert (drawn[:70] == 100).all()
    assert (drawn[100:160, 110:190] == 100).all()


def test_only_the_best_mask_is_drawn() -> None:
    masks = np.stack([rectangle(20, 100, 60, 140), rectangle(200, 100, 240, 140)])
    scores = np.array([0.9, 0.8], np.float32)
    three = Masks(masks, scores, scores, np.zeros((2, 4, 4), np.float32))
    drawn = draw_overlay(grey(), [(segmented(), three)], 1)
    assert (drawn[:, 200:] == 100).all()


def test_a_label_stands_above_its_mask_on_its_colour() -> None:
    drawn = draw_overlay(grey(), [(segmented(0), answer(rectangle(50, 100, 150, 160)))], 1)
    plate = (drawn == PALETTE_RGB[0]).all(axis=2)
    rows, columns = np.nonzero(plate[:99])
    assert rows.min() > 70 and rows.max() == 98
    assert columns.min() == 50 and 80 < columns.max() < 150
    dark = (drawn[rows.min() : 99, 50 : columns.max()] < 60).all(axis=2)
    assert 0.05 < dark.mean() < 0.6  # the text


def test_a_label_tells_id_class_and_predicted_iou(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr("sam_ros.core.overlay.cv2.putText", lambda _, text, *__: texts.append(text))
    mask = rectangle(50, 100, 150, 160)
    draw_overlay(grey(), [(segmented(0, "_1"), answer(mask, 0.126))], 1)
    draw_overlay(grey(), [(segmented(0, "a", "cup"), answer(mask, 1.02))], 1)
    assert texts == ["_1 0.13", "cup a 1.02"]


@pytest.mark.parametrize(
    "corner", [(0, 0, 20, 20), (300, 0, 320, 20), (0, 220, 20, 240), (300, 220, 320, 240), (0, 0, 320, 240)]
)
def test_labels_stay_inside_the_image(
    corner: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, tuple[int, int], float, int]] = []

    def put_text(_: Any, text: str, origin: tuple[int, int], *style: Any) -> None:
        written.append((text, origin, style[1], style[3]))

    monkeypatch.setattr("sam_ros.core.overlay.cv2.putText", put_text)
    draw_overlay(grey(), [(segmented(), answer(rectangle(*corner)))], 1)
    ((text, (x, y), scale, width),) = written
    (text_w, text_h), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, width)
    assert x >= 0 and x + text_w <= 320
    assert y - text_h >= 0 and y + baseline <= 240


def test_points_are_drawn_where_they_were_given_above_everything() -> None:
    points = (Point(60, 120, 1), Point(90.4, 140.6, 0), Point(319, 239, 1), Point(55, 95, 0))
    drawn = draw_overlay(grey(), [(segmented(points=points), answer(rectangle(50, 100, 150, 160)))], 1)
    for x, y, colour in [
        (60, 120, FOREGROUND_RGB),
        (90, 141, BACKGROUND_RGB),
        (319, 239, FOREGROUND_RGB),
        (55, 95, BACKGROUND_RGB),  # on the label
    ]:
        assert tuple(drawn[y, x]) == colour
    assert tuple(drawn[120, 65]) == WHITE


def test_a_box_is_drawn_on_its_pixels() -> None:
    one = segmented(box_xyxy=(200.0, 150.0, 300.0, 220.0))
    drawn = draw_overlay(grey(), [(one, answer(np.zeros(SIZE_HW, bool)))], 1)
    rows, columns = np.nonzero((drawn == FOREGROUND_RGB).all(axis=2))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (200, 150, 300, 220)
    assert (drawn[151:219, 201:299] == 100).all()


def test_prompts_of_another_frame_are_not_drawn() -> None:
    one = segmented(points=(Point(250, 200, 1),), box_xyxy=(200.0, 150.0, 300.0, 220.0))
    drawn = draw_overlay(grey(), [(one, answer(rectangle(20, 100, 60, 140)))], 2)
    assert (drawn[145:, 190:] == 100).all()
    assert (drawn[120, 40] != 100).any()


def test_an_objects_colour_stays_when_others_go() -> None:
    assert colour_of(segmented(3)) == colour_of(segmented(3, "other", "cup"))
    assert len({colour_of(segmented(i)) for i in range(len(PALETTE_RGB))}) == len(PALETTE_RGB)
    assert colour_of(segmented(len(PALETTE_RGB))) == colour_of(segmented(0))


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (40, 1), (7, 11), (90, 120), (1080, 1920)])
@pytest.mark.parametrize(
    "name", ["", "cup", "x" * 5000, "a\nb\tc\x00", "naïve Tässe", "\u676f\u5b50", "\U0001f600"]
)
def test_images_of_any_size_and_objects_of_any_name_are_drawn(size_hw: tuple[int, int], name: str) -> None:
    h, w = size_hw
    one = segmented(points=(Point(w - 1, h - 1, 1), Point(0, 0, 0)), box_xyxy=(0, 0, w, h), class_id=name)
    whole = answer(np.ones(size_hw, bool), 0.9)
    assert draw_overlay(grey(size_hw), [(one, whole)], 1).shape == (*size_hw, 3)


def test_an_empty_mask_draws_nothing() -> None:
    drawn = draw_overlay(grey(), [(segmented(), answer(np.zeros(SIZE_HW, bool)))], 1)
    assert (drawn == 100).all()


def test_a_thin_box_does_not_vanish() -> None:
    one = segmented(box_xyxy=(10.2, 10.2, 10.3, 10.4))
    drawn = draw_overlay(grey(), [(one, answer(np.zeros(SIZE_HW, bool)))], 1)
    assert (drawn != 100).any()


def test_of_everything_the_smaller_lies_on_the_larger_and_covers_its_colour() -> None:
    small, large = rectangle(40, 40, 80, 80), rectangle(20, 20, 200, 200)
    image = grey()
    for masks in ([small, large], [large, small]):
        drawn = draw_everything(image, masks)
        of_small, of_large = masks.index(small) if masks[0] is small else 1, 1 if masks[0] is small else 0
        np.testing.assert_allclose(drawn[60, 60], blended(of_small), atol=1)
        np.testing.assert_allclose(drawn[120, 120], blended(of_large), atol=1)
        np.testing.assert_array_equal(drawn[230, 300], image[230, 300])
    np.testing.assert_array_equal(image, grey())


def drawn_plainly(
    image_rgb: npt.NDArray[np.uint8], masks: list[BoolMask], colours: list[int], shows_through: bool
) -> npt.NDArray[np.uint8]:
    """Masks drawn one on the other, each by work on the whole image."""
    drawn = image_rgb.copy()
    width = max(1, round(max(image_rgb.shape[:2]) / 640))
    for mask, created in zip(masks, colours, strict=True):
        colour = PALETTE_RGB[created % len(PALETTE_RGB)]
        below = drawn if shows_through else image_rgb
        drawn[mask] = (below[mask] * (1 - MASK_OPACITY) + np.array(colour) * MASK_OPACITY).astype(np.uint8)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, colour, width)
    return drawn


def masks_of_every_shape(size_hw: tuple[int, int]) -> list[BoolMask]:
    """At borders and corners, empty, whole, of one pixel or row, with holes, in pieces, and of noise."""
    h, w = size_hw
    boxes = [
        (0, 0, 9, 7),
        (w - 9, h - 7, w, h),
        (0, 5, w, 12),
        (5, 0, 12, h),
        (0, 0, 0, 0),
        (0, 0, w, h),
        (7, 9, 8, 10),
        (0, 0, 1, 1),
        (w - 1, h - 1, w, h),
        (0, h - 1, w, h),
    ]
    masks = [rectangle(*box, size_hw) for box in boxes]
    with_holes = rectangle(10, 10, 30, 28, size_hw)
    with_holes[12:26, 12:20] = False
    with_holes[15:18, 14:17] = True  # an island in the hole
    with_holes[20, 25] = with_holes[11, 10] = False
    open_at_its_side = rectangle(2, 2, 20, 20, size_hw)
    open_at_its_side[5:15, 2:10] = False
    in_pieces = rectangle(3, 3, 6, 6, size_hw) | rectangle(6, 6, 9, 9, size_hw)  # that touch at a corner
    in_pieces[h - 2, w - 3] = True
    noise = np.zeros(size_hw, bool)
    noise[4:30, 8:36] = np.random.default_rng(1).random((26, 28)) < 0.5
    return [*masks, with_holes, open_at_its_side, in_pieces, noise]


# Outlines of one, two and three pixels; these lie partly beyond a mask, and beyond the image.
@pytest.mark.parametrize("size_hw", [(40, 50), (40, 1280), (1920, 45)])
def test_masks_are_drawn_as_by_work_on_the_whole_image(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    masks = masks_of_every_shape(size_hw)
    largest_first = sorted(range(len(masks)), key=lambda i: -int(masks[i].sum()))
    for chosen in [[index] for index in largest_first] + [largest_first]:
        some = [masks[index] for index in chosen]
        plain = drawn_plainly(image, some, list(range(len(some))), shows_through=False)
        np.testing.assert_array_equal(draw_everything(image, some), plain)


@pytest.mark.parametrize("size_hw", [(40, 50), (40, 1280), (1920, 45)])
def test_objects_are_drawn_as_by_work_on_the_whole_image(
    size_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam_ros.core.overlay._draw_label", lambda *_: None)  # it would hide what is compared
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    masks = masks_of_every_shape(size_hw)
    objects = [(segmented(created), answer(mask)) for created, mask in enumerate(masks)]
    plain = drawn_plainly(image, masks, list(range(len(masks))), shows_through=True)
    np.testing.assert_array_equal(draw_overlay(image, objects, 1), plain)


def test_a_small_mask_takes_the_work_of_its_box_and_not_of_the_image() -> None:
    image, small = grey((720, 1280)), rectangle(100, 100, 140, 130, (720, 1280))
    draw_everything(image, [small])
    tracemalloc.start()
    try:
        draw_everything(image, [small])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes - image.nbytes < small.nbytes / 4  # what it allocates is what it goes through
