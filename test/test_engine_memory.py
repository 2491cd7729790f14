"""What the engine holds is bounded: once its buffers are full, an hour of frames takes no more memory."""

from __future__ import annotations

import gc
import tracemalloc

import cv2
import numpy as np
import numpy.typing as npt
from test_engine import Rig

from sam_ros.core.follower import VIEWS_KEPT
from sam_ros.core.objects import Point
from sam_ros.node.settings import Settings
from sam_ros.node.waiting import WaitingPrompts

SIZE_HW = (48, 64)
FULL = VIEWS_KEPT + 60  # frames after which every buffer is full
MORE = 600
MOST_BYTES = 300_000  # where each frame that stays would take 80 kB: 50 MB for all


class MovingRig(Rig):
    """An engine whose images show a disc on noise that moves; nothing of the test's own piles up."""

    def read_image(self, data: bytes) -> npt.NDArray[np.uint8]:
        self.num_read += 1
        rng = np.random.default_rng(0)
        image = rng.integers(0, 60, (*SIZE_HW, 3), dtype=np.uint8)
        cv2.circle(image, (20 + data[0] % 20, 24), 10, (220, 180, 40), -1)
        return image

    def forget(self) -> None:
        """What model and listener have remembered."""
        for kept in (self.predictor.encoded, self.predictor.started, self.predictor.decoded):
            kept.clear()
        for heard in (self.heard.outputs, self.heard.candidates, self.heard.answers, self.heard.refusals):
            heard.clear()

    def follow(self, first: int, count: int) -> None:
        """So many frames, each answered before the next; now and then a click and what takes it back."""
        for number in range(first, first + count):
            self.image(number, data=bytes([number % 256]))
            if number % 7 == 0:
                self.prompt(Point(22.0, 24.0, 1))
            if number % 31 == 0:
                self.engine.undo()
            self.outputs(1)
            self.forget()


def held() -> int:
    """Bytes that Python and NumPy hold."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_frames_prompts_and_undo_take_no_more_memory_once_buffers_are_full() -> None:
    rig = MovingRig(Settings(follow=True), WaitingPrompts())
    tracemalloc.start()
    try:
        rig.follow(1, FULL)
        before = held()
        rig.follow(FULL + 1, MORE)
        grown = held() - before
    finally:
        tracemalloc.stop()
        assert rig.engine.stop()
    assert not rig.heard.failures
    assert grown < MOST_BYTES, f"{grown} bytes more after {MORE} frames"
