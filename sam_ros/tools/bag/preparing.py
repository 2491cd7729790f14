"""A bag's images read and encoded, each ahead in a thread of its own, while objects are followed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sam_ros.core.frames import EmbeddedFrame
from sam_ros.core.protocol import PromptableModel
from sam_ros.errors import InvalidImageError, ModelOutputError, SamRosError
from sam_ros.tools.bag.ahead import ahead
from sam_ros.tools.bag.arrivals import Arrived

IMAGES_AHEAD = 2  # of each thread

ReadImage = Callable[[bytes], npt.NDArray[np.uint8]]
"""Makes an (H, W, 3) uint8 RGB image of a serialized message; raises InvalidImageError."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image, ready for prompts and following.

    Attributes:
        arrived: how it came.
        image_rgb: (H, W, 3) uint8; None where it was not read.
        embedded: it as the model sees it; None where there is no set of answers for it.
        problem: why not.
    """

    arrived: Arrived
    image_rgb: npt.NDArray[np.uint8] | None = None
    embedded: EmbeddedFrame | None = None
    problem: SamRosError | None = None


def prepared(
    arrivals: Iterable[Arrived],
    read_image: ReadImage,
    model: PromptableModel,
    should_stop: Callable[[], bool],
) -> Generator[Prepared, None, None]:
    """The images, in their order.

    Raises:
        EncodeCancelledError: ``should_stop`` became true while one was encoded.
        SamRosError: the bag is damaged, or the model failed in a way that is not the image's fault.
    """
    images = ahead(_read(arrivals, read_image), IMAGES_AHEAD)
    return ahead(_encoded(images, model, should_stop), IMAGES_AHEAD)


def _read(arrivals: Iterable[Arrived], read_image: ReadImage) -> Generator[Prepared, None, None]:
    for arrived in arrivals:
        if arrived.frame is None:
            yield Prepared(arrived, problem=arrived.problem)
            continue
        try:
            image_rgb = read_image(arrived.frame.data)
        except InvalidImageError as error:
            yield Prepared(arrived, problem=error)
        else:
            yield Prepared(arrived, image_rgb, problem=arrived.problem)


def _encoded(
    images: Iterable[Prepared], model: PromptableModel, should_stop: Callable[[], bool]
) -> Generator[Prepared, None, None]:
    for image in images:
        frame, image_rgb = image.arrived.frame, image.image_rgb
        if frame is None or image_rgb is None or image.problem is not None:
            yield image
            continue
        try:
            embedding = model.encode(image_rgb, should_stop)
        except (InvalidImageError, ModelOutputError) as error:
            yield replace(image, problem=error)
        else:
            yield replace(image, embedded=EmbeddedFrame(frame, embedding))
