"""How fast a variant is chosen for every layer: `python benchmarks/mip.py`.

62 layers of 30 variants under three budgets, of random libraries in which what a variant costs and what it loses are
only loosely related. Each is solved to 1 % and to 0.01 % of the optimum by `archc.search.mip` (HiGHS), where PuLP is
installed by its CBC too, and then for the eight best that differ in three layers. The exit status says whether 1 % took
longer than the limit, or whether the solution is farther from the optimum.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from archc.search.mip import LinearBudget, Option, Problem, Solution, k_best, solve

LAYERS, VARIANTS, SEEDS = 62, 30, (0, 1, 2)
LIMIT_S, WITHIN = 10.0, 0.01
SHARES = {"params": 0.6, "bytes": 0.58, "s": 0.55}  # of what keeping every layer costs


def library(seed: int) -> Problem:
    """Layers whose variants lose the more the less they cost, in parameters, bytes and seconds, but not in step."""
    rng = np.random.default_rng(seed)
    layers = []
    for i in range(LAYERS):
        size = rng.integers(2**25, 2**28)
        kept = np.sort(rng.random(VARIANTS))[::-1]
        kept[0], kept[-1] = 1.0, 0.0
        loss = rng.lognormal(-4, 1) * (1 - kept) ** 1.5 * rng.lognormal(0, 0.3, VARIANTS)
        counts = (size * kept).astype(int)
        state = rng.integers(0, 2**24, VARIANTS) * (kept > 0)
        seconds = 2 * counts / 6e11 + kept * rng.uniform(0, 1e-4, VARIANTS)
        rows = zip(loss, counts, state, seconds, strict=True)
        options = [
            Option(f"v{j}", float(lost), {"params": int(n), "bytes": int(2 * n + more), "s": float(s)})
            for j, (lost, n, more, s) in enumerate(rows)
        ]
        layers.append((str(i), tuple(options)))
    whole = {name: sum(options[0].costs[name] for _, options in layers) for name in SHARES}
    return Problem(tuple(layers), tuple(LinearBudget(n, whole[n] * share) for n, share in SHARES.items()))


def timed(problem: Problem, gap: float) -> tuple[Solution, float]:
    """A solution, and the seconds that it took."""
    began = time.perf_counter()
    found = solve(problem, gap=gap)
    assert found is not None and problem.fits(found.chosen)
    return found, time.perf_counter() - began


def by_cbc(problem: Problem) -> tuple[float, float] | None:
    """The optimum by CBC and the seconds that it took, where PuLP is there."""
    try:
        import pulp
    except ImportError:
        return None
    began = time.perf_counter()
    model = pulp.LpProblem("library", pulp.LpMinimize)
    rows = [[model.add_variable(f"x_{i}_{j}", cat="Binary") for j in range(VARIANTS)] for i in range(LAYERS)]
    pairs = [
        (v, o) for row, options in zip(rows, problem.options, strict=True) for v, o in zip(row, options, strict=True)
    ]
    model += pulp.lpSum(o.score * v for v, o in pairs)
    for row in rows:
        model += pulp.lpSum(row) == 1
    for b in problem.budgets:
        model += pulp.lpSum(float(o.costs[b.name]) / float(b.limit) * v for v, o in pairs) <= 1
    model.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=1e-4, threads=1))
    return float(pulp.value(model.objective)), time.perf_counter() - began


def main() -> None:
    """Print seconds and ratios, a line a library."""
    failed = False
    for seed in SEEDS:
        problem = library(seed)
        loose, loose_s = timed(problem, WITHIN)
        exact, exact_s = timed(problem, 1e-4)
        ratio = loose.score / exact.score
        failed |= loose_s > LIMIT_S or ratio > 1 + WITHIN + 1e-4
        told = f"library {seed}: 1 % in {loose_s:5.2f} s (limit {LIMIT_S:.0f} s), {ratio:.5f} of the optimum"
        told += f"; 0.01 % in {exact_s:5.2f} s"
        cbc = by_cbc(problem)
        told += f"; CBC {cbc[1]:5.2f} s, its optimum {cbc[0] / exact.score:.5f} of ours" if cbc else ""
        began = time.perf_counter()
        several = k_best(problem, 8, distance=3, gap=WITHIN)
        print(f"{told}; {len(several)} best in {time.perf_counter() - began:5.2f} s")
    sys.exit(failed)


if __name__ == "__main__":
    main()
