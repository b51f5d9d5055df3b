"""Numbers that print as their names: how a size survives tracing as `self.n_heads`.

A NamedInt is the int it is; its repr is the code that reads it. Arithmetic gives named numbers again, so that
`2 * m.d_bc` prints as `2 * self.d_bc`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

# How tightly an operator binds, as in Python's grammar.
SUM, TERM, POWER, ATOM = 1, 2, 3, 4
_BINARY: Mapping[str, tuple[str, int, Callable[[Any, Any], Any]]] = {
    "add": ("+", SUM, operator.add),
    "sub": ("-", SUM, operator.sub),
    "mul": ("*", TERM, operator.mul),
    "floordiv": ("//", TERM, operator.floordiv),
    "truediv": ("/", TERM, operator.truediv),
    "mod": ("%", TERM, operator.mod),
    "pow": ("**", POWER, operator.pow),
}


class Named:
    """Mixin of int and float subclasses: the code that stands for the number, and how tightly it binds."""

    code: str
    binds: int
    whole: tuple[str, int] | None = None  # of an item of a tuple: the tuple's code and length
    is_size: bool = False  # of a dim or made of dims: printed whatever its value is

    def __repr__(self) -> str:
        return self.code

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self.code, spec)


class NamedInt(Named, int):
    """An int that prints as its name."""


class NamedFloat(Named, float):
    """A float that prints as its name."""


def named(value: Any, code: str, binds: int = ATOM) -> Any:
    """`value` printing as `code`: ints, floats and tuples of them; anything else (bools, strings) as it is."""
    if isinstance(value, tuple):
        items = tuple(named(item, f"{code}[{i}]") for i, item in enumerate(value))
        for item in items:
            if isinstance(item, Named):
                item.whole = (code, len(value))
        return items
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    made: Any = (NamedInt if isinstance(value, int) else NamedFloat)(value)
    made.code, made.binds = code, binds
    return made


def plain(value: Any) -> Any:
    """The number without its name."""
    if isinstance(value, NamedInt):
        return int(value)
    return float(value) if isinstance(value, NamedFloat) else value


def binary(symbol: str, binds: int, left: str, left_binds: int, right: str, right_binds: int) -> str:
    """`left symbol right` with parentheses where the operands bind less tightly."""
    left = f"({left})" if left_binds < binds or (binds == POWER == left_binds) else left
    right = f"({right})" if right_binds < binds or (right_binds == binds and binds != POWER) else right
    return f"{left} {symbol} {right}"


def _method(name: str, *, reflected: bool) -> Callable[[Any, Any], Any]:
    symbol, binds, fn = _BINARY[name]

    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        left, right = (other, self) if reflected else (self, other)
        codes = [(repr(n), getattr(n, "binds", ATOM)) for n in (left, right)]
        return named(fn(plain(left), plain(right)), binary(symbol, binds, *codes[0], *codes[1]), binds)

    return method


for _name in _BINARY:
    setattr(Named, f"__{_name}__", _method(_name, reflected=False))
    setattr(Named, f"__r{_name}__", _method(_name, reflected=True))
