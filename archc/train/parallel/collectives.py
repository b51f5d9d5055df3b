"""The sums over processes that stand at the ends of a cut op, with the gradients that belong to them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


class _Spread(torch.autograd.Function):
    """The same value in every process; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _total(grads[0], ctx.group), None


class _Sum(torch.autograd.Function):
    """The sum of the processes' values; the gradient of each is that of the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        return _total(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Shared(torch.autograd.Function):
    """The value as it is; each process passes an equal share of the gradient on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: int) -> Tensor:
        ctx.processes = processes
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] / ctx.processes, None


def _total(x: Tensor, group: ProcessGroup) -> Tensor:
    made = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(made, group=group)
    return made


def spread(x: Tensor, group: ProcessGroup) -> Tensor:
    """Where a value enters a cut op: each process goes on with a part of the work, gradients add up."""
    made: Tensor = _Spread.apply(x, group)  # type: ignore[no-untyped-call]
    return made


def summed(x: Tensor, group: ProcessGroup) -> Tensor:
    """Where a cut op ends: its parts add up."""
    made: Tensor = _Sum.apply(x, group)  # type: ignore[no-untyped-call]
    return made


def shared(x: Tensor, processes: int) -> Tensor:
    """A whole value taken out of a cut op, for a loss that every process computes alike.

    Gradients of what stands before it in the op are added up over the processes, so that each gives its share.
    """
    made: Tensor = _Shared.apply(x, processes)  # type: ignore[no-untyped-call]
    return made
