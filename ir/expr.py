"""Cost expressions: small arithmetic trees over named sizes.

    >>> flops = 2 * Sym("tokens") * Sym("d_model") * Sym("d_ff")
    >>> print(flops, flops.evaluate({"tokens": 1, "d_model": 4480, "d_ff": 15680}))
    2*tokens*d_model*d_ff 140492800

One expression runs on four kinds of number. Which one follows from the values it is given:

- ints and Fractions: exact, but for what `archc.ir.arithmetic` says of floats and large powers;
- numpy arrays: float64, thousands of candidates at once;
- torch tensors: float64, differentiable, the gradient of `ceil` passed straight through;
- JSON (nested lists such as `["*", 2, "d_model"]`): float64, by an evaluator short enough to mirror in a web page.

They agree to 1e-12 of each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from archc.ir.arithmetic import EXACT, JSON_OPS, Number, backend_for, plain
from archc.kernels.errors import ParseError, Place, UnknownName

Operand: TypeAlias = "Expr | Number"
Json: TypeAlias = "int | float | str | list[Json]"

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 4}
_ATOM = 5
_SPACED = {"+": " + ", "-": " - ", "*": "*", "/": "/", "**": "**"}


class Expr:
    """An immutable arithmetic expression; equal trees are equal and hash alike. Combine with + - * / **."""

    def __add__(self, other: Operand) -> Expr:
        return _sum((self, wrap(other)))

    def __radd__(self, other: Operand) -> Expr:
        return _sum((wrap(other), self))

    def __sub__(self, other: Operand) -> Expr:
        return _difference(self, wrap(other))

    def __rsub__(self, other: Operand) -> Expr:
        return _difference(wrap(other), self)

    def __mul__(self, other: Operand) -> Expr:
        return _product((self, wrap(other)))

    def __rmul__(self, other: Operand) -> Expr:
        return _product((wrap(other), self))

    def __truediv__(self, other: Operand) -> Expr:
        return _quotient(self, wrap(other))

    def __rtruediv__(self, other: Operand) -> Expr:
        return _quotient(wrap(other), self)

    def __pow__(self, other: Operand) -> Expr:
        return _power(self, wrap(other))

    def __rpow__(self, other: Operand) -> Expr:
        return _power(wrap(other), self)

    @functools.cached_property
    def _program(self) -> Program:
        return compile_expr(self)

    def symbols(self) -> frozenset[str]:
        """The names this expression needs a value for."""
        return frozenset(self._program.symbols)

    def evaluate(self, env: Mapping[str, Any]) -> Any:
        """The value where every symbol has its value in `env`: exact, numpy or torch by what `env` holds.

        Raises UnknownName for a symbol without a value. Names that the expression does not use are ignored.
        """
        return self._program(env)[0]

    def to_json(self) -> Json:
        """Nested lists, operator first; a symbol is a string; a Fraction is a quotient of two ints."""
        raise NotImplementedError

    def __str__(self) -> str:
        return _render(self)[0]


@dataclass(frozen=True)
class Sym(Expr):
    """A named size: a Dim of the graph, or a free one of the workload (batch, tokens, context)."""

    name: str

    def to_json(self) -> Json:
        return self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Num(Expr):
    """A constant. A whole Fraction becomes an int, so that equal exact numbers are equal expressions."""

    value: Number

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", plain(self.value))

    def to_json(self) -> Json:
        if isinstance(self.value, Fraction):
            return ["/", self.value.numerator, self.value.denominator]
        return self.value

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, eq=False)
class Apply(Expr):
    """An operator of `OPERATORS` over arguments. Built by the operators and functions of this module."""

    op: str
    args: tuple[Expr, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.op, self.args)))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Apply) or hash(self) != hash(other):
            return False
        return self.op == other.op and self.args == other.args

    def __hash__(self) -> int:
        return self.__dict__["_hash"]  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[type[Apply], tuple[str, tuple[Expr, ...]]]:
        return Apply, (self.op, self.args)  # the hash of a string differs between processes

    def to_json(self) -> Json:
        return [self.op, *(a.to_json() for a in self.args)]


def wrap(value: Operand) -> Expr:
    """An operand as an expression."""
    return value if isinstance(value, Expr) else Num(value)


def minimum(first: Operand, *rest: Operand) -> Expr:
    """The least of the arguments."""
    return _extreme("min", (first, *rest))


def maximum(first: Operand, *rest: Operand) -> Expr:
    """The greatest of the arguments."""
    return _extreme("max", (first, *rest))


def ceil(value: Operand) -> Expr:
    """The least whole number that is not below `value`."""
    return _folded("ceil", (wrap(value),))


def total(terms: Iterable[Operand]) -> Expr:
    """The sum of any number of terms, as one flat node (`sum()` builds it in quadratic time)."""
    return _sum(tuple(wrap(t) for t in terms))


def substitute(expr: Expr, values: Mapping[str, Operand]) -> Expr:
    """The expression with symbols replaced by numbers or expressions; symbols without a value stay.

    >>> print(substitute(2 * Sym("tokens") * Sym("d_ff"), {"tokens": 4, "d_ff": Sym("L1.mixer.d_ff")}))
    8*L1.mixer.d_ff
    """
    if isinstance(expr, Sym):
        return wrap(values.get(expr.name, expr))
    if not isinstance(expr, Apply):
        return expr
    return _build(expr.op, tuple(substitute(arg, values) for arg in expr.args))


# Construction: flat sums and products, constants folded exactly.


def _folded(op: str, args: tuple[Expr, ...]) -> Expr:
    values = [a.value for a in args if isinstance(a, Num)]
    return Num(EXACT.ops[op](*values)) if len(values) == len(args) else Apply(op, args)


def _flat(op: str, args: tuple[Expr, ...]) -> tuple[list[Expr], Number]:
    """The non-constant arguments with nested applications of `op` opened, and the constants combined."""
    opened = [part for a in args for part in (a.args if isinstance(a, Apply) and a.op == op else (a,))]
    combine = EXACT.ops[op]
    constants = [a.value for a in opened if isinstance(a, Num)]
    neutral = 0 if op == "+" else 1
    return [a for a in opened if not isinstance(a, Num)], functools.reduce(combine, constants, neutral)


def _sum(args: tuple[Expr, ...]) -> Expr:
    terms, constant = _flat("+", args)
    if constant != 0 or not terms:
        terms.append(Num(constant))
    return terms[0] if len(terms) == 1 else Apply("+", tuple(terms))


def _product(args: tuple[Expr, ...]) -> Expr:
    factors, constant = _flat("*", args)
    if constant == 0:
        return Num(0)
    if constant != 1 or not factors:
        factors.insert(0, Num(constant))
    return factors[0] if len(factors) == 1 else Apply("*", tuple(factors))


def _difference(a: Expr, b: Expr) -> Expr:
    return a if b == Num(0) else _folded("-", (a, b))


def _quotient(a: Expr, b: Expr) -> Expr:
    return a if b == Num(1) else _folded("/", (a, b))


def _power(base: Expr, exponent: Expr) -> Expr:
    return base if exponent == Num(1) else _folded("**", (base, exponent))


def _extreme(op: str, operands: tuple[Operand, ...]) -> Expr:
    args = tuple(dict.fromkeys(wrap(o) for o in operands))
    return args[0] if len(args) == 1 else _folded(op, args)


# Evaluation: one straight-line program, run on the operators of one kind of number.


@dataclass(frozen=True)
class Step:
    """One slot of a Program: a symbol, a constant, or an operator over earlier slots (and which end with it)."""

    op: str
    value: str | Number
    args: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Program:
    """Expressions as straight-line code in which equal subexpressions are computed once.

    Calling it with an environment gives one value for each expression, all of one kind of number.
    """

    steps: tuple[Step, ...]
    results: tuple[int, ...]

    @functools.cached_property
    def symbols(self) -> tuple[str, ...]:
        """The symbols used, in the order of their first use."""
        return tuple(str(s.value) for s in self.steps if s.op == "sym")

    def __call__(self, env: Mapping[str, Any]) -> list[Any]:
        missing = [s for s in self.symbols if s not in env]
        if missing:
            raise UnknownName("symbol", missing[0], env)
        backend = backend_for([env[s] for s in self.symbols])
        slots: list[Any] = [None] * len(self.steps)
        for i, step in enumerate(self.steps):
            if step.op == "sym":
                slots[i] = backend.convert(env[str(step.value)])
            elif step.op == "num":
                slots[i] = backend.convert(step.value)
            else:
                slots[i] = backend.ops[step.op](*(slots[a] for a in step.args))
            for end in step.ends:
                slots[end] = None
        return [slots[r] for r in self.results]


def compile_expr(*exprs: Expr) -> Program:
    """Compile expressions together, once, for many evaluations."""
    slots: dict[Expr, int] = {}
    steps: list[Step] = []

    def visit(expr: Expr) -> int:
        if expr in slots:
            return slots[expr]
        steps.append(_step(expr, visit))
        return slots.setdefault(expr, len(steps) - 1)

    results = tuple(visit(e) for e in exprs)
    return Program(_with_ends(steps, results), results)


def _step(expr: Expr, visit: Callable[[Expr], int]) -> Step:
    if isinstance(expr, Apply):
        return Step(expr.op, 0, tuple(visit(a) for a in expr.args))
    return Step("num", expr.value) if isinstance(expr, Num) else Step("sym", str(expr))


def _with_ends(steps: Sequence[Step], results: tuple[int, ...]) -> tuple[Step, ...]:
    """The steps, each knowing which slots nothing after it reads: candidates are not kept longer than needed."""
    last = {a: i for i, step in enumerate(steps) for a in step.args}
    ends: list[list[int]] = [[] for _ in steps]
    for slot, i in last.items():
        if slot not in results:
            ends[i].append(slot)
    return tuple(Step(s.op, s.value, s.args, tuple(e)) for s, e in zip(steps, ends, strict=True))


# JSON.


def evaluate_json(tree: Json, env: Mapping[str, float]) -> float:
    """The value of a JSON expression in float64: the whole of what a web page has to do."""
    if isinstance(tree, str):
        return float(env[tree])
    if not isinstance(tree, list):
        return float(tree)
    return float(JSON_OPS[str(tree[0])](*(evaluate_json(arg, env) for arg in tree[1:])))


def from_json(tree: Json) -> Expr:
    """The expression of a JSON form. Raises UnknownName for an operator and ParseError for anything else wrong."""
    if isinstance(tree, str):
        return Sym(tree)
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        return Num(tree)
    if not isinstance(tree, list) or len(tree) < 2 or not isinstance(tree[0], str):
        raise ParseError(Place("<json>"), f"expected a number, a name or [operator, argument, ...]: got {tree!r}")
    if tree[0] not in _BUILDERS:
        raise UnknownName("operator", tree[0], _BUILDERS)
    return _build(tree[0], tuple(from_json(arg) for arg in tree[1:]))


def _build(op: str, args: tuple[Expr, ...]) -> Expr:
    build, arity = _BUILDERS[op]
    if arity and len(args) != arity:
        raise ParseError(Place("<json>"), f"operator `{op}` takes {arity} arguments: got {len(args)}")
    return build(args)


_BUILDERS: dict[str, tuple[Callable[[tuple[Expr, ...]], Expr], int]] = {
    "+": (_sum, 0),
    "-": (lambda args: _difference(*args), 2),
    "*": (_product, 0),
    "/": (lambda args: _quotient(*args), 2),
    "**": (lambda args: _power(*args), 2),
    "min": (lambda args: minimum(*args), 0),
    "max": (lambda args: maximum(*args), 0),
    "ceil": (lambda args: ceil(*args), 1),
}


# Printing.


def _render(expr: Expr) -> tuple[str, int]:
    """The text of an expression and how tightly its outermost operator binds."""
    if isinstance(expr, Num):
        return str(expr.value), _binding(expr.value)
    if not isinstance(expr, Apply):
        return str(expr), _ATOM
    if expr.op not in _PRECEDENCE:
        return f"{expr.op}({', '.join(str(a) for a in expr.args)})", _ATOM
    own = _PRECEDENCE[expr.op]
    parts = [_enclosed(a, own, first=i == 0, op=expr.op) for i, a in enumerate(expr.args)]
    return _SPACED[expr.op].join(parts), own


def _binding(value: Number) -> int:
    if isinstance(value, Fraction):
        return _PRECEDENCE["/"]
    return _PRECEDENCE["-"] if value < 0 else _ATOM


def _enclosed(arg: Expr, own: int, *, first: bool, op: str) -> str:
    """An argument in parentheses where its text would otherwise read as a different tree."""
    text, inner = _render(arg)
    leading = first and op != "**"
    return text if inner > own or (leading and inner == own) else f"({text})"
