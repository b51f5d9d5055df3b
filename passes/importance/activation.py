"""activation: how large the activations of a dim's units are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from archc.ir.dims import Dim
from archc.ir.nesting import finer
from archc.kernels.errors import PassError
from archc.passes.importance.base import Batch, Estimator, Measurement, Subject, estimator
from archc.passes.importance.places import Place, places
from archc.passes.importance.units import by_unit
from archc.passes.scores import Values, per_unit

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.execute import Reading
    from archc.ir.graph import Graph


@estimator("activation")
class Activation(Estimator):
    """|activation| of every unit of every dim, aggregated over the tokens of a sample and over the samples.

    The defaults, mean and L2, are those of Minitron (Muralidharan et al. 2024) and Minitron-SSM; with both `sum` they
    are Nemotron Elastic's. A dim is read where its op says (`Op.scored`): d_model at the outputs of all norms, summed
    over them; heads and channels of Mamba at in_proj's x; hidden units behind the activation; an expert's units are
    zero where it is not chosen. `taps` names places to read instead (`up`: hidden units before the activation).

    Where a tap has several dims, the score of a unit is the L2 norm over the others, taken of the aggregates as in
    ModelOpt and Minitron-SSM, or of each token with `join: tokens` (Minitron's formula for heads). `top_channels`
    takes it over so many channels only, those of the highest scores: the last dim of the tap, where all outer units
    share it (Minitron-SSM's D_top). Channels that all heads share are scored head by head as well.
    """

    sequence: Literal["mean", "sum", "l2", "max"] = "mean"
    batch: Literal["l2", "mean", "sum"] = "l2"
    join: Literal["aggregates", "tokens"] = "aggregates"
    taps: tuple[str, ...] = ()
    top_channels: int | None = None

    def start(self, subject: Subject) -> Measurement:
        if self.top_channels is not None and (self.top_channels < 1 or self.join == "tokens"):
            raise PassError(f"{self}: `top_channels` is at least 1, and goes with `join: aggregates`")
        found = places(subject, self.taps)
        unknown = set(self.taps) - {p.name for at in found.values() for p in at}
        if unknown:
            raise PassError(f"{self}: no op has the tap {', '.join(f'`{t}`' for t in sorted(unknown))}")
        return _Activation(self, subject.graph, found)


class _Activation(Measurement):
    watches = True

    def __init__(self, options: Activation, graph: Graph, where: Mapping[str, tuple[Place, ...]]) -> None:
        self.options, self.dims, self.where = options, graph.dims, where
        # Norms of tokens have been taken over all heads.
        self.nested = {} if options.join == "tokens" else {k: d for k, d in finer(graph).items() if k in where}
        self.samples = 0
        # Of aggregates one sum a place serves all its dims; norms of tokens are another value for each.
        self.sums: dict[tuple[str, str, str], Tensor] = {}
        self.wanted: dict[tuple[str, str], dict[str, None]] = {}
        for name, at in where.items():
            for place in at:
                self.wanted.setdefault(place.key, {})[name if options.join == "tokens" else ""] = None

    def read(self, reading: Reading, batch: Batch) -> None:
        key = (reading.node.id, reading.name)
        if key not in self.wanted:
            return
        place = Place(reading.node, reading.name, reading.axes)
        value = reading.read().detach().abs().double()
        sparse = reading.at is not None
        value = value.reshape(*batch.shape, *([-1] if sparse else []), *(d.size for d in place.dims[sparse:]))
        at = None if reading.at is None else reading.at.reshape(*batch.shape, -1)
        for name in self.wanted[key]:
            kept = value, place.dims, at
            if name:
                kept = _joined(value, place.dims, at, self.dims[name])
            samples = _over_tokens(self.options.sequence, *kept)
            total = (samples.square() if self.options.batch == "l2" else samples).sum(0)
            before = self.sums.get((*key, name))
            self.sums[(*key, name)] = total if before is None else before + total

    def batch(self, batch: Batch) -> None:
        self.samples += batch.shape[0]

    def units(self) -> Mapping[str, Values]:
        found = {name: self._of(self.dims[name], at) for name, at in self.where.items()}
        return found | {per_unit(dim): self._of(dim, self.where[name]) for name, dim in self.nested.items()}

    def _of(self, dim: Dim, at: tuple[Place, ...]) -> Values:
        """The sum over a dim's places."""
        parts = [self._at(dim, place) for place in at]
        return functools.reduce(np.add, parts)

    def _at(self, dim: Dim, place: Place) -> Values:
        name = dim.name if self.options.join == "tokens" else ""
        total = self.sums[(*place.key, name)]
        if self.options.batch == "l2":
            total = total.sqrt()
        elif self.options.batch == "mean":
            total = total / self.samples
        if name:
            return by_unit(total, _kept_dims(place.dims, dim), dim)
        total = _top(total, place.dims, dim, self.options.top_channels)
        return np.sqrt(by_unit(total.square(), place.dims, dim))


def _kept_dims(dims: tuple[Dim, ...], dim: Dim) -> tuple[Dim, ...]:
    """A dim and those that it lies within, in their order on a tap."""
    return tuple(d for d in dims if d == dim or d in dim.outer)


def _joined(
    value: Tensor, dims: tuple[Dim, ...], at: Tensor | None, dim: Dim
) -> tuple[Tensor, tuple[Dim, ...], Tensor | None]:
    """[B, L, *dims] with the L2 norm over all dims but `dim` and those it lies within."""
    import torch

    kept = _kept_dims(dims, dim)
    others = tuple(2 + i for i, d in enumerate(dims) if d not in kept)
    joined = torch.linalg.vector_norm(value, dim=others) if others else value
    return joined, kept, at if dims[0] in kept else None


def _over_tokens(how: str, value: Tensor, dims: tuple[Dim, ...], at: Tensor | None) -> Tensor:
    """[B, *dims]: the aggregate over L of values [B, L, *dims], of which with `at` [B, L, K] only K units are there."""
    import torch

    if at is None:
        reduce = {"mean": torch.mean, "sum": torch.sum, "l2": torch.linalg.vector_norm, "max": torch.amax}[how]
        return reduce(value, dim=1)  # type: ignore[no-any-return]
    batch, tokens, _ = at.shape
    made = value.new_zeros(batch * dims[0].size, *value.shape[3:])
    index = (at + dims[0].size * torch.arange(batch)[:, None, None]).flatten()
    rows = value.reshape(-1, *value.shape[3:])
    if how == "max":
        made = made.scatter_reduce(0, index.view(-1, *[1] * (rows.ndim - 1)).expand_as(rows), rows, "amax")
    else:
        made = made.index_add(0, index, rows.square() if how == "l2" else rows)
    made = made.sqrt() if how == "l2" else made / tokens if how == "mean" else made
    return made.reshape(batch, *(d.size for d in dims))


def _top(total: Tensor, dims: tuple[Dim, ...], dim: Dim, count: int | None) -> Tensor:
    """Scores [*dims] with the channels beyond the best `count` zero, where the score of `dim` is over shared ones."""
    last = dims[-1]
    if count is None or last == dim or last in dim.outer or last.outer or len(dims) == 1:
        return total
    scores = total.square().flatten(0, -2).sum(0)
    made = total.new_zeros(last.size)
    made[scores.argsort(descending=True, stable=True)[:count]] = 1.0
    return total * made
