"""The data of a report, against what one finds by hand."""

from __future__ import annotations

import itertools
import json
from functools import reduce

import numpy as np
import pytest

import archc
from archc.hardware import load_hardware
from archc.ir.workload import Workload
from archc.search.budgets import Budget, Objective, losses
from archc.search.choices import Choice, size
from archc.search.figures import Figure, Meter, Setting
from archc.search.front import front
from archc.search.report import SAMPLE, importance, report
from archc.search.space import Space
from archc.search.sweep import Swept, sweep

AT = Setting(Workload.of(context=4096, batch=1), hardware=load_hardware("a10g"))


@pytest.fixture(scope="module")
def space() -> Space:
    graph = archc.load("tiny-hybrid")
    return Space(
        graph,
        (
            size(graph, "d_model", tuple(range(32, 257, 8))),
            size(graph, "layers.*.moe.d_ff", tuple(range(16, 257, 8))),
            size(graph, "attention.n_heads", (2, 4, 8, 12)),
        ),
    )


BUDGETS = (
    Budget(Figure("params.total", AT), "<=", 3_000_000.0),
    Budget(Figure("params.active", AT), ">=", 900_000.0),
    Budget(Figure("memory.activation", AT), "<=", 8.5e6),
)
OBJECTIVES = (Objective(Figure("params.total", AT), "maximize"), Objective(Figure("latency.decode", AT), "minimize"))


def reported(space: Space, candidates: int) -> tuple[Swept, dict]:  # type: ignore[type-arg]
    swept = sweep(space, BUDGETS, OBJECTIVES, candidates=candidates, seed=3)
    fits = np.flatnonzero(swept.found.feasible)
    on_front = fits[front(losses(OBJECTIVES, swept.found.values[:, fits]))]
    return swept, json.loads(json.dumps(report(space, BUDGETS, OBJECTIVES, swept, on_front), allow_nan=False))


def test_additive_and_joint_effects_have_their_shares() -> None:
    """y = 2a + b on a grid: the variances of 2a and b over their sum; of a product of signs no choice explains any."""
    choices = [Choice("a", tuple(range(5))), Choice("b", tuple(range(3))), Choice("c", (0, 1))]
    ranks = np.array(list(itertools.product(range(5), range(3), range(2))))
    a, b, c = ranks.T.astype(float)
    figures = np.stack([2 * a + b, (a - 2) * (b - 1), np.full(len(a), 7.0), c])
    found = importance(figures, ranks, choices)
    of_a, of_b = 4 * 2.0, 2 / 3
    np.testing.assert_allclose(found[0], [of_a / (of_a + of_b), of_b / (of_a + of_b), 0], atol=1e-12)
    np.testing.assert_allclose(found[1:], [[0, 0, 0], [0, 0, 0], [0, 0, 1]], atol=1e-12)


def test_importance_is_r_squared_of_the_means(space: Space) -> None:
    """Against regression on an indicator for each value, and what is not known counts nowhere."""
    rng = np.random.default_rng(0)
    ranks = np.stack([rng.integers(0, len(c.values), 300) for c in space.choices], axis=1)
    figures = rng.normal(size=(2, 300)) + ranks[:, 0]
    figures[1, 7] = np.nan
    found = importance(figures, ranks, space.choices)
    for i, j in itertools.product(range(2), range(3)):
        known = np.isfinite(figures[i])
        y, design = figures[i, known], np.eye(len(space.choices[j].values))[ranks[known, j]]
        left = y - design @ np.linalg.lstsq(design, y)[0]
        assert found[i, j] == pytest.approx(1 - left @ left / ((y - y.mean()) ** 2).sum(), rel=1e-9)


def test_a_figure_of_noise_is_explained_as_much_as_by_chance(space: Space) -> None:
    rng = np.random.default_rng(1)
    ranks = np.stack([rng.integers(0, len(c.values), 500) for c in space.choices], axis=1)
    found = importance(rng.normal(size=(2000, 500)), ranks, space.choices).mean(axis=0)
    np.testing.assert_allclose(found, [(len(c.values) - 1) / 499 for c in space.choices], rtol=0.05)


