"""Writes a Spec as the YAML a person would write: equal layers under one letter, exceptions as overrides.

A kind of block is declared once per variant that several layers use; a variant of one layer is that layer's
override. Fields at their defaults are left out.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from archc.ir.op import op_class
from archc.spec.model import Block, Spec
from archc.spec.pattern import write_pattern

_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z][\w./@()-]*( [\w./@()-]+)*|\d+(\.\d+)?[kMBT]")
_AMBIGUOUS = {"true", "false", "null", "yes", "no", "on", "off", "inf", "nan"}

_LETTERS = string.ascii_uppercase + string.ascii_lowercase.replace("x", "")

Layer = str | dict[str, Any]


def write_spec(spec: Spec) -> str:
    """The YAML of a spec; reading it gives an equal spec."""
    letters = _letters([*spec.layers, *(spec.mtp.layers if spec.mtp else ())])
    top: dict[str, Any] = {"archc": 1, "name": spec.name}
    if spec.description:
        top["description"] = spec.description
    top |= {"d_model": spec.d_model, "vocab": spec.vocab}
    if spec.tied:
        top["tied"] = True
    top["norm"] = _given(spec.norm) | {"eps": spec.norm.eps}
    if spec.init_std != 0.02:
        top["init"] = {"std": spec.init_std}
    lines = [f"{key}: {flow(value)}" for key, value in top.items()]
    lines += ["blocks:", *(f"  {_entry(letter, _body(block, spec.init_std))}" for block, letter in letters.items())]
    lines += _layers("layers", spec.layers, letters)
    if spec.mtp is not None:
        inner = _layers("layers", spec.mtp.layers, letters)
        steps = [f"steps: {spec.mtp.steps}"] if spec.mtp.steps != 1 else []
        lines += ["mtp:", *(f"  {line}" for line in (*inner, *steps))]
    if spec.formats:
        lines.append(f"formats: {flow(dict(spec.formats))}")
    if spec.published:
        figures = ({f.metric: f.text, "without": list(f.without), "gap": f.gap} for f in spec.published)
        lines += ["published:", *(f"  - {flow({k: v for k, v in f.items() if v})}" for f in figures)]
    if spec.source:
        lines += ["source:", *(f"  - {flow(text)}" for text in spec.source)]
    return "\n".join(lines) + "\n"


# -- which blocks are declared -----------------------------------------------------------------------------------------


def _letters(layers: Sequence[Block]) -> dict[Block, str]:
    """The blocks to declare, each with its letter, in order of appearance.

    Of every kind the variant that most layers use, and other variants that at least two layers use while letters
    last; what is left are overrides of the former.
    """
    uses = Counter(layers)
    main = {family: max(variants, key=lambda b: uses[b]) for family, variants in _families(uses).items()}
    wanted = [block for block in uses if main[_family(block)] == block]
    wanted += [block for block in uses if block not in wanted and uses[block] > 1][: len(_LETTERS) - len(wanted)]
    letters: dict[Block, str] = {}
    for block in sorted(wanted, key=list(uses).index):
        letters[block] = _letter(block, letters.values())
    return letters


def _family(block: Block) -> Any:
    """What an override cannot change."""
    return block.kind, block.formats


def _families(blocks: Iterable[Block]) -> dict[Any, list[Block]]:
    found: dict[Any, list[Block]] = {}
    for block in blocks:
        found.setdefault(_family(block), []).append(block)
    return found


def _letter(block: Block, taken: Iterable[str]) -> str:
    choices = op_class(block.kind).usual_letter() + _LETTERS
    return next(letter for letter in choices if letter not in set(taken))


# -- what is written of them -------------------------------------------------------------------------------------------


def _body(block: Block, init_std: float) -> dict[str, Any]:
    given = _given(block.fields)
    given.pop("init_std", None)
    if getattr(block.fields, "init_std", init_std) != init_std:
        given["init_std"] = block.fields.init_std
    return {block.kind: given} | ({"formats": dict(block.formats)} if block.formats else {})


def _layers(key: str, layers: Sequence[Block], letters: Mapping[Block, str]) -> list[str]:
    """The lines of a `layers` field: one pattern, or a list where some layers change fields."""
    base = {_family(block): block for block in reversed(list(letters))}
    uses = [_use(block, base, letters) for block in layers]
    if all(isinstance(use, str) for use in uses):
        return [f"{key}: {flow(write_pattern([str(use) for use in uses]))}"]
    return [f"{key}:", *(f"  - {item}" for item in _items(uses))]


def _use(block: Block, base: Mapping[Any, Block], letters: Mapping[Block, str]) -> Layer:
    if block in letters:
        return letters[block]
    declared = base[_family(block)]
    return {"use": letters[declared], **_changes(declared.fields, block.fields)}


def _items(uses: Sequence[Layer]) -> Iterator[str]:
    for override, same in groupby(uses, key=_override):
        run = list(same)
        if override is None:
            yield flow(write_pattern([str(letter) for letter in run]))
        else:
            yield flow(override | ({"times": len(run)} if len(run) > 1 else {}))


def _override(use: Layer) -> dict[str, Any] | None:
    return None if isinstance(use, str) else use


def _given(record: Any) -> dict[str, Any]:
    """The fields of a record that are not at their defaults, as plain data."""
    fields = {f.name: (getattr(record, f.name), f.default) for f in dataclasses.fields(record)}
    return {name: _plain(value) for name, (value, default) in fields.items() if value != default}


def _changes(old: Any, new: Any) -> dict[str, Any]:
    """The patch that turns one record into another: records inside are patched in turn."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        nested = dataclasses.is_dataclass(before) and dataclasses.is_dataclass(after)
        changes[field.name] = _changes(before, after) if nested else _plain(after)
    return changes


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _given(value)
    if value is None:
        return "none"
    return list(value) if isinstance(value, tuple) else value


# -- YAML --------------------------------------------------------------------------------------------------------------


def _entry(letter: str, body: Mapping[str, Any]) -> str:
    """A block's lines: on one line where it fits, else a line for each of its parts."""
    line = f"{flow(letter)}: {flow(body)}"
    if len(line) <= _WIDTH:
        return line
    parts = [_wrapped(f"{flow(key)}: ", value) for key, value in body.items()]
    return "\n    ".join([f"{flow(letter)}:", *parts])


def _wrapped(head: str, fields: Mapping[str, Any]) -> str:
    """A flow mapping over as many lines as it needs."""
    lines, indent = [head + "{"], " " * (len(head) + 1)
    for i, (key, value) in enumerate(fields.items()):
        item = f"{flow(key)}: {flow(value)}" + ("," if i < len(fields) - 1 else "}")
        first = lines[-1].strip() in ("", (head + "{").strip())
        if not first and len(lines[-1]) + len(item) + 1 > _WIDTH:
            lines.append(indent + item)
        else:
            lines[-1] += item if first else f" {item}"
    return "\n    ".join(lines)


def flow(value: Any) -> str:
    """A value in YAML's flow style, as a YAML 1.2 reader reads it back."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _AMBIGUOUS
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return json.dumps(value)
