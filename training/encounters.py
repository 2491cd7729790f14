"""Short videos in which things enter, leave, hide one another and meet, to measure following by.

Actors, generated or cut out of photographs, move in straight lines over a generated scene. Which of them are
prompted, where each goes and how much of it can be seen is known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pictures import Mask
from training.scenes import generate_scene

Rng = np.random.Generator
Course = NDArray[np.float64]
"""(frames, 2) XY of an actor's middle on each frame; NaN where it is not there."""

WIDTH, HEIGHT = 330, 248
MIDDLE = np.array([WIDTH, HEIGHT]) / 2
MARGIN = 80  # pixels of the scene beyond each border, for the camera to pan over
RADIUS = 30.0  # of an actor
SMOOTH, ROUGH = 6.0, 35.0  # grey levels by which an actor's surface varies
COLOURS = 12  # tried for an actor: the one is taken that differs most from the scene
SPEEDS = (5, 14)  # pixels a frame, of what enters
BORDERS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
PAN = (-3.0, 2.0)  # pixels a frame, of a camera that moves
STAMPS = Path("/usr/share/tuxpaint/stamps")  # photographs' cut-outs, of Debian's tuxpaint-stamps-default
AWAY = 9  # frames for which an actor is out of sight


@dataclass(frozen=True, eq=False)
class Sprite:
    """What an actor looks like: (h, w, 3) uint8 RGB and (h, w) bool where it is opaque."""

    image: NDArray[np.uint8]
    mask: Mask


MakeSprite = Callable[[Rng, float, float], Sprite]
"""Makes a sprite of a radius in pixels, and by how many grey levels its surface varies, if that is free."""


@dataclass(frozen=True, eq=False)
class Actor:
    """A sprite and its way; those that come later in a list hide those before."""

    sprite: Sprite
    course: Course
    is_prompted: bool = True


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame of an encounter.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) what can be seen of each actor.
        shares: how much of each actor that is, from 0 to 1.
    """

    image: NDArray[np.uint8]
    masks: list[Mask]
    shares: list[float]


@dataclass(frozen=True, eq=False)
class Encounter:
    """A short video and its actors.

    Attributes:
        kind: what happens.
        background: (H + 2 MARGIN, W + 2 MARGIN, 3) uint8 RGB.
        actors: at least one of them prompted, on frame 0.
        pan: (frames, 2) XY by which the camera has moved; the courses of actors are those in the image.
    """

    kind: str
    background: NDArray[np.uint8]
    actors: list[Actor]
    pan: NDArray[np.float64]

    def moments(self) -> Iterator[Moment]:
        """Every frame."""
        for frame in range(len(self.pan)):
            yield self.moment(frame)

    def moment(self, frame: int) -> Moment:
        """One frame."""
        x, y = (MARGIN + self.pan[frame]).round().astype(int)
        image = self.background[y : y + HEIGHT, x : x + WIDTH].copy()
        owners = np.full((HEIGHT, WIDTH), -1)
        for index, actor in enumerate(self.actors):
            _paste(image, owners, index, actor.sprite, actor.course[frame])
        masks = [owners == index for index in range(len(self.actors))]
        whole = [actor.sprite.mask.sum() for actor in self.actors]
        return Moment(image, masks, [float(m.sum() / area) for m, area in zip(masks, whole, strict=True)])


def _paste(
    image: NDArray[np.uint8], owners: NDArray[np.int64], index: int, sprite: Sprite, middle: Course
) -> None:
    """Draw a sprite over an image (H, W, 3), and its index into who is seen where (H, W)."""
    if np.isnan(middle).any():
        return
    height, width = sprite.mask.shape
    left, top = (middle - (width / 2, height / 2)).round().astype(int)
    rows, columns = np.nonzero(sprite.mask)
    y, x = rows + top, columns + left
    is_inside = (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
    y, x, rows, columns = y[is_inside], x[is_inside], rows[is_inside], columns[is_inside]
    image[y, x], owners[y, x] = sprite.image[rows, columns], index


def blob(colour: NDArray[np.float64], rng: Rng, radius: float, variation: float) -> Sprite:
    """A rounded shape of one colour (3,), shaded from top to bottom or, where it varies more, all over."""
    side = 2 * int(1.3 * radius)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = np.sum([rng.uniform(-0.09, 0.09) * np.cos(k * angles + rng.uniform(0, 7)) for k in (2, 3, 4)], 0)
    ring = radius * (1 + waves)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)]) + side / 2
    mask = cv2.fillPoly(np.zeros((side, side), np.uint8), [ring.round().astype(np.int32)], (1,))
    surface = np.repeat(np.linspace(-1, 1, side)[:, None], side, axis=1)
    if variation > SMOOTH:
        surface = cv2.GaussianBlur(rng.normal(0, 1, (side, side)), (0, 0), 2)
        surface /= surface.std()
    image = np.clip(colour + variation * surface[..., None], 0, 255)
    return Sprite(image.astype(np.uint8), mask > 0)


def blobs(rng: Rng, background: NDArray[np.uint8]) -> MakeSprite:
    """Makes blobs, each of another colour that differs from the background's (H, W, 3) and the others'."""
    taken = [background.reshape(-1, 3).mean(axis=0)]

    def make(rng_of_shape: Rng, radius: float, variation: float) -> Sprite:
        colours = rng.uniform(40, 215, (COLOURS, 3))
        distances = np.linalg.norm(colours[:, None] - np.array(taken), axis=2).min(axis=1)
        taken.append(colours[distances.argmax()])
        return blob(taken[-1], rng_of_shape, radius, variation)

    return make


def cutouts(paths: list[Path]) -> MakeSprite:
    """Makes sprites of PNG files with opacity."""

    def make(rng: Rng, radius: float, _: float) -> Sprite:
        while True:
            pixels = cv2.imread(str(paths[rng.integers(len(paths))]), cv2.IMREAD_UNCHANGED)
            if pixels is not None and pixels.shape[2:] == (4,) and (pixels[..., 3] > 127).mean() > 0.3:
                break
        scale = 2.2 * radius / max(pixels.shape[:2])
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return Sprite(cv2.cvtColor(small, cv2.COLOR_BGRA2RGB), small[..., 3] > 127)

    return make


def line(start: tuple[float, float], step: tuple[float, float], frames: int) -> Course:
    """(frames, 2) XY in equal steps."""
    return np.array(start, float) + np.arange(frames)[:, None] * np.array(step, float)


def there_and_back(start: tuple[float, float], step: tuple[float, float], out: int, away: int) -> Course:
    """(frames, 2) XY, so many frames out, so many away, and the same way back; NaN while it is away."""
    way = line(start, step, out)
    return np.concatenate([way, np.full((away, 2), np.nan), way[::-1]])


Casts = list[tuple[str, list[Actor], NDArray[np.float64]]]
"""What happens, who takes part, and the camera's pan."""


