"""How parameters start: one function a rule, deterministic from a seed and the parameter's key."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from archc.ir.graph import Graph
from archc.kernels.errors import UnknownName

if TYPE_CHECKING:
    from torch import Generator, Tensor, dtype

Shape = tuple[int, ...]


def normal(shape: Shape, g: Generator, std: float) -> Tensor:
    """Normal with deviation `std`."""
    import torch

    return torch.randn(shape, generator=g) * std


def uniform(shape: Shape, g: Generator, bound: float) -> Tensor:
    """Uniform in [-bound, bound]."""
    import torch

    return (torch.rand(shape, generator=g) * 2 - 1) * bound


def zeros(shape: Shape, g: Generator) -> Tensor:
    """Zeros."""
    import torch

    return torch.zeros(shape)


def ones(shape: Shape, g: Generator) -> Tensor:
    """Ones."""
    import torch

    return torch.ones(shape)


def log_uniform_decay(shape: Shape, g: Generator, low: float, high: float) -> Tensor:
    """log(A) for A uniform in [low, high] (Mamba-2's A_log)."""
    import torch

    return torch.log(torch.rand(shape, generator=g) * (high - low) + low)


def inverse_softplus(shape: Shape, g: Generator, low: float, high: float) -> Tensor:
    """The dt bias whose softplus is log-uniform in [low, high] (Mamba-2)."""
    import torch

    dt = torch.exp(torch.rand(shape, generator=g) * (math.log(high) - math.log(low)) + math.log(low))
    return dt + torch.log(-torch.expm1(-dt))


RULES: dict[str, Callable[..., Tensor]] = {
    f.__name__: f for f in (normal, uniform, zeros, ones, log_uniform_decay, inverse_softplus)
}


def sample(
    rule: str, args: tuple[float, ...], shape: Shape, *, seed: int, key: str, dtype: dtype | None = None
) -> Tensor:
    """A tensor by `rule`; the same seed and key give the same numbers whatever else is drawn."""
    import torch

    if rule not in RULES:
        raise UnknownName("init rule", rule, RULES)
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return RULES[rule](shape, generator, *args).to(dtype or torch.float32)


def init_weights(graph: Graph, *, seed: int = 0, dtype: dtype | None = None) -> dict[str, Tensor]:
    """Fresh weights of every owned parameter, by key `<scope>.<param>`."""
    return {key: make() for key, make in each_weight(graph, seed=seed, dtype=dtype)}


def each_weight(
    graph: Graph, *, seed: int = 0, dtype: dtype | None = None
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """The same, each made when it is called for: all of them need not fit into memory."""
    for node, param in graph.params():
        key = f"{graph.scopes[node.id]}.{param.name}"
        rule, args, shape = param.init.rule, param.init.args, param.shape
        yield key, functools.partial(sample, rule, args, shape, seed=seed, key=key, dtype=dtype)
