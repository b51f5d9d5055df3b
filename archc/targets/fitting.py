"""Whether a runtime can load a graph, and everything that stands against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from archc.hub.family import Family, families
from archc.hub.fit import Found, Rule, Violation, distance, in_order
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
    """The family that export would write for this runtime, where that fits; else the nearest one, and why not."""
    known = families()
    among = [(known[name], rules) for name, rules in (target.families or {}).items()]
    written = next(((one, rules) for one, rules in among if not one.violations(spec)), None)
    if written and not _against(*written, target, spec, tp):
        return written[0], ()
    broken = {one: found for one, rules in among if (found := _against(one, rules, target, spec, tp))}
    near = min(broken, key=lambda one: distance(spec, broken[one]))
    return near, broken[near]


def _against(family: Family, rules: tuple[Rule, ...], target: Runtime, spec: Spec, tp: int) -> tuple[Violation, ...]:
    """What a model breaks of a family's rules and of the runtime's."""
    theirs = (v for rule in (*rules, *target.rules) for v in rule.violations(spec, tp))
    return in_order(spec, _distinct((*family.violations(spec), *theirs)))


def _distinct(violations: Iterable[Violation]) -> Iterable[Violation]:
    """Each fault once, where a rule of the format and one of the runtime both find it."""
    return {(one.at.scope, one.at.field, str(one.at.expected)): one for one in violations}.values()
