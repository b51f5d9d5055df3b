"""The `library:` of a search file: by kind of layer, or by position, what may stand in a layer's place."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from archc.ir.graph import LAYERS, Graph
from archc.ir.op import field_types
from archc.ir.text_line import Line
from archc.kernels.errors import ArchcError, ParseError, SpecError, quoted, suggestion
from archc.passes import Pass, registered_passes
from archc.passes.text import options
from archc.search.library import DROP, KEEP, LAYERS_FIELD, Library, Variant, library, text_of
from archc.spec.choice import choose
from archc.yamlfile import Node, shown

Read: TypeAlias = tuple[list[Variant], list[SpecError]]
Classes: TypeAlias = Mapping[str, type[Any]]

# Shorter names; any other pass that takes `layers` goes by its own.
ALIASES = {"drop": "drop-layers", "linear": "replace-linear"}
WORDS = {KEEP.name: KEEP, DROP.name: DROP}
_NUMBERS = ("keep", "to", "count")  # options of which a list stands for a variant each


def read_library(node: Node | None, graph: Graph) -> tuple[Library | None, list[SpecError]]:
    """The library of a model, and what is wrong with it, each at its place."""
    if node is None or not isinstance(node.value, dict) or not node.value:
        wanted = "expected variants by kind of layer, such as `mlp: [keep, drop, linear]`"
        return None, [] if node is None else [node.error(f"`library`: {wanted}, got {shown(node.data)}")]
    errors: list[SpecError] = []
    kinds: dict[str, tuple[Variant, ...]] = {}
    places: dict[int, tuple[Variant, ...]] = {}
    for key, value in node.value.items():
        found, wrong = _entry(value)
        head, _, place = key.partition(".")
        position = int(place) if head == LAYERS and place.isdecimal() else None
        for variant, at in found:
            if position is None:
                kinds[key] = (*kinds.get(key, ()), variant)
            else:
                places[position] = (*places.get(position, ()), variant)
            alone = (variant,)
            one: Any = ({key: alone}, {}) if position is None else ({}, {position: alone})
            wrong += _problems(graph, one, value, at)
        errors += wrong
    if errors:
        return None, errors
    try:
        return library(graph, kinds, places), []
    except ArchcError as error:
        return None, [node.error(str(error))]


def _problems(graph: Graph, variants: Any, entry: Node, at: Node) -> Iterator[SpecError]:
    """What is wrong with one variant: a kind or a position that there is not is told of the entry."""
    try:
        library(graph, *variants)
    except ArchcError as error:
        told = str(error)
        yield SpecError(at.at if told.startswith("layer ") else entry.key_at, told)


def _entry(node: Node) -> tuple[list[tuple[Variant, Node]], list[SpecError]]:
    """The variants of a list."""
    if not isinstance(node.value, tuple) or not node.value:
        return [], [node.error(f"expected a list such as [keep, drop, linear], got {shown(node.data)}")]
    found: list[tuple[Variant, Node]] = []
    errors: list[SpecError] = []
    for item in node.value:
        made, wrong = _variants(item)
        errors += wrong
        for variant in made:
            if any(variant.name == known.name for known, _ in found):
                errors.append(item.error(f"variant {quoted(variant.name)} is there twice"))
            found.append((variant, item))
    return found, errors


def _variants(node: Node) -> Read:
    """A word, a pass with options, a text of passes, or a list of passes that make one variant together."""
    if isinstance(node.value, tuple):
        return _together(node)
    if isinstance(node.value, str) and node.value in WORDS:
        return [WORDS[node.value]], []
    if isinstance(node.value, str) and node.value not in _classes():
        return _text(node)
    made, errors = [], list[SpecError]()
    for one in _expanded(node):
        record, wrong = choose(one, "variant", _classes(), tuple(WORDS))
        errors += wrong
        made += [] if record is None else [_variant([record])]
    return made, errors


def _together(node: Node) -> Read:
    if not node.value:
        return [], [node.error("expected passes that make one variant together, got none")]
    records, errors = [], list[SpecError]()
    for item in node.value:
        record, wrong = choose(item, "pass", _classes())
        errors += wrong
        records += [] if record is None else [record]
    return ([_variant(records)] if records and not errors else []), errors


def _text(node: Node) -> Read:
    """`prune{dim=d_ff, keep=0.5}; prune{...}`."""
    line, records = Line("<variant>", 1, node.value), []
    try:
        while not line.done:
            start = line.tokens[line.at].column
            name = line.word("a pass")
            if name not in _classes():
                raise line.error(f"unknown variant {quoted(name)}{suggestion(name, {*WORDS, *_classes()})}", start)
            records.append(_classes()[name](**options(line, _classes()[name], start)))
            if not line.done:
                line.expect(";")
    except ParseError as error:
        return [], [SpecError(node.inside(error.at.column - 1), error.message)]
    return [_variant(records)], []


def _expanded(node: Node) -> Iterator[Node]:
    """`{prune: {dim: d_ff, keep: [0.75, 0.5]}}` is a variant for each share."""
    body = next(iter(node.value.values())) if isinstance(node.value, dict) and len(node.value) == 1 else None
    fields = body.value if body is not None and isinstance(body.value, dict) else {}
    several = next((name for name in _NUMBERS if name in fields and isinstance(fields[name].value, tuple)), None)
    if body is None or several is None or not fields[several].value:
        yield node
        return
    for one in fields[several].value:
        yield replace(node, value={next(iter(node.value)): replace(body, value={**fields, several: one})})


def _variant(records: Sequence[Any]) -> Variant:
    passes = tuple(_made(record) for record in records)
    names = [_alias(one) for one in passes]
    return Variant("; ".join(names), passes)


def _alias(one: Pass) -> str:
    """The text of a pass under the shorter name that it has."""
    for short, name in ALIASES.items():
        if one.name == name:
            return text_of(one).replace(name, short, 1)
    return text_of(one)


def _made(record: Any) -> Pass:
    given: dict[str, Any] = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    made: Pass = record.of(**given, **{LAYERS_FIELD: ()})
    return made


@functools.cache
def _classes() -> Classes:
    """Passes that take `layers`, by name, as records of their other options."""
    there = {one.name: one for one in registered_passes() if LAYERS_FIELD in field_types(one)}
    made = {name: _record(one) for name, one in there.items()}
    return made | {short: made[name] for short, name in ALIASES.items()}


def _record(one: type[Pass]) -> type[Any]:
    types = field_types(one)
    fields = [(f.name, types[f.name], f) for f in dataclasses.fields(one) if f.name != LAYERS_FIELD]
    plain = [(name, kind, _default(f)) for name, kind, f in fields]
    namespace = {"name": one.name, "of": one, "__doc__": one.__doc__}
    return dataclasses.make_dataclass(one.__name__, plain, frozen=True, kw_only=True, namespace=namespace)


def _default(field: dataclasses.Field[Any]) -> Any:
    return dataclasses.field() if field.default is dataclasses.MISSING else dataclasses.field(default=field.default)
