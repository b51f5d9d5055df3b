"""One of several classes, named in a YAML file: `name`, `{name: {option: value}}` or `{name: first option}`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from archc.kernels.errors import ArchcError, SpecError, listed, quoted, suggestion
from archc.spec.fields import record_type
from archc.yamlfile import Node, shown, validate


def choose(
    node: Node, what: str, classes: Mapping[str, type[Any]], more: Sequence[str] = ()
) -> tuple[Any, list[SpecError]]:
    """The record of the class that a node names, and what is wrong: None where anything is.

    The fields of a class are its options. `more` are keys that may stand beside the name."""
    if isinstance(node.value, str):
        name, body, at = node.value, replace(node, value={}), node.at
    else:
        kinds = [key for key in node.value if key not in more] if isinstance(node.value, dict) else []
        if len(kinds) != 1:
            got = listed(kinds) if kinds else ("none" if isinstance(node.value, dict) else shown(node.data))
            return None, [node.error(f"expected one {what} ({listed(list(classes))}), got {got}")]
        name, body = kinds[0], node.value[kinds[0]]
        at = body.key_at
    if name not in classes:
        return None, [SpecError(at, f"unknown {what} {quoted(name)}{suggestion(name, classes)}")]
    return read_record(_options(body, classes[name]), classes[name])


def read_record(node: Node, cls: Any) -> tuple[Any, list[SpecError]]:
    """The record of a class whose fields a node has, and what is wrong: None where anything is."""
    try:
        return validate(node, record_type(cls))
    except ArchcError as error:  # a rule of the class between its fields
        named = re.search(r"`(\w+)`", str(error))
        return None, [node.error(str(error), loc=(named[1],) if named else ())]


def _options(node: Node, cls: type[Any]) -> Node:
    """The node of a class's options: none are none, and a bare value is the first of them."""
    if node.value is None:
        return replace(node, value={})
    names = [f.name for f in dataclasses.fields(cls)]
    return node if isinstance(node.value, dict) or not names else replace(node, value={names[0]: node})
