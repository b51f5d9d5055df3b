"""Plain data as the YAML a person would write: sections in blocks, what they hold on one line where it fits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z][\w./@()-]*( [\w./@()-]+)*|\d+(\.\d+)?[kMBT]")
_AMBIGUOUS = {"true", "false", "null", "yes", "no", "on", "off", "inf", "nan"}
_SECTIONS = ("changes", "mtp")


def document(fields: Mapping[str, Any]) -> str:
    """The YAML of a spec's fields."""
    return "\n".join(_lines(fields)) + "\n"


def _lines(fields: Mapping[str, Any]) -> Iterator[str]:
    for key, value in fields.items():
        inner = _inner(key, value)
        yield f"{key}: {flow(value)}" if inner is None else f"{key}:"
        yield from (f"  {line}" for line in inner or ())


def _inner(key: str, value: Any) -> list[str] | None:
    """The lines below a field that is a section or a list, None for one that stands on its line."""
    if isinstance(value, list):
        return [f"- {flow(item)}" for item in value]
    if not isinstance(value, Mapping):
        return None
    if key == "blocks":
        return [line for letter, body in value.items() for line in _entry(letter, body)]
    return list(_lines(value)) if key in _SECTIONS else None


def _entry(letter: str, body: Any) -> list[str]:
    """A block's lines: on one line where it fits, else a line for each of its parts."""
    line = f"{flow(letter)}: {flow(body)}"
    if len(line) <= _WIDTH - 2 or not isinstance(body, Mapping):
        return [line]
    parts = (part for key, value in body.items() for part in _wrapped(f"{flow(key)}: ", value))
    return [f"{flow(letter)}:", *(f"  {part}" for part in parts)]


def _wrapped(head: str, fields: Any) -> list[str]:
    """A flow mapping over as many lines as it needs."""
    if not isinstance(fields, Mapping):
        return [head + flow(fields)]
    lines, indent = [head + "{"], " " * (len(head) + 1)
    for i, (key, value) in enumerate(fields.items()):
        item = f"{flow(key)}: {flow(value)}" + ("," if i < len(fields) - 1 else "}")
        first = lines[-1].strip() in ("", (head + "{").strip())
        if not first and len(lines[-1]) + len(item) + 1 > _WIDTH:
            lines.append(indent + item)
        else:
            lines[-1] += item if first else f" {item}"
    return lines


def flow(value: Any) -> str:
    """A value in YAML's flow style, as a YAML 1.2 reader reads it back."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _AMBIGUOUS
        return value if plain else _quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return json.dumps(value)


def _quoted(text: str) -> str:
    """In double quotes, with characters that cannot be seen escaped: YAML refuses some of them as they are."""
    marks = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(marks.get(c, c) if c.isprintable() else f"\\U{ord(c):08x}" for c in text) + '"'
