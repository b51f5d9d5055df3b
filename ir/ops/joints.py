"""Ops that join values: the residual add, and the two joints of multi-token prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Self

from archc.ir.dims import Axis, Dim, concat
from archc.ir.op import ONES, Init, Maths, Op, Param, op, stream
from archc.ir.ops.norms import norms_as_zeroed

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.selection import Selections


@op("add")
class Add(Op):
    """The residual add."""

    d_model: Dim

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model), stream(self.d_model))

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        x, y = inputs
        return x + y


@op("shift")
class Shift(Op):
    """Position t takes the value of position t + `steps`; zero past the end and across segments."""

    Examples = ({}, {"steps": 2})

    d_model: Dim
    steps: int = 1

    @property
    def streams(self) -> bool:
        return False

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model),)

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import shift_left

        (x,) = inputs
        return shift_left(x, m.steps, m.segments)


@op("mtp_joint")
class MTPJoint(Op):
    """Joins the hidden state with a later token's embedding: both normed, side by side, projected to d_model.

    It is the entry of a step of multi-token prediction (DeepSeek-V3 2024, section 2.2). Nemotron 3 calls its
    parameters `enorm`, `hnorm` and `eh_proj`. Inputs: hidden, embedding.
    """

    d_model: Dim
    eps: float = 1e-5
    init_std: float = 0.02

    def params(self) -> Iterator[Param]:
        pair = concat(embed=self.d_model, hidden=self.d_model)
        yield Param("embed_norm", (self.d_model,), ONES)
        yield Param("hidden_norm", (self.d_model,), ONES)
        yield Param("proj", (self.d_model, pair), Init("normal", (self.init_std,)), contracts=pair)

    def selected(self, chosen: Selections, *, as_zeroed: bool = False) -> tuple[Self, Mapping[str, float]]:
        """With zeros both norms are over all units."""
        made, factors = super().selected(chosen)
        ratio = self.d_model.size / made.d_model.size
        return norms_as_zeroed(made, ratio, "embed_norm", "hidden_norm") if as_zeroed else (made, factors)

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model), stream(self.d_model))

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import concat_last, linear, rms_norm

        hidden, embed = inputs
        embed = rms_norm(embed, m.embed_norm, m.eps)
        hidden = rms_norm(hidden, m.hidden_norm, m.eps)
        return linear(concat_last(embed, hidden), m.proj)  # [B, L, 2D] -> [B, L, D]
