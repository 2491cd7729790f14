"""A bag's images, read and encoded in their order."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import pytest
from fake_model import FakeModel

from sam_ros.core.frames import Frame
from sam_ros.errors import (
    DeviceError,
    EncodeCancelledError,
    InvalidImageError,
    ModelOutputError,
    SamRosError,
)
from sam_ros.tools.bag.arrivals import Arrived
from sam_ros.tools.bag.preparing import Prepared, prepared
from sam_ros.tools.bag.source import Recorded


def arrived(number: int, problem: SamRosError | None = None) -> Arrived:
    data = bytes([number])
    return Arrived(number, Recorded(number, data), Frame(number, number, "", data), problem)


def read(data: bytes) -> npt.NDArray[np.uint8]:
    if data == b"\x07":
        raise InvalidImageError("seven is no image")
    return np.full((6, 8, 3), data[0], np.uint8)


def prepare(model: FakeModel, *some: Arrived) -> list[Prepared]:
    return list(prepared(some, read, model, lambda: False))


def test_images_are_read_and_encoded_in_their_order() -> None:
    model = FakeModel()
    images = prepare(model, *map(arrived, range(9, 20)))
    assert model.encoded == [image.arrived.position for image in images] == list(range(9, 20))
    for image in images:
        assert image.embedded is not None and image.image_rgb is not None and image.problem is None
        assert image.embedded.sequence == image.arrived.position == image.image_rgb[0, 0, 0]


def test_what_has_no_answer_is_not_encoded_and_says_why() -> None:
    model = FakeModel()
    repeated, late = SamRosError("repeated"), SamRosError("late")
    left_out = Arrived(2, Recorded(2, b""), None, late)
    images = prepare(model, arrived(1, repeated), left_out, arrived(7), arrived(3))
    assert [str(image.problem) for image in images] == ["repeated", "late", "seven is no image", "None"]
    assert [image.image_rgb is not None for image in images] == [True, False, False, True]
    assert [image.embedded is not None for image in images] == [False, False, False, True]
    assert model.encoded == [3]


def test_an_image_that_the_model_cannot_take_is_left_out() -> None:
    model = FakeModel()
    model.failures.append(ModelOutputError("not finite"))
    first, second = prepare(model, arrived(1), arrived(2))
    assert (str(first.problem), first.embedded) == ("not finite", None) and second.embedded is not None


def test_a_device_that_fails_ends_the_work() -> None:
    model = FakeModel()
    model.failures.append(DeviceError("gone"))
    with pytest.raises(DeviceError, match="gone"):
        prepare(model, arrived(1))


def test_stopping_cancels_an_encode() -> None:
    model, stop = FakeModel(), threading.Event()
    model.gates[2] = threading.Event()  # never opened
    images = prepared([arrived(1), arrived(2)], read, model, stop.is_set)
    assert next(images).arrived.position == 1
    stop.set()
    with pytest.raises(EncodeCancelledError):
        next(images)
