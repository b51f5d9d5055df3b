"""What differs between two nodes that stand for one another, in the fields that a spec gives their kind of op."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archc.ir.dims import Dim
from archc.ir.graph import Node
from archc.ir.op import Op

# What a change may switch in a node beside fields of its op: all of it, its owner, the format of a parameter.
OP, OWNER, FORMAT = "@op", "@owner", "@format "


@dataclass(frozen=True)
class FieldChange:
    """A field with its value in A and in B; a field of a record has the record's name before it (`rope.theta`).

    `switches` are what turns A's node into B's in this respect: fields of the op's class, or OP, OWNER, FORMAT."""

    field: str
    old: Any
    new: Any
    switches: tuple[str, ...] = dataclasses.field(default=(), compare=False, repr=False)


def node_changes(a: Node, b: Node, shared: frozenset[str]) -> tuple[FieldChange, ...]:
    """Every difference of two nodes but for ids, edges, owners and the dims named in `shared`."""
    if a.op.kind != b.op.kind:
        return (FieldChange("kind", a.op.kind, b.op.kind, (OP,)), *_common(a.op, b.op, shared), *_formats(a, b))
    found = tuple(_fields(a.op, b.op, shared)) or tuple(_orders(a.op, b.op, shared))
    return (*found, *_formats(a, b))


def _common(a: Op, b: Op, shared: frozenset[str]) -> Iterator[FieldChange]:
    """Fields that two kinds of op share."""
    ours, theirs = spec_values(a, shared), spec_values(b, shared)
    for name in ours:
        if name in theirs and ours[name] != theirs[name]:
            yield FieldChange(name, ours[name], theirs[name])


def _formats(a: Node, b: Node) -> Iterator[FieldChange]:
    ours, theirs = dict(a.formats), dict(b.formats)
    for name in {**ours, **theirs}:
        if ours.get(name) != theirs.get(name):
            yield FieldChange(f"{name} format", ours.get(name), theirs.get(name), (FORMAT + name,))


def _fields(a: Op, b: Op, shared: frozenset[str]) -> Iterator[FieldChange]:
    ours, theirs = spec_values(a, shared), spec_values(b, shared)
    left_out = _left_out(a) & _left_out(b)  # follows from other fields in both
    changed = [name for name in ours if ours[name] != theirs[name] and name not in left_out]
    switches = _switches(a, b, changed, shared)
    for name in changed:
        for i, (path, old, new) in enumerate(_flat(name, ours[name], theirs[name])):
            yield FieldChange(path, old, new, () if i else (*switches.pop(name, ()), *_telling(a, name)))
    for name, names in switches.items():
        yield FieldChange(name, _value(getattr(a, name)), _value(getattr(b, name)), tuple(names))


def _telling(op: Op, field: str) -> Iterator[str]:
    """The dims whose size a spec field tells together with other dims."""
    return (role for role in op.dims if op.Fields is not None and told_by(op, role) == field)


def told_by(op: Op, role: str) -> str | None:
    """The spec field that tells the size of a dim together with other dims: n_heads that of heads_per_group."""
    fields, dim = op.fields(), op.dims[role]
    if hasattr(fields, role):
        return None
    larger = dataclasses.replace(op, **{role: dataclasses.replace(dim, size=2 * dim.size)}).fields()
    names = [f.name for f in dataclasses.fields(fields) if not hasattr(op, f.name)]
    return next((name for name in names if getattr(larger, name) != getattr(fields, name)), None)


def _left_out(op: Op) -> frozenset[str]:
    """The spec fields that a spec of the op leaves out."""
    if op.Fields is None:
        return frozenset()
    given = op.fields()
    return frozenset(f.name for f in dataclasses.fields(given) if getattr(given, f.name) is None)


def spec_values(op: Op, shared: frozenset[str]) -> dict[str, Any]:
    """The spec fields of an op; of one that no spec names its own, without shared dims.

    What a spec may leave out is a number where the op has a dim of that name."""
    if op.Fields is None:
        return {name: value for name, value in _own(op).items() if not _is_shared(getattr(op, name), shared)}
    fields = op.fields()
    found = {f.name: getattr(fields, f.name) for f in dataclasses.fields(fields)}
    return {name: _value(getattr(op, name, None)) if value is None else value for name, value in found.items()}


def _own(op: Op) -> dict[str, Any]:
    """The fields of the op's class, dims by their sizes."""
    return {f.name: _value(getattr(op, f.name)) for f in dataclasses.fields(op)}


def _value(value: Any) -> Any:
    return value.size if isinstance(value, Dim) else value


def _is_shared(value: Any, shared: frozenset[str]) -> bool:
    return isinstance(value, Dim) and value.name in shared


def _switches(a: Op, b: Op, changed: list[str], shared: frozenset[str]) -> dict[str, list[str]]:
    """The fields of the class that differ, by the changed spec field that each belongs to, or by themselves."""
    ours, theirs = _own(a), _own(b)
    found: dict[str, list[str]] = {}
    for name in ours:
        both_shared = _is_shared(getattr(a, name), shared) and _is_shared(getattr(b, name), shared)
        if ours[name] != theirs[name] and not both_shared:
            found.setdefault(_belongs(a, b, name, changed, shared), []).append(name)
    return found


def _belongs(a: Op, b: Op, name: str, changed: list[str], shared: frozenset[str]) -> str:
    """The changed spec field that says `name`: of that name, or one that moves with it, or the first."""
    if name in changed or not changed:
        return name
    before = spec_values(a, shared)
    moved = spec_values(dataclasses.replace(a, **{name: getattr(b, name)}), shared)
    return next((f for f in changed if moved[f] != before[f]), changed[0])


def _flat(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Differing values, field by field where both are records of one class."""
    if type(old) is type(new) and dataclasses.is_dataclass(old):
        for f in dataclasses.fields(old):
            if getattr(old, f.name) != getattr(new, f.name):
                yield from _flat(f"{path}.{f.name}", getattr(old, f.name), getattr(new, f.name))
    else:
        yield path, old, new


def _orders(a: Op, b: Op, shared: frozenset[str]) -> Iterator[FieldChange]:
    """What no spec field says of a dim: how its units may move, and what its size must be a multiple of."""
    for role, dim in a.dims.items():
        other = b.dims.get(role)
        if other is None or dim.name in shared:
            continue
        yield from dim_changes(role, dim, other)


def dim_changes(role: str, a: Dim, b: Dim) -> Iterator[FieldChange]:
    """What differs between two dims of a role beside their sizes."""
    if a.order != b.order:
        yield FieldChange(f"{role} order", a.order, b.order)
    if a.multiple_of != b.multiple_of:
        yield FieldChange(f"{role} multiple_of", a.multiple_of, b.multiple_of)


def formats_of(node: Node, changes: Mapping[str, str | None]) -> tuple[tuple[str, str], ...]:
    """A node's own formats with some put in, or taken out where None."""
    found = {**dict(node.formats), **changes}
    return tuple((name, value) for name, value in found.items() if value is not None)
