"""Token embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archc.ir.dims import FREE_BATCH, FREE_TOKENS, Axis, Dim
from archc.ir.op import Init, Maths, Op, Param, op, stream

if TYPE_CHECKING:
    from torch import Tensor


@op("embedding")
class Embedding(Op):
    """Looks up the row of `weight` [vocab, d_model] of each token id."""

    vocab: Dim
    d_model: Dim
    init_std: float = 0.02

    def params(self) -> Iterator[Param]:
        yield Param("weight", (self.vocab, self.d_model), Init("normal", (self.init_std,)), lookup=True)

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return ((FREE_BATCH, FREE_TOKENS),)

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import embedding

        (tokens,) = inputs
        return embedding(tokens, m.weight)
