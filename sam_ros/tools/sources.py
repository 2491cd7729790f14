"""Pictures in order: of a file, a folder, a video, or a photograph of scikit-image."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sam_ros.errors import SamRosError

ImageRgb = npt.NDArray[np.uint8]  # (H, W, 3)

PHOTOGRAPH_SCHEME = "photograph:"


class SourceError(SamRosError):
    """A parameter or a file from which no pictures can be made; the message says what would do."""


def frames(source: str, *, loop: bool) -> Iterator[ImageRgb]:
    """The pictures of a source in order; a single picture for ever, the others again and again with ``loop``.

    Raises:
        SourceError: there is nothing to show; raised when the frame in question is asked for.
    """
    if source.startswith(PHOTOGRAPH_SCHEME):
        yield from itertools.repeat(_photograph(source.removeprefix(PHOTOGRAPH_SCHEME)))
    path = Path(source).expanduser()
    if not path.exists():
        raise SourceError(f"source {source!r} does not exist")
    if path.is_file() and cv2.haveImageReader(str(path)):
        yield from itertools.repeat(_picture(path))
    one_pass = _folder_frames if path.is_dir() else _video_frames
    yield from one_pass(path)
    while loop:
        yield from one_pass(path)


def _photograph(name: str) -> ImageRgb:
    try:
        photographs = importlib.import_module("skimage.data")  # only this source needs scikit-image
        image = getattr(photographs, name)()
    except ImportError as error:
        raise SourceError("photograph:NAME needs scikit-image: pip install scikit-image") from error
    except (AttributeError, TypeError, OSError) as error:
        raise SourceError(
            f"scikit-image has no photograph {name!r} here; try astronaut, coffee or rocket"
        ) from error
    if not isinstance(image, np.ndarray):
        raise SourceError(f"{name!r} of scikit-image is no photograph; try astronaut, coffee or rocket")
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return image[..., :3]


def _picture(path: Path) -> ImageRgb:
    image_bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise SourceError(f"{path} looks like a picture but cannot be decoded")
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)


def _folder_frames(path: Path) -> Iterator[ImageRgb]:
    pictures = [
        child for child in sorted(path.iterdir()) if child.is_file() and cv2.haveImageReader(str(child))
    ]
    if not pictures:
        raise SourceError(f"folder {path} holds no picture that OpenCV reads")
    yield from map(_picture, pictures)


def _video_frames(path: Path) -> Iterator[ImageRgb]:
    capture = cv2.VideoCapture(str(path))
    success, image_bgr = capture.read()
    if not success:
        raise SourceError(f"{path} is neither a picture nor a video that OpenCV reads")
    while success:
        yield cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)
        success, image_bgr = capture.read()
    capture.release()
