"""Experts in training: how loaded each is, and the bias update that balances them without a loss.

The correction bias takes part in the choice of experts only. After each optimiser step that of an expert chosen less
than the mean goes up by a fixed rate, that of one chosen more goes down (Wang et al. 2024, "Auxiliary-loss-free load
balancing"; DeepSeek-V3 2024, section 2.1.2; Nemotron 3 at a rate of 1e-3).

    load = ExpertLoad(model, graph)      # counts while the model is in training mode
    ... forward passes ...
    counts = load.take(group)            # summed over the ranks of `group`
    load.balance(counts, rate=1e-3)
    log(figures(counts))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from archc.ir.graph import Graph
from archc.ir.ops.moe import MoE
from archc.kernels.errors import ArchcError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Counts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Router:
    """A mixture of experts in the emitted model: the scope of its module, and what it is."""

    scope: str
    experts: int
    score: str
    biased: bool

    @property
    def logits(self) -> str:
        """The tap of its logits."""
        return f"{self.scope}.router_logits"

    @property
    def choice(self) -> str:
        """The tap of its choices."""
        return f"{self.scope}.router_choice"


def routers(graph: Graph) -> tuple[Router, ...]:
    """The routers of a graph, each once, in order."""
    owned = ((n, n.op) for n in graph.nodes if not n.owner)
    return tuple(
        Router(graph.scopes[n.id], op.experts.size, op.score, op.has_correction_bias)
        for n, op in owned
        if isinstance(op, MoE)
    )


class ExpertLoad:
    """Counts the tokens that chose each expert of a model in training mode, those of multi-token prediction too."""

    def __init__(self, model: nn.Module, graph: Graph) -> None:
        self.model, self.routers = model, routers(graph)
        device = next(model.parameters()).device
        self._counts = {r.scope: torch.zeros(r.experts, dtype=torch.int64, device=device) for r in self.routers}
        self._handles = [model.get_submodule(r.choice).register_forward_hook(self._counting(r)) for r in self.routers]

    def _counting(self, router: Router) -> Callable[[nn.Module, Any, Tensor], None]:
        counts = self._counts[router.scope]

        def count(module: nn.Module, args: Any, choice: Tensor) -> None:
            if module.training:
                counts.add_(choice.detach().flatten().bincount(minlength=router.experts))

        return count

    def close(self) -> None:
        """Stop counting."""
        for handle in self._handles:
            handle.remove()

    def take(self, group: ProcessGroup | None = None) -> Counts:
        """What was counted since the last time, `[experts]` by scope, summed over the processes of `group`."""
        if not self._counts:
            return {}
        flat = torch.cat(list(self._counts.values()))
        if group is not None:
            torch.distributed.all_reduce(flat, group=group)
        for counts in self._counts.values():
            counts.zero_()
        return dict(zip(self._counts, torch.split(flat, [r.experts for r in self.routers]), strict=True))

    @torch.no_grad()
    def balance(self, counts: Counts, *, rate: float) -> None:
        """Move every correction bias by `rate` towards equal loads; the same counts give every rank the same biases."""
        for router in self.routers:
            if router.biased:
                bias = self.model.get_submodule(router.scope).correction_bias
                _move(router, bias, counts[router.scope].to(torch.float64), rate)


def _move(router: Router, bias: Any, load: Tensor, rate: float) -> None:
    if bias.dtype.itemsize < 4:
        raise ArchcError(f"{router.scope}.correction_bias is kept in {bias.dtype}, where steps of {rate:g} are lost")
    bias.add_(rate * (load.mean() - load).sign().to(bias.dtype))


@dataclass(frozen=True)
class LoadFigures:
    """How loaded the experts of one layer are.

    `shares` sum to 1; `entropy` of them is over its largest value (1: all alike); `overload` is the largest load over
    the mean, less 1; `idle` counts the experts that nobody chose.
    """

    shares: tuple[float, ...]
    entropy: float
    overload: float
    idle: int


def figures(counts: Counts) -> dict[str, LoadFigures]:
    """Figures for the log by scope; those of a layer that nobody ran are left out."""
    return {scope: _figures(load.tolist()) for scope, load in counts.items() if load.any()}


def _figures(load: list[int]) -> LoadFigures:
    total, experts = sum(load), len(load)
    shares = tuple(n / total for n in load)
    spread = -sum(p * math.log(p) for p in shares if p > 0)
    entropy = spread / math.log(experts) if experts > 1 else 1.0
    return LoadFigures(shares, entropy, max(shares) * experts - 1.0, load.count(0))
