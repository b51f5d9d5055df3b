"""How fast costing is: `python benchmarks/cost.py` prints one line per promise of the README.

10,000 candidates around Nemotron Nano 12B v2 (a width of its own for every layer, layers dropped) are costed for
parameters, memory and decode latency; `archc estimate` and `archc --help` are whole processes.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from archc.hardware import load_hardware
from archc.ir.cost_program import cost_program
from archc.ir.workload import Workload
from archc.spec import load_spec
from archc.zoo import path

CANDIDATES = 10_000
ROLES = ("d_ff", "heads_per_group", "head_dim", "queries_per_kv")
COMMANDS = {
    "archc --help": (["--help"], 0.3),
    "archc estimate": (["estimate", "nemotron-nano-9b-v2", "--hardware", "a10g", "--context", "128k"], 0.5),
}


def candidates_s() -> tuple[float, float]:
    """Seconds to make the program for the model, and to cost all candidates with it."""
    graph = load_spec(path("nemotron-nano-12b-v2")).graph()
    began = time.perf_counter()
    widths = ["d_model", *(name for name in graph.dims if name.rpartition(".")[2] in ROLES)]
    blocks = graph.blocks["layers"]
    workload, profile = Workload.of(context=131072), load_hardware("a10g")
    program = cost_program(graph, varying=widths, droppable=blocks, workload=workload, profile=profile)
    rng = np.random.default_rng(0)
    some = {name: np.ceil(graph.dims[name].size * rng.uniform(0.5, 1, CANDIDATES)) for name in widths}
    some |= {f"keep.{block}": (rng.random(CANDIDATES) < 0.9) * 1.0 for block in blocks}
    made = time.perf_counter()
    figures = program(some)
    assert all(len(figures[name]) == CANDIDATES for name in ("params_total", "peak_bytes", "decode_s"))
    return made - began, time.perf_counter() - made


def command_s(arguments: list[str]) -> float:
    """Seconds of the best of three runs of a command, start of Python included."""
    return min(_run_s(arguments) for _ in range(3))


def _run_s(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "archc", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print what took how long beside its limit."""
    made, costed = candidates_s()
    line = f"{CANDIDATES:,} candidates around nemotron-nano-12b-v2"
    print(f"{line:52s} {made + costed:6.3f} s  (limit 1 s; {costed:.3f} s after making the program)")
    for name, (arguments, limit) in COMMANDS.items():
        print(f"{name:52s} {command_s(arguments):6.3f} s  (limit {limit} s)")


if __name__ == "__main__":
    main()
