"""Reading `space`: values by path, conditions, which paths are sizes and counts and which are options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from archc.ir.graph import LAYERS, Graph
from archc.kernels.errors import ArchcError, SearchError, SpecError, UnitError, UnknownName, listed, suggestion
from archc.passes import Pass
from archc.passes.ranking import dims_of
from archc.passes.scores import Scores
from archc.search.choices import Choice, Option, Point
from archc.search.paths import where
from archc.search.space import Condition, Space
from archc.searching.around import (
    OFF,
    ON,
    PASSES,
    PLACE,
    Around,
    Model,
    PassOption,
    Written,
    is_count,
    with_options,
    with_path,
)
from archc.spec.change import field_of
from archc.spec.load import spec_ops
from archc.units import parse_count
from archc.yamlfile import Node, shown

_MOST_VALUES = 100_000
_RANGE = {"from", "to", "step"}
EACH, WHEN, VALUES = "each", "when", "values"


@dataclass(frozen=True)
class Entry:
    """A line of the space: its path and values as they are written, `numbers` where all are whole, and its node."""

    path: str
    values: tuple[Any, ...]
    numbers: tuple[int, ...]
    node: Node
    when: Node | None = None


def read_space(
    node: Node, graph: Graph, ranking: tuple[int, ...], passes: tuple[Pass, ...], scores: Scores | None
) -> tuple[Space | None, list[SpecError]]:
    """The space that a search file says, and everything that is wrong with it: None where anything is."""
    listed_ = node.child("space")
    if listed_ is None or not isinstance(listed_.value, dict) or not listed_.value:
        at = node if listed_ is None else listed_
        wanted = "expected values by path, such as `mlp.d_ff: {from: 8192, to: 16384}`"
        return None, [at.error(f"`space`: {wanted}")]
    ranking, errors = _known(node.child("ranking"), ranking, len(graph.blocks.get(LAYERS, ())))
    reader = _SpaceReader(Around(graph, passes, ranking=ranking, scores=scores), errors)
    space = reader.read(listed_, len(errors))
    return (None if reader.errors else space), reader.errors


def _known(node: Node | None, ranking: tuple[int, ...], layers: int) -> tuple[tuple[int, ...], list[SpecError]]:
    """The ranking of a base of so many layers, and what is wrong with it; one that cannot be taken is all layers, so
    that counts are not wrong for that too."""
    if node is None:
        return ranking, []
    wrong = [(i, place) for i, place in enumerate(ranking) if place >= layers]
    last = layers - 1
    errors = [
        node.error(f"`ranking`: the base has layers 0 to {last}: got {place}", loc=(i,)) for i, place in wrong[:1]
    ]
    return (tuple(range(layers)) if errors or (node.data and not ranking) else ranking), errors


def read_values(path: str, node: Node) -> tuple[int, ...]:
    """Whole numbers of `{from:, to:, step:}`, of a list, or of one number, in order. Raises SpecError."""
    data = node.data
    if isinstance(data, dict):
        return _range(path, node)
    listed_ = node.value if isinstance(node.value, tuple) else (node,)
    for one in listed_:
        if _whole(one.data) is None:
            raise one.error(f"`{path}`: expected whole numbers that are not negative, got {shown(one.data)}")
    if not listed_:
        raise node.error(f"`{path}`: expected {{from:, to:, step:}} or a list of values, got {shown(data)}")
    return tuple(sorted({n for one in listed_ if (n := _whole(one.data)) is not None}))


def _range(path: str, node: Node) -> tuple[int, ...]:
    """Whole numbers of `{from:, to:, step:}`. Raises SpecError at the entry that is wrong."""
    wanted = "expected {from:, to:, step:} or a list of values"
    unknown = [key for key in node.value if key not in _RANGE]
    missing = [key for key in ("from", "to") if key not in node.value]
    if unknown or missing:
        told = f"`{unknown[0]}` is none of these" if unknown else f"`{missing[0]}` is missing"
        raise node.error(f"`{path}`: {wanted}: {told}")
    bounds = {"step": 1}
    for key, child in node.value.items():
        number, least = _whole(child.data), int(key == "step")
        if number is None or number < least:
            raise child.error(f"`{path}`: `{key}`: expected a whole number, {least} or more, got {shown(child.data)}")
        bounds[key] = number
    first, last, step = bounds["from"], bounds["to"], bounds["step"]
    if first > last:
        raise node.error(f"`{path}`: `from` {first} is beyond `to` {last}", loc=("from",))
    found = range(first, last + 1, step)
    if len(found) >= _MOST_VALUES:
        raise node.error(f"`{path}`: {len(found):,} values, and fewer than {_MOST_VALUES:,} may be searched")
    return tuple(found)


@dataclass
class _SpaceReader:
    around: Around
    errors: list[SpecError]
    models: dict[tuple[tuple[str, int], ...], Model] = field(default_factory=dict)

    def read(self, node: Node, before: int) -> Space | None:
        """The space of a mapping of paths; None where there are more errors than so many of before."""
        entries = [e for path, child in node.value.items() for e in self._entries(path, child)]
        if len(self.errors) > before:
            return None
        for entry in entries:
            self._tried(entry, lambda entry=entry: self._sort(entry))
        if len(self.errors) > before:
            return None
        known = {o.name: o for o in self.around.options}
        self.around = replace(self.around, conditions=dict(self._conditions(entries, known)))
        if len(self.errors) > before:
            return None
        return self._whole_space(node, entries, before)

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _entries(self, path: str, node: Node) -> Iterator[Entry]:
        """What a line says: one path, or one for each layer."""
        body, when, each = node, None, False
        if isinstance(node.value, dict):
            when, each = node.child(WHEN), self._each(path, node.child(EACH))
            rest = {key: child for key, child in node.value.items() if key not in (WHEN, EACH)}
            body = rest[VALUES] if rest.keys() == {VALUES} else replace(node, value=rest)
        try:
            values, numbers = _read(path, body)
            paths = list(self._paths(path)) if each else [path]
        except SpecError as error:
            self.errors.append(error)
            return
        except ArchcError as error:
            self.errors.append(SpecError(node.key_at if isinstance(error, UnknownName) else node.at, str(error)))
            return
        for one in paths:
            yield Entry(one, values, numbers, node, when)

    def _each(self, path: str, node: Node | None) -> bool:
        if node is not None and node.value != "layer":
            self.errors.append(node.error(f"`{path}`: expected `each: layer`, got {shown(node.data)}"))
        return node is not None

    def _paths(self, path: str) -> Iterator[str]:
        """A path for each layer that one means. Raises ArchcError where it means none."""
        at, graph = where(path), self.around.base
        blocks = graph.blocks.get(LAYERS, ())
        found = [
            i
            for i, block in enumerate(blocks)
            if (not at.layers or i in at.layers) and at.kind in ("", graph.node(f"{block}.mixer").op.kind)
        ]
        kinds = sorted({graph.node(f"{block}.mixer").op.kind for block in blocks})
        if at.kind and at.kind not in kinds:
            raise UnknownName(f"kind of layer in `{graph.name}`", at.kind, kinds)
        if not found or not at.kind:
            raise SearchError(
                f"`{path}`: `each: layer` goes with `layers.*.KIND.FIELD`, where the model has such layers"
            )
        for i in found:
            yield ".".join([LAYERS, str(i), at.kind, *at.fields])

    # -- sizes and counts, or options ----------------------------------------------------------------------------------

    def _sort(self, entry: Entry) -> None:
        """Add what an entry is to what surrounds the base. Raises ArchcError."""
        around = self.around
        head, _, rest = entry.path.partition(".")
        if head == PASSES:
            self.around = replace(around, settings=(*around.settings, self._setting(entry, rest)))
        elif is_count(entry.path) or head == PLACE or self._is_size(entry.path):
            if not entry.numbers:
                raise SearchError(f"`{entry.path}`: expected whole numbers, got {listed(list(map(str, entry.values)))}")
            self.around = replace(around, plain=(*around.plain, Written(entry.path, entry.numbers)))
        else:
            self.around = replace(around, fields=(*around.fields, self._field(entry)))

    def _is_size(self, path: str) -> bool:
        """Whether a path means dims of the base; or of no field either, so that the error is that of a dim."""
        at = where(path)
        if len(at.fields) > 1:
            return False
        try:
            return bool(dims_of(self.around.base, at.fields[0], at.kind, at.layers))
        except UnknownName:
            return False

    def _setting(self, entry: Entry, rest: str) -> PassOption:
        """`passes.prune.to`, `passes.0.to`, `passes.prune`: an option of a pass, or whether it is there."""
        key, _, name = rest.partition(".")
        names = [one.name for one in self.around.passes]
        if not names:
            raise SearchError(f"`{entry.path}`: there are no `passes` in the file")
        if not key.isdecimal() and names.count(key) > 1:
            times = f"`{key}` is there {names.count(key)} times"
            raise SearchError(f"`{entry.path}`: {times}: name it by its place, from 0")
        if not (key.isdecimal() and int(key) < len(names)) and key not in names:
            raise UnknownName("pass in `passes`", key, names)
        index = int(key) if key.isdecimal() else names.index(key)
        if not name:
            wrong = [v for v in entry.values if v not in (ON, OFF)]
            if wrong:
                raise SearchError(f"`{entry.path}`: expected `{ON}` and `{OFF}`, got {wrong[0]}")
            return PassOption(_option(entry, entry.values.index(ON) if ON in entry.values else -1), index)
        one = self.around.passes[index]
        made = [with_options(one, {name: value}) for value in entry.values]
        return PassOption(_option(entry, made.index(one) if one in made else -1), index, name)

    def _field(self, entry: Entry) -> Option:
        """A field of the spec, each of its values checked."""
        spec = self.around.spec
        try:
            made = [with_path(spec, entry.path, value) for value in entry.values]
        except UnknownName as error:
            at = where(entry.path)
            roles = {role for n in self.around.base.nodes if n.op.kind == at.kind for role in n.op.dims}
            if at.kind and at.kind == error.name:  # neither a field of the spec nor a kind
                kinds = {op_kind for op_kind in spec_ops() if any(n.op.kind == op_kind for n in self.around.base.nodes)}
                raise UnknownName("kind of layer or field of a spec", at.kind, {*error.known, *kinds}) from None
            raise UnknownName(error.kind, error.name, {*error.known, *roles}) from None
        if spec in made or not entry.numbers:
            return _option(entry, made.index(spec) if spec in made else -1)
        at = where(entry.path)
        own = field_of(spec, at.kind, at.fields)
        return replace(_option(entry, -1), had=own if type(own) is int else -1)

    # -- conditions ----------------------------------------------------------------------------------------------------

    def _conditions(self, entries: Sequence[Entry], options: Mapping[str, Option]) -> Iterator[tuple[str, Condition]]:
        """`when: {path: values}` of each entry."""
        by_path = {entry.path: entry for entry in entries}
        for entry in entries:
            if entry.when is None:
                continue
            given = entry.when.value if isinstance(entry.when.value, dict) else {}
            if len(given) != 1 or next(iter(given)) not in by_path:
                wanted = "one path of the space with the values at which this counts"
                wrong = next((name for name in given if name not in by_path), None)
                told = f": there is no `{wrong}`{suggestion(wrong, by_path)}" if wrong is not None else ""
                self.errors.append(entry.when.error(f"`{entry.path}`: `when`: expected {wanted}{told}"))
                continue
            ((on, node),) = given.items()
            if entries.index(by_path[on]) >= entries.index(entry):
                message = f"`{entry.path}` depends on `{on}`, which must stand before it in the space"
                self.errors.append(entry.when.error(message))
                continue
            try:
                wanted_values, numbers = _read(on, node)
            except SpecError as error:
                self.errors.append(error)
                continue
            meanings = options[on].meanings if on in options else ()
            unknown = [v for v in wanted_values if v not in meanings] if meanings else []
            if unknown:
                self.errors.append(node.error(f"`{on}` is never {shown(unknown[0])}"))
            else:
                values = tuple(meanings.index(v) for v in wanted_values) if meanings else numbers
                yield entry.path, Condition(on, values)

    # -- the whole -----------------------------------------------------------------------------------------------------

    def _whole_space(self, node: Node, entries: Sequence[Entry], before: int) -> Space | None:
        """The space, each entry resolved in a model in which it counts."""
        around = self.around
        start = {o.name: o.nearest for o in around.options}
        options: dict[str, Choice] = {o.name: o for o in around.options}
        plain = {written.path: written for written in around.plain}
        made: list[Choice] = []
        said: dict[str, str] = {}
        for entry in entries:
            chosen = {**start, **self._chosen(entry.path, start)}
            if entry.path in options:
                made.append(options[entry.path])
                for value in options[entry.path].values:
                    self._tried(entry, lambda given={**chosen, entry.path: value}: self._model(given))
                continue
            written = plain[entry.path]
            own = self._tried(entry, lambda w=written, c=chosen: around.choices(self._model(c), w)) or ()
            self._say(entry, own, said)
            made += own
        if len(self.errors) > before:
            return None
        try:
            if not around.options:
                return around.space({})
            return Space(self._model(start).graph, tuple(made), around.conditions_of(made), make=around.space)
        except ArchcError as error:
            self.errors.append(node.error(str(error)))
            return None

    def _say(self, entry: Entry, choices: Sequence[Choice], said: dict[str, str]) -> None:
        """Note where choices of an entry say what those of another, before it, have `said`."""
        for symbol in (symbol for c in choices for symbol, _ in c.symbols(np.array(c.values[:1]))):
            other = said.setdefault(symbol, entry.path)
            if other != entry.path:
                what = symbol.removeprefix("keep.")
                message = f"`{other}` and `{entry.path}` both say what `{what}` is"
                self.errors.append(SpecError(entry.node.key_at, message))
                return

    def _model(self, chosen: Point) -> Model:
        """The model for values of the options, made once."""
        key = tuple(sorted(chosen.items()))
        if key not in self.models:
            self.models[key] = self.around.model(chosen)
        return self.models[key]

    def _chosen(self, path: str, start: Point) -> dict[str, int]:
        """Values of the options at which a path counts."""
        condition = self.around.conditions.get(path)
        if condition is None:
            return {}
        here = {condition.on: condition.values[0]} if condition.on in start else {}
        return {**self._chosen(condition.on, start), **here}

    def _tried(self, entry: Entry, make: Any) -> Any:
        """What `make` gives, or None, its error noted at the entry."""
        try:
            return make()
        except ArchcError as error:
            at = entry.node.key_at if isinstance(error, UnknownName) else entry.node.at
            self.errors.append(SpecError(at, str(error)))
        return None


def _read(path: str, node: Node) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """The values of a line, and as whole numbers where they are. Raises SpecError."""
    data = node.data
    if isinstance(data, dict) and not data.keys() <= _RANGE:
        known = listed([*sorted(_RANGE), VALUES, EACH, WHEN])
        raise node.error(f"`{path}`: expected some of {known}, or a list of values")
    values = data if isinstance(data, list) else [data]
    if not values:
        raise node.error(f"`{path}`: expected at least one value")
    try:
        numbers = read_values(path, node)
    except SpecError:
        if isinstance(data, dict) or any(_whole(v) is not None or v is None for v in values):
            raise
        return tuple(values), ()
    return numbers, numbers


def _option(entry: Entry, had: int) -> Option:
    """The choice of an option; whole numbers are their own values."""
    if entry.numbers:
        return Option(entry.path, entry.numbers, had=entry.numbers[had] if had >= 0 else -1)
    return Option(entry.path, tuple(range(len(entry.values))), meanings=entry.values, had=had)


def _whole(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool | float) or value is None else parse_count(value)
    except UnitError:
        return None
