"""Norms of the residual stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archc.ir.dims import Axis, Dim
from archc.ir.op import ONES, ZEROS, Maths, Op, Param, op, stream

if TYPE_CHECKING:
    from torch import Tensor


class _Norm(Op):
    """A norm over d_model: same axes in and out."""

    d_model: Dim
    eps: float

    def inputs(self) -> tuple[tuple[Axis, ...], ...]:
        return (stream(self.d_model),)

    def output(self) -> tuple[Axis, ...]:
        return stream(self.d_model)


@op("rms_norm")
class RMSNorm(_Norm):
    """Root-mean-square norm (Zhang & Sennrich 2019): `weight` [d_model]."""

    d_model: Dim
    eps: float = 1e-5

    def params(self) -> Iterator[Param]:
        yield Param("weight", (self.d_model,), ONES)

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import rms_norm

        (x,) = inputs
        return rms_norm(x, m.weight, m.eps)


@op("layer_norm")
class LayerNorm(_Norm):
    """Layer norm (Ba et al. 2016): `weight` and `bias` [d_model].

    With `zero_centred` the weight is stored minus one (Nemotron's layernorm1p), so that weight decay pulls
    the gain towards one.
    """

    Examples = ({}, {"zero_centred": True})

    d_model: Dim
    eps: float = 1e-5
    zero_centred: bool = False

    def params(self) -> Iterator[Param]:
        yield Param("weight", (self.d_model,), ZEROS if self.zero_centred else ONES)
        yield Param("bias", (self.d_model,), ZEROS)

    @property
    def class_name(self) -> str:
        return "LayerNorm1P" if self.zero_centred else "LayerNorm"

    def forward(self, m: Maths, *inputs: Tensor) -> Tensor:
        from archc.kernels.reference import layer_norm, layer_norm_1p

        (x,) = inputs
        norm = layer_norm_1p if self.zero_centred else layer_norm
        return norm(x, m.weight, m.bias, m.eps)
