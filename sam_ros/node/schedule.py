"""Which frame is looked at next, and when."""

from __future__ import annotations

from sam_ros.core.frames import Frame
from sam_ros.node.settings import Settings

MAX_WAIT_SEC = 3600.0  # at a time: the smallest rates would make it longer than threads can wait


def frame_to_encode(
    wanted: Frame | None, newest: Frame | None, settings: Settings, *, is_behind: bool, idle_sec: float
) -> tuple[Frame | None, float | None]:
    """The frame to look at now, or None and how many seconds to wait for something new at most.

    Args:
        wanted: what a prompt waits for; comes before all else.
        newest: the newest image, if it was not tried yet.
        settings: whether to look at frames unasked, and how often.
        is_behind: whether a frame that is encoded already still waits for its set of answers: encoding yet
            another would only make the answers older.
        idle_sec: since the last frame was looked at.
    """
    if wanted is not None:
        return wanted, None
    if newest is None or settings.encode == "on_prompt" or is_behind:
        return None, None
    period_sec = 1 / settings.max_rate_hz if settings.max_rate_hz else 0.0
    return (newest, None) if idle_sec >= period_sec else (None, min(period_sec - idle_sec, MAX_WAIT_SEC))
