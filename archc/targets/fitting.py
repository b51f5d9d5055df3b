"""Whether a runtime can load a graph, and everything that stands against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from archc.hub.bare_config import nearest_family
from archc.hub.family import Family, families
from archc.hub.fit import Found, Violation, in_order
from archc.ir.graph import Graph
from archc.kernels.errors import ArchcError, UnsupportedError
from archc.spec.model import Spec, spec_from_graph
from archc.targets.rules import CHAIN, ONE_PROCESS
from archc.targets.table import Runtime, runtime


@dataclass(frozen=True)
class Fit:
    """How a graph fits a runtime: as which family (the nearest where it does not), and the violations."""

    target: str
    family: str
    violations: tuple[Violation, ...]

    def __bool__(self) -> bool:
        return not self.violations


def check(graph: Graph, target: str, tp: int = 1) -> tuple[Violation, ...]:
    """Why `target` cannot load `graph` cut among `tp` processes: every violation with its layer; none where it can.

    Raises UnknownName for a target that there is not."""
    return fit(graph, target, tp).violations


def fit(graph: Graph, target: str, tp: int = 1) -> Fit:
    """How `graph` fits `target`; see `check`."""
    found = runtime(target)
    if tp < 1:
        raise ArchcError(f"the tensor-parallel size must be at least 1: got {tp}")
    split = () if found.parallel or tp == 1 else (ONE_PROCESS.broken(Found("", "processes", tp, 1)),)
    if found.families is None:
        return Fit(target, "", split)
    try:
        spec = spec_from_graph(graph)
    except UnsupportedError as error:
        return Fit(target, "", (*split, CHAIN.broken(Found("", "", str(error)))))
    family, violations = _as_family(found, spec, tp)
    nodes = {graph.scopes[node.id]: node.id for node in graph.nodes if not node.owner}
    placed = (replace(one, node=nodes.get(one.at.scope, "")) for one in violations)
    return Fit(target, family.model_type, (*split, *placed))


def _as_family(target: Runtime, spec: Spec, tp: int) -> tuple[Family, tuple[Violation, ...]]:
    """The family that export would write for this runtime, or the nearest one, and what is against it."""
    mine = target.families or {}
    among = [one for name, one in families().items() if name in mine]
    family = next((one for one in among if not one.violations(spec)), None) or nearest_family(spec, among)
    rules = (*mine[family.model_type], *target.rules)
    return family, in_order(
        spec, _distinct((*family.violations(spec), *(v for r in rules for v in r.violations(spec, tp))))
    )


def _distinct(violations: Iterable[Violation]) -> Iterable[Violation]:
    """Each fault once: a format's rule and a runtime's may find the same value too much."""
    return {(one.at.scope, one.at.field, str(one.at.expected)): one for one in violations}.values()
