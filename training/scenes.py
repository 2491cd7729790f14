"""Generate "dead leaves" scenes: occluding textured shapes with exact masks, wholes and parts.

Dead leaves models keep the occlusions, edges and scale statistics of natural images (Lee, Mumford and Huang,
"Occlusion models for natural images", IJCV 2001), and networks trained on them transfer to photographs
(Baradad et al., "Learning to see by looking at noise", NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.textures import Floats, Rng, pattern, ramp

Bytes = NDArray[np.uint8]

SUBPIXEL_BITS = 4  # fractional bits of the vertices handed to OpenCV
SIDES = (
    (1, 1),
    (1, 1),
    (0.75, 1),
    (0.75, 1),
    (0.5625, 1),
    (0.667, 1),
    (1, 0.75),
    (1, 0.5625),
)  # height, width


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) int32, the smallest object visible at each pixel, 0 for the background.
        parents: ``parents[k]`` is the object that object k is a part of, 0 for none; always smaller than k.
    """

    image: Bytes
    labels: NDArray[np.int32]
    parents: tuple[int, ...]

    def mask(self, label: int) -> NDArray[np.bool_]:
        """(H, W) bool: the visible pixels of an object and of all its parts."""
        member = np.zeros(len(self.parents), bool)
        member[label] = True
        for child in range(label + 1, len(self.parents)):
            member[child] = member[self.parents[child]]
        return member[self.labels]

    def areas(self) -> NDArray[np.int64]:
        """(objects + 1,) visible pixels of each object with its parts; index 0 is the background."""
        areas = np.bincount(self.labels.ravel(), minlength=len(self.parents))
        for child in range(len(self.parents) - 1, 0, -1):
            if self.parents[child]:
                areas[self.parents[child]] += areas[child]
        return areas


@dataclass(frozen=True)
class _Canvas:
    """A scene under construction: (H, W, 3) float32 image in [0, 1], (H, W) int32 labels, parents so far."""

    image: Floats
    labels: NDArray[np.int32]
    parents: list[int]
    palette: Floats
    texture_strength: float
    composed_share: float


def generate_scene(
    seed: int,
    image_size: int = 256,
    square: bool = False,
    composed_share: float = 0.0,
    cluttered_share: float = 0.0,
) -> Scene:
    """The scene of a seed.

    Args:
        seed: decides everything.
        image_size: pixels of the longest side.
        square: or else in one of the proportions ``SIDES``.
        composed_share: how many of the larger wholes are made of regions that look different, as clothes and
            bottles are; none in the scenes that are held out for the evaluation.
        cluttered_share: how many scenes have many objects down to a fortieth of the image in width, side by
            side as on shelves and workbenches, and more often out of focus; none of those held out.
    """
    rng = np.random.default_rng(seed)
    sides = (1, 1) if square else SIDES[rng.integers(len(SIDES))]
    height, width = (round(side * image_size) for side in sides)
    canvas = _empty_canvas(rng, height, width, composed_share)
    cluttered = cluttered_share > 0 and rng.random() < cluttered_share
    smallest = (0.0125 if cluttered else 0.06) * image_size
    largest = rng.uniform(0.25, 0.55) * image_size
    count = int(rng.integers(15, 60) if cluttered else rng.integers(3, 16))
    blurs = rng.random() < (0.35 if cluttered else 0.15)
    focus = int(rng.integers(count)) if blurs else -1  # what lies behind is out of focus
    centre, radius = np.zeros(2, np.float32), 0.0
    for index in range(count):
        if index == focus:
            canvas.image[:] = cv2.GaussianBlur(canvas.image, (0, 0), rng.uniform(0.5, 3) * image_size / 256)
        if cluttered and index and rng.random() < 0.5:  # beside the last one
            beside = centre + rng.normal(0, 2 * radius, 2)
            centre = beside.clip(0, (width, height)).astype(np.float32)
        else:
            centre = _uniform_point(rng, (0, 0), (width, height))
        radius = _power_law(rng, smallest, largest)
        _add_objects(canvas, rng, centre, radius)
    return Scene(_camera(canvas.image, rng, image_size / 256), canvas.labels, tuple(canvas.parents))


