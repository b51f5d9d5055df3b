"""The output projection onto the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archc.ir.dims import FREE_BATCH, FREE_TOKENS, Axis, Dim
from archc.ir.op import LOGITS_SYM, Init, Maths, Op, Param, op, stream

if TYPE_CHECKING:
    from torch import Tensor


@op("lm_head")
class LMHead(Op):
    """Logits of every token id, by `weight` [vocab, d_model].

    A tied head refers to the embedding's weight.
    """

    vocab: Dim
    d_model: Dim
    init_std: float = 0.02

    def params(self) -> Iterator[Param]:
        yield Param(
            "weight",
            (self.vocab, self.d_model),
            Init("normal", (self.init_std,)),
            contracts=self.d_model,
            positions=LOGITS_SYM,
        )

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model),)

    def output(self) -> tuple[Axis, ...]:
        return (FREE_BATCH, FREE_TOKENS, self.vocab)

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import linear

        (x,) = inputs
        return linear(x, m.weight)  # [B, L, V]
