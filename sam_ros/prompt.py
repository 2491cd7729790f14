"""What a person or program points at: the prompt of one object, as SAM takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_ros.errors import InvalidPromptError

FOREGROUND = 1
BACKGROUND = 0


@dataclass(frozen=True, eq=False)
class Prompt:
    """The prompt of one object: points, a box and low-res logits, any of which may be None, but not all.

    Coordinates are pixels of the original image, x right and y down; they reach SAM as they are. Shape, dtype
    and finiteness are checked here; whether a coordinate lies in the image is the caller's business. Arrays
    are converted to the dtypes below, copied and made read-only.

    Attributes:
        point_coords: (N, 2) float64, XY, N >= 1; (0, 0) is the centre of the first pixel.
        point_labels: (N,) int64, 1 foreground, 0 background; given exactly when ``point_coords`` is.
        box: (4,) float64, XYXY, pixel edges.
        low_res_logits: (S/4, S/4) float32, S the model's input size; logits over the padded square, image at
            its top left, as ``Masks.low_res_logits`` holds them.

    Raises:
        InvalidPromptError: a field has another shape or dtype, a value that is not finite, or all are None.
    """

    point_coords: npt.NDArray[np.float64] | None = None
    point_labels: npt.NDArray[np.int64] | None = None
    box: npt.NDArray[np.float64] | None = None
    low_res_logits: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.point_coords is None and self.box is None and self.low_res_logits is None:
            raise InvalidPromptError("a prompt needs point_coords, box or low_res_logits; all are None")
        if (self.point_coords is None) != (self.point_labels is None):
            raise InvalidPromptError("point_coords and point_labels must be given together")
        self._replace("point_coords", _checked_points)
        self._replace("point_labels", _checked_labels)
        self._replace("box", _checked_box)
        self._replace("low_res_logits", _checked_logits)
        if self.point_labels is not None and len(self.point_labels) != self.num_points:
            raise InvalidPromptError(
                f"point_labels must have one label per point: {self.num_points} points, "
                f"{len(self.point_labels)} labels"
            )

    def _replace(self, name: str, check: Any) -> None:
        value = getattr(self, name)
        if value is not None:
            checked = check(value)
            checked.flags.writeable = False
            object.__setattr__(self, name, checked)

    @property
    def num_points(self) -> int:
        """How many points there are, foreground and background."""
        return 0 if self.point_coords is None else len(self.point_coords)

    @property
    def num_tokens(self) -> int:
        """How many sparse tokens SAM's prompt encoder makes of this prompt.

        Points without a box are followed by a padding token (segment_anything/modeling/prompt_encoder.py):
        N points make N + 1 tokens, a box 2, a box with N points N + 2.
        """
        if self.box is not None:
            return self.num_points + 2
        return self.num_points + 1 if self.num_points else 0

    @property
    def is_single_point(self) -> bool:
        """One point and nothing else: the ambiguous prompt, for which three masks are worth having."""
        return self.num_points == 1 and self.box is None and self.low_res_logits is None


def _checked_points(value: Any) -> npt.NDArray[np.float64]:
    coords = _finite_floats("point_coords", value, np.float64)
    if coords.ndim != 2 or coords.shape[0] < 1 or coords.shape[1] != 2:
        raise InvalidPromptError(f"point_coords must be (N, 2) with N >= 1, got {coords.shape}")
    return coords


def _checked_labels(value: Any) -> npt.NDArray[np.int64]:
    labels = _array("point_labels", value)
    if labels.ndim != 1 or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise InvalidPromptError(f"point_labels must be (N,) integers, got {labels.shape} {labels.dtype}")
    if not np.isin(labels, (BACKGROUND, FOREGROUND)).all():
        raise InvalidPromptError(f"point_labels must be 1 (foreground) or 0 (background), got {labels}")
    return labels.astype(np.int64)


def _checked_box(value: Any) -> npt.NDArray[np.float64]:
    box = _finite_floats("box", value, np.float64)
    if box.shape != (4,):
        raise InvalidPromptError(f"box must be (4,) XYXY, got {box.shape}")
    return box


def _checked_logits(value: Any) -> npt.NDArray[np.float32]:
    logits = _finite_floats("low_res_logits", value, np.float32)
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1] or logits.shape[0] < 1:
        raise InvalidPromptError(f"low_res_logits must be square (S/4, S/4), got {logits.shape}")
    return logits


def _finite_floats(name: str, value: Any, dtype: Any) -> npt.NDArray[Any]:
    array = _array(name, value)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InvalidPromptError(f"{name} must hold real numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # what is too large for the dtype becomes infinite, and is refused
        array = array.astype(dtype)
    if not np.isfinite(array).all():
        raise InvalidPromptError(f"{name} must be finite, got {array[~np.isfinite(array)][:4]}")
    return array


def _array(name: str, value: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:  # rows of unequal lengths
        raise InvalidPromptError(f"{name} must be an array: {error}") from error
