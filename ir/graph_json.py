"""The JSON form of a graph: what scripts and pages read. The text form is the one for people.

`nodes` stand in topological order; a dim is named once under `dims` and referred to by name; an attribute that is a
record is an object, a tuple is a list, and infinity is the string "inf".
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from archc.ir.dims import FREE_BATCH, FREE_TOKENS, Dim
from archc.ir.graph import SHORT_HASH, Graph, Node
from archc.ir.op import Op, field_types, op_class, record_type
from archc.ir.text import dim_roles
from archc.kernels.errors import ArchcError, GraphError, UnknownName, quoted

VERSION = 1
FREE = {d.name: d for d in (FREE_BATCH, FREE_TOKENS)}
_STRICT = ConfigDict(extra="forbid", strict=True)


@with_config(_STRICT)
class DimJSON(TypedDict):
    """A dim."""

    name: str
    size: int
    within: NotRequired[str]
    order: NotRequired[Literal["free", "pairs", "fixed"]]
    multiple_of: NotRequired[int]


@with_config(_STRICT)
class NodeJSON(TypedDict):
    """A node: `dims` by role, `attributes` without those that have their default."""

    role: str
    op: str
    inputs: list[str]
    dims: dict[str, str | None]
    attributes: NotRequired[dict[str, Any]]
    region: NotRequired[str]
    block: NotRequired[str]
    owner: NotRequired[str]
    formats: NotRequired[dict[str, str]]


@with_config(_STRICT)
class GraphJSON(TypedDict):
    """A graph; `archc_graph` is the version of this form. `lineage` is left out where there is none."""

    archc_graph: int
    name: str
    lineage: NotRequired[list[str]]
    formats: dict[str, str]
    dims: list[DimJSON]
    inputs: dict[str, list[str]]
    nodes: list[NodeJSON]
    outputs: dict[str, str]


def graph_to_json(graph: Graph) -> GraphJSON:
    """The JSON form; `graph_from_json` gives an equal graph back."""
    found: GraphJSON = {
        "archc_graph": VERSION,
        "name": graph.name,
        "formats": dict(graph.formats),
        "dims": [_dim_json(d) for d in graph.dims.values()],
        "inputs": {name: [str(a) for a in axes] for name, axes in graph.inputs},
        "nodes": [_node_json(n) for n in graph.nodes],
        "outputs": dict(graph.outputs),
    }
    if graph.lineage:
        found["lineage"] = list(graph.lineage)
    return found


def _dim_json(dim: Dim) -> DimJSON:
    found: DimJSON = {"name": dim.name, "size": dim.size}
    if dim.within:
        found["within"] = dim.within.name
    if dim.order != "free":
        found["order"] = dim.order
    if dim.multiple_of > 1:
        found["multiple_of"] = dim.multiple_of
    return found


def _node_json(node: Node) -> NodeJSON:
    op = node.op
    dims = {role: getattr(op, role) for role in dim_roles(type(op))}
    defaults = {f.name: f.default for f in dataclasses.fields(op)}
    found: NodeJSON = {
        "role": node.role,
        "op": op.kind,
        "inputs": list(node.inputs),
        "dims": {role: dim and dim.name for role, dim in dims.items()},
    }
    attributes = {name: _value_json(value) for name, value in op.attributes.items() if value != defaults[name]}
    if attributes:
        found["attributes"] = attributes
    if node.region:
        found |= {"region": node.region, "block": node.block}
    if node.owner:
        found["owner"] = node.owner
    if node.formats:
        found["formats"] = dict(node.formats)
    return found


def _value_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_value_json(v) for v in value]
    if dataclasses.is_dataclass(value):
        return {f.name: _value_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return "inf" if value == math.inf else value


def graph_from_json(data: Any, *, file: str = "<json>") -> Graph:
    """The graph of a JSON form, not verified. Raises GraphError that names the file and the place in it."""
    try:
        found = TypeAdapter(GraphJSON).validate_python(data)
    except ValidationError as error:
        told = [f"{_path(e['loc'])}: {e['msg'].lower()}" for e in error.errors()]
        raise GraphError("\n  ".join([f"{file}: not the JSON form of a graph:", *told])) from None
    if found["archc_graph"] != VERSION:
        version = found["archc_graph"]
        raise GraphError(f"{file}: version {version} of the JSON form is unknown: this archc reads {VERSION}")
    reader = _Reader(file)
    reader.lineage(found.get("lineage", []))
    reader.dims(found["dims"])
    return Graph(
        found["name"],
        tuple(reader.node(i, n) for i, n in enumerate(found["nodes"])),
        tuple(found["outputs"].items()),
        tuple((name, tuple(reader.dim(f"inputs.{name}", d) for d in axes)) for name, axes in found["inputs"].items()),
        tuple(found["formats"].items()),
        tuple(found.get("lineage", [])),
    )


def _path(loc: tuple[str | int, ...]) -> str:
    return ".".join(map(str, loc)) or "the file"


class _Reader:
    """Builds nodes; every error names the file and the path to its place."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.known: dict[str, Dim] = {}

    def error(self, at: str, message: object) -> GraphError:
        return GraphError(f"{self.file}: {at}: {message}")

    def lineage(self, given: list[str]) -> None:
        for i, name in enumerate(given):
            if not re.fullmatch(f"[0-9a-f]{{{SHORT_HASH}}}", name):
                raise self.error(f"lineage.{i}", f"expected {SHORT_HASH} hexadecimal digits, got {quoted(name)}")

    def dims(self, given: list[DimJSON]) -> None:
        for i, d in enumerate(given):
            at = f"dims.{i}"
            if d["name"] in self.known:
                raise self.error(at, f"dim `{d['name']}` is declared twice")
            within = self.dim(at, d["within"]) if "within" in d else None
            try:
                made = Dim(d["name"], d["size"], within, d.get("order", "free"), d.get("multiple_of", 1))
            except ArchcError as error:
                raise self.error(at, error) from None
            self.known[made.name] = made

    def dim(self, at: str, name: str) -> Dim:
        """The dim of that name."""
        found = FREE.get(name) or self.known.get(name)
        if found is None:
            raise self.error(at, UnknownName("dim", name, [*self.known, *FREE]))
        return found

    def node(self, i: int, given: NodeJSON) -> Node:
        """One node."""
        at = f"nodes.{i}"
        return Node(
            given["role"],
            self._op(at, given),
            tuple(given["inputs"]),
            given.get("region", ""),
            given.get("block", ""),
            given.get("owner", ""),
            tuple(given.get("formats", {}).items()),
        )

    def _known(self, at: str, kind: str, given: Iterable[str], known: Collection[str]) -> None:
        for name in given:
            if name not in known:
                raise self.error(at, UnknownName(kind, name, known))

    def _op(self, at: str, given: NodeJSON) -> Op:
        try:
            made = op_class(given["op"])
        except UnknownName as error:
            raise self.error(at, error) from None
        types, roles = field_types(made), dim_roles(made)
        self._known(at, f"dim of {made.kind}", given["dims"], roles)
        self._known(at, f"attribute of {made.kind}", given.get("attributes", {}), types.keys() - set(roles))
        dims = {role: name and self.dim(f"{at}.dims.{role}", name) for role, name in given["dims"].items()}
        attributes = {name: _value(value, types[name]) for name, value in given.get("attributes", {}).items()}
        try:
            return made(**dims, **attributes)
        except TypeError as error:
            raise self.error(at, error) from None


def _value(value: Any, annotation: Any) -> Any:
    """An attribute's value from JSON."""
    if isinstance(value, list):
        return tuple(_value(v, None) for v in value)
    if isinstance(value, Mapping):
        made = record_type(annotation)
        if made is None:
            raise TypeError(f"an object, expected {annotation}")
        types = field_types(made)
        return made(**{name: _value(v, types.get(name)) for name, v in value.items()})
    return math.inf if value == "inf" else value
