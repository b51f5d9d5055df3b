"""What surrounds a base in a search file: the graph for each combination of options, and sizes and layers around it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from archc.ir.arrange import arranged
from archc.ir.graph import LAYERS, Graph
from archc.kernels.errors import ArchcError, PassError, SearchError, UnknownName
from archc.passes import Context, Pass, apply
from archc.passes.ranking import FIRST
from archc.passes.scores import Scores
from archc.search.choices import Choice, Option, Point, count, positions, size
from archc.search.paths import where
from archc.search.space import Condition, Space
from archc.spec import spec_from_graph
from archc.spec.change import with_field
from archc.spec.choice import read_record
from archc.spec.load import spec_ops
from archc.spec.model import Spec
from archc.spec.records import given
from archc.yamlfile import load_yaml

PASSES, PLACE = "passes", "place"
ON, OFF = "on", "off"


@dataclass(frozen=True)
class Written:
    """A path of sizes, counts or places, with its values in order."""

    path: str
    values: tuple[int, ...]

    @property
    def kind(self) -> str | None:
        """The kind whose layers it counts, "" for all of them; None for a path that counts no kind's layers."""
        head, _, of = self.path.partition(".")
        return of if head == LAYERS and not any(c in of for c in ".*,-") and not of.isdecimal() else None

    @property
    def placed(self) -> str | None:
        """The kind whose layers it places, if it does."""
        head, _, of = self.path.partition(".")
        return of if head == PLACE else None


@dataclass(frozen=True)
class PassOption:
    """An option of one of the passes that candidates begin with, or, where `name` is empty, whether it is there."""

    option: Option
    index: int
    name: str = ""


