"""How each kind of number does the arithmetic of `archc.ir.expr`: one table of operators a kind.

Exact numbers are ints and Fractions; a Fraction becomes an int as soon as it is whole. Two things leave them for
float64: a float constant, and a power whose exponent is not an integer of at most `EXACT_EXPONENT` in size
(`(1 - k/E)**n` for thousands of tokens would have a million digits).

In float64, `ceil` first steps down by `SNAP` of its argument, so that a quotient that is whole up to rounding stays
that whole number: `Math.ceil(x - Math.abs(x) * 2**-44)` in a web page.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

Number: TypeAlias = int | Fraction | float
Ops: TypeAlias = Mapping[str, Callable[..., Any]]

EXACT_EXPONENT = 64
SNAP = 2.0**-44


@dataclass(frozen=True)
class Backend:
    """How one kind of number does arithmetic: `convert` takes constants and given values to that kind."""

    convert: Callable[[Any], Any]
    ops: Ops


def backend_for(values: Sequence[Any]) -> Backend:
    """The backend of the most general of the given values: torch before numpy arrays before exact numbers."""
    tensors = [v for v in values if type(v).__module__.partition(".")[0] == "torch"]
    if tensors:
        return _torch_backend(tensors[0].device)
    if any(getattr(v, "ndim", 0) for v in values):
        return _numpy_backend()
    return EXACT


def _reduced(binary: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda first, *rest: functools.reduce(binary, rest, first)


def plain(value: Any) -> Number:
    """A number as int where it is whole and exact, else as Fraction or float.

    An int stays the object it is: codegen's ints print as their names, and expressions over them do too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else value
    return operator.index(value)


def _exact_quotient(a: Number, b: Number) -> Number:
    if isinstance(a, float) or isinstance(b, float):
        return float(a) / float(b)
    return Fraction(a) / b


def _exact_power(base: Number, exponent: Number) -> Number:
    if isinstance(exponent, int) and abs(exponent) <= EXACT_EXPONENT and not isinstance(base, float):
        return Fraction(base) ** exponent
    return math.pow(base, exponent)


def _exact_ceil(value: Number) -> Number:
    return _float_ceil(value) if isinstance(value, float) else math.ceil(value)


def _float_ceil(value: float) -> float:
    return float(math.ceil(value - abs(value) * SNAP))


def _exactly(fn: Callable[..., Any]) -> Callable[..., Number]:
    return lambda *args: plain(fn(*args))


EXACT = Backend(
    plain,
    {
        "+": _exactly(_reduced(operator.add)),
        "-": _exactly(operator.sub),
        "*": _exactly(_reduced(operator.mul)),
        "/": _exactly(_exact_quotient),
        "**": _exactly(_exact_power),
        "min": _exactly(min),
        "max": _exactly(max),
        "ceil": _exactly(_exact_ceil),
    },
)

OPERATORS = tuple(EXACT.ops)


def _float_ops(smaller: Callable[..., Any], larger: Callable[..., Any], up: Callable[..., Any]) -> Ops:
    """The operators that every kind of float64 shares, with its own min, max and ceil."""
    return {
        "+": _reduced(operator.add),
        "-": operator.sub,
        "*": _reduced(operator.mul),
        "/": operator.truediv,
        "**": operator.pow,
        "min": _reduced(smaller),
        "max": _reduced(larger),
        "ceil": up,
    }


JSON_OPS = _float_ops(min, max, _float_ceil)


@functools.cache
def _numpy_backend() -> Backend:
    import numpy as np

    def convert(value: Any) -> Any:
        return np.asarray(value, dtype=np.float64) if getattr(value, "ndim", 0) else np.float64(float(value))

    return Backend(convert, _float_ops(np.minimum, np.maximum, lambda x: np.ceil(x - np.abs(x) * SNAP)))


@functools.cache
def _torch_backend(device: Any) -> Backend:
    import torch

    def convert(value: Any) -> torch.Tensor:
        given = float(value) if isinstance(value, Fraction) else value
        return torch.as_tensor(given, dtype=torch.float64, device=device)

    def straight_through_ceil(x: torch.Tensor) -> torch.Tensor:
        flat = x.detach()
        return torch.ceil(flat - flat.abs() * SNAP) + (x - flat)

    return Backend(convert, _float_ops(torch.minimum, torch.maximum, straight_through_ceil))
