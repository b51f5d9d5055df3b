"""Figures of the cost sheet that are sums over nodes: what a layer adds to them does not depend on the other layers.

They count exactly (ints and Fractions) what is whole or a share of a byte; seconds are float64. A budget on one of them
is linear in which variant stands in which layer's place.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from archc.ir.cost import sums
from archc.ir.cost_graph import Costed, serves
from archc.ir.cost_op import STATE_CLASSES
from archc.ir.graph import Graph
from archc.kernels.errors import SearchError
from archc.search.budgets import Budget
from archc.search.figures import Figure, Setting
from archc.search.mip import Cost, LinearBudget

Sum = Callable[[Costed, Setting], Cost]
RATE = "throughput.output_tokens"


def node_sum(figure: Figure, graph: Graph) -> Cost:
    """A figure of a graph's nodes, whatever their edges: bytes not rounded up, of a rate the seconds of one batch.

    Raises SearchError for a figure that is no sum over nodes, and a rate without a batch."""
    if figure.name not in _SUMS:
        raise SearchError(f"`{figure.name}` is no sum over layers: mip takes {', '.join(_SUMS)}")
    if figure.name == RATE and figure.setting.workload.batch is None:
        raise SearchError(f"`{RATE}` is linear in the layers only at a batch that is given: `at {{batch: 8, ...}}`")
    return _SUMS[figure.name](Costed(graph, figure.setting.formats), figure.setting)


def linear(budget: Budget, base: Cost) -> LinearBudget:
    """A budget as a limit on the sum over nodes, `base` being what no layer chooses."""
    limit: Cost = budget.limit
    if budget.figure.name == RATE:
        tokens = _tokens(budget.figure.setting)
        seconds = tokens / limit if limit > 0 else math.inf
        return LinearBudget(str(budget), seconds, "<=" if budget.sense == ">=" else ">=", base, "s a batch")
    if budget.figure.unit == "bytes":  # whole ones, as the sheet has them
        limit = math.floor(limit) if budget.sense == "<=" else math.ceil(limit)
    return LinearBudget(str(budget), limit, budget.sense, base, budget.figure.unit)


def figure_value(budget: Budget, total: Cost) -> float:
    """The figure that a budget limits, of the sum over nodes: of a rate tokens a second."""
    return _tokens(budget.figure.setting) / float(total) if budget.figure.name == RATE else float(total)


def _tokens(setting: Setting) -> int:
    """Tokens that a batch puts out in the seconds that a rate is taken over."""
    return setting.workload.sequences * (setting.workload.output or 1)


def _weights(costed: Costed, setting: Setting) -> Cost:
    return costed.sum("weight_bytes", {}, lambda group: group.owns)


def _state(name: str) -> Sum:
    def count(costed: Costed, setting: Setting) -> Cost:
        each = costed.sum(name, {"context": setting.workload.context}, serves)
        return setting.workload.sequences * each

    return count


def _resident(costed: Costed, setting: Setting) -> Cost:
    return _weights(costed, setting) + sum(_state(name)(costed, setting) for name in STATE_CLASSES)


def _timed(name: str) -> Sum:
    def count(costed: Costed, setting: Setting) -> Cost:
        return sums(costed, setting.workload, setting.hardware)[name]

    return count


def _batch_s(costed: Costed, setting: Setting) -> Cost:
    """Seconds of a batch that is prefilled and then decoded at the mean context, or of one step."""
    workload = setting.workload
    if not workload.output:
        return sums(costed, workload, setting.hardware)["decode_s"]
    mean: Any = workload.input + (workload.output + 1) / 2
    found = sums(costed, dataclasses.replace(workload, context=mean), setting.hardware)
    return found["prefill_s"] + workload.output * found["decode_s"]


_SUMS: Mapping[str, Sum] = {
    "params.total": lambda costed, setting: costed.params(),
    "params.active": lambda costed, setting: costed.params("active"),
    "memory.weights": _weights,
    **{f"memory.{name}": _state(name) for name in STATE_CLASSES},
    "memory.resident": _resident,
    "flops.decode": _timed("decode_flops"),
    "latency.prefill": _timed("prefill_s"),
    "latency.decode": _timed("decode_s"),
    RATE: _batch_s,
}
