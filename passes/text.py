"""Passes and pipelines as text: `drop-layers{layers=(3, 5)}`, several after one another with `;` or one a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from archc.ir.op import field_types
from archc.ir.text_line import Line
from archc.kernels.errors import UnknownName
from archc.passes.base import Pass, pass_class


def parse_passes(text: str, *, file: str = "<pipeline>") -> tuple[Pass, ...]:
    """The passes of a text; `#` starts a comment line. Raises ParseError with line, column and a caret."""
    lines = enumerate(text.splitlines(), 1)
    return tuple(p for i, line in lines if not line.lstrip().startswith("#") for p in _line(Line(file, i, line)))


def _line(line: Line) -> Iterator[Pass]:
    while not line.done:
        yield _pass(line)
        if not line.done:
            line.expect(";")


def _pass(line: Line) -> Pass:
    start = line.tokens[line.at].column
    name = line.word("a pass")
    try:
        made = pass_class(name)
    except UnknownName as error:
        raise line.error(str(error), start) from None
    return made(**options(line, made, start))


def options(line: Line, made: type[Any], start: int) -> dict[str, Any]:
    """The options of a frozen class that has a `name`, in braces if there are any, checked. Raises ParseError."""
    types = field_types(made)
    given = dict(_checked(line, types)) if line.peek() == "{" else {}
    required = [f.name for f in dataclasses.fields(made) if f.default is dataclasses.MISSING]
    missing = [f"`{n}`" for n in required if n not in given]
    if missing:
        raise line.error(f"`{made.name}` needs {', '.join(missing)}", start)
    return given


def _checked(line: Line, types: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options in braces, each of the type that the pass declares."""
    start = line.at
    for name, value in line.pairs(types):
        try:
            yield name, TypeAdapter(types[name], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            column = next(t.column for t in line.tokens[start:] if t.text == name)
            first = error.errors()[0]
            raise line.error(f"`{name}`: {first['msg'].lower()}, got {first['input']!r}", column) from None
