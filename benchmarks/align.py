"""How fast layers align: `python benchmarks/align.py`.

Pairs of zoo models are aligned by structure, with everything computed anew. The exit status says whether the largest,
118 layers with 118, took longer than the limit.
"""

from __future__ import annotations

import dataclasses
import sys
import time

import networkx  # noqa: F401  (its import is not what is measured)

from archc.ir.align import align
from archc.ir.graph import Graph
from archc.ir.ops.mlp import MLP
from archc.resolve import load

LIMIT_S, RUNS = 0.1, 5
PAIRS = (
    ("nemotron-nano-12b-v2", "nemotron-nano-9b-v2"),
    ("llama-3.1-8b", "llama-3.1-minitron-4b-depth"),
    ("qwen2.5-72b", "llama-3.1-70b"),
    ("nemotron-3-super-120b-a12b", "nemotron-3-ultra-550b-a55b"),
    ("nemotron-h-56b", "nemotron-h-47b"),
)


def narrowed(graph: Graph) -> Graph:
    """The graph with every MLP narrower by a part of its own, so that no two layers are equal."""
    dims = [op.d_ff.name for op in graph.ops(MLP)]
    sizes = {name: 16 * (1024 + i) for i, name in enumerate(dims)}
    return graph.with_dims(lambda dim: dataclasses.replace(dim, size=sizes.get(dim.name, dim.size)))


def align_s(a: Graph, b: Graph) -> float:
    """Seconds of the best of some runs."""
    found = []
    for _ in range(RUNS):
        fresh = [dataclasses.replace(g) for g in (a, b)]
        for graph in fresh:
            _ = graph.hash  # that ids mean nothing is found out by hashes, which every graph needs once
        began = time.perf_counter()
        assert align(*fresh).by == "structure"
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    """Print milliseconds for every pair, and how many a pair of layers takes."""
    pairs = [(f"{a} - {b}", load(a), load(b)) for a, b in PAIRS]
    largest = load("nemotron-h-56b")
    pairs.append(("nemotron-h-56b - the same, every MLP its own width", largest, narrowed(largest)))
    for name, a, b in pairs:
        layers = [len(g.blocks["layers"]) for g in (a, b)]
        seconds = align_s(a, b)
        per_pair = 1e6 * seconds / (layers[0] * layers[1])
        print(
            f"{name:56s} {layers[0]:3d} x {layers[1]:3d}  {1e3 * seconds:6.1f} ms  {per_pair:5.2f} us a pair of layers"
        )
    print(f"limit for 118 x 118: {1e3 * LIMIT_S:.0f} ms")
    sys.exit(seconds > LIMIT_S)


if __name__ == "__main__":
    main()
