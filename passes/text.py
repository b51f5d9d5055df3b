"""Passes and pipelines as text: `drop-layers{layers=(3, 5)}`, several after one another with `;` or one a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from archc.ir.op import field_types
from archc.ir.text_line import Line
from archc.kernels.errors import Place, UnknownName
from archc.passes.base import Pass, pass_class


def parse_passes(text: str, *, file: str = "<pipeline>") -> tuple[Pass, ...]:
    """The passes of a text; `#` starts a comment line. Raises ParseError with line, column and a caret."""
    return tuple(one for one, _ in placed_passes(text, file=file))


def placed_passes(text: str, *, file: str = "<pipeline>") -> Iterator[tuple[Pass, Place]]:
    """The passes of a text, each with where it begins. Raises as `parse_passes`."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("#"):
            yield from _line(Line(file, number, line))


def _line(line: Line) -> Iterator[tuple[Pass, Place]]:
    while not line.done:
        at = Place(line.file, line.number, line.tokens[line.at].column, line.text)
        yield _pass(line), at
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
