"""The JSON schema of a spec, for editors: the top-level fields, and every op's fields under `blocks` and `layers`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from archc.ir.op import Op
from archc.spec.fields import record_model
from archc.spec.load import SpecFields, spec_ops
from archc.spec.yamltext import flow

Schema: TypeAlias = dict[str, Any]

ID = "https://json-schema.org/draft/2020-12/schema"
_PATTERN: Schema = {"type": "string", "description": "a pattern such as M-M*- or 4 x [M -]"}
_EXTENDING: Schema = {
    "extends": {"type": "string", "description": "a zoo name, or a file relative to this one"},
    "changes": {"type": "object", "description": "fields that differ: mappings are merged, the rest replaces"},
}
_FORMATS: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "description": "formats of parameters by name, where they differ from `weights`",
}
# pydantic leaves the bounds of sizes, which may be written as text, in its own words
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


def schema() -> Schema:
    """The JSON schema of a YAML spec."""
    top = SpecFields.model_json_schema(mode="validation")
    records: Schema = {}
    kinds = {kind: _of_op(op, records) for kind, op in spec_ops().items()}
    block = {
        "type": "object",
        "properties": {**kinds, "formats": _FORMATS},
        "additionalProperties": False,
        "oneOf": [{"required": [kind]} for kind in kinds],
    }
    changes = {f"{name}Changes": _changed(record) for name, record in records.items()}
    definitions = {**top.pop("$defs", {}), **records, **changes, "Block": block, "Layers": _layers(kinds)}
    top["properties"]["blocks"] |= {"additionalProperties": {"$ref": "#/$defs/Block"}}
    for owner in (top, definitions["MTPFields"]):
        owner["properties"]["layers"] |= {"$ref": "#/$defs/Layers"}
    required = top.pop("required")
    top["properties"] |= _EXTENDING
    whole, variant = {"required": required}, {"required": ["archc", "name", "extends"]}
    return bounded({"$schema": ID, **top, "oneOf": [whole, variant], "$defs": definitions})  # type: ignore[no-any-return]


def _of_op(op: type[Op], records: Schema) -> Schema:
    """The schema of an op's fields, its nested records moved to `records`; it is described as the op is."""
    found = record_model(op.Fields).model_json_schema(mode="validation", ref_template="#/$defs/{model}")
    records |= found.pop("$defs", {})
    for field in dataclasses.fields(op.Fields):
        if isinstance(field.default, tuple) and math.inf in field.default:  # JSON cannot say it
            about = found["properties"][field.name]
            del about["default"]
            about["description"] += f"; {flow(field.default)} when left out"
    return {**found, "description": (op.__doc__ or "").partition("\n\n")[0]}


def bounded(part: Any) -> Any:
    """The schema with bounds of numbers in the keywords of JSON schema."""
    if isinstance(part, list):
        return [bounded(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {_BOUNDS.get(k, k) if isinstance(v, int | float) else k: bounded(v) for k, v in part.items()}


def choice_schema(classes: Mapping[str, type[Any]], definitions: Schema, beside: Schema | None = None) -> Schema:
    """A name, or a name with options or with the first of them; `beside` may stand next to it."""
    options: Schema = {}
    for name, cls in classes.items():
        record: Any = cls
        found = record_model(record).model_json_schema(mode="validation", ref_template="#/$defs/{model}")
        definitions |= found.pop("$defs", {})
        about = {"description": (cls.__doc__ or "").partition("\n\n")[0]}
        whole: Schema = {**found, **about}
        options[name] = {"anyOf": [whole, {"type": ["string", "number", "array", "null"], **about}]}
    named = {
        "type": "object",
        "properties": {**options, **(beside or {})},
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in classes],
    }
    return {"anyOf": [{"enum": list(classes)}, named]}


# -- layers, which may change fields of the blocks they use ------------------------------------------------------------


def _layers(kinds: Mapping[str, Schema]) -> Schema:
    by_name: dict[str, dict[str, Schema]] = {}
    for kind, record in kinds.items():
        for name, field in record["properties"].items():
            by_name.setdefault(name, {})[kind] = field
    use = {
        "type": "object",
        "properties": {
            "use": {"type": "string", "description": "the block that this layer is, with fields changed"},
            "times": {"type": "integer", "minimum": 1, "description": "how many such layers in a row"},
            "formats": _FORMATS,
            **{name: _change(fields) for name, fields in by_name.items()},
        },
        "required": ["use"],
        "additionalProperties": False,
    }
    items = {"anyOf": [_PATTERN, use, {"$ref": "#/$defs/Layers"}]}
    return {"anyOf": [_PATTERN, {"type": "array", "items": items, "minItems": 1}]}


def _change(fields: Mapping[str, Schema]) -> Schema:
    """What a change may make of a field that each kind of block describes: nothing puts it back to its default."""
    texts: dict[str, list[str]] = {}
    choices: list[Schema] = []
    for kind, field in fields.items():
        texts.setdefault(field["description"], []).append(kind)
        plain = {key: value for key, value in field.items() if key not in ("title", "description", "default")}
        choices += plain["anyOf"] if plain.keys() == {"anyOf"} else [plain]
    said = [text if len(texts) == 1 else f"{', '.join(kinds)}: {text}" for text, kinds in texts.items()]
    distinct = [choice for i, choice in enumerate(choices) if choice not in choices[:i]]
    nothing = [] if {"type": "null"} in distinct else [{"type": "null"}]
    return {"description": "; ".join(said), "anyOf": [_on_changes(choice) for choice in distinct + nothing]}


def _changed(record: Schema) -> Schema:
    """A record of which some fields are given."""
    properties = {name: _change({"": field}) for name, field in record["properties"].items()}
    return {**{key: value for key, value in record.items() if key != "required"}, "properties": properties}


def _on_changes(choice: Schema) -> Schema:
    return {"$ref": f"{choice['$ref']}Changes"} if "$ref" in choice else choice
