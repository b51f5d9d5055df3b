"""The dense feed-forward block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from typing_extensions import Doc

from archc.ir.dims import Axis, Dim
from archc.ir.fields import Deviation, Positive, Size
from archc.ir.op import ZEROS, DimMaker, Init, Maths, Op, Param, Value, op, stream

if TYPE_CHECKING:
    from torch import Tensor

Activation = Literal["relu2", "silu", "gelu", "gelu_tanh", "clamped_swiglu"]


@op("mlp")
class MLP(Op):
    """Feed-forward: down(act(up x)), or down(act(gate x) * up x) when `gated` (Shazeer 2020).

    `clamped_swiglu` is gpt-oss's gated unit with its `alpha` and `limit`.
    """

    letter = "-"
    exact = frozenset({"d_ff"})
    scored = MappingProxyType({"d_ff": "hidden"})
    optional = frozenset({"up_bias", "gate_bias", "down_bias"})

    d_model: Dim
    d_ff: Dim
    activation: str = "silu"
    gated: bool = False
    bias: bool = False
    alpha: float = 1.702
    limit: float = 7.0
    init_std: float = 0.02

    @dataclass(frozen=True, kw_only=True)
    class Fields:
        """What a spec says of an mlp block."""

        d_ff: Annotated[Size, Doc("hidden width")]
        activation: Annotated[Activation, Doc("applied to the gate when `gated`, else to the hidden values")] = "silu"
        gated: Annotated[bool, Doc("whether a second projection gates the hidden values")] = False
        bias: Annotated[bool, Doc("whether the projections have biases")] = False
        alpha: Annotated[Positive, Doc("slope of `clamped_swiglu`")] = 1.702
        limit: Annotated[Positive, Doc("bound of `clamped_swiglu`")] = 7.0
        init_std: Annotated[Deviation, Doc("standard deviation that matrices start with; else `init.std`")] = 0.02

    Examples = (
        {"d_ff": 13, "activation": "relu2"},
        {"d_ff": 22, "activation": "silu", "gated": True, "bias": True},
        {"d_ff": 10, "activation": "clamped_swiglu", "gated": True, "limit": 0.5},
    )

    @classmethod
    def check(cls, fields: Any) -> Iterator[tuple[str, str, str]]:
        yield from check_gate(fields)

    @classmethod
    def make(cls, fields: Any, d: DimMaker) -> Self:
        same = {k: v for k, v in vars(fields).items() if k != "d_ff"}
        return cls(d_model=d("d_model"), d_ff=d("d_ff", fields.d_ff), **same)

    def fields(self) -> Any:
        return self.Fields(d_ff=self.d_ff.size, **self.attributes)

    @property
    def summary(self) -> str:
        form = f"{self.activation}(gate x) * up x" if self.gated else f"{self.activation}(up x)"
        return f"Feed-forward: down({form})."

    def params(self) -> Iterator[Param]:
        normal = Init("normal", (self.init_std,))
        for name in ("up", "gate") if self.gated else ("up",):
            yield Param(f"{name}_proj", (self.d_ff, self.d_model), normal, contracts=self.d_model)
            if self.bias:
                yield Param(f"{name}_bias", (self.d_ff,), ZEROS)
        yield Param("down_proj", (self.d_model, self.d_ff), normal, contracts=self.d_ff)
        if self.bias:
            yield Param("down_bias", (self.d_model,), ZEROS)

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model),)

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)

    def values(self) -> Iterator[Value]:
        yield Value("hidden", (2 + self.gated) * self.expr(self.d_ff))

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import linear

        (x,) = inputs
        h = linear(x, m.up_proj, m.up_bias)  # [B, L, F]
        m.probe("up", lambda: h, self.d_ff)
        h = gate_unit(self, m, linear(x, m.gate_proj, m.gate_bias), h) if self.gated else unit(self, h)
        h = m.tap("hidden", h, self.d_ff)
        return linear(h, m.down_proj, m.down_bias)


def check_gate(fields: Any) -> Iterator[tuple[str, str, str]]:
    """`clamped_swiglu` has no form without a gate."""
    if fields.activation == "clamped_swiglu" and not fields.gated:
        yield "activation", "`clamped_swiglu` needs `gated: true`", "set gated: true"


def unit(block: Any, x: Any) -> Any:
    """The block's activation, chosen when tracing."""
    import archc.kernels.reference as primitives

    return getattr(primitives, block.activation)(x)


def gate_unit(block: Any, m: Maths, gate: Any, up: Any) -> Any:
    """The block's gated unit, chosen when tracing."""
    from archc.kernels.reference import clamped_swiglu

    if block.activation == "clamped_swiglu":
        return clamped_swiglu(gate, up, m.alpha, m.limit)
    return unit(block, gate) * up
