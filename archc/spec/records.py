"""Frozen records (an op's `Fields`, a norm) as the plain data that YAML writes."""

from __future__ import annotations

import dataclasses
from typing import Any


def given(record: Any) -> dict[str, Any]:
    """The fields of a record that are not at their defaults, as plain data."""
    fields = {f.name: (getattr(record, f.name), f.default) for f in dataclasses.fields(record)}
    return {name: plain(value) for name, (value, default) in fields.items() if value != default}


def changes(old: Any, new: Any) -> dict[str, Any]:
    """The merge patch that turns one record into another: records inside are patched in turn.

    A field that goes back to its default is written out, since a reader of the patch wants to see what it becomes."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        nested = dataclasses.is_dataclass(before) and dataclasses.is_dataclass(after)
        found[field.name] = changes(before, after) if nested else plain(after)
    return found


def plain(value: Any) -> Any:
    """A field's value as plain data; None, which YAML takes for nothing, as the word `none`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return given(value)
    if value is None:
        return "none"
    return list(value) if isinstance(value, tuple) else value
