"""Norms of the residual stream."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeVar

from archc.ir.dims import Axis, Dim
from archc.ir.op import ONES, ZEROS, Maths, Op, Param, op, stream
from archc.kernels.errors import GraphError

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.selection import Selections

T = TypeVar("T", bound=Op)


class _Norm(Op):
    """A norm over d_model: same axes in and out."""

    scored = MappingProxyType({"d_model": ""})

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

    def selected(self, chosen: Selections, *, as_zeroed: bool = False) -> tuple[Self, Mapping[str, float]]:
        """With zeros the mean is over all units."""
        made, factors = super().selected(chosen)
        return norms_as_zeroed(made, self.d_model.size / made.d_model.size, "weight") if as_zeroed else (made, factors)

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

    def selected(self, chosen: Selections, *, as_zeroed: bool = False) -> tuple[Self, Mapping[str, float]]:
        """A mean over other widths is no factor."""
        if as_zeroed and chosen.size(self.d_model) != self.d_model.size:
            raise GraphError("a layer norm subtracts a mean: no factor makes it what it is with zeros")
        return super().selected(chosen)

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


def norms_as_zeroed(made: T, ratio: float, *weights: str) -> tuple[T, dict[str, float]]:
    """An op whose RMS norms give what they gave over `ratio` times as many units, the others zero.

    Its mean square is `ratio` times what it was: so is `eps`, and the root of that comes back into the weights."""
    eps = made.attributes["eps"] * ratio
    return dataclasses.replace(made, **{"eps": eps}), dict.fromkeys(weights, math.sqrt(ratio))
