"""CUDA graphs: when one is captured, what happens where none can be, and, on a GPU, that they are right."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sam_ros.cuda_graph import GRAPHS_KEPT, Function, Graph, Graphed, Pool

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def affine(x: Tensor, shift: Tensor | None) -> tuple[Tensor, ...]:
    y = 2 * x
    return (y, y.sum()) if shift is None else (y + shift, y.sum())


class CountedGraph:
    """Stands for a graph, in order to see when one is captured: runs the function at each replay."""

    captured: list[tuple[torch.Size, ...]]

    def __init__(self, function: Function, arguments: Sequence[Tensor | None], pool: Pool) -> None:
        del pool
        self._function = function
        self.captured.append(tuple(x.shape for x in arguments if x is not None))

    def replay(self, arguments: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        return self._function(*arguments)


def test_a_graph_is_captured_once_for_each_set_of_shapes() -> None:
    CountedGraph.captured = []
    graphed = Graphed(affine, CountedGraph)  # type: ignore[arg-type]
    for count in (2, 3, 2):
        graphed(torch.ones(count), None)
        graphed(torch.ones(count), torch.ones(1))
    assert [shapes[0] for shapes in CountedGraph.captured] == [(2,), (2,), (3,), (3,)]


def test_further_shapes_are_computed_without_a_graph() -> None:
    CountedGraph.captured = []
    graphed = Graphed(affine, CountedGraph)  # type: ignore[arg-type]
    for count in range(GRAPHS_KEPT + 5):
        doubled, total = graphed(torch.ones(count), None)
        assert doubled.tolist() == [2.0] * count and total == 2 * count
    assert len(CountedGraph.captured) == GRAPHS_KEPT


def test_what_cannot_be_captured_is_computed_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> Graph:
        raise RuntimeError("operation not permitted when stream is capturing")

    graphed = Graphed(affine, fail)
    with caplog.at_level(logging.WARNING):
        answers = [graphed(torch.ones(2), torch.full((2,), k))[0].tolist() for k in (1.0, 2.0)]
    assert answers == [[3.0, 3.0], [4.0, 4.0]]
    (record,) = caplog.records
    assert "no CUDA graph" in record.message and "is capturing" in record.message


def test_a_wrong_argument_is_not_taken_for_a_failed_capture() -> None:
    def fail(*_: object) -> Graph:
        raise TypeError("wrong")

    with pytest.raises(TypeError, match="wrong"):
        Graphed(affine, fail)(torch.ones(2), None)


@pytest.mark.gpu
@needs_gpu
@torch.inference_mode()
def test_replays_answer_for_other_values(caplog: pytest.LogCaptureFixture) -> None:
    graphed = Graphed(affine)
    answers = []
    for shape in ((3, 4), (5,), (3, 4), (5,)):
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