def _empty_canvas(rng: Rng, height: int, width: int, composed_share: float) -> _Canvas:
    palette = rng.uniform(0.05, 0.95, (int(rng.integers(2, 9)), 3)).astype(np.float32)
    grey = palette.mean(1, keepdims=True)
    palette = grey + np.float32(rng.uniform(0.15, 1.0)) * (palette - grey)
    strength = float(rng.choice([0.15, 0.3, 0.6]))
    canvas = _Canvas(
        np.zeros((height, width, 3), np.float32),
        np.zeros((height, width), np.int32),
        [0],
        palette,
        strength,
        composed_share,
    )
    canvas.image[:] = _surface(canvas, rng, height, width, _colour(canvas, rng))
    if rng.random() < 0.25:  # a floor or a wall: an edge that belongs to no object
        beyond = ramp(rng, height, width, 1.0) > rng.uniform(-0.3, 0.3)
        canvas.image[beyond] = _surface(canvas, rng, height, width, _colour(canvas, rng))[beyond]
    return canvas


def _power_law(rng: Rng, smallest: float, largest: float) -> float:
    """A size with density ~ size^-2, the exponent between all-small and all-large scenes."""
    uniform = rng.random()
    return 1.0 / (uniform / smallest + (1 - uniform) / largest)


def _uniform_point(rng: Rng, low: tuple[float, float], high: tuple[float, float]) -> Floats:
    return rng.uniform(low, high).astype(np.float32)


# ---------------------------------------------------------------- objects


def _add_objects(canvas: _Canvas, rng: Rng, centre: Floats, radius: float) -> None:
    """Paint one object, or, seldom, a row of objects that look alike."""
    if rng.random() > 0.06:
        _add_object(canvas, rng, centre, radius)
        return
    look, radius = int(rng.integers(1 << 32)), 0.5 * radius
    step = rng.normal((2.2, 0), 1.0)
    for place in range(int(rng.integers(2, 6))):
        _add_object(
            canvas, np.random.default_rng(look), (centre + place * radius * step).astype(np.float32), radius
        )


def _add_object(canvas: _Canvas, rng: Rng, centre: Floats, radius: float) -> None:
    """Paint one whole, perhaps its shadow, and perhaps parts and parts of parts."""
    alpha = _whole(rng, canvas.labels.shape, centre, radius)
    if rng.random() < 0.35:
        _cast_shadow(canvas, rng, alpha, radius)
    colour = _camouflage(canvas, rng, alpha) if rng.random() < 0.12 else _colour(canvas, rng)
    label = _paint(canvas, rng, alpha, colour, parent=0)
    if not label or radius <= 18:
        return
    if canvas.composed_share and rng.random() < canvas.composed_share:
        _compose(canvas, rng, alpha, label)
    elif rng.random() < 0.45:
        _add_parts(canvas, rng, alpha, colour, label, depth=1)


def _whole(rng: Rng, size_hw: tuple[int, ...], centre: Floats, radius: float) -> Bytes:
    """(H, W) uint8 coverage of one shape or, for a quarter of the objects, of several grown together."""
    alpha = _shape(rng, size_hw, centre, radius)
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 5))):
            beside = centre + rng.normal(0, 0.55 * radius, 2).astype(np.float32)
            alpha = np.maximum(alpha, _shape(rng, size_hw, beside, radius * rng.uniform(0.3, 0.8)))
    return alpha


def _camouflage(canvas: _Canvas, rng: Rng, alpha: Bytes) -> Floats:
    """(3,) nearly the colour of what the new object is going to hide."""
    colour = canvas.image[alpha >= 128].mean(0) if (alpha >= 128).any() else _colour(canvas, rng)
    return _jitter(rng, np.asarray(colour, np.float32), 0.07)


