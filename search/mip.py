"""One variant for each layer: the best by a sum of scores under linear budgets, solved exactly (Puzzle's problem).

Puzzle (Bercovich et al. 2024, arXiv 2411.19146, section 4) scores every replacement of a block alone and takes the
combination whose scores sum to the least. Here that is a mixed integer programme for HiGHS, through
`scipy.optimize.milp`: a binary for each variant of each layer, of which one is 1, and a row for each budget.

    problem = Problem(layers=(("0", (keep, drop)), ("1", (keep, narrow, drop))), budgets=(LinearBudget("params", 1e6),))
    for solution in k_best(problem, 4, distance=2): ...
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from archc.kernels.errors import SearchError

Cost: TypeAlias = Any  # int, Fraction or float: an exact sum where they are exact
Chosen: TypeAlias = tuple[int, ...]  # the variant of each layer
Matrix: TypeAlias = npt.NDArray[np.float64]

GAP = 1e-4
_SCALE = 1e3  # the largest coefficient of a row: HiGHS allows an absolute 1e-6 of it
_TIGHTENED = 20  # times that a row is tightened by what a solution is over it before that is given up
_FAINT = 1e-3  # an objective below this share of its scale is solved again, on a scale of its own


@dataclass(frozen=True)
class Option:
    """A variant of one layer: what replacing this block alone costs (less is better), and its part of each budget."""

    name: str
    score: float
    costs: Mapping[str, Cost] = field(default_factory=dict)


@dataclass(frozen=True)
class LinearBudget:
    """A limit on `base` (what no layer chooses) and the costs of the chosen variants together."""

    name: str
    limit: Cost
    sense: Literal["<=", ">="] = "<="
    base: Cost = 0
    unit: str = ""

    def __str__(self) -> str:
        return self.name if self.sense in self.name else f"{self.name} {self.sense} {_number(self.limit)}{_unit(self)}"

    def violation(self, value: Cost) -> float:
        """By how much a value breaks it: 0 and below is within."""
        return float(value - self.limit if self.sense == "<=" else self.limit - value)


@dataclass(frozen=True)
class Problem:
    """Layers by name, each with its variants, and budgets.

    Raises SearchError for a layer without variants, a score that is no finite number, a cost that is not there."""

    layers: tuple[tuple[str, tuple[Option, ...]], ...]
    budgets: tuple[LinearBudget, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise SearchError("there is no layer to choose a variant for")
        for layer, options in self.layers:
            if not options:
                raise SearchError(f"layer {layer} has no variant")
            for one in options:
                if not math.isfinite(one.score):
                    raise SearchError(f"layer {layer}, `{one.name}`: the score is no finite number: {one.score}")
                lacking = [b.name for b in self.budgets if not math.isfinite(one.costs.get(b.name, math.nan))]
                if lacking:
                    raise SearchError(f"layer {layer}, `{one.name}`: no cost of `{lacking[0]}`")

    @property
    def options(self) -> tuple[tuple[Option, ...], ...]:
        """The variants of each layer."""
        return tuple(options for _, options in self.layers)

    def score(self, chosen: Chosen) -> float:
        """The sum of scores."""
        return math.fsum(one.score for one in self._of(chosen))

    def cost(self, budget: LinearBudget, chosen: Chosen) -> Cost:
        """What a budget counts, exactly where its costs are exact."""
        return budget.base + sum(one.costs[budget.name] for one in self._of(chosen))

    def violations(self, chosen: Chosen) -> tuple[float, ...]:
        """By how much each budget is broken."""
        return tuple(b.violation(self.cost(b, chosen)) for b in self.budgets)

    def fits(self, chosen: Chosen) -> bool:
        """Whether all budgets hold."""
        return all(v <= 0 for v in self.violations(chosen))

    def names(self, chosen: Chosen) -> tuple[str, ...]:
        """The variants by name."""
        return tuple(one.name for one in self._of(chosen))

    def extreme(self, budget: LinearBudget) -> Cost:
        """The value nearest to within a budget, or farthest within, that any combination has."""
        best = min if budget.sense == "<=" else max
        return budget.base + sum(best(one.costs[budget.name] for one in options) for options in self.options)

    def _of(self, chosen: Chosen) -> Iterator[Option]:
        return (options[i] for options, i in zip(self.options, chosen, strict=True))

    # -- as arrays, a column for each variant of each layer ------------------------------------------------------------

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """The first column of each layer, and the number of columns."""
        return np.cumsum([0, *(len(options) for options in self.options)])

    @cached_property
    def regrets(self) -> Matrix:
        """Scores above the best of their layer, `[columns]`."""
        lows = (min(one.score for one in options) for options in self.options)
        return np.array([o.score - low for options, low in zip(self.options, lows, strict=True) for o in options])

    @cached_property
    def rows(self) -> Matrix:
        """Costs above the least of their layer, `[budgets, columns]`: of a `>=` budget with the sign turned."""
        made = np.empty((len(self.budgets), int(self.starts[-1])))
        for i, budget in enumerate(self.budgets):
            sign = 1 if budget.sense == "<=" else -1
            signed = [[sign * one.costs[budget.name] for one in options] for options in self.options]
            made[i] = [float(cost - min(costs)) for costs in signed for cost in costs]
        return made

    @cached_property
    def room(self) -> Matrix:
        """What the costs above the least may sum to, `[budgets]`: negative where nothing satisfies a budget."""
        return np.array([-b.violation(self.extreme(b)) for b in self.budgets])


@dataclass(frozen=True)
class Solution:
    """A combination, the sum of its scores, and by which share of what it loses a better one might lose less."""

    chosen: Chosen
    score: float
    gap: float


def solve(
    problem: Problem,
    *,
    gap: float = GAP,
    limit_s: float = math.inf,
    apart: Sequence[Chosen] = (),
    distance: int = 1,
) -> Solution | None:
    """The combination of the least sum of scores within the budgets, differing from those of `apart` in `distance`
    layers or more; None where there is none so far from them.

    `gap` is relative to what the solution loses above the best variant of every layer. Raises SearchError where no
    combination is within the budgets (which of them binds, and by how much), and where `limit_s` passes without any.
    """
    _check_reach(problem)
    cuts = _cuts(problem, apart, distance)
    room = problem.room.copy()
    for _ in range(_TIGHTENED):
        found = _scaled(problem, room, cuts, gap, limit_s)
        if found is None:
            break
        over = problem.violations(found.chosen)
        if all(v <= 0 for v in over):
            return found
        # HiGHS is right to a tolerance; the budgets are exact
        room -= np.where(np.array(over) > 0, 2 * np.maximum(over, 0), 0)
    if not apart:
        raise SearchError(_jointly(problem, limit_s))
    return None


def k_best(
    problem: Problem, count: int, *, distance: int = 1, gap: float = GAP, limit_s: float = math.inf
) -> tuple[Solution, ...]:
    """Up to `count` combinations, any two of them differing in `distance` layers or more, the best first.

    Each is the best of those that differ so from the ones before. Raises SearchError as `solve` does."""
    if count < 1 or distance < 1:
        raise SearchError(f"expected one solution or more, one layer or more apart: got {count} and {distance}")
    found: list[Solution] = []
    while len(found) < count:
        one = solve(problem, gap=gap, limit_s=limit_s, apart=[s.chosen for s in found], distance=distance)
        if one is None:
            break
        found.append(one)
    return tuple(sorted(found, key=lambda s: s.score))


# -- the programme -----------------------------------------------------------------------------------------------------


def _scaled(problem: Problem, room: Matrix, cuts: Any, gap: float, limit_s: float) -> Solution | None:
    """The solution, its objective on a scale on which HiGHS's absolute tolerances mean nothing."""
    scale = float(problem.regrets.max()) or 1.0
    while True:
        found = _milp(problem, room, cuts, problem.regrets / scale, gap, limit_s)
        if found is None:
            return None
        chosen, bound = found
        lost = float(problem.regrets[problem.starts[:-1] + chosen].sum())
        if lost == 0 or lost >= _FAINT * scale:
            share = 0.0 if lost == 0 else max(1 - bound * scale / lost, 0.0)
            return Solution(tuple(map(int, chosen)), problem.score(tuple(map(int, chosen))), share)
        scale = lost


