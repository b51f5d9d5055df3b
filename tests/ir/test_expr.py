"""Expressions: the four kinds of number agree, exactness is kept, text and JSON say what the tree is."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.ir.arithmetic import OPERATORS
from archc.ir.expr import (
    Apply,
    Expr,
    Num,
    Sym,
    ceil,
    compile_expr,
    evaluate_json,
    from_json,
    maximum,
    minimum,
    total,
)
from archc.kernels.errors import ParseError, UnknownName

NAMES = ("d_model", "d_ff", "tokens", "L5.mixer.heads")
D, F, T, H = (Sym(n) for n in NAMES)

sizes = st.integers(1, 2**17)
exact_numbers = st.one_of(sizes, st.fractions(Fraction(1, 16), 64, max_denominator=64))
atoms = st.one_of(st.sampled_from(NAMES).map(Sym), exact_numbers.map(Num))


def rounded_up() -> st.SearchStrategy[Expr]:
    """ceil(a*b/c): a quotient near a whole number from above stays well outside the snapping distance."""
    return st.tuples(atoms, atoms, atoms).map(lambda abc: ceil(abc[0] * abc[1] / abc[2]))


def hit_experts() -> st.SearchStrategy[Expr]:
    """E*(1 - (1 - k/E)**n): the expected number of experts that n tokens touch."""
    many = st.tuples(st.integers(1, 32), st.integers(33, 600), st.one_of(st.just(T), st.integers(1, 5000).map(Num)))
    return many.map(lambda ken: ken[1] * (1 - (1 - Num(ken[0]) / ken[1]) ** ken[2]))


def combined(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    two = st.tuples(inner, inner)
    return st.one_of(
        two.map(lambda ab: ab[0] + ab[1]),
        two.map(lambda ab: ab[0] - ab[1]),
        two.map(lambda ab: ab[0] * ab[1]),
        two.map(lambda ab: minimum(*ab)),
        two.map(lambda ab: maximum(*ab)),
        st.tuples(inner, atoms).map(lambda ab: ab[0] / ab[1]),
        st.tuples(atoms, st.integers(0, 3)).map(lambda ab: ab[0] ** ab[1]),
    )


exprs = st.recursive(st.one_of(atoms, rounded_up(), hit_experts()), combined, max_leaves=12)
envs = st.fixed_dictionaries({n: sizes for n in NAMES})


def magnitude(expr: Expr, env: dict[str, int]) -> float:
    """The size of the numbers that went into a value: what a relative error is relative to when terms cancel."""
    if not isinstance(expr, Apply):
        return abs(float(expr.evaluate(env)))
    parts = [magnitude(a, env) for a in expr.args]
    if expr.op in ("+", "-"):
        return sum(parts)
    if expr.op in ("min", "max"):
        return max(parts)
    if expr.op == "*":
        return float(np.prod(parts))
    return parts[0] / parts[1] if expr.op == "/" else abs(float(expr.evaluate(env)))


@settings(max_examples=300, deadline=None)
@given(exprs, envs)
def test_four_kinds_of_number_agree(expr: Expr, env: dict[str, int]) -> None:
    import torch

    exact = expr.evaluate(env)
    arrays = {n: np.array([v, v]) for n, v in env.items()}
    tensors = {n: torch.tensor(float(v), dtype=torch.float64) for n, v in env.items()}
    others = {
        "numpy": float(np.ravel(expr.evaluate(arrays))[0]),
        "torch": float(expr.evaluate(tensors)),
        "json": evaluate_json(expr.to_json(), env),
    }
    for kind, value in others.items():
        assert abs(value - float(exact)) <= 1e-12 * magnitude(expr, env), (kind, str(expr), value, exact)


@given(exprs)
def test_json_and_pickle_give_an_equal_expression_back(expr: Expr) -> None:
    assert from_json(expr.to_json()) == expr
    copy = pickle.loads(pickle.dumps(expr))
    assert copy == expr and hash(copy) == hash(expr)


whole = st.recursive(
    st.one_of(st.sampled_from([D, F, T]), st.integers(1, 9).map(Num)),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda ab: ab[0] + ab[1]),
        st.tuples(inner, inner).map(lambda ab: ab[0] - ab[1]),
        st.tuples(inner, inner).map(lambda ab: ab[0] * ab[1]),
        st.tuples(inner, st.sampled_from([D, F])).map(lambda ab: ab[0] / ab[1]),
        st.tuples(st.sampled_from([D, F]), inner).map(lambda ab: ab[0] ** ab[1]),
        st.tuples(inner, inner).map(lambda ab: minimum(*ab)),
        inner.map(ceil),
    ),
    max_leaves=10,
)


@given(whole.filter(lambda e: isinstance(e, Apply)), st.fixed_dictionaries({n: st.integers(1, 3) for n in NAMES}))
def test_text_reads_as_the_same_tree(expr: Expr, env: dict[str, int]) -> None:
    names: dict[str, Any] = {"d_model": D, "d_ff": F, "tokens": T, "min": minimum, "max": maximum, "ceil": ceil}
    read = eval(str(expr), {"__builtins__": {}}, {**names, "Num": Num})
    assert read == expr or _holds_fraction(expr)


def _holds_fraction(expr: Expr) -> bool:
    """Folding can leave a Fraction, whose text 1/3 plain Python reads as a float."""
    if isinstance(expr, Apply):
        return any(_holds_fraction(a) for a in expr.args)
    return isinstance(expr, Num) and not (isinstance(expr.value, int) and expr.value >= 0)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (2 * T * D * F, "2*tokens*d_model*d_ff"),
        (D + F - T, "d_model + d_ff - tokens"),
        (D - (F - T), "d_model - (d_ff - tokens)"),
        ((D + F) * T / 2, "(d_model + d_ff)*tokens/2"),
        (D / (F * T), "d_model/(d_ff*tokens)"),
        ((1 - D / F) ** T, "(1 - d_model/d_ff)**tokens"),
        (ceil(T / 128) * minimum(T, 4096), "ceil(tokens/128)*min(tokens, 4096)"),
        (H * Fraction(9, 2), "9/2*L5.mixer.heads"),
    ],
)
def test_text_has_few_parentheses(expr: Expr, text: str) -> None:
    assert str(expr) == text


@pytest.mark.parametrize(
    ("expr", "folded"),
    [
        (2 * (3 * D), 6 * D),
        (D + 1 + F + 2, D + F + 3),
        (D * 1 + 0, D),
        (D * 0, Num(0)),
        (D / 1, D),
        (D**1, D),
        (minimum(D, D), D),
        (Num(6) / 4, Num(Fraction(3, 2))),
        (ceil(Num(7) / 2), Num(4)),
        (total([D, F, 1, 2]), D + F + 3),
    ],
)
def test_constants_fold_exactly(expr: Expr, folded: Expr) -> None:
    assert expr == folded and hash(expr) == hash(folded)


def test_ints_stay_exact_where_floats_would_not() -> None:
    big = {"d_model": 2**53 + 1, "d_ff": 3}
    assert (D * F / F).evaluate(big) == 2**53 + 1
    assert (D / F).evaluate({"d_model": 10, "d_ff": 4}) == Fraction(5, 2)
    assert ceil(D / F).evaluate({"d_model": 2**60 + 1, "d_ff": 2**60}) == 2
    assert isinstance((D / 2).evaluate({"d_model": 10}), int)


def test_ceil_of_a_whole_quotient_is_that_number_in_floats() -> None:
    expr = ceil(Num(1) / D * 3 * F)  # 1/d*3*d rounds to a little more than 3 for some d
    d = np.arange(1, 2000)
    assert np.array_equal(expr.evaluate({"d_model": d, "d_ff": d}), np.full(d.shape, 3.0))


def test_large_powers_of_fractions_leave_the_exact_numbers() -> None:
    touched = 128 * (1 - (1 - Num(6) / 128) ** T)
    assert touched.evaluate({"tokens": 1}) == 6
    assert touched.evaluate({"tokens": 10**6}) == pytest.approx(128)


def test_torch_is_differentiable_and_ceil_passes_the_gradient_through() -> None:
    import torch

    d = torch.tensor(10.0, requires_grad=True)
    value = (ceil(D / 4) * F).evaluate({"d_model": d, "d_ff": 8})
    value.backward()
    assert value.item() == 24 and value.dtype == torch.float64
    assert d.grad is not None and d.grad.item() == pytest.approx(2.0)


def test_ints_broadcast_against_arrays() -> None:
    value = (D * F + minimum(T, 5)).evaluate({"d_model": np.array([1, 2]), "d_ff": 3, "tokens": 9})
    assert value.tolist() == [8.0, 11.0]
    mixed = (D * F).evaluate({"d_model": np.array([1, 2]), "d_ff": np.int64(3)})
    assert mixed.tolist() == [3.0, 6.0]
    assert (D * F).evaluate({"d_model": np.int64(2), "d_ff": 3}) == 6


def test_compiled_expressions_share_equal_parts() -> None:
    program = compile_expr(D * F + 1, D * F + 2)
    assert sum(step.op == "*" for step in program.steps) == 1
    assert program({"d_model": 3, "d_ff": 5}) == [16, 17]
    assert program.symbols == ("d_model", "d_ff")


def test_symbols() -> None:
    assert (2 * D + ceil(F / T)).symbols() == {"d_model", "d_ff", "tokens"}
    assert Num(3).symbols() == frozenset()


def test_a_missing_symbol_is_named_with_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="unknown symbol `d_model`: did you mean `d_modle`"):
        (D * 2).evaluate({"d_modle": 3})


@pytest.mark.parametrize(
    ("tree", "error"), [(["sin", 1], UnknownName), (["+"], ParseError), (["ceil", 1, 2], ParseError)]
)
def test_wrong_json_is_an_error(tree: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        from_json(tree)


def test_every_operator_has_a_json_reader() -> None:
    for op in OPERATORS:
        args = ["d_model"] if op == "ceil" else ["d_model", "d_ff"]
        assert from_json([op, *args]).to_json() == [op, *args]
