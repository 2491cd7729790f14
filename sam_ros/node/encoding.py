"""The engine's first thread: encodes one frame after the other, those that prompts wait for first."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sam_ros.core.frames import EmbeddedFrame, Frame, Order, UnencodedFrame
from sam_ros.core.protocol import PromptableModel
from sam_ros.core.segmenter import Segmenter
from sam_ros.errors import EncodeCancelledError, InvalidImageError, SamRosError
from sam_ros.node.listener import Listener
from sam_ros.node.schedule import frame_to_encode
from sam_ros.node.state import Due, EngineState
from sam_ros.node.statistics import ENCODE, PASSED_OVER, Statistics
from sam_ros.node.tally import Tally

ENCODE_FAILED = "encode failed"  # the kind of an image that was dropped for an error that is not ours
OUT_OF_ORDER = "stamp not later"  # the kind of an image that is stamped as the one before


class Encoding:
    """Encodes the frame that a prompt waits for, else the newest.

    While following, the next frame is encoded while one is answered, but the one after that only if a prompt
    waits for it, and no later one. Frames that there is nothing to encode for are passed over.

    Args:
        state: what it takes frames from, and stores embeddings in.
        model: encodes images.
        read_image: makes an (H, W, 3) uint8 RGB image of a serialized one; raises InvalidImageError.
        read_size: (H, W) of a serialized image that is not encoded; raises InvalidImageError.
        segmenter: is shown every image that objects may be followed to.
        listener: is told what happens.
        statistics: count what happens.
    """

    def __init__(
        self,
        state: EngineState,
        model: PromptableModel,
        read_image: Callable[[bytes], npt.NDArray[np.uint8]],
        read_size: Callable[[bytes], tuple[int, int]],
        segmenter: Segmenter,
        listener: Listener,
        statistics: Statistics,
    ) -> None:
        self._state, self._model = state, model
        self._read_image, self._read_size = read_image, read_size
        self._segmenter, self._listener, self._statistics = segmenter, listener, statistics
        self._tally = Tally(statistics, listener)

    def run(self) -> None:
        """Encode until the engine stops."""
        while (taken := self._next_frame()) is not None:
            frame, handle = taken
            try:
                handle(frame)
            except EncodeCancelledError:
                return
            except InvalidImageError as error:
                self._tally.dropped(error.kind, str(error))
                self._give_up(frame, error)
            except Exception as error:  # noqa: BLE001 a thread that dies would leave the node deaf
                kind = error.kind if isinstance(error, SamRosError) else ENCODE_FAILED
                self._statistics.dropped(kind)
                self._listener.on_failure(f"encoding the image of stamp {frame.stamp_ns} ns", error)
                self._give_up(frame, SamRosError(f"its image could not be encoded: {error}", kind))

    def _next_frame(self) -> tuple[Frame, Callable[[Frame], None]] | None:
        """Wait for a frame: one that a prompt waits for, else the newest, and what to do; None to stop."""
        state = self._state
        with state.changed:
            while not state.stopping:
                state.look_for_frames()
                wanted, newest = state.wanted_frame, state.frames.newest_untried
                frame, wait_sec = frame_to_encode(
                    wanted,
                    newest if state.settings.is_following or not state.is_resting else None,
                    state.settings,
                    is_behind=bool(state.to_follow),
                    idle_sec=time.monotonic() - state.last_encode_start,
                )
                if frame is not None:
                    state.frames.begin_encoding(frame)
                    state.last_encode_start = time.monotonic()
                    is_enough = wanted is None and state.is_resting
                    return frame, self._pass_over if is_enough else self._encode
                state.changed.wait(wait_sec)
            return None

    def _pass_over(self, frame: Frame) -> None:
        """Have a frame answered by an empty set: there is nothing to encode it for."""
        if self._finish(UnencodedFrame(frame, self._read_size(frame.data)), is_following=True):
            self._statistics.event(PASSED_OVER)

    def _encode(self, frame: Frame) -> None:
        start = time.monotonic()
        image_rgb = self._read_image(frame.data)
        read = time.monotonic()
        embedding = self._model.encode(image_rgb, lambda: self._state.stopping)
        encoded = time.monotonic()
        settings = self._state.settings
        if settings.is_following:
            self._segmenter.see(frame.sequence, image_rgb, settings.views_kept)
        if self._finish(EmbeddedFrame(frame, embedding), is_following=settings.is_following):
            self._statistics.event("read", read - start)
            self._statistics.event(ENCODE, encoded - read)

    def _finish(self, done: EmbeddedFrame | UnencodedFrame, *, is_following: bool) -> bool:
        """Store what became of a frame and, while following, queue it to be answered.

        Returns:
            False if it is dropped, since its stamp is not later than the last one's while following: sets of
            answers have stamps that increase strictly.
        """
        state = self._state
        with state.changed:
            order = state.frames.finish(done, held=state.clicked_on)  # another of its masks may be chosen yet
            if is_following and order is Order.NEXT:
                state.to_follow.append(Due(done, state.next_turn()))
            if isinstance(done, EmbeddedFrame):
                state.waiting.frame_embedded(done)
            state.changed.notify_all()
        is_dropped = is_following and order is Order.OUT_OF_ORDER
        if is_dropped:
            self._tally.dropped(OUT_OF_ORDER, "its stamp is not later than that of the image before")
        return not is_dropped

    def _give_up(self, frame: Frame, error: SamRosError) -> None:
        with self._state.changed:
            self._state.frames.give_up(frame, error)
            self._state.waiting.frame_given_up(frame, error)
            self._state.changed.notify_all()
