"""How fast a search that arithmetic decides is: `python benchmarks/search.py`.

Around Nemotron Nano 12B v2, in the space of examples/search/nano-2.yaml; rung 0 and the trials by seconds of one core
(of processor time, all threads together), the search by the clock:

- rung 0 alone, of random candidates under a budget of memory, one of parameters and one of decode latency: evaluated
  as they are, moved into the budgets where they break one (up to 64 more evaluations each), and what the objectives
  take (a throughput at the largest batch that fits). What is paid once, cost programs made, is told apart;
- the whole search of the example, 10,000 candidates from the file to the folder with its report;
- a trial of Optuna's in its journal file, random sampler, asked and told: what a study of every candidate would take.

The exit status says whether rung 0 with its moves is slower than the limit, or the whole search.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from archc.hardware import load_hardware
from archc.ir.workload import FormatChoice, Workload
from archc.search.budgets import Budget, measured, violations
from archc.search.figures import Figure, Meter, Setting
from archc.search.study import distribution, open_storage, open_study
from archc.search.sweep import projected
from archc.searching.file import SearchFile, load_search
from archc.searching.run import run_search

FILE = Path(__file__).resolve().parents[1] / "examples" / "search" / "nano-2.yaml"
CANDIDATES, BLOCK, RUNS, TRIALS = 16_384, 4096, 3, 500
LEAST_PER_S, MOST_S = 10_000, 60.0


def budgets() -> tuple[Budget, ...]:
    """Memory, parameters and latency: the published 9B-v2 keeps all three, most of the space does not."""
    workload, formats, a10g = Workload.of(context=131072, batch=1), FormatChoice("bf16"), load_hardware("a10g")
    there, timed = Setting(workload, formats), Setting(workload, formats, a10g)
    return (
        Budget(Figure("memory.resident", there), "<=", 19.66 * 2**30),
        Budget(Figure("params.total", there), "<=", 9.0e9),
        Budget(Figure("latency.decode", timed), "<=", 42e-3),
    )


def best_s(work: Callable[[], object]) -> float:
    """Seconds of the best of some runs."""
    taken = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def rung_0(search: SearchFile) -> dict[str, float]:
    """Seconds to make the cost programs, and candidates a second of each way to use them."""
    space, limits = search.space, budgets()
    rng = np.random.default_rng(0)
    ranks = np.stack([rng.integers(0, len(c.values), CANDIDATES) for c in space.choices], axis=1)
    blocks = [ranks[at : at + BLOCK] for at in range(0, CANDIDATES, BLOCK)]
    one, meter = space.at(ranks[:1]), Meter(space)
    began = time.process_time()
    measured(meter, limits, search.objectives, one)
    made = time.process_time() - began
    ways: dict[str, Callable[[], object]] = {
        "budgets": lambda: [violations(meter, limits, space.at(b)) for b in blocks],
        "budgets, moved into them": lambda: [projected(space, meter, limits, b, itself=True) for b in blocks],
        "budgets and objectives": lambda: [measured(meter, limits, search.objectives, space.at(b)) for b in blocks],
    }
    inside = np.mean((violations(meter, limits, space.at(ranks)) <= 0).all(axis=0))
    found: dict[str, float] = {"programs made (s)": made, "within the budgets at once": float(inside)}
    return found | {name: CANDIDATES / best_s(work) for name, work in ways.items()}


def whole_s(search: SearchFile) -> float:
    """Seconds of the whole search, in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run_search(search, Path(folder) / "run")
        return time.perf_counter() - began


def trial_s(search: SearchFile) -> float:
    """Seconds of a trial that Optuna proposes and records."""
    known = {c.name: distribution(c) for c in search.space.choices}
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(Path(folder) / "study.log")
        study = open_study(storage, search.name, search.objectives, {"all": "benchmark"})
        began = time.process_time()
        for _ in range(TRIALS):
            study.tell(study.ask(known), [0.0 for _ in search.objectives])
        return (time.process_time() - began) / TRIALS


def main() -> None:
    """Print a line a figure."""
    search = load_search(FILE)
    found = rung_0(search)
    slowest = found["budgets, moved into them"]
    print(f"{'cost programs made, once':44s} {found.pop('programs made (s)'):9.2f} s")
    print(f"{'within the budgets at once':44s} {found.pop('within the budgets at once'):9.1%}")
    for name, rate in found.items():
        print(f"{'rung 0: ' + name:44s} {rate:9,.0f} /s  (limit {LEAST_PER_S:,} /s)")
    whole, trial = whole_s(search), trial_s(search)
    print(f"{f'archc search, {search.candidates:,} candidates':44s} {whole:9.2f} s  (limit {MOST_S:.0f} s)")
    told = (
        f"{trial * slowest:,.0f} candidates of rung 0; {search.candidates:,} trials: {trial * search.candidates:,.0f} s"
    )
    print(f"{'a trial of Optuna (journal, random)':44s} {trial * 1e3:9.2f} ms  ({told})")
    sys.exit(slowest < LEAST_PER_S or whole > MOST_S)


if __name__ == "__main__":
    main()