def _milp(
    problem: Problem, room: Matrix, cuts: Any, objective: Matrix, gap: float, limit_s: float
) -> tuple[npt.NDArray[np.int64], float] | None:
    """The chosen variants and the bound of the objective, None where there are none."""
    from scipy.optimize import Bounds, milp

    limits = [_one_each(problem), _within(problem.rows, room), *cuts]
    found = milp(
        np.minimum(objective, 1 / _FAINT**2),  # what loses more by itself is not chosen, however much more it is
        integrality=np.ones(len(objective)),
        bounds=Bounds(0, 1),
        constraints=limits,
        options={"mip_rel_gap": gap} | ({} if math.isinf(limit_s) else {"time_limit": limit_s}),
    )
    if found.x is None:
        if "infeasible" in found.message.lower():
            return None
        raise SearchError(f"no combination within the budgets was found in {limit_s:g} s: {found.message}")
    parts = np.split(found.x, problem.starts[1:-1])
    bound = found.mip_dual_bound
    return np.array([int(part.argmax()) for part in parts]), float(bound if bound is not None else -math.inf)


def _one_each(problem: Problem) -> Any:
    """One variant for each layer."""
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array

    columns = int(problem.starts[-1])
    ones = csr_array((np.ones(columns), np.arange(columns), problem.starts), shape=(len(problem.layers), columns))
    return LinearConstraint(ones, 1, 1)


