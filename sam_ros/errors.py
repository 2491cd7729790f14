"""The package's exceptions: one root, one class for each thing that a caller can mend."""


class SamRosError(Exception):
    """Root of every error that sam_ros raises on purpose."""


class InvalidPromptError(SamRosError, ValueError):
    """A prompt whose shape, dtype or values cannot be used; the message names the field and what came."""


class InvalidImageError(SamRosError, ValueError):
    """An image that cannot be encoded; the message names what was expected and what came."""


class WeightsError(SamRosError):
    """A checkpoint that is missing, damaged or of another model; the message says what to do next."""


class ModelOutputError(SamRosError):
    """The model produced values that are not finite; nothing of that answer is usable."""
