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
Arguments = Sequence[Tensor | None]
Shapes = tuple[torch.Size | None, ...]
Pool = Any  # torch's own name for it is private

GRAPHS_KEPT = 32  # of one function; calls of further shapes are launched kernel by kernel
_capturing = threading.Lock()  # one at a time in a process

_logger = logging.getLogger(__name__)


class Graph:
    """The kernels of one call, captured; a replay answers for other values of the same shapes.

    Args:
        function: whose kernels depend on the shapes of its arguments alone, and that does not wait for them.
        arguments: tensors on the stream's GPU, or None.
        stream, pool: where it is captured, and the memory for that; graphs may share both if they are
            replayed one after the other.
    """

    def __init__(
        self, function: Function, arguments: Arguments, stream: torch.cuda.Stream, pool: Pool
    ) -> None:
        self._arguments = [None if argument is None else argument.clone() for argument in arguments]
        self._graph = torch.cuda.CUDAGraph()
        caller = torch.cuda.current_stream(stream.device)
        stream.wait_stream(caller)
        with torch.cuda.device(stream.device), torch.cuda.stream(stream):
            function(*self._arguments)  # what libraries set up in a stream cannot be captured
        # Other threads go on launching kernels and allocating memory meanwhile.
        capture = torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local")
        with torch.cuda.device(stream.device), capture:
            self._results = function(*self._arguments)
        caller.wait_stream(stream)

    def replay(self, arguments: Arguments) -> tuple[Tensor, ...]:
        """The function's results; calls in one stream may follow each other without waiting."""
        for captured, argument in zip(self._arguments, arguments, strict=True):
            if captured is not None and argument is not None:
                captured.copy_(argument)
        self._graph.replay()
        return tuple(result.clone() for result in self._results)


class Capture:
    """Makes the graphs of one function, which share a stream and memory."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None
        self._pool: Pool = None

    def __call__(self, function: Function, arguments: Arguments) -> Graph:
        """A graph of the function called with these arguments."""
        with _capturing:
            if self._stream is None:
                device = next(argument.device for argument in arguments if argument is not None)
                # Kernels keep the priority of the stream they were captured in, wherever they are replayed.
                priority = torch.cuda.current_stream(device).priority
                self._stream = torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]
                self._pool = torch.cuda.graph_pool_handle()
            return Graph(function, arguments, self._stream, self._pool)


class Graphed:
    """A function that is captured when it is called with the same shapes again, and replayed from then on.

    May be called from several threads, all in the same stream. Where graphs cannot be captured, it says so
    once and calls the function itself.

    Args:
        function: see ``Graph``.
        capture: makes the graphs; tests hand in others.
    """

    def __init__(
        self, function: Function, capture: Callable[[Function, Arguments], Graph] | None = None
    ) -> None:
        self._function, self._capture = function, capture or Capture()
        self._graphs: dict[Shapes, Graph | None] = {}  # None: called once
        self._can_capture = True
        self._lock = threading.Lock()

    def __call__(self, *arguments: Tensor | None, **uncaptured: Any) -> tuple[Tensor, ...]:
        """What the function returns; ``uncaptured`` reaches it only where no graph is replayed instead."""
        with self._lock:
            graph = self._graph(arguments)
            return self._function(*arguments, **uncaptured) if graph is None else graph.replay(arguments)

    def _graph(self, arguments: Arguments) -> Graph | None:
        """The graph for these arguments, captured now if they were seen once before."""
        shapes = tuple(None if argument is None else argument.shape for argument in arguments)
        if shapes not in self._graphs:
            if len(self._graphs) < GRAPHS_KEPT:
                self._graphs[shapes] = None
        elif self._graphs[shapes] is None and self._can_capture:
            self._graphs[shapes] = self._captured(arguments)
        return self._graphs.get(shapes)

    def _captured(self, arguments: Arguments) -> Graph | None:
        try:
            return self._capture(self._function, arguments)
        except RuntimeError as error:
            self._can_capture = False
            _logger.warning("no CUDA graphs, kernels are launched one by one, which is slower: %s", error)
            return None
