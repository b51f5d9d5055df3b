"""The norm of a gradient that lies in shards on many processes, each shard counted once."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from archc.train.parallel.mesh import AXES, DP
from archc.train.parallel.model import ParallelModel


def gradient_norm(model: ParallelModel, others: Iterable[nn.Parameter] = ()) -> Tensor:
    """The 2-norm of the whole gradient, the same in every process.

    `others` are parameters that every process has whole, their gradients equal everywhere (modules of losses).
    """
    processes = model.mesh.size(*AXES)
    total = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
    for name, param in model.named_parameters():
        if param.grad is not None:
            cut = {a for a, _ in model.pieces[name].cuts} | ({DP} if isinstance(param, DTensor) else set())
            total += _squares(param.grad) * math.prod(model.mesh.size(a) for a in cut) / processes
    total += sum(_squares(p.grad) for p in others if p.grad is not None) / processes
    if processes > 1:
        dist.all_reduce(total)
    return total.sqrt()


def clip_gradients(params: Iterable[nn.Parameter], norm: Tensor, most: float) -> None:
    """Scale gradients whose common norm is `norm` down to `most`, as `torch.nn.utils.clip_grads_with_norm_` does."""
    factor = torch.clamp(most / (norm + 1e-6), max=1.0)
    for param in params:
        if param.grad is not None:
            _local(param.grad).mul_(factor.to(param.grad.dtype))


def sum_gradients(model: ParallelModel, params: Iterable[nn.Parameter]) -> None:
    """Add the gradients of parameters that FSDP does not know (modules of losses) up over `dp`, once a step."""
    group = model.mesh.group((DP,))
    for param in params:
        if group is not None and param.requires_grad:
            param.grad = torch.zeros_like(param) if param.grad is None else param.grad
            dist.all_reduce(param.grad, group=group)


def _squares(grad: Tensor) -> Tensor:
    return _local(grad).double().square().sum()


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
