"""CUDA graphs: when one is captured, what happens where none can be, and, on a GPU, that they are right."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from sam_ros.fast.cuda_graph import GRAPHS_KEPT, Arguments, Function, Graph, Graphed

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def affine(x: Tensor, shift: Tensor | None) -> tuple[Tensor, ...]:
    y = 2 * x
    return (y, y.sum()) if shift is None else (y + shift, y.sum())


class CountedCaptures:
    """Stands for capturing, in order to see when it happens: its graphs run the function at each replay."""

    def __init__(self) -> None:
        self.shapes: list[torch.Size] = []

    def __call__(self, function: Function, arguments: Arguments) -> Graph:
        self.shapes += [x.shape for x in arguments[:1] if x is not None]
        return SimpleNamespace(replay=lambda given: function(*given))  # type: ignore[return-value]


def test_shapes_are_captured_when_they_come_again_and_then_replayed() -> None:
    captures = CountedCaptures()
    graphed = Graphed(affine, captures)
    for count in (2, 3, 2, 2):
        graphed(torch.ones(count), None)
    assert captures.shapes == [(2,)]
    graphed(torch.ones(2), torch.ones(2))
    graphed(torch.ones(2), torch.ones(2))
    assert captures.shapes == [(2,), (2,)]  # another one, since there is a shift


def test_what_is_not_captured_reaches_the_function_alone() -> None:
    def refuse(x: Tensor, stop: bool = False) -> tuple[Tensor, ...]:
        assert not stop
        return (x,)

    graphed = Graphed(refuse, CountedCaptures())
    with pytest.raises(AssertionError):
        graphed(torch.ones(2), stop=True)
    graphed(torch.ones(2), stop=True)


def test_further_shapes_are_computed_without_a_graph() -> None:
    captures = CountedCaptures()
    graphed = Graphed(affine, captures)
    for count in (*range(GRAPHS_KEPT + 5), *range(GRAPHS_KEPT + 5)):
        doubled, total = graphed(torch.ones(count), None)
        assert doubled.tolist() == [2.0] * count and total == 2 * count
    assert len(captures.shapes) == GRAPHS_KEPT


def test_what_cannot_be_captured_is_computed_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []

    def fail(*_: object) -> Graph:
        asked.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    graphed = Graphed(affine, fail)
    with caplog.at_level(logging.WARNING):
        for shape in ((2,), (3,)):
            for shift in (1.0, 2.0, 3.0):
                answer, _ = graphed(torch.ones(shape), torch.full(shape, shift))
                assert torch.equal(answer, torch.full(shape, 2 + shift))
    (record,) = caplog.records
    assert len(asked) == 1
    assert "no CUDA graphs" in record.message and "is capturing" in record.message


@pytest.mark.gpu
@needs_gpu
@torch.inference_mode()
def test_replays_answer_for_other_values(caplog: pytest.LogCaptureFixture) -> None:
    graphed = Graphed(affine)
    answers = []
    for shape in ((3, 4), (5,), (3, 4), (5,), (3, 4), (5,)):
        x, shift = torch.randn(shape, device="cuda"), torch.randn(shape, device="cuda")
        answers += [(graphed(x, None), affine(x, None)), (graphed(x, shift), affine(x, shift))]
    for made, expected in answers:  # at the end: no replay has changed an earlier answer
        assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))
    assert not caplog.records


@pytest.mark.gpu
@needs_gpu
def test_threads_may_capture_and_replay_at_once() -> None:
    graphed, wrong = Graphed(affine), []

    def work(thread: int) -> None:
        with torch.inference_mode():
            for count in range(1, 20):
                x = torch.full((count * 1000 + thread % 2,), float(thread), device="cuda")
                if not torch.equal(graphed(x, None)[0], 2 * x):
                    wrong.append((thread, count))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
