"""One field of a spec changed: of the blocks of a kind, or of the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

from archc.kernels.errors import SpecErrors, UnknownName, UnsupportedError
from archc.spec.choice import read_record
from archc.spec.load import SpecFields, load_spec, spec_ops
from archc.spec.model import Block, Spec
from archc.spec.records import given
from archc.spec.write import spec_data
from archc.spec.yamltext import document
from archc.yamlfile import load_yaml

# Fields that say what a model is called, or are made of the others.
_NOT_SEARCHED = ("archc", "name", "description", "published", "source", "blocks", "layers")


def with_field(spec: Spec, kind: str, path: Sequence[str], value: Any, layers: Sequence[int] = ()) -> Spec:
    """The spec with a field changed, by its path: `("rope", "theta")` of the blocks of a `kind`, at some `layers` or,
    where there are none, everywhere; of the model itself (`("norm", "eps")`) where `kind` is empty.

    `value` is plain data, as YAML gives it. Raises UnknownName for a field or kind that there is not, UnsupportedError
    for a value that the field cannot have.
    """
    if not kind:
        return _model_field(spec, path, value)
    chosen = [i for i in layers or range(len(spec.layers)) if i < len(spec.layers)]
    kinds = {spec.layers[i].kind for i in chosen}
    if kind not in kinds:
        where = f"layers {', '.join(map(str, layers))} of `{spec.name}`" if layers else f"`{spec.name}`"
        raise UnknownName(f"kind of layer in {where}", kind, kinds)
    changed = tuple(
        _block_field(block, path, value) if block.kind == kind and i in chosen else block
        for i, block in enumerate(spec.layers)
    )
    mtp = spec.mtp
    if mtp is not None and not layers:
        mtp_layers = (_block_field(b, path, value) if b.kind == kind else b for b in mtp.layers)
        mtp = replace(mtp, layers=tuple(mtp_layers))
    return replace(spec, layers=changed, mtp=mtp)


def field_of(spec: Spec, kind: str, path: Sequence[str]) -> Any:
    """The value of a field in the first block of a kind; None where there is none."""
    found: Any = next((block.fields for block in spec.layers if block.kind == kind), None)
    for name in path:
        found = getattr(found, name, None)
    return found


def _block_field(block: Block, path: Sequence[str], value: Any) -> Block:
    """A block with a field of its op changed, checked as a spec file is."""
    op = spec_ops()[block.kind]
    known = [f.name for f in fields_of(op.Fields)]
    if path[0] not in known:
        raise UnknownName(f"field of {block.kind}", path[0], known)
    data = _set(given(block.fields), path, value)
    fields, errors = read_record(load_yaml(json.dumps(data), file=block.kind), op.Fields)
    problems = [error.message for error in errors] if errors else [f"{text}" for _, text, _ in op.check(fields)]
    if problems:
        raise UnsupportedError("; ".join(problems))
    return replace(block, fields=fields)


def _model_field(spec: Spec, path: Sequence[str], value: Any) -> Spec:
    """A spec with a field of its own changed, checked as a spec file is."""
    known = [name for name in SpecFields.model_fields if name not in _NOT_SEARCHED]
    if path[0] not in known:
        raise UnknownName("field of a spec", path[0], known)
    try:
        return load_spec(document(_set(spec_data(spec), path, value)), file=spec.name)
    except SpecErrors as errors:
        raise UnsupportedError("; ".join(error.message for error in errors.errors)) from None


def _set(data: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Plain data with another value at a path."""
    head, *rest = path
    if not rest:
        return data | {head: value}
    inner = data.get(head)
    return data | {head: _set(inner if isinstance(inner, dict) else {}, rest, value)}