def entering(rng: Rng, make: MakeSprite) -> Casts:
    """Half of it is visible at first; from each border, slowly and fast, with and without a moving camera."""
    casts: Casts = []
    for side in BORDERS.values():
        for speed in SPEEDS:
            for pan in ((0.0, 0.0), PAN):
                frames = round(2.2 * RADIUS / speed) + 8
                start = MIDDLE * (1 + np.array(side))
                course = line(tuple(start), tuple(-speed * np.array(side)), frames)
                actor = Actor(make(rng, RADIUS, ROUGH), course)
                kind = f"enters at {speed} px a frame" + (", the camera pans" if any(pan) else "")
                casts.append((kind, [actor], line((0, 0), pan, frames)))
    return casts


def leaving(rng: Rng, make: MakeSprite) -> Casts:
    """Out over a border and back, or in again elsewhere; or taken away at once and put down elsewhere."""
    casts: Casts = []
    out, step = there_and_back((250, 110), (13, 0), 11, AWAY), (13.0, 0.0)
    elsewhere = np.concatenate([out[: 11 + AWAY], line((-45, 150), step, 12)])
    taken = np.concatenate(
        [line((230, 90), (2, 1), 8), np.full((AWAY, 2), np.nan), line((90, 160), (2, 0), 8)]
    )
    for name, variation in (("smooth", SMOOTH), ("rough", ROUGH)):
        for kind, course in (
            ("leaves and returns", out),
            ("leaves and enters elsewhere", elsewhere),
            ("is taken away and put down elsewhere", taken),
        ):
            actor = Actor(make(rng, RADIUS, variation), course)
            casts.append((f"{name}, {kind}", [actor], np.zeros((len(course), 2))))
    return casts


def hiding(rng: Rng, make: MakeSprite) -> Casts:
    """Something larger that nobody prompted passes over it, or it goes behind something that is followed."""
    casts: Casts = []
    frames = 32
    for name, variation in (("smooth", SMOOTH), ("rough", ROUGH)):
        still = Actor(make(rng, RADIUS, variation), line((165, 124), (0, 0), frames))
        cover = Actor(make(rng, 1.7 * RADIUS, ROUGH), line((25, 124), (9, 0), frames), is_prompted=False)
        casts.append((f"{name}, something passes over it", [still, cover], np.zeros((frames, 2))))
        walks = Actor(make(rng, RADIUS, variation), line((35, 124), (8.5, 0), frames))
        front = Actor(make(rng, 1.7 * RADIUS, ROUGH), line((175, 130), (0, 0), frames))
        casts.append((f"{name}, goes behind another", [walks, front], np.zeros((frames, 2))))
    return casts


def look_alikes(rng: Rng, make: MakeSprite) -> Casts:
    """Two that look alike pass one another; or one leaves and returns while the other stays."""
    casts: Casts = []
    frames = 26
    for name, variation in (("smooth", SMOOTH), ("rough", ROUGH)):
        sprite = make(rng, RADIUS, variation)
        first = Actor(sprite, line((40, 115), (10, 0), frames))
        second = Actor(sprite, line((290, 130), (-10, 0), frames))
        casts.append((f"{name}, look-alikes pass one another", [first, second], np.zeros((frames, 2))))
        leaves = Actor(sprite, there_and_back((250, 110), (13, 0), 11, AWAY))
        stays = Actor(sprite, line((80, 140), (0, 0), len(leaves.course)), is_prompted=False)
        pan = np.zeros((len(leaves.course), 2))
        casts.append((f"{name}, leaves a look-alike and returns", [leaves, stays], pan))
    return casts


def encounters(seed: int, paths: list[Path] | None = None) -> Iterator[Encounter]:
    """Every kind of encounter over the scene of a seed, with blobs or what PNG files show.

    Of blobs there are smooth and rough ones; what a file shows is as it is.
    """
    rng = np.random.default_rng(seed)
    background = backdrop(seed)
    for casts in (entering, leaving, hiding, look_alikes):
        make = blobs(rng, background) if paths is None else cutouts(paths)
        for kind, actors, pan in casts(rng, make):
            shown = kind if paths is None else kind.removeprefix("smooth, ").removeprefix("rough, ")
            yield Encounter(shown, background, actors, pan)


def backdrop(seed: int) -> NDArray[np.uint8]:
    """(H + 2 MARGIN, W + 2 MARGIN, 3) uint8 RGB of a generated scene."""
    width, height = WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN
    scene = generate_scene(seed, max(width, height), square=True)
    return scene.image[:height, :width]
