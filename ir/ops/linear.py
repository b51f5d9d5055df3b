"""A block that is one linear map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from typing_extensions import Doc

from archc.ir.dims import Axis, Dim
from archc.ir.fields import Deviation
from archc.ir.op import ZEROS, DimMaker, Init, Maths, Op, Param, op, stream

if TYPE_CHECKING:
    from torch import Tensor


@op("linear")
class LinearMap(Op):
    """One linear map of the residual stream: what takes the place of a block in Puzzle (Bercovich et al. 2024)."""

    letter = "/"
    optional = frozenset({"offset"})

    d_model: Dim
    bias: bool = False
    init_std: float = 0.02

    @dataclass(frozen=True, kw_only=True)
    class Fields:
        """What a spec says of a linear block."""

        bias: Annotated[bool, Doc("whether it has a bias")] = False
        init_std: Annotated[Deviation, Doc("standard deviation that matrices start with; else `init.std`")] = 0.02

    Examples = ({}, {"bias": True})

    @classmethod
    def make(cls, fields: Any, d: DimMaker) -> Self:
        return cls(d_model=d("d_model"), **vars(fields))

    def fields(self) -> Any:
        return self.Fields(**self.attributes)

    def params(self) -> Iterator[Param]:
        yield Param("weight", (self.d_model, self.d_model), Init("normal", (self.init_std,)), contracts=self.d_model)
        if self.bias:
            yield Param("offset", (self.d_model,), ZEROS)

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model),)

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import linear

        (x,) = inputs
        return linear(x, m.weight, m.offset)  # [B, L, D]
