"""The package's exceptions: one root, one class for each thing that a caller can mend."""

DEVICE_FAILED_EXIT = 75  # of a process whose device failed: EX_TEMPFAIL of sysexits.h, "try again"
SHOWN_OF_NAME = 40  # characters of an id in a message to the user


def shortened(name: str, longest: int = SHOWN_OF_NAME) -> str:
    """An id or class as messages to the user show it: its beginning where it has more characters."""
    return name if len(name) <= longest else f"{name[:SHOWN_OF_NAME]}... ({len(name)} characters)"


def of_several(reason: str, count: int) -> str:
    """A reason that holds for so many objects, of which only the first is named beside it."""
    return f"{reason} (and {count - 1} more objects)" if count > 1 else reason


class SamRosError(Exception):
    """Root of every error that sam_ros raises on purpose.

    Attributes:
        kind: a few words for counting errors of one sort; the message has the values.
    """

    kind = "error"

    def __init__(self, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind


class InvalidPromptError(SamRosError, ValueError):
    """A prompt whose shape, dtype or values cannot be used; the message names the field and what came."""

    kind = "invalid prompt"


class InvalidImageError(SamRosError, ValueError):
    """An image that cannot be encoded; the message names what was expected and what came."""

    kind = "invalid image"


class InvalidCameraError(SamRosError, ValueError):
    """A calibration that no pinhole camera has; the message names what was expected and what came."""

    kind = "invalid calibration"


class InvalidDepthError(SamRosError, ValueError):
    """A depth image that does not fit the masks; the message names what was expected and what came."""

    kind = "invalid depth"


class InvalidParameterError(SamRosError, ValueError):
    """A parameter outside its range; the message names it, its range and what came."""

    kind = "invalid parameter"


class WeightsError(SamRosError):
    """A checkpoint that is missing, damaged or of another model; the message says what to do next."""

    kind = "weights"


class DeviceMemoryError(SamRosError):
    """The device's memory does not suffice, even for less at a time."""

    kind = "out of memory"


class DeviceError(SamRosError):
    """The device failed in a way that only another process recovers from."""

    kind = "device"


class ModelOutputError(SamRosError):
    """The model produced values that are not finite; nothing of that answer is usable."""

    kind = "model output"


class EncodeCancelledError(SamRosError):
    """``should_stop`` became true while an image was being encoded."""

    kind = "cancelled"


class EverythingCancelledError(SamRosError):
    """``should_stop`` became true while everything was being segmented."""

    kind = "everything cancelled"


def in_words(error: Exception) -> str:
    """What an error says, with its type where it was not raised on purpose."""
    return str(error) if isinstance(error, SamRosError) else f"{type(error).__name__}: {error}"


def is_fault(error: Exception) -> bool:
    """Whether an error is one that no input explains: of another package, or of the device."""
    return not isinstance(error, SamRosError) or isinstance(error, DeviceError)
