"""The JSON schema of a search file, for editors: its fields, and the options of every rung, sampler and pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from archc.compress.schema import importance_schema, passes_schema, record_schema
from archc.importance.calibration import Sampling
from archc.search.figures import FIGURES
from archc.search.samplers import PRUNERS, SAMPLERS
from archc.searching.file import UNSAID, WALKED, SearchFile
from archc.searching.mip_file import WALKED as OF_VARIANTS
from archc.searching.mip_file import MipFile, MipOptions
from archc.searching.reading import MIP, SWEEP
from archc.searching.rungs import RUNGS
from archc.spec.fields import record_model
from archc.spec.schema import ID, bounded, choice_schema

Schema: TypeAlias = dict[str, Any]

_AT = r"( +at +\{.*\})?$"
_FIGURE = "(" + "|".join(name.replace(".", r"\.") for name in FIGURES) + ")"
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}


def search_schema() -> Schema:
    """The JSON schema of a YAML search: around a base, or for a variant of each layer."""
    definitions: Schema = {}
    around, variants = _around(definitions), _variants(definitions)
    made: Schema = bounded({"$schema": ID, "anyOf": [around, variants], "$defs": definitions})
    return made


def _around(definitions: Schema) -> Schema:
    """A search of a space."""
    top = record_model(SearchFile, WALKED, UNSAID).model_json_schema(mode="validation")
    rungs: dict[str, type[Any]] = dict(RUNGS)
    values = {"description": "values: `{from:, to:, step:}`, a list, or `values:` with `each: layer` or `when:`"}
    objective = {
        "anyOf": [
            {"pattern": rf"^(minimize|maximize) +{_FIGURE}{_AT}"},
            {"pattern": rf"^(minimize +)?({'|'.join(rungs)})$"},
        ]
    }
    return _told(
        top,
        {
            "space": {"type": "object", "minProperties": 1, "additionalProperties": values},
            "passes": passes_schema(definitions),
            "ranking": {"type": ["array", "object"]},
            "budgets": _budgets(),
            "objectives": {"type": "array", "minItems": 1, "items": {"type": "string", **objective}},
            "rungs": {"type": "array", "items": choice_schema(rungs, definitions)},
            "importance": importance_schema(definitions),
            "sampler": _named((SWEEP, *SAMPLERS)),
            "pruner": _named(PRUNERS),
            "storage": {"type": "string", "pattern": "^[a-z][a-z0-9+]*://"},
            "compare": _TEXTS,
        },
    )


def _variants(definitions: Schema) -> Schema:
    """A search for variants of layers."""
    top = record_model(MipFile, OF_VARIANTS, UNSAID)
    listed = {"type": "array", "minItems": 1, "description": "variants: keep, drop, linear, or any pass with `layers`"}
    mip = {"type": "object", "properties": {MIP: record_schema(MipOptions, definitions)}, "required": [MIP]}
    return _told(
        top.model_json_schema(mode="validation"),
        {
            "library": {"type": "object", "minProperties": 1, "additionalProperties": listed},
            "budgets": {**_budgets(), "minItems": 1},
            "sampler": {"anyOf": [{"const": MIP}, {**mip, "additionalProperties": False}]},
            "calibration": record_schema(Sampling, definitions),
            "importance": importance_schema(definitions),
        },
    )


def _told(top: Schema, fields: Schema) -> Schema:
    """A form with the fields that are of any type in it told; what is said of each stays."""
    properties = top["properties"]
    for name, field in fields.items():
        about = properties[name].get("description")
        properties[name] = {**field, **({"description": about} if about else {})}
    return top


def _budgets() -> Schema:
    return {"type": "array", "items": {"type": "string", "pattern": rf"^{_FIGURE} *(<=|>=) *[^ ].*$"}}


def _named(names: Iterable[str]) -> Schema:
    """A name, or a name with options."""
    known = list(names)
    options = {"type": "object", "maxProperties": 1, "minProperties": 1}
    return {"anyOf": [{"enum": known}, {**options, "propertyNames": {"enum": known}}]}