def _add_parts(canvas: _Canvas, rng: Rng, whole: Bytes, colour: Floats, parent: int, depth: int) -> None:
    """Paint parts inside ``whole`` (H, W) uint8 alpha; a few stick out of it."""
    x, y, width, height = cv2.boundingRect(whole)
    for _ in range(int(rng.integers(1, 4))):
        radius = rng.uniform(0.15, 0.4) * min(width, height)
        if radius < 5:
            return
        centre = _uniform_point(rng, (x, y), (x + width, y + height))
        alpha = _shape(rng, canvas.labels.shape, centre, radius)
        if rng.random() < 0.85:
            alpha = np.minimum(alpha, whole)
        part_colour = _colour(canvas, rng) if rng.random() < 0.5 else _jitter(rng, colour, 0.15)
        label = _paint(canvas, rng, alpha, part_colour, parent)
        if label and depth == 1 and rng.random() < 0.3:
            _add_parts(canvas, rng, alpha, part_colour, label, depth=2)


def _compose(canvas: _Canvas, rng: Rng, whole: Bytes, parent: int) -> None:
    """Divide ``whole`` (H, W) uint8 alpha into regions; all but one get a surface of their own."""
    x, y, width, height = cv2.boundingRect(whole)
    window = np.s_[y : y + height, x : x + width]
    count = int(rng.integers(2, 6))
    region = _regions(rng, height, width, count)
    for index in range(1, count):
        inside = cv2.GaussianBlur((region == index).astype(np.float32), (0, 0), 0.6)
        alpha = np.zeros_like(whole)
        alpha[window] = np.round(whole[window] * inside).astype(np.uint8)
        if (alpha >= 128).any():
            _paint(canvas, rng, alpha, _colour(canvas, rng), parent)


def _regions(rng: Rng, height: int, width: int, count: int) -> NDArray[np.int64]:
    """(height, width) index of the nearest of ``count`` points, in a plane that is stretched and bent."""
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.normal(0, 0.8))
    bend = rng.normal(0, 0.25, 2)
    along = np.cos(angle) * columns + np.sin(angle) * rows + bend[0] * np.sin(3 * rows)
    across = np.cos(angle) * rows - np.sin(angle) * columns + bend[1] * np.sin(3 * columns)
    points = rng.uniform(-0.9, 0.9, (count, 2))
    distances = [stretch * (along - u) ** 2 + (across - v) ** 2 / stretch for u, v in points]
    return np.asarray(np.argmin(distances, 0))


def _paint(canvas: _Canvas, rng: Rng, alpha: Bytes, colour: Floats, parent: int) -> int:
    """Blend a new object over the canvas; its label, or 0 where nothing of it lies on the canvas."""
    x, y, width, height = cv2.boundingRect(alpha)
    if width < 3 or height < 3:
        return 0
    label = len(canvas.parents)
    canvas.parents.append(parent)
    window = np.s_[y : y + height, x : x + width]
    opacity = alpha[window][..., None].astype(np.float32) / 255
    surface = _surface(canvas, rng, height, width, colour)
    if rng.random() < 0.4:
        surface = _rounded(rng, surface, alpha[window])
    canvas.image[window] += opacity * (surface - canvas.image[window])
    canvas.labels[window][alpha[window] >= 128] = label
    return label


