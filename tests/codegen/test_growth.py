"""Compiling a deep model costs what its layers cost: no step of it looks at all layers for each layer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from archc.codegen import emit_sources
from archc.ir.graph import Graph
from tests.codegen.conftest import ATTENTION, MAMBA, MLP_RELU2, model


def lines(work: Callable[[Graph], object], n: int) -> int:
    """How many lines of Python some work on a graph of n layers runs, every turn of a comprehension counted."""
    graph, count = deep(n), 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(graph)
    finally:
        sys.settrace(before)
    return count


def deep(n: int) -> Graph:
    return model("deep", [MAMBA, MLP_RELU2, ATTENTION, MLP_RELU2] * (n // 4))


def test_work_grows_with_depth_and_no_faster() -> None:
    emit_sources(deep(4))  # what is worked out once
    small, large = (lines(emit_sources, n) for n in (200, 800))
    assert large < 4.4 * small


def test_blocks_are_looked_up() -> None:
    def look(graph: Graph) -> None:
        for block in graph.blocks["layers"]:
            assert len(graph.block_nodes("layers", block)) == 3
        assert graph.block_nodes("layers", "nonsense") == ()

    small, large = (lines(look, n) for n in (200, 800))
    assert large < 4.4 * small
