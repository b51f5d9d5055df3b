"""The JSON schema of a recipe, for editors: its fields, and the options of everything that a registry knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from archc.spec.fields import record_model
from archc.spec.schema import ID, bounded
from archc.train.optim import optimizer
from archc.train.recipe import Recipe
from archc.train.recipe_load import CHOSEN, loss_classes, source_classes
from archc.train.schedule import schedule

Schema: TypeAlias = dict[str, Any]


def recipe_schema() -> Schema:
    """The JSON schema of a YAML recipe."""
    top = record_model(Recipe, CHOSEN).model_json_schema(mode="validation")
    definitions: Schema = top.pop("$defs", {})
    beside = {"weight": {"type": "number", "exclusiveMinimum": 0}, "on_bad": {"enum": ["stop", "skip"]}}
    sources = {"type": "array", "items": _choice(source_classes(), definitions, beside)}
    properties = top["properties"]
    properties["optimizer"] = _choice(optimizer.classes, definitions)
    properties["schedule"] = _choice(schedule.classes, definitions)
    properties["losses"] = {"type": "array", "minItems": 1, "items": _choice(loss_classes(), definitions)}
    properties["data"] = {
        "type": "object",
        "properties": {"train": {**sources, "minItems": 1}, "held_out": sources},
        "required": ["train"],
        "additionalProperties": False,
    }
    made: Schema = bounded({"$schema": ID, **top, "$defs": definitions})
    return made


def _choice(classes: Mapping[str, type[Any]], definitions: Schema, beside: Schema | None = None) -> Schema:
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