@dataclass(frozen=True)
class Model:
    """What options make of a base: its graph with every layer that a candidate may have (`copies` are those that it
    did not have, with what they copy), the passes, what is written of it, and the fields that are not the base's."""

    graph: Graph
    copies: Mapping[str, str]
    passes: tuple[Pass, ...]
    here: tuple[Written, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Around:
    """A base model, the `passes` that every candidate begins with, and what is written of the space around it.

    `fields` are choices of fields of the spec, by path, and `settings` those of options of passes: a graph is built,
    and the `plain` choices read, for each combination of them. `conditions` are those of `Space`."""

    base: Graph
    passes: tuple[Pass, ...] = ()
    plain: tuple[Written, ...] = ()
    ranking: tuple[int, ...] = ()
    scores: Scores | None = None
    fields: tuple[Option, ...] = ()
    settings: tuple[PassOption, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    @cached_property
    def spec(self) -> Spec:
        """The base as a spec. Raises UnsupportedError for one that no spec can say."""
        return spec_from_graph(self.base)

    @property
    def options(self) -> tuple[Option, ...]:
        """All choices that a graph is built for."""
        return (*self.fields, *(setting.option for setting in self.settings))

    def space(self, chosen: Point) -> Space:
        """The space of the plain choices around the model that values of the options make. Raises ArchcError."""
        model = self.model(chosen)
        choices = tuple(c for w in model.here for c in self.choices(model, w))
        names = ", ".join(f"`{name}`" for name in model.changed)
        return Space(
            model.graph,
            choices,
            self.conditions_of(choices),
            before="; ".join(map(str, model.passes)),
            apart=f"no pass changes {names} of a model with weights" if names else "",
        )

    def model(self, chosen: Point) -> Model:
        """The model that values of the options make of the base. Raises ArchcError."""
        changed = [o for o in self.fields if self._says(o, chosen) and chosen[o.name] != o.had]
        passes = tuple(self._passes(chosen))
        here = tuple(w for w in self.plain if self._counts(w.path, chosen))
        graph, copies = _grown(self._applied(self._spec(changed, chosen), passes), here)
        return Model(graph, copies, passes, here, tuple(o.name for o in changed))

    def choices(self, model: Model, written: Written) -> Sequence[Choice]:
        """The choices that a path means in a model. Raises SearchError, UnknownName."""
        path, values = written.path, written.values
        if written.placed is not None:
            placed = [w.placed for w in model.here if w.placed is not None]
            return positions(model.graph, path, values, placed, model.copies)
        if is_count(path):
            return [count(model.graph, path, values, self.ranking, model.copies)]
        return [size(model.graph, path, values, model.copies)]

    def conditions_of(self, choices: Sequence[Choice]) -> dict[str, Condition]:
        """The conditions among some choices: those that are written, and of a layer's place that there is such one."""
        by_name = {c.name: c for c in choices}
        made = {name: c for name, c in self.conditions.items() if name in by_name and c.on in by_name}
        for name in by_name:
            head, _, rest = name.partition(".")
            kind, _, nth = rest.rpartition(".")
            counted = by_name.get(f"{LAYERS}.{kind}")
            if head == PLACE and counted is not None:
                made[name] = Condition(counted.name, tuple(v for v in counted.values if v >= int(nth)))
        return made

    def _counts(self, name: str, chosen: Point) -> bool:
        """Whether a choice means something, as far as options decide that."""
        condition = self.conditions.get(name)
        if condition is None or condition.on not in chosen:
            return True
        return chosen[condition.on] in condition.values and self._counts(condition.on, chosen)

    def _says(self, option: Option, chosen: Point) -> bool:
        return chosen[option.name] in option.values and self._counts(option.name, chosen)

    # -- graphs --------------------------------------------------------------------------------------------------------

    def _spec(self, changed: Sequence[Option], chosen: Point) -> Graph:
        """The base with other fields of its spec."""
        spec = self.spec if changed else None
        for option in changed:
            assert spec is not None
            spec = with_path(spec, option.name, option.meaning(chosen[option.name]))
        return spec.graph() if spec else self.base

    def _passes(self, chosen: Point) -> Iterator[Pass]:
        """The passes, with the options that are chosen."""
        for i, one in enumerate(self.passes):
            mine = [s for s in self.settings if s.index == i and self._says(s.option, chosen)]
            told = {s.name: s.option.meaning(chosen[s.option.name]) for s in mine}
            if told.pop("", ON) == ON:
                yield with_options(one, told)

    def _applied(self, graph: Graph, passes: tuple[Pass, ...]) -> Graph:
        """What passes make of a graph; one that has no scores yet to choose units by takes the first, of equal size."""
        for one in passes:
            try:
                graph, _ = apply(graph, one, Context(scores=self.scores))
            except PassError as error:
                if self.scores is not None or not hasattr(one, "by"):
                    raise
                unscored: Any = {"by": FIRST}
                try:
                    graph, _ = apply(graph, replace(one, **unscored))
                except PassError:
                    raise error from None  # it is not for want of scores
        return graph


def is_count(path: str) -> bool:
    """Whether a path counts layers: `layers`, `layers.mlp`, `layers.3`.

    >>> is_count("layers.mlp"), is_count("layers.3"), is_count("layers.3.mlp.d_ff")
    (True, True, False)
    """
    head, _, of = path.partition(".")
    return head == LAYERS and "." not in of and not any(c in of for c in "*,-")


def with_path(spec: Spec, path: str, value: Any) -> Spec:
    """The spec with the field that a path names changed. Raises UnknownName, SearchError."""
    at = where(path)
    kind, fields = (at.kind, at.fields) if at.kind in spec_ops() else ("", tuple(filter(None, (at.kind, *at.fields))))
    try:
        return with_field(spec, kind, fields, value, at.layers)
    except UnknownName:
        raise
    except ArchcError as error:
        raise SearchError(f"`{path}: {value}`: {error}") from None


def with_options(one: Pass, options: Mapping[str, Any]) -> Pass:
    """A pass with other options, checked as those of a recipe are. Raises UnknownName, SearchError."""
    if not options:
        return one
    known = [f for f in one.__dataclass_fields__]
    for name in options:
        if name not in known:
            raise UnknownName(f"option of {one.name}", name, known)
    made, errors = read_record(load_yaml(json.dumps({**given(one), **options}), file=one.name), type(one))
    if made is None:
        raise SearchError("; ".join(error.message for error in errors))
    changed: Pass = made
    return changed


def _grown(graph: Graph, here: Sequence[Written]) -> tuple[Graph, dict[str, str]]:
    """The graph with as many layers of each kind as any candidate has, and the new blocks with what they copy.

    The new ones stand evenly through the depth, each after the layer, and a copy of the nearest of its kind."""
    blocks = graph.blocks.get(LAYERS, ())
    kinds = {block: graph.node(f"{block}.mixer").op.kind for block in blocks}
    after: dict[int, list[tuple[str, str]]] = {}
    for kind, most in ((w.kind, w.values[-1]) for w in here if w.kind):
        mine = [i for i, block in enumerate(blocks) if kinds[block] == kind]
        extra = most - len(mine)
        for n in range(1, extra + 1 if mine else 1):
            place = n * len(blocks) // (extra + 1) - 1
            source = blocks[min(mine, key=lambda i: abs(i - place))]
            after.setdefault(place, []).append((f"{source}_{n}", source))
    if not after:
        return graph, {}
    order = [pair for i, block in enumerate(blocks) for pair in ((block, block), *after.get(i, ()))]
    return arranged(graph, LAYERS, order), {name: block for name, block in order if name != block}
