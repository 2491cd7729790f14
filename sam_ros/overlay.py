"""Draw masks, prompts, ids and predicted IoU on an image, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.masks import BoolMask, Masks, tight_box_xyxy
from sam_ros.objects import SegmentedObject
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
    for one, masks in objects:
        _draw_mask(drawn, masks.masks[0], colour_of(one))
    for one, masks in objects:
        if one.sequence == sequence:
            _draw_prompt(drawn, one)
        _draw_label(drawn, one, masks)
    return drawn


def colour_of(one: SegmentedObject) -> ColourRgb:
    """An object's colour: the same on every frame."""
    return PALETTE_RGB[one.created % len(PALETTE_RGB)]


def _draw_mask(drawn: ImageRgb, mask: BoolMask, colour: ColourRgb) -> None:
    blended = drawn[mask] * (1 - MASK_OPACITY) + np.array(colour) * MASK_OPACITY  # (pixels, 3)
    drawn[mask] = blended.astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, outlines, -1, colour, _line_width(drawn))


def _draw_prompt(drawn: ImageRgb, one: SegmentedObject) -> None:
    width = _line_width(drawn)
    if one.box_xyxy is not None:
        x0, y0, x1, y1 = (round(edge) for edge in one.box_xyxy)
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), FOREGROUND_RGB, width)
    for point in one.points:
        colour = FOREGROUND_RGB if point.label == FOREGROUND else BACKGROUND_RGB
        centre = (round(point.x), round(point.y))
        cv2.circle(drawn, centre, 4 * width, WHITE, -1)
        cv2.circle(drawn, centre, 3 * width, colour, -1)


def _draw_label(drawn: ImageRgb, one: SegmentedObject, masks: Masks) -> None:
    box_xyxy = tight_box_xyxy(masks.masks[0])
    if box_xyxy is None:
        return
    name = f"{one.class_id} {one.id}".strip()
    text = f"{name} {masks.predicted_iou[0]:.2f}"
    scale, width = 0.5 * _line_width(drawn), _line_width(drawn)
    (_, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, width)
    origin = (box_xyxy[0], max(box_xyxy[1] - 4, text_height + 2))
    cv2.putText(drawn, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, BLACK, width + 2, cv2.LINE_AA)
    cv2.putText(drawn, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, WHITE, width, cv2.LINE_AA)


def _line_width(drawn: ImageRgb) -> int:
    """One pixel for small images, more for large ones."""
    return max(1, round(max(drawn.shape[:2]) / 640))
