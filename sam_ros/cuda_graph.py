"""Functions of tensors whose kernels are launched all at once, as a CUDA graph.

A GPU runs the small kernels of one prompt, or of a small image encoder, faster than Python launches them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
Pool = Any  # torch's own name for it is private

GRAPHS_KEPT = 32  # of one function; calls of further shapes are launched kernel by kernel
_capturing = threading.Lock()  # one at a time in a process

logger = logging.getLogger(__name__)


class Graph:
    """The kernels of one call, captured; a replay answers for other values of the same shapes.

    Args:
        function: whose kernels depend on the shapes of its arguments alone, and that does not wait for them.
        arguments: tensors on a GPU, or None.
        pool: memory that graphs share which are replayed one after the other.
    """

    def __init__(self, function: Function, arguments: Sequence[Tensor | None], pool: Pool) -> None:
        self._arguments = [None if argument is None else argument.clone() for argument in arguments]
        self._graph = torch.cuda.CUDAGraph()
        device = next(argument.device for argument in arguments if argument is not None)
        caller = torch.cuda.current_stream(device)
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(caller)
        with torch.cuda.device(device), torch.cuda.stream(stream):
            function(*self._arguments)  # what libraries set up at their first call cannot be captured
        # Other threads go on launching kernels and allocating memory meanwhile.
        capture = torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local")
        with torch.cuda.device(device), capture:
            self._results = function(*self._arguments)
        caller.wait_stream(stream)

    def replay(self, arguments: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The function's results; calls in one stream may follow each other without waiting."""
        for captured, argument in zip(self._arguments, arguments, strict=True):
            if captured is not None and argument is not None:
                captured.copy_(argument)
        self._graph.replay()
        return tuple(result.clone() for result in self._results)


class Graphed:
    """A function that captures a graph for each set of shapes it is called with, and then replays it.

    May be called from several threads, all in the same stream. Where a graph cannot be captured, it says so
    once and calls the function itself.

    Args:
        function: see ``Graph``.
        capture: makes a graph; tests hand in one that fails.
    """

    def __init__(self, function: Function, capture: Callable[..., Graph] = Graph) -> None:
        self._function, self._capture = function, capture
        self._pool: Pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[tuple[torch.Size | None, ...], Graph | None] = {}
        self._lock = threading.Lock()

    def __call__(self, *arguments: Tensor | None) -> tuple[Tensor, ...]:
        """What the function returns for these arguments."""
        shapes = tuple(None if argument is None else argument.shape for argument in arguments)
        with self._lock:
            if shapes not in self._graphs and len(self._graphs) < GRAPHS_KEPT:
                self._graphs[shapes] = self._captured(arguments)
            graph = self._graphs.get(shapes)
            return self._function(*arguments) if graph is None else graph.replay(arguments)

    def _captured(self, arguments: Sequence[Tensor | None]) -> Graph | None:
        try:
            with _capturing:
                return self._capture(self._function, arguments, self._pool)
        except RuntimeError as error:
            logger.warning("no CUDA graph, kernels are launched one by one, which is slower: %s", error)
            return None
