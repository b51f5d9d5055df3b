"""The JSON schema of a recipe, for editors: its fields, and the options of everything that a registry knows."""

from __future__ import annotations

from typing import Any, TypeAlias

from archc.spec.fields import record_model
from archc.spec.schema import ID, bounded, choice_schema
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
    sources = {"type": "array", "items": choice_schema(source_classes(), definitions, beside)}
    properties = top["properties"]
    properties["optimizer"] = choice_schema(optimizer.classes, definitions)
    properties["schedule"] = choice_schema(schedule.classes, definitions)
    properties["losses"] = {"type": "array", "minItems": 1, "items": choice_schema(loss_classes(), definitions)}
    properties["data"] = {
        "type": "object",
        "properties": {"train": {**sources, "minItems": 1}, "held_out": sources},
        "required": ["train"],
        "additionalProperties": False,
    }
    made: Schema = bounded({"$schema": ID, **top, "$defs": definitions})
    return made
