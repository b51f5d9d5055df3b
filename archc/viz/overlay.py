"""Overlays: values of a model's nodes that `archc show` draws, on the terminal and on the page. docs/overlay.md.

Importance, sensitivity, expert load, formats and elastic sizes are all the same thing to whoever draws them: values
of a node, of the units of one of its dims, or of one of its parameters. Whatever computes such things writes this
one form.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from archc.ir.dims import Dim
from archc.ir.formats import Format, get_format
from archc.ir.graph import Graph, Node
from archc.kernels.errors import ParseError, Place, SpecError, SpecErrors, UnknownName, clipped, quoted, suggestion

VERSION = 1
WHOLE = "*"  # the key of a node's score
_FIELDS = ("archc_overlay", "title", "graph", "nodes")
_SHORTEST_HASH = 8
_LONGEST_TITLE = 100


@dataclass(frozen=True)
class Units:
    """One number for each unit of a dim; of a dim within others, for each unit of every row, row after row."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Choices:
    """The sizes that an elastic dim may take."""

    sizes: tuple[int, ...]


# A score of the node, values or sizes of one of its dims, or the format of one of its parameters.
Value: TypeAlias = float | Units | Choices | Format


@dataclass(frozen=True)
class Overlay:
    """Values by node id and key: `*` for the node, the role of a dim, or the name of a parameter.

    `graph` is the hash of the graph that they belong to, empty where any graph with these nodes will do."""

    title: str
    nodes: Mapping[str, Mapping[str, Value]]
    graph: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data: what a file holds."""
        named = {"graph": self.graph} if self.graph else {}
        nodes = {name: {key: _plain(value) for key, value in values.items()} for name, values in self.nodes.items()}
        return {"archc_overlay": VERSION, "title": self.title, **named, "nodes": nodes}


def overlay_json(overlay: Overlay) -> str:
    """The text of an overlay's file: what `load_overlays` reads.

    >>> print(overlay_json(Overlay("choices", {"L1.mixer": {"d_ff": Choices((64, 128))}})), end="")
    {"archc_overlay": 1, "title": "choices", "nodes": {
    "L1.mixer": {"d_ff": {"choices": [64, 128]}}
    }}
    """
    data = overlay.to_json()
    nodes = data.pop("nodes")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(values, allow_nan=False)}" for name, values in nodes.items())
    return f'{json.dumps(data)[:-1]}, "nodes": {{\n{lines}\n}}}}\n'


def _plain(value: Value) -> Any:
    if isinstance(value, Units):
        return list(value.values)
    if isinstance(value, Choices):
        return {"choices": list(value.sizes)}
    return value.name if isinstance(value, Format) else value


def load_overlays(files: Sequence[Path], graph: Graph) -> tuple[Overlay, ...]:
    """The overlays of files, each held against the graph.

    Raises SpecErrors with everything that is wrong in all of them, or ParseError for a file that is no JSON."""
    readers = [_Reader(file, graph) for file in files]
    overlays = tuple(reader.read() for reader in readers)
    errors = [error for reader in readers for error in reader.errors]
    if errors:
        raise SpecErrors(errors)
    return overlays


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Reads one file. What is wrong is listed in `errors`, and left out of what is read."""

    file: Path
    graph: Graph
    errors: list[SpecError] = field(default_factory=list)

    def wrong(self, path: str, message: str) -> None:
        """List an error at a path inside the JSON."""
        place = f"{path}: " if path else ""
        self.errors.append(SpecError(Place(str(self.file)), f"{place}{message}"))

    def read(self) -> Overlay:
        data = self.mapping("", self.parsed(), "an overlay such as docs/overlay.md describes")
        for name in data:
            if name not in _FIELDS:
                self.wrong("", f"unknown field {quoted(name)}{suggestion(name, _FIELDS)}")
        if not _is_whole(data.get("archc_overlay")) or data["archc_overlay"] != VERSION:
            self.wrong("archc_overlay", f"expected {VERSION}, got {_shown(data.get('archc_overlay'))}")
        given = self.mapping("nodes", data.get("nodes"), "node ids and their values")
        nodes = {name: self.node(name, values) for name, values in given.items()}
        return Overlay(self.title(data.get("title")), nodes, self.hash(data.get("graph", "")))

    def parsed(self) -> Any:
        try:
            return json.loads(self.file.read_bytes(), object_pairs_hook=self.object)
        except json.JSONDecodeError as error:
            raise ParseError(Place(str(self.file), error.lineno, error.colno), f"not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise ParseError(Place(str(self.file)), f"not JSON: {error}") from None

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """A JSON object; a name that stands in it twice is an error."""
        for name, times in Counter(name for name, _ in pairs).items():
            if times > 1:
                self.wrong("", f"{quoted(name)} stands {times} times in one object")
        return dict(pairs)

    def mapping(self, path: str, value: Any, expected: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.wrong(path, f"expected an object of {expected}, got {_shown(value)}" if path else f"expected {expected}")
        return {}

    def title(self, value: Any) -> str:
        if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= _LONGEST_TITLE:
            return value
        self.wrong("title", f"expected text of at most {_LONGEST_TITLE} printable characters, got {_shown(value)}")
        return ""

    def hash(self, value: Any) -> str:
        if value == "":
            return ""
        if not isinstance(value, str) or len(value) < _SHORTEST_HASH:
            self.wrong("graph", f"expected a graph's hash, at least {_SHORTEST_HASH} digits of it, got {_shown(value)}")
        elif not self.graph.hash.startswith(value):
            mine = f"`{self.graph.name}` has {quoted(self.graph.hash[:12])}"
            self.wrong("graph", f"made for another graph: its hash begins with {quoted(value[:12])}, {mine}")
        else:
            return value
        return ""

    def node(self, name: str, given: Any) -> dict[str, Value]:
        path = f"nodes.{clipped(name)}"
        if name not in self.graph.by_id:
            self.wrong("nodes", self._no_node(name))
            return {}
        values = self.mapping(path, given, "keys and their values")
        node = self.graph.by_id[name]
        read = {key: self.value(f"{path}.{clipped(key)}", node, key, value) for key, value in values.items()}
        return {key: value for key, value in read.items() if value is not None}

    def _no_node(self, name: str) -> str:
        """That no node has this id; a scope stands where its id should."""
        of_scope = [node for node, scope in self.graph.scopes.items() if scope == name]
        near = f": did you mean {quoted(of_scope[0])}?" if of_scope else suggestion(name, self.graph.by_id)
        return f"no node has the id {quoted(name)}{near}"

    # -- values --------------------------------------------------------------------------------------------------------

    def value(self, path: str, node: Node, key: str, given: Any) -> Value | None:
        """The value of a key, or None where it is wrong."""
        params = [] if node.owner else [param.name for param in node.op.params()]
        if key == WHOLE:
            return self.score(path, given)
        if isinstance(given, str) and key in params:
            return self.format(path, given)
        if key in node.op.dims:
            return self.dim(path, node.op.dims[key], given)
        if key in params:
            self.wrong(path, f"expected the name of a format, got {_shown(given)}")
            return None
        self.wrong(
            path, f"{node.op.kind} has no such dim or parameter{suggestion(key, [*node.op.dims, *params, WHOLE])}"
        )
        return None

    def score(self, path: str, given: Any) -> float | None:
        if _is_number(given):
            return float(given)
        self.wrong(path, f"expected a finite number, got {_shown(given)}")
        return None

    def format(self, path: str, given: str) -> Format | None:
        try:
            return get_format(given)
        except UnknownName as error:
            self.wrong(path, str(error))
            return None

    def dim(self, path: str, dim: Dim, given: Any) -> Value | None:
        if isinstance(given, list):
            return self.units(path, dim, given)
        if isinstance(given, dict) and list(given) == ["choices"] and isinstance(given["choices"], list):
            return self.choices(f"{path}.choices", dim, given["choices"])
        self.wrong(path, f'expected a list of numbers or {{"choices": [sizes]}}, got {_shown(given)}')
        return None

    def units(self, path: str, dim: Dim, given: list[Any]) -> Units | None:
        whole = dim.rows * dim.size
        if len(given) not in (dim.size, whole):
            rows = f" or {whole} ({dim.rows} rows)" if dim.rows > 1 else ""
            self.wrong(path, f"expected {dim.size} numbers{rows}, got {len(given)}")
            return None
        if self._each(path, given, _is_number, "a finite number"):
            return Units(tuple(map(float, given)))
        return None

    def choices(self, path: str, dim: Dim, given: list[Any]) -> Choices | None:
        if not given:
            self.wrong(path, "expected at least one size, got none")
            return None
        fits = self._each(path, given, lambda n: _is_whole(n) and 1 <= n <= dim.size, f"a size from 1 to {dim.size}")
        return Choices(tuple(sorted(set(given)))) if fits else None

    def _each(self, path: str, given: Sequence[Any], good: Callable[[Any], bool], expected: str) -> bool:
        """Whether all items are good; else the first that is not is listed, with how many more there are."""
        bad = [i for i, item in enumerate(given) if not good(item)]
        if bad:
            more = f", and {len(bad) - 1} more like it" if len(bad) > 1 else ""
            self.wrong(f"{path}[{bad[0]}]", f"expected {expected}, got {_shown(given[bad[0]])}{more}")
        return not bad


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Whether this is a number that a float holds: no truth value, NaN or infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    """A value of the JSON as messages show it."""
    if value is None:
        return "nothing"
    return quoted(json.dumps(value)) if not isinstance(value, list | dict) else _KINDS[type(value)]


_KINDS: Mapping[type[Any], str] = {list: "a list", dict: "an object"}