def _within(rows: Matrix, room: Matrix) -> Any:
    """The budgets, each on a scale on which HiGHS's tolerance is small beside the costs."""
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array

    most = rows.max(axis=1, initial=0.0)
    scale = _SCALE / np.where(most > 0, most, 1.0)
    return LinearConstraint(csr_array(rows * scale[:, None]), -np.inf, room * scale)


def _cuts(problem: Problem, apart: Sequence[Chosen], distance: int) -> list[Any]:
    """No-good cuts: at most all but `distance` layers as in each of these."""
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array

    if not apart:
        return []
    layers, columns = len(problem.layers), int(problem.starts[-1])
    at = np.concatenate([problem.starts[:-1] + np.array(chosen) for chosen in apart])
    starts = np.arange(len(apart) + 1) * layers
    ones = csr_array((np.ones(len(at)), at, starts), shape=(len(apart), columns))
    return [LinearConstraint(ones, -np.inf, layers - distance)]


# -- what is told where there is no solution ---------------------------------------------------------------------------


def _check_reach(problem: Problem) -> None:
    """Raise SearchError for budgets that no combination satisfies even alone."""
    missed = [b for b in problem.budgets if b.violation(problem.extreme(b)) > 0]
    if missed:
        raise SearchError("no combination is within the budgets:\n" + "\n".join(_reach(problem, b) for b in missed))


def _reach(problem: Problem, budget: LinearBudget) -> str:
    extreme, word = problem.extreme(budget), "least" if budget.sense == "<=" else "most"
    missed = budget.violation(extreme)
    told = f"  {budget}: the {word} reachable is {_number(extreme)}{_unit(budget)}"
    return told + (f", missed by {_missed(budget, missed)}" if missed > 0 else "")


def _jointly(problem: Problem, limit_s: float) -> str:
    """Budgets that can each be satisfied but not together: what the combination that comes closest misses."""
    chosen = _closest(problem, limit_s)
    over = [(b, v) for b, v in zip(problem.budgets, problem.violations(chosen), strict=True) if v > 0]
    told = "\n".join(f"  {b} by {_missed(b, v)}" for b, v in over)
    reach = "\n".join(_reach(problem, b) for b in problem.budgets)
    return f"no combination is within all budgets at once. The closest misses\n{told}\nand each alone:\n{reach}"


def _closest(problem: Problem, limit_s: float) -> Chosen:
    """The combination that is over the budgets by the least, as shares of their limits."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, hstack

    budgets, columns = problem.rows.shape
    limits = np.array([abs(float(b.limit)) or 1.0 for b in problem.budgets])
    rows = hstack([csr_array(problem.rows / limits[:, None]), -csr_array(np.eye(budgets))])
    one_each = hstack([_one_each(problem).A, csr_array((len(problem.layers), budgets))])
    found = milp(
        np.concatenate([np.zeros(columns), np.ones(budgets)]),
        integrality=np.concatenate([np.ones(columns), np.zeros(budgets)]),
        bounds=Bounds(0, np.concatenate([np.ones(columns), np.full(budgets, np.inf)])),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(rows, -np.inf, problem.room / limits)],
        options={} if math.isinf(limit_s) else {"time_limit": limit_s},
    )
    if found.x is None:
        raise SearchError(f"no combination within the budgets was found in {limit_s:g} s: {found.message}")
    return tuple(int(part.argmax()) for part in np.split(found.x[:columns], problem.starts[1:-1]))


def _missed(budget: LinearBudget, missed: float) -> str:
    share = f" ({missed / abs(float(budget.limit)):.2%})" if budget.limit else ""
    return f"{_number(missed)}{_unit(budget)}{share}"


def _unit(budget: LinearBudget) -> str:
    return f" {budget.unit}" if budget.unit else ""


def _number(value: Cost) -> str:
    whole = float(value)
    return f"{int(whole):,}" if whole.is_integer() and abs(whole) < 1e15 else f"{whole:.6g}"
