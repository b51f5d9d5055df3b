"""Traces print as their authors wrote them: names, unpackings, comments, helpers inlined, nothing dead."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import pytest

from archc.codegen.layout import wrapped
from archc.codegen.named import named
from archc.codegen.printer import Line, body, render
from archc.codegen.trace import trace
from archc.ir.dims import Dim
from archc.ir.op import ONES, Op, Param
from archc.kernels.reference import linear, rms_norm, rotary, silu, split

WIDE = Dim("wide", 6)


@dataclass(frozen=True, kw_only=True)
class Example(Op):
    """An op whose maths is given by a subclass."""

    kind = "example"
    optional = frozenset({"bias"})

    wide: Dim = WIDE
    scale: float = 2.0
    limits: tuple[float, float] = (0.5, 1.5)

    def params(self) -> Any:
        yield Param("weight", (self.wide, self.wide), ONES)


def printed(op: Op) -> str:
    return render(body(trace(op)), "")


class Straight(Example):
    def forward(self, m: Any, *inputs: Any) -> Any:
        (x,) = inputs
        b, n, _ = x.shape  # [B, L, D]
        unused = silu(x)  # noqa: F841
        dead, kept = split(x, (m.wide, 2 * m.wide))  # noqa: RUF059
        # Why it is done,
        # in two lines.
        h = linear(kept, m.weight, m.bias).view(b, n, m.wide)  # [B, L, F]
        h = (h + x) * -kept if self.scale > 1 else h
        return h.clamp(*m.limits) ** 2


def test_statements_names_and_comments() -> None:
    assert printed(Straight()) == (
        "b, n, _ = x.shape  # [B, L, D]\n"
        "_, kept = split(x, (self.wide, 2 * self.wide))\n"
        "# Why it is done,\n"
        "# in two lines.\n"
        "h = linear(kept, self.weight).view(b, n, self.wide)  # [B, L, F]\n"
        "h = (h + x) * -kept\n"
        "return h.clamp(*self.limits) ** 2"
    )


def test_branches_are_decided_when_tracing() -> None:
    assert "h + x" not in printed(Straight(scale=1.0))


class Helped(Example):
    def forward(self, m: Any, x: Any, h: Any) -> Any:  # type: ignore[override]
        first, second = self._pair(m, x)
        y = self._twice(m, silu(first))
        return y + second + h

    def _pair(self, m: Any, x: Any) -> Any:
        a, b = split(x, (m.wide, m.wide))
        return a, b

    def _twice(self, m: Any, value: Any) -> Any:
        h = linear(value, m.weight)  # [T, F]
        return h * value


def test_helpers_are_inlined_and_their_clashing_names_changed() -> None:
    assert printed(Helped()) == (
        "a, b = split(x, (self.wide, self.wide))\n"
        "value = silu(a)\n"
        "h2 = linear(value, self.weight)  # [T, F]\n"
        "y = h2 * value\n"
        "return y + b + h"
    )


class Defaults(Example):
    def forward(self, m: Any, q: Any, k: Any) -> Any:  # type: ignore[override]
        q, k = rotary(q, k, m.weight, m.scale, None, None)
        return rms_norm(q, m.weight, eps=m.scale) @ k[:, 1:, ..., None]


def test_what_repeats_a_default_is_dropped() -> None:
    assert printed(Defaults()) == (
        "q, k = rotary(q, k, self.weight, self.scale)\n"
        "return rms_norm(q, self.weight, eps=self.scale) @ k[:, 1:, ..., None]"
    )


def test_values_that_a_rewrite_inserts_are_named_after_results() -> None:
    traced = trace(Defaults())
    old = next(n for n in traced.graph.nodes if n.target is rotary)
    with traced.graph.inserting_before(old):
        fused = traced.graph.call_function(rotary, old.args[:4])
        items = [traced.graph.call_function(operator.getitem, (fused, i)) for i in range(2)]
    for item in list(old.users):
        item.replace_all_uses_with(items[item.args[1]])
    assert printed_trace(traced) == printed(Defaults())


def printed_trace(traced: Any) -> str:
    return render(body(traced), "")


def test_named_numbers_carry_their_code() -> None:
    n, m = named(6, "self.n"), named(4, "self.m")
    assert [repr(v) for v in (n * m, 2 * n + 1, (n + m) * 2, n // m, 3 - (n - m))] == [
        "self.n * self.m",
        "2 * self.n + 1",
        "(self.n + self.m) * 2",
        "self.n // self.m",
        "3 - (self.n - self.m)",
    ]
    assert (n * m, 2 * n + 1, n // m) == (24, 13, 1)
    assert isinstance(named(True, "self.flag"), bool)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("y = f(x)", ["    y = f(x)"]),
        (f"y = f({'a' * 60}, {'b' * 60})", ["    y = f(", f"        {'a' * 60},", f"        {'b' * 60},", "    )"]),
        (f"y = f(x)[{'a' * 50}](g(1, 2), {'b' * 60})",
         [f"    y = f(x)[{'a' * 50}](", f"        g(1, 2), {'b' * 60}", "    )"]),
        (f'y = f("(, {"a" * 60}", "{"b" * 60}")',
         ["    y = f(", f'        "(, {"a" * 60}",', f'        "{"b" * 60}",', "    )"]),
    ],
)  # fmt: skip
def test_long_lines_break_at_the_last_bracket(text: str, lines: list[str]) -> None:
    assert wrapped(text, "    ") == lines


def test_a_comment_counts_and_follows_the_last_bracket() -> None:
    line = Line(("y",), f"f({'a' * 100})", beside="[B, L, D]")
    assert render([line], "    ") == f"    y = f(\n        {'a' * 100}\n    )  # [B, L, D]"
