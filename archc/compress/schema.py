"""The JSON schema of a compression recipe, for editors: its fields, and the options of every pass."""

from __future__ import annotations

from typing import Any, TypeAlias

from archc.compress.recipe import Form
from archc.compress.shorthands import SHORTHANDS
from archc.importance.calibration import Sampling
from archc.importance.measuring import Measuring
from archc.passes import registered_passes
from archc.spec.fields import record_model
from archc.spec.schema import ID, bounded, choice_schema

Schema: TypeAlias = dict[str, Any]


def compress_schema() -> Schema:
    """The JSON schema of a YAML recipe of `archc compress`."""
    top = record_model(Form).model_json_schema(mode="validation")
    definitions: Schema = top.pop("$defs", {})
    top["properties"] |= {
        "importance": importance_schema(definitions),
        "calibration": record_schema(Sampling, definitions),
        "passes": {**passes_schema(definitions, *SHORTHANDS), "minItems": 1},
    }
    top["required"] = [*top["required"], "passes"]
    made: Schema = bounded({"$schema": ID, **top, "$defs": definitions})
    return made


def passes_schema(definitions: Schema, *shorthands: str) -> Schema:
    """A list of passes, each as text, or a name with options; `shorthands` are further names."""
    classes: dict[str, type[Any]] = {cls.name: cls for cls in registered_passes()}
    choice = choice_schema(classes, definitions)
    shorts = [{"type": "object", "required": [name], "maxProperties": 1} for name in shorthands]
    text = {"type": "string", "description": "passes as text, such as `prune{dim=d_ff, keep=0.5}; drop-mtp`"}
    return {"type": "array", "items": {"anyOf": [*choice["anyOf"], *shorts, text]}}


def importance_schema(definitions: Schema) -> Schema:
    """A file of scores, or how they are measured."""
    file = {"type": "string", "description": "a file of `archc importance`"}
    return {"anyOf": [file, record_schema(Measuring, definitions), {"type": "null"}]}


def record_schema(record: Any, definitions: Schema) -> Schema:
    """The schema of a record, those within it moved to `definitions`."""
    found: Schema = record_model(record).model_json_schema(mode="validation", ref_template="#/$defs/{model}")
    definitions |= found.pop("$defs", {})
    return found
