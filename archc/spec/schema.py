"""The JSON schema of a spec, for editors: the top-level fields, and every op's fields under `blocks`."""

from __future__ import annotations

from typing import Any

from archc.ir.op import Op
from archc.spec.fields import record_model
from archc.spec.load import SpecFields, spec_ops

ID = "https://json-schema.org/draft/2020-12/schema"
_PATTERN: dict[str, Any] = {"type": "string", "description": "a pattern such as M-M*- or 4 x [M -]"}
_EXTENDING: dict[str, Any] = {
    "extends": {"type": "string", "description": "a zoo name, or a file relative to this one"},
    "changes": {"type": "object", "description": "fields that differ: mappings are merged, the rest replaces"},
}


def schema() -> dict[str, Any]:
    """The JSON schema of a YAML spec."""
    top = SpecFields.model_json_schema(mode="validation")
    definitions: dict[str, Any] = top.pop("$defs", {})
    kinds = {kind: _of_op(op, definitions) for kind, op in spec_ops().items()}
    formats = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "formats of parameters by name, where they differ from `weights`",
    }
    definitions["Block"] = {
        "type": "object",
        "properties": {**kinds, "formats": formats},
        "additionalProperties": False,
        "oneOf": [{"required": [kind]} for kind in kinds],
    }
    definitions["Layers"] = _layers()
    top["properties"]["blocks"] |= {"additionalProperties": {"$ref": "#/$defs/Block"}}
    for owner in (top, definitions["MTPFields"]):
        owner["properties"]["layers"] |= {"$ref": "#/$defs/Layers"}
    required = top.pop("required")
    top["properties"] |= _EXTENDING
    whole, variant = {"required": required}, {"required": ["archc", "name", "extends"]}
    return {"$schema": ID, **top, "oneOf": [whole, variant], "$defs": definitions}


def _of_op(op: type[Op], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of an op's fields, its nested records moved to `definitions`; it is described as the op is."""
    found = record_model(op.Fields).model_json_schema(mode="validation", ref_template="#/$defs/{model}")
    definitions |= found.pop("$defs", {})
    return {**found, "description": (op.__doc__ or "").partition("\n\n")[0]}


def _layers() -> dict[str, Any]:
    use = {
        "type": "object",
        "properties": {"use": {"type": "string"}, "times": {"type": "integer", "minimum": 1}},
        "required": ["use"],
    }
    items = {"anyOf": [_PATTERN, use, {"$ref": "#/$defs/Layers"}]}
    return {"anyOf": [_PATTERN, {"type": "array", "items": items, "minItems": 1}]}
