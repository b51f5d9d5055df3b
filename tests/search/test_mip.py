"""One variant a layer: the optimum is that of brute force and of CBC, the k best are distinct, budgets hold exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archc.kernels.errors import SearchError
from archc.search.mip import Chosen, LinearBudget, Option, Problem, k_best, solve
from archc.search.mip_local import improve, neighbours

COSTS = ("params", "bytes")


def every(problem: Problem) -> list[Chosen]:
    return list(itertools.product(*(range(len(options)) for options in problem.options)))


def feasible(problem: Problem) -> list[Chosen]:
    return [chosen for chosen in every(problem) if problem.fits(chosen)]


def distance(a: Chosen, b: Chosen) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Small ones, with budgets of both senses whose limits lie where something may be within and something not."""
    layers = []
    for i in range(draw(st.integers(1, 5))):
        options = [
            Option(str(j), draw(st.floats(-5, 5)), {name: draw(st.integers(0, 40)) for name in COSTS})
            for j in range(draw(st.integers(1, 4)))
        ]
        layers.append((str(i), tuple(options)))
    budgets = [
        LinearBudget("params", draw(st.integers(0, 120)), draw(st.sampled_from(("<=", ">="))), draw(st.integers(0, 9))),
        LinearBudget("bytes", draw(st.integers(0, 160)), "<="),
    ]
    return Problem(tuple(layers), tuple(budgets[: draw(st.integers(0, 2))]))


def random_problem(layers: int, variants: int, seed: int) -> Problem:
    """Costs that shrink and losses that grow, not in step; three budgets, one of them in seconds."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(layers):
        sizes = np.sort(rng.integers(0, 2**24, variants))[::-1]
        losses = np.sort(rng.exponential(1.0, variants)) * rng.lognormal()
        seconds = sizes * rng.uniform(0.5, 1.5, variants) * 1e-12
        options = [
            Option(f"v{j}", float(losses[j]), {"params": int(s), "bytes": 2 * int(s), "s": float(seconds[j])})
            for j, s in enumerate(sizes)
        ]
        made.append((str(i), tuple(options)))
    whole = Problem(tuple(made))
    totals = {n: sum(options[0].costs[n] for options in whole.options) for n in ("params", "bytes", "s")}
    return Problem(
        whole.layers,
        (
            LinearBudget("params", int(totals["params"] * 0.6) + 10**6, base=10**6),
            LinearBudget("bytes", int(totals["bytes"] * 0.58)),
            LinearBudget("s", totals["s"] * 0.55),
        ),
    )


# -- the optimum -------------------------------------------------------------------------------------------------------


@given(problems())
@settings(max_examples=60, deadline=None)
def test_the_optimum_is_that_of_brute_force(problem: Problem) -> None:
    there = feasible(problem)
    if not there:
        with pytest.raises(SearchError, match="no combination is within"):
            solve(problem)
        return
    found = solve(problem, gap=0)
    assert found is not None and problem.fits(found.chosen)
    assert found.score == problem.score(found.chosen)
    assert found.score == pytest.approx(min(map(problem.score, there)), abs=1e-9)


def with_cbc(problem: Problem) -> float:
    """The optimum as another solver has it, through another modelling layer."""
    import pulp

    model = pulp.LpProblem("library", pulp.LpMinimize)
    x = [[model.add_variable(f"x_{i}_{j}", cat="Binary") for j in range(len(o))] for i, o in enumerate(problem.options)]
    pairs = [(v, o) for row, options in zip(x, problem.options, strict=True) for v, o in zip(row, options, strict=True)]
    model += pulp.lpSum(o.score * v for v, o in pairs)
    for row in x:
        model += pulp.lpSum(row) == 1
    for b in problem.budgets:
        total = pulp.lpSum(float(o.costs[b.name]) / float(b.limit) * v for v, o in pairs)
        room = (float(b.limit) - float(b.base)) / float(b.limit)
        model += total <= room if b.sense == "<=" else total >= room
    model.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=1e-7, threads=1, timeLimit=120))
    assert pulp.LpStatus[model.status] == "Optimal"
    return float(pulp.value(model.objective))


@pytest.mark.filterwarnings("ignore:PULP_CBC_CMD:DeprecationWarning")
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_that_of_another_solver(seed: int) -> None:
    problem = random_problem(24, 8, seed)
    found = solve(problem, gap=1e-7)
    assert found is not None and problem.fits(found.chosen)
    assert found.score == pytest.approx(with_cbc(problem), rel=1e-5)
    assert found.gap <= 1e-5


def test_a_gap_is_kept() -> None:
    """Of a hundredth: the solution loses at most a hundredth more than the optimum, and says by how much at most."""
    problem = random_problem(24, 8, 5)
    exact, loose = solve(problem, gap=0), solve(problem, gap=0.01)
    assert exact is not None and loose is not None
    floor = sum(min(o.score for o in options) for options in problem.options)
    assert loose.score - floor <= (exact.score - floor) * 1.0102
    assert 0 <= loose.gap <= 0.01 + 1e-9


@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e9])
def test_the_scale_of_scores_does_not_matter(factor: float) -> None:
    problem = random_problem(10, 5, 1)
    layers = tuple(
        (name, tuple(Option(o.name, o.score * factor, o.costs) for o in options)) for name, options in problem.layers
    )
    one, other = solve(problem, gap=0), solve(Problem(layers, problem.budgets), gap=0)
    assert one is not None and other is not None and one.chosen == other.chosen


def test_a_variant_that_loses_beyond_measure_hides_nothing() -> None:
    """Its score is 1e12 times the others': differences among them still decide."""
    problem = random_problem(8, 4, 2)
    layers = tuple((n, (*options, Option("broken", 1e12, dict.fromkeys(("params", "bytes", "s"), 0))))
                   for n, options in problem.layers)  # fmt: skip
    one, other = solve(problem, gap=0), solve(Problem(layers, problem.budgets), gap=0)
    assert one is not None and other is not None and one.chosen == other.chosen


