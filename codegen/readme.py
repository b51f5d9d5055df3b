"""README.md of an emitted package: the model as a table, and how to use it."""

from __future__ import annotations

import math
from collections import Counter

from archc.codegen.lm import Emitted
from archc.codegen.templates import render_template
from archc.ir.graph import Graph


def readme(graph: Graph, emitted: Emitted, package: str) -> str:
    """The text of README.md."""
    counts = {key: math.prod(shape) for key, shape in graph.weight_shapes().items()}
    return render_template(
        "README.md",
        name=graph.name,
        total=sum(counts.values()),
        package=package,
        rows=_rows(graph),
        mtp="mtp" in emitted.config,
    )


def _rows(graph: Graph) -> list[dict[str, str]]:
    """One row per distinct op that owns parameters: how often, its sizes, its parameters."""
    found: Counter[tuple[str, str, int]] = Counter()
    for node in graph.nodes:
        parameters = sum(math.prod(p.shape) for p in node.op.params())
        if parameters and not node.owner:
            sizes = ", ".join(f"{role} {d.size}" for role, d in node.op.dims.items())
            found[node.op.class_name, sizes, parameters] += 1
    return [
        {"kind": kind, "count": str(count), "sizes": sizes, "each": f"{each:,}", "all": f"{each * count:,}"}
        for (kind, sizes, each), count in found.items()
    ]
