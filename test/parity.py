"""How far the predictor was from upstream's, for the summary at the end of a test run."""

LARGEST_DIFFERENCE: dict[str, float] = {}
"""By field of ``Masks``: the largest absolute difference that any parity test saw."""
