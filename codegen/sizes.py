"""Sizes as code: axes and cost expressions written in the names of an emitted module."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from archc.codegen.named import ATOM, SUM, TERM
from archc.ir.dims import Axis, Concat, Product
from archc.ir.expr import Apply, Expr, Num, Sym
from archc.ir.op import Op

Code = tuple[str, int]  # source and how tightly it binds


@dataclass(frozen=True)
class Sizes:
    """Code of the sizes of one op: `names` gives that of every dim role and of every derived size."""

    op: Op
    names: Mapping[str, str]

    def axis(self, axis: Axis, *, derived: Mapping[str, Axis] | None = None) -> str:
        """Code of an axis: a name where there is one, else sums and products of names."""
        return self._axis(axis, self.op.derived() if derived is None else derived)[0]

    def _axis(self, axis: Axis, derived: Mapping[str, Axis]) -> Code:
        for name, known in derived.items():
            if known == axis:
                return self.names[name], ATOM
        if isinstance(axis, Concat):
            return self._sum(axis, derived)
        if isinstance(axis, Product):
            return self._product(axis, derived)
        return self.names[next(role for role, d in self.op.dims.items() if d.name == axis.name)], ATOM

    def _sum(self, axis: Concat, derived: Mapping[str, Axis]) -> Code:
        terms = Counter(_enclosed(self._axis(part, derived), TERM) for _, part in axis.parts)
        return " + ".join(term if n == 1 else f"{n} * {term}" for term, n in terms.items()), SUM

    def _product(self, axis: Product, derived: Mapping[str, Axis]) -> Code:
        """The longest leading part that has a name, times the rest."""
        for length in range(len(axis.parts) - 1, 1, -1):
            lead = Product(axis.parts[:length])
            if lead in derived.values():
                return " * ".join([self._axis(lead, derived)[0], *self._factors(axis.parts[length:], derived)]), TERM
        return " * ".join(self._factors(axis.parts, derived)), TERM

    def _factors(self, parts: tuple[Axis, ...], derived: Mapping[str, Axis]) -> list[str]:
        return [_enclosed(self._axis(p, derived), TERM) for p in parts]

    def expression(self, expr: Expr, symbols: Mapping[str, str]) -> str:
        """Code of an expression; `symbols` gives that of the workload's symbols."""
        text = str(_substituted(expr, {**self.names, **symbols}))
        return re.sub(r"(?<=[\w)])([*/])(?=[\w(])", r" \1 ", text)


def _enclosed(code: Code, least: int) -> str:
    return code[0] if code[1] >= least else f"({code[0]})"


def _substituted(expr: Expr, names: Mapping[str, str]) -> Expr:
    if isinstance(expr, Sym):
        return Sym(names.get(expr.name, expr.name))
    if isinstance(expr, Apply):
        return Apply(expr.op, tuple(_substituted(a, names) for a in expr.args))
    assert isinstance(expr, Num)
    return expr
