"""Rules for what a format or a runtime can take: data with a name, what it says, and a check that lists violations.

A family's rules are what export refuses by, and `archc.targets` asks the same ones, so that both always agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from archc.hub.config import Bind
from archc.ir.graph import LAYERS, MTP_LAYERS
from archc.spec.model import Block, Spec

EXPERTS = ("moe", "latent_moe")
# Fields that a block of another kind stands for, when distances are compared.
OTHER_KIND = 5


class Found(NamedTuple):
    """A place that breaks a rule: `scope` (`layers.3.mixer`; "" for the whole model), a `field` there, its value."""

    scope: str
    field: str
    found: Any
    expected: Any = ""
    why: str = ""

    def __str__(self) -> str:
        text = f"{self.field} {self.found}" if self.field else str(self.found)
        text = f"{self.scope}: {text}" if self.scope else text
        text = f"{text}, expected {self.expected}" if self.expected != "" else text
        return f"{text} ({self.why})" if self.why else text


@dataclass(frozen=True)
class Violation:
    """A rule by name, what it says, and where a model breaks it; `node` is the node there, where a graph is known."""

    rule: str
    says: str
    at: Found
    node: str = ""

    def __str__(self) -> str:
        return str(self.at)


def _nothing(spec: Spec, tp: int) -> Iterator[Found]:
    return iter(())


@dataclass(frozen=True)
class Rule:
    """One thing that a format or runtime wants of a model; `find` takes the spec and the tensor-parallel size.

    A rule without one is held where it is used, because it is about more than a spec (`broken`).
    Where a rule that `gates` is broken, a format has no words to go on with: what else it lacks is not looked for."""

    name: str
    says: str
    find: Callable[[Spec, int], Iterator[Found]] = _nothing
    gates: bool = False

    def violations(self, spec: Spec, tp: int = 1) -> tuple[Violation, ...]:
        """Every place where a model breaks the rule."""
        return tuple(map(self.broken, self.find(spec, tp)))

    def broken(self, found: Found) -> Violation:
        """The rule, broken at a place."""
        return Violation(self.name, self.says, found)


def placed(spec: Spec) -> Iterator[tuple[str, Block]]:
    """Every block with the scope of its mixer, those of MTP last."""
    for region, blocks in ((LAYERS, spec.layers), (MTP_LAYERS, spec.mtp.layers if spec.mtp else ())):
        for i, one in enumerate(blocks):
            yield f"{region}.{i}.mixer", one


def in_order(spec: Spec, violations: Iterable[Violation]) -> tuple[Violation, ...]:
    """Violations by place: those of the whole model, then layer by layer."""
    order = {scope: i for i, (scope, _) in enumerate(placed(spec))}
    return tuple(sorted(violations, key=lambda one: order.get(one.at.scope, -1)))


def distance(spec: Spec, violations: Iterable[Violation]) -> int:
    """How far a model is from what it breaks the rules of, in fields.

    A block of another kind counts as one whose every field is wrong; what concerns the whole model, for all layers."""
    places = (one.at for one in violations)
    return sum((1 if at.field else OTHER_KIND) * (1 if at.scope else len(spec.layers) + 1) for at in places)


def said_of(spec: Spec, bind: Bind) -> Iterator[tuple[str, str, Any]]:
    """(scope, field, value) of everything in a model that one config field speaks of."""
    fields = [path.rpartition(".")[::2] for path in bind.to]
    for kind, name in fields:
        if kind == "norm":
            yield kind, name, getattr(spec.norm, name)
    for scope, one in placed(spec):
        for kind, name in fields:
            if one.kind == kind:
                yield scope, name, getattr(one.fields, name)


# -- rules that several families or runtimes share ---------------------------------------------------------------------


def one_size(
    binds: Iterable[Bind], free: frozenset[str] = frozenset(), says: str = "one size per kind of block"
) -> Rule:
    """One value for all blocks of a kind, but for the config fields `free`, which each block has for itself.

    The commonest value is the one expected, so that the layers found are those that a pass has changed."""
    fixed = [one for one in binds if one.key not in free]

    def find(spec: Spec, tp: int) -> Iterator[Found]:
        for one in fixed:
            said = list(said_of(spec, one))
            common = next(iter(Counter(value for *_, value in said).most_common(1)), None)
            for scope, name, value in said:
                if common and value != common[0]:
                    yield Found(scope, name, value, common[0], f"`{one.key}` says it once for all layers")

    return Rule("one-size", says, find)


def _no_layers(spec: Spec, tp: int) -> Iterator[Found]:
    if not spec.layers:
        yield Found("", "layers", 0, "at least 1")


SOME_LAYERS = Rule("layers", "at least one layer", _no_layers, gates=True)


def kinds(allowed: Sequence[str], says: str) -> Rule:
    """Only blocks of some kinds."""

    def find(spec: Spec, tp: int) -> Iterator[Found]:
        for scope, one in placed(spec):
            if one.kind not in allowed:
                yield Found(scope, "", one.kind, " or ".join(allowed))

    return Rule("kinds", says, find, gates=True)


def words(binds: Iterable[Bind]) -> Rule:
    """Only values that the config fields have words for."""
    worded = [(one, one.values) for one in binds if one.values is not None]

    def find(spec: Spec, tp: int) -> Iterator[Found]:
        for one, values in worded:
            known = dict.fromkeys(values.values())
            for scope, name, value in said_of(spec, one):
                if value not in known:
                    yield Found(scope, name, value, " or ".join(known), f"`{one.key}` has no other word")

    return Rule("words", "activations that its config.json has words for", find, gates=True)