def _rounded(rng: Rng, surface: Floats, alpha: Bytes) -> Floats:
    """Shade a surface (h, w, 3) as if it bulged towards its middle, perhaps with a highlight."""
    inside = np.pad((alpha >= 128).astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    reach = rng.uniform(0.2, 1.0) * max(float(depth.max()), 1.0)
    height = np.sqrt(1 - (1 - np.minimum(depth / reach, 1)) ** 2) * reach
    height = cv2.GaussianBlur(height, (0, 0), 1 + 0.1 * reach)
    slope_x, slope_y = cv2.Sobel(height, -1, 1, 0, scale=0.125), cv2.Sobel(height, -1, 0, 1, scale=0.125)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    light = rng.normal(0, 0.6, 2)
    facing = (1 - light[0] * slope_x - light[1] * slope_y) / (length * np.sqrt(1 + (light**2).sum()))
    ambient = rng.uniform(0.3, 0.8)
    shaded = surface * (ambient + (1.1 - ambient) * np.clip(facing, 0, 1))[..., None]
    if rng.random() < 0.4:
        shaded += rng.uniform(0.1, 0.7) * (np.clip(facing, 0, 1) ** rng.uniform(10, 60))[..., None]
    return np.asarray(shaded, np.float32)


def _cast_shadow(canvas: _Canvas, rng: Rng, alpha: Bytes, radius: float) -> None:
    """Darken the canvas under a shifted, blurred copy of ``alpha`` (H, W) uint8."""
    shift = rng.normal(0, 0.12 * radius, 2)
    size = 2 * int(rng.uniform(0.5, 0.03 * radius + 4)) + 1
    x, y, width, height = cv2.boundingRect(alpha)
    margin = size + int(np.abs(shift).max()) + 1
    window = np.s_[max(y - margin, 0) : y + height + margin, max(x - margin, 0) : x + width + margin]
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    moved = cv2.warpAffine(alpha[window], matrix, alpha[window].shape[::-1])
    soft = cv2.blur(moved, (size, size)).astype(np.float32)
    canvas.image[window] *= 1 - (rng.uniform(0.15, 0.6) / 255) * soft[..., None]


# ---------------------------------------------------------------- shapes


def _shape(rng: Rng, size_hw: tuple[int, ...], centre: Floats, radius: float) -> Bytes:
    """(H, W) uint8 antialiased coverage of a random shape."""
    alpha = np.zeros(size_hw, np.uint8)
    kind = rng.choice(6, p=[0.3, 0.15, 0.2, 0.2, 0.08, 0.07])
    if kind == 5:
        return _draw_thin(rng, alpha, centre, radius)
    outlines: list[Callable[[Rng], Floats]] = [_blob, _ellipse, _rectangle, _polygon, _ellipse]
    outline = outlines[kind](rng)
    outline = _place(rng, outline, centre, radius)
    rings = [outline]
    if kind == 4 or rng.random() < 0.04:  # a ring, or a hole: filled by the even-odd rule
        rings.append(centre + (outline - centre) * rng.uniform(0.3, 0.75))
    fixed = [np.round(ring * (1 << SUBPIXEL_BITS)).astype(np.int32) for ring in rings]
    cv2.fillPoly(alpha, fixed, 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return alpha


def _place(rng: Rng, outline: Floats, centre: Floats, radius: float) -> Floats:
    """Stretch, rotate and move an outline (N, 2) of radius about 1, its area kept."""
    stretch = np.exp(rng.normal(0, 0.35))
    angle = rng.choice([0.0, rng.uniform(0, 2 * np.pi)], p=[0.25, 0.75])
    cos, sin = np.cos(angle), np.sin(angle)
    scaled = outline * (stretch, 1 / stretch) * radius
    return np.asarray(scaled @ np.array([[cos, sin], [-sin, cos]]) + centre, np.float32)


def _blob(rng: Rng) -> Floats:
    """(64, 2) a smooth closed curve: a circle with a few random harmonics."""
    theta = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    order = np.arange(1, int(rng.integers(3, 8)))
    amplitude = rng.normal(0, rng.uniform(0.1, 0.45), len(order)) / order
    phase = rng.uniform(0, 2 * np.pi, len(order))
    radius = np.exp((amplitude * np.cos(theta[:, None] * order + phase)).sum(1))
    return np.stack([radius * np.cos(theta), radius * np.sin(theta)], 1).astype(np.float32)


def _ellipse(rng: Rng) -> Floats:
    """(64, 2) a superellipse, from an ellipse to a rounded rectangle."""
    theta = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    power = rng.choice([1.0, rng.uniform(0.25, 1.0)])
    unit = np.stack([np.cos(theta), np.sin(theta)], 1)
    return np.asarray(np.sign(unit) * np.abs(unit) ** power, np.float32)


def _rectangle(rng: Rng) -> Floats:
    """(4, 2) a rectangle, its corners sometimes displaced."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) * 0.9
    displacement = rng.choice([0.0, 0.2])
    return np.asarray(corners + rng.normal(0, displacement, (4, 2)), np.float32)


def _polygon(rng: Rng) -> Floats:
    """(3 to 9, 2) a star-shaped polygon."""
    count = int(rng.integers(3, 10))
    theta = np.sort(np.arange(count) + rng.uniform(-0.35, 0.35, count)) * 2 * np.pi / count
    radius = rng.uniform(rng.uniform(0.35, 1.0), 1.2, count)
    return np.stack([radius * np.cos(theta), radius * np.sin(theta)], 1).astype(np.float32)


def _draw_thin(rng: Rng, alpha: Bytes, centre: Floats, radius: float) -> Bytes:
    """Draw a bent stroke, a few pixels thick and longer than other shapes, on ``alpha`` (H, W) uint8."""
    parameter = np.linspace(-1, 1, 16)
    stroke = np.stack([parameter, rng.normal(0, 0.4) * parameter**2 + rng.normal(0, 0.3) * parameter**3], 1)
    points = _place(rng, stroke.astype(np.float32), centre, 1.5 * radius)
    fixed = np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    thickness = int(rng.uniform(4, 5 + 0.3 * radius))
    cv2.polylines(alpha, [fixed], False, 255, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    return alpha


# ---------------------------------------------------------------- textures and colours


def _colour(canvas: _Canvas, rng: Rng) -> Floats:
    """(3,) RGB near one of the scene's palette."""
    return _jitter(rng, canvas.palette[rng.integers(len(canvas.palette))], 0.08)


def _jitter(rng: Rng, colour: Floats, deviation: float) -> Floats:
    return np.clip(colour + rng.normal(0, deviation, 3), 0.02, 0.98).astype(np.float32)


def _surface(canvas: _Canvas, rng: Rng, height: int, width: int, colour: Floats) -> Floats:
    """(height, width, 3) float32: two colours mixed by a pattern, then shaded."""
    contrast = rng.exponential(canvas.texture_strength)
    other = np.clip(colour + contrast * rng.uniform(-0.5, 0.5, 3), 0, 1).astype(np.float32)
    mixture = pattern(rng, height, width)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)
    slope = rng.normal(0, 0.12, 3).astype(np.float32)
    light = 1 + slope[0] * rows + slope[1] * columns - abs(slope[2]) * (rows**2 + columns**2)
    return (colour + mixture[..., None] * (other - colour)) * light[..., None]


# ---------------------------------------------------------------- camera


def _camera(image: Floats, rng: Rng, scale: float) -> Bytes:
    """(H, W, 3) uint8: light, exposure, white balance, blur, sensor noise and sometimes JPEG.

    ``scale`` is the number of pixels that blur as one pixel of a 256 pixel image does.
    """
    height, width = image.shape[:2]
    light = 1 + rng.normal(0, 0.25) * (ramp(rng, height, width, 1.0)[..., None] - 0.25)
    balance = np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    image = np.clip(image * light * balance, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.25)))
    if rng.random() < 0.12:  # low contrast
        low = rng.uniform(0, 0.5)
        image = low + (rng.uniform(0.3, 0.7) * (1 - low)) * image
    image = _blurred(np.asarray(image, np.float32), rng, scale)
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(min(rng.exponential(0.013), 0.05))
    pixels = (np.clip(image + grain, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.25:
        quality = int(rng.integers(40, 95))
        coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        pixels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return pixels


def _blurred(image: Floats, rng: Rng, scale: float) -> Floats:
    """The image (H, W, 3) out of focus, or moved during the exposure, or sharp."""
    kind = rng.random()
    if kind < 0.55:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), scale * rng.uniform(0.3, 1.2)), np.float32)
    if kind < 0.65:
        size = 2 * round(scale * rng.uniform(1, 3)) + 1
        line = np.zeros((size, size), np.float32)
        end = (size - 1) / 2 * np.array([np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)])
        first, last = (np.round((size - 1) / 2 + sign * end).astype(int).tolist() for sign in (-1, 1))
        cv2.line(line, first, last, 1.0)
        return np.asarray(cv2.filter2D(image, -1, line / line.sum()), np.float32)
    return image
