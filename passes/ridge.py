"""Fits a linear map to what a block does, on calibration batches, in one pass over them and bounded memory.

Per block three matrices of sums stay in memory, [d_model, d_model] in fp64; of the activations only one batch's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from archc.ir.execute import execute
from archc.ir.graph import Graph, Node
from archc.kernels.errors import PassError

if TYPE_CHECKING:
    from torch import Tensor

Batch = Mapping[str, "Tensor"]


def fit_linear(
    graph: Graph,
    weights: Mapping[str, Tensor],
    batches: Iterable[Batch | Tensor],
    blocks: Sequence[str],
    *,
    ridge: float = 1e-4,
    bias: bool = False,
) -> dict[str, Tensor]:
    """The linear maps nearest to the mixers of `blocks` (such as `L3`), from their normed input X to their output Y.

    W = Y X^T (X X^T + lambda I)^-1 over all tokens of `batches` (tokens [B, L], or inputs of `execute`), with lambda
    `ridge` times the mean of the diagonal of X X^T; with `bias` of what X and Y differ from their means. Returns
    `<block>.mixer.weight` [d_model, d_model] and `<block>.mixer.offset` [d_model] in fp64, the keys that
    `replace-linear` looks for. Raises PassError for no batches.
    """
    sums = {node.id: _Sums(bias=bias) for node in (_mixer(graph, block) for block in blocks)}
    inputs = {name: graph.node(name).inputs[0] for name in sums}
    for batch in batches:
        seen = execute(graph, weights, batch, taps={*sums, *inputs.values()}, outputs=())
        for name, source in inputs.items():
            sums[name].add(seen[source], seen[name])
    found: dict[str, Tensor] = {}
    for name, total in sums.items():
        if not total.count:
            raise PassError("a linear map is fitted on tokens: got no batches")
        found.update({f"{name}.{param}": value for param, value in total.solved(ridge).items()})
    return found


def _mixer(graph: Graph, block: str) -> Node:
    return graph.node(f"{block}.mixer")


class _Sums:
    """Running sums of one block."""

    def __init__(self, *, bias: bool) -> None:
        self.bias, self.count = bias, 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count the tokens of x, y [B, L, D]."""
        x, y = (v.detach().reshape(-1, v.shape[-1]).double() for v in (x, y))
        found = (x.T @ x, y.T @ x, x.sum(0), y.sum(0))
        if not self.count:
            self.xx, self.yx, self.x, self.y = found
        else:
            self.xx, self.yx, self.x, self.y = (a.add_(b) for a, b in zip(self._sums, found, strict=True))
        self.count += len(x)

    @property
    def _sums(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.xx, self.yx, self.x, self.y

    def solved(self, ridge: float) -> dict[str, Tensor]:
        """The weight, and the offset if there is to be one."""
        import torch

        xx, yx, x, y = self._sums
        if self.bias:
            xx, yx = xx - torch.outer(x, x) / self.count, yx - torch.outer(y, x) / self.count
        width = len(xx)
        damped = xx + ridge * xx.diagonal().mean() * torch.eye(width, dtype=xx.dtype)
        weight = torch.linalg.solve(damped, yx.T).T.contiguous()
        return {"weight": weight} | ({"offset": (y - weight @ x) / self.count} if self.bias else {})