def test_budgets_hold_to_the_byte() -> None:
    """The limit is one byte below what the unconstrained optimum has: HiGHS's own tolerance would let it pass."""
    big = 2**40
    layers = tuple(
        (str(i), (Option("keep", 0.0, {"bytes": big + i}), Option("less", 1.0 + i, {"bytes": big - 1})))
        for i in range(8)
    )
    total = sum(big + i for i in range(8))
    found = solve(Problem(layers, (LinearBudget("bytes", total - 1),)))
    assert found is not None and found.chosen == (1, 0, 0, 0, 0, 0, 0, 0)
    exact = solve(Problem(layers, (LinearBudget("bytes", total),)))
    assert exact is not None and exact.chosen == (0,) * 8


def test_costs_may_be_fractions() -> None:
    half = Fraction(1, 2)
    layers = (("0", (Option("a", 0.0, {"bytes": 3 * half}), Option("b", 1.0, {"bytes": half}))),)
    assert solve(Problem(layers, (LinearBudget("bytes", 3 * half),))).chosen == (0,)  # type: ignore[union-attr]
    assert solve(Problem(layers, (LinearBudget("bytes", 1),))).chosen == (1,)  # type: ignore[union-attr]


# -- several -----------------------------------------------------------------------------------------------------------


@given(problems(), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_k_best_are_those_of_brute_force(problem: Problem, count: int, apart: int) -> None:
    """Greedily, by enumeration: the best, the best of those far enough from it, and so on."""
    left = sorted(feasible(problem), key=problem.score)
    assume(left)
    wanted = []
    while left and len(wanted) < count:
        wanted.append(problem.score(left[0]))
        # of equal scores another may have been taken, and then others are near it
        assume(len(left) == 1 or problem.score(left[1]) - problem.score(left[0]) > 1e-6)
        left = [c for c in left if distance(c, left[0]) >= apart]
    found = k_best(problem, count, distance=apart, gap=0)
    assert [s.score for s in found] == pytest.approx(wanted, abs=1e-9)
    assert all(distance(a.chosen, b.chosen) >= apart for a, b in itertools.combinations(found, 2))
    assert all(problem.fits(s.chosen) for s in found)
    assert [s.score for s in found] == sorted(s.score for s in found)


def test_as_many_as_there_are() -> None:
    layers = tuple((str(i), (Option("a", 0.0), Option("b", 1.0))) for i in range(2))
    assert [s.score for s in k_best(Problem(layers), 10)] == [0.0, 1.0, 1.0, 2.0]
    assert [s.score for s in k_best(Problem(layers), 10, distance=2)] == [0.0, 2.0]
    assert len(k_best(Problem(layers), 10, distance=3)) == 1


# -- local search ------------------------------------------------------------------------------------------------------


@given(problems(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_neighbours_are_the_swaps_within_the_budgets(problem: Problem, random: Any) -> None:
    there = feasible(problem)
    assume(there)
    at = random.choice(there)
    wanted = {c for c in there if 1 <= distance(c, at) <= 2}
    found = list(neighbours(problem, at, most=10_000))
    assert set(found) == wanted and len(found) == len(wanted)
    scores = [problem.score(c) for c in found]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(scores))


def test_local_search_stops_where_no_swap_is_better() -> None:
    problem = random_problem(10, 4, 3)
    start = max((tuple(map(int, c)) for c in some(problem)), key=problem.score)
    found = improve(problem, start)
    assert found.loss == problem.score(found.chosen) < problem.score(start) and problem.fits(found.chosen)
    assert all(problem.score(c) >= found.loss for c in neighbours(problem, found.chosen, most=10_000))


def some(problem: Problem) -> Iterator[Any]:
    rng = np.random.default_rng(0)
    sizes = [len(options) for options in problem.options]
    draws = (tuple(rng.integers(0, s) for s in sizes) for _ in range(2000))
    return (c for c in draws if problem.fits(tuple(map(int, c))))


def test_a_true_loss_decides_and_is_asked_no_more_often_than_allowed() -> None:
    problem = random_problem(6, 3, 4)
    best = solve(problem)
    assert best is not None
    asked: list[Chosen] = []

    def loss(chosen: Chosen) -> float:
        asked.append(chosen)
        return -problem.score(chosen)  # the prediction is all wrong

    found = improve(problem, best.chosen, loss=loss, evaluations=25)
    assert len(asked) == len(set(asked)) <= 25 and asked[0] == best.chosen
    assert dict(found.measured) == {c: -problem.score(c) for c in asked}
    assert found.loss == min(v for _, v in found.measured) and problem.fits(found.chosen)
    assert improve(problem, best.chosen, loss=loss, evaluations=1).chosen == best.chosen


def test_a_loss_that_is_no_number_is_never_better() -> None:
    problem = random_problem(4, 3, 4)
    best = solve(problem)
    assert best is not None
    found = improve(problem, best.chosen, loss=lambda c: 1.0 if c == best.chosen else math.nan)
    assert found.chosen == best.chosen
    other = improve(problem, best.chosen, loss=lambda c: math.nan if c == best.chosen else 1.0)
    assert other.chosen != best.chosen and other.loss == 1.0


# -- what cannot be ----------------------------------------------------------------------------------------------------

TWO = tuple(
    (str(i), (Option("keep", 0.0, {"params": 10, "s": 1.0}), Option("linear", 1.0, {"params": 4, "s": 3.0})))
    for i in range(3)
)


def test_a_budget_that_nothing_satisfies_says_by_how_much() -> None:
    budgets = (LinearBudget("params", 100, base=90), LinearBudget("s", 100.0))
    with pytest.raises(SearchError) as caught:
        solve(Problem(TWO, budgets))
    assert str(caught.value).splitlines() == [
        "no combination is within the budgets:",
        "  params <= 100: the least reachable is 102, missed by 2 (2.00%)",
    ]
    with pytest.raises(SearchError, match=r"params >= 31: the most reachable is 30, missed by 1 \(3.23%\)"):
        k_best(Problem(TWO, (LinearBudget("params", 31, ">="),)), 2)


def test_budgets_that_exclude_one_another_say_how_near_one_comes() -> None:
    with pytest.raises(SearchError) as caught:
        solve(Problem(TWO, (LinearBudget("params", 20), LinearBudget("s", 5.0, unit="s"))))
    first, missed, *rest = str(caught.value).splitlines()
    assert first == "no combination is within all budgets at once. The closest misses"
    assert missed == "  params <= 20 by 4 (20.00%)"
    assert rest == [
        "and each alone:",
        "  params <= 20: the least reachable is 12",
        "  s <= 5 s: the least reachable is 3 s",
    ]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "there is no layer"),
        ((("0", ()),), "layer 0 has no variant"),
        ((("0", (Option("keep", math.nan),)),), "layer 0, `keep`: the score is no finite number: nan"),
        ((("0", (Option("keep", math.inf),)),), "no finite number: inf"),
        ((("3", (Option("keep", 0.0),)),), "layer 3, `keep`: no cost of `params`"),
        ((("3", (Option("keep", 0.0, {"params": math.nan}),)),), "layer 3, `keep`: no cost of `params`"),
    ],
)
def test_problems_that_are_none(layers: Any, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        Problem(layers, (LinearBudget("params", 1),))


@pytest.mark.parametrize(("count", "apart"), [(0, 1), (1, 0)])
def test_as_many_as_make_sense(count: int, apart: int) -> None:
    with pytest.raises(SearchError, match="expected one solution or more"):
        k_best(Problem(TWO), count, distance=apart)
