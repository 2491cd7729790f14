"""Draw masks, prompts, ids and predicted IoU on an image, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.core.objects import SegmentedObject
from sam_ros.masks import BoolMask, Masks, tight_box_xyxy
from sam_ros.prompt import FOREGROUND

ImageRgb = npt.NDArray[np.uint8]
ColourRgb = tuple[int, int, int]

# Distinct for the common kinds of colour blindness: Okabe and Ito, "Color Universal Design".
PALETTE_RGB: tuple[ColourRgb, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
FOREGROUND_RGB: ColourRgb = (40, 220, 40)
BACKGROUND_RGB: ColourRgb = (230, 40, 40)
WHITE: ColourRgb = (255, 255, 255)
BLACK: ColourRgb = (0, 0, 0)
MASK_OPACITY = 0.45


def draw_overlay(
    image_rgb: ImageRgb, objects: Sequence[tuple[SegmentedObject, Masks]], sequence: int
) -> ImageRgb:
    """A copy of an (H, W, 3) RGB image with every object's best mask, label, and prompt.

    Args:
        image_rgb: the image that the masks were computed on; not changed.
        objects: each with its masks, best first.
        sequence: the image's frame; only prompts given on this frame are drawn.
    """
    drawn = image_rgb.copy()
    for segmented, masks in objects:
        _draw_mask(drawn, masks.masks[0], colour_of(segmented), below=drawn)
    prompted = [segmented for segmented, _ in objects if segmented.sequence == sequence]
    for segmented in prompted:
        _draw_box(drawn, segmented)
    for segmented, masks in objects:
        _draw_label(drawn, segmented, masks)
    for segmented in prompted:
        _draw_points(drawn, segmented)
    return drawn


def draw_everything(image_rgb: ImageRgb, masks: Sequence[BoolMask]) -> ImageRgb:
    """A copy of an (H, W, 3) RGB image with many masks, smaller ones on larger ones.

    Without words: they would hide what they name. Neighbours in the list have different colours.

    Args:
        image_rgb: the image that the masks were computed on; not changed.
        masks: (H, W) each.
    """
    drawn = image_rgb.copy()
    for index in sorted(range(len(masks)), key=lambda i: -np.count_nonzero(masks[i])):
        colour = PALETTE_RGB[index % len(PALETTE_RGB)]
        _draw_mask(drawn, masks[index], colour, below=image_rgb)  # larger masks do not show through
    return drawn


def colour_of(segmented: SegmentedObject) -> ColourRgb:
    """An object's colour: the same on every frame."""
    return PALETTE_RGB[segmented.created % len(PALETTE_RGB)]


def _draw_mask(drawn: ImageRgb, mask: BoolMask, colour: ColourRgb, below: ImageRgb) -> None:
    """A mask's outline, and inside it the colour over the pixels of ``below``.

    Works on the mask's tight box, for an image may have a hundred small masks, and by OpenCV: indexing an
    image by a mask takes NumPy twenty times as long.
    """
    box_xyxy = tight_box_xyxy(mask)
    if box_xyxy is None:
        return
    x0, y0, x1, y1 = box_xyxy
    box = np.s_[y0:y1, x0:x1]
    inside = mask[box].view(np.uint8)
    cv2.copyTo(cv2.LUT(below[box], _blends(colour)), inside, drawn[box])
    outlines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x0, y0))
    cv2.drawContours(drawn, outlines, -1, colour, _line_width(drawn))


def _blends(colour: ColourRgb) -> npt.NDArray[np.uint8]:
    """(1, 256, 3): what each value of a channel becomes under a mask of this colour, for ``cv2.LUT``."""
    values = np.arange(256)[None, :, None]  # (1, 256, 1)
    blended = values * (1 - MASK_OPACITY) + np.array(colour) * MASK_OPACITY  # (1, 256, 3)
    return blended.astype(np.uint8)


def _draw_box(drawn: ImageRgb, segmented: SegmentedObject) -> None:
    if segmented.box_xyxy is not None:
        x0, y0, x1, y1 = (round(edge) for edge in segmented.box_xyxy)
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), FOREGROUND_RGB, _line_width(drawn))


def _draw_points(drawn: ImageRgb, segmented: SegmentedObject) -> None:
    width = _line_width(drawn)
    for point in segmented.points:
        colour = FOREGROUND_RGB if point.label == FOREGROUND else BACKGROUND_RGB
        centre = (round(point.x), round(point.y))
        cv2.circle(drawn, centre, 5 * width, WHITE, cv2.FILLED)
        cv2.circle(drawn, centre, 4 * width, colour, cv2.FILLED)


def _draw_label(drawn: ImageRgb, segmented: SegmentedObject, masks: Masks) -> None:
    """Class, id and predicted IoU on a plate of the object's colour, above its mask and inside the image."""
    box_xyxy = tight_box_xyxy(masks.masks[0])
    if box_xyxy is None:
        return
    name = f"{segmented.class_id} {segmented.id}".strip()
    text = f"{name} {masks.predicted_iou[0]:.2f}"
    font, width = cv2.FONT_HERSHEY_SIMPLEX, _line_width(drawn)
    scale, margin = 0.5 * width, 3 * width
    (text_w, text_h), baseline = cv2.getTextSize(text, font, scale, width)
    plate_w, plate_h = text_w + 2 * margin, text_h + baseline + margin
    x = max(0, min(box_xyxy[0], drawn.shape[1] - plate_w))
    y = max(0, box_xyxy[1] - plate_h)
    colour = colour_of(segmented)
    cv2.rectangle(drawn, (x, y), (x + plate_w - 1, y + plate_h - 1), colour, cv2.FILLED)
    origin = (x + margin, y + margin + text_h)
    cv2.putText(drawn, text, origin, font, scale, _readable_on(colour), width, cv2.LINE_AA)


def _readable_on(colour: ColourRgb) -> ColourRgb:
    """Black or white, by the brightness of Rec. 601."""
    red, green, blue = colour
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else WHITE


def _line_width(drawn: ImageRgb) -> int:
    """One pixel for small images, more for large ones."""
    return max(1, round(max(drawn.shape[:2]) / 640))