@pytest.mark.parametrize("candidates", [700, 100_000])
def test_how_budgets_bind_is_counted(space: Space, candidates: int) -> None:
    swept, told = reported(space, candidates)
    assert swept.whole == (candidates > 700)
    points = swept.found.points
    if swept.whole:  # nothing was moved: proposals are what was found
        meter = Meter(space)
        over = [b.violation(meter.take(b.figure, points)) > 0 for b in BUDGETS]
        broken = [int(one.sum()) for one in over]
        alone = [int((one & ~reduce(np.logical_or, [o for o in over if o is not one])).sum()) for one in over]
        assert [b["broken"] for b in told["budgets"]] == broken and max(alone) > 0
        assert [b["alone"] for b in told["budgets"]] == alone
    some = [b["broken"] for b in told["budgets"]]
    assert max(some) <= swept.proposed - swept.feasible_at_once <= sum(some)
    assert [b["limit"] for b in told["budgets"]] == [3_000_000.0, 900_000.0, 8.5e6]
    assert [b["unit"] for b in told["budgets"]] == ["parameters", "parameters", "bytes"]
    for budget in told["budgets"]:
        assert budget["slack"] == sorted(budget["slack"]) and min(budget["slack"]) >= 0


def test_slack_is_what_the_front_leaves(space: Space) -> None:
    swept, told = reported(space, 700)
    found = swept.found
    rows = list(zip(*found.values, found.violations[0], strict=True))
    fits = [r for r, ok in zip(rows, found.feasible, strict=True) if ok]
    kept = {r for r in fits if not any(o[:2] != r[:2] and o[0] >= r[0] and o[1] <= r[1] for o in fits)}
    assert sorted({-r[2] for r in kept}) == pytest.approx(sorted(set(told["budgets"][0]["slack"])))


def test_history_is_the_best_so_far_in_order_of_proposals(space: Space) -> None:
    swept, told = reported(space, 700)
    assert sorted(set(swept.order.tolist())) == sorted(swept.order.tolist())
    assert swept.order.max() < swept.proposed + swept.refined
    for objective, values, steps in zip(OBJECTIVES, swept.found.values, told["history"], strict=True):
        sign = 1 if objective.sense == "minimize" else -1
        by_number = {int(n): i for i, n in enumerate(swept.order)}
        best, wanted = np.inf, []
        for number in sorted(by_number):
            i = by_number[number]
            if swept.found.feasible[i] and sign * values[i] < best:
                best = sign * values[i]
                wanted.append([number, values[i]])
        assert steps == wanted and len(steps) > 2


@pytest.mark.parametrize("candidates", [700, 100_000])
def test_the_cloud_is_a_sample_of_all(space: Space, candidates: int) -> None:
    swept, told = reported(space, candidates)
    cloud, count = told["cloud"], swept.found.values.shape[1]
    assert cloud["of"] == count
    assert len(cloud["order"]) == min(count, SAMPLE) == len({*zip(*cloud["ranks"], strict=True)})
    of_number = {int(n): i for i, n in enumerate(swept.order)}
    at = [of_number[n] for n in cloud["order"]]
    for choice, ranks in zip(told["choices"], cloud["ranks"], strict=True):
        assert [choice["values"][r] for r in ranks] == swept.found.points[choice["name"]][at].tolist()
    np.testing.assert_allclose(cloud["values"], swept.found.values[:, at], rtol=1e-6)
    np.testing.assert_allclose(cloud["violations"], swept.found.violations[:, at], rtol=1e-6)
    assert ((np.array(cloud["violations"]) > 0) == (swept.found.violations[:, at] > 0)).all()
    assert [c["base"] for c in told["choices"]] == list(space.base.values())


def test_without_budgets(space: Space) -> None:
    swept = sweep(space, (), OBJECTIVES[:1], candidates=64, seed=0)
    told = report(space, (), OBJECTIVES[:1], swept, np.array([0]))
    assert told["budgets"] == [] and len(told["importance"]) == 1 and told["cloud"]["violations"] == []
