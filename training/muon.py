"""Muon for the matrices of a transformer: momentum whose update is made orthogonal.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the size of the update follows
Liu et al. 2025, "Muon is scalable for LLM training", so that AdamW's learning rate fits. ``torch.optim.Muon``
is the same but computes in bfloat16, which is many times slower than float32 on a CPU without bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration, as published
UPDATE_RMS = 0.2  # root mean square of AdamW's updates


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, with decoupled weight decay; parameters are matrices.

    Args:
        parameters: (rows, columns) each.
        lr: as for AdamW.
        momentum: of the gradient; applied as Nesterov does.
        weight_decay: share of the weights taken away in a step, times ``lr``.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 no closures
        """Update every matrix; training processes share the work, each does every n-th matrix."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            updates = [self._momentum(parameter, group["momentum"]) for parameter in parameters]
            for parameter, update in zip(parameters, _all_orthogonal(updates), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = UPDATE_RMS * max(parameter.shape) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient: Tensor = parameter.grad  # type: ignore[assignment]  # the caller leaves out those without
        state["momentum"].lerp_(gradient, 1 - momentum)
        return torch.lerp(gradient, state["momentum"], momentum)


def _all_orthogonal(updates: list[Tensor]) -> list[Tensor]:
    if not distributed.is_initialized():
        return [orthogonal(update) for update in updates]
    rank, size = distributed.get_rank(), distributed.get_world_size()
    mine = [orthogonal(u) if i % size == rank else torch.zeros_like(u) for i, u in enumerate(updates)]
    flat = torch.cat([update.flatten() for update in mine])
    distributed.all_reduce(flat)
    parts = torch.split(flat, [update.numel() for update in updates])
    return [part.view_as(update) for part, update in zip(parts, updates, strict=True)]


def orthogonal(matrix: Tensor) -> Tensor:
    """(rows, columns) the nearest matrix of orthogonal rows or columns, approximately."""
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
