"""One line of the text forms (of graphs, of passes): tokens with columns, values, and errors that point at a place."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archc.ir.op import field_types, record_type
from archc.kernels.errors import ParseError, Place, quoted, suggestion

_TOKEN = re.compile(r'\s*(?:(?P<number>-?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|inf)(?![\w.]))'
                    r'|(?P<word>[A-Za-z_][\w.\-]*)'
                    r'|(?P<string>"(?:[^"\\]|\\.)*")|(?P<mark>[=(){}\[\],:@;])'
                    r'|(?P<digits>[0-9][0-9a-f]*(?![\w.\-])))')  # fmt: skip
_WORD = re.compile(r"[A-Za-z_][\w.\-]*")
_MAX_DEPTH, _MAX_DIGITS = 64, 100
_WORDS = {"true": True, "false": False, "none": None, "inf": math.inf}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    column: int


class Line:
    """Tokens of one line with a cursor; every error points at a column."""

    def __init__(self, file: str, number: int, text: str) -> None:
        self.file, self.number, self.text = file, number, text
        self.tokens = list(self._scan())
        self.at = self.depth = 0

    def _scan(self) -> Iterator[Token]:
        position = 0
        while self.text[position:].strip():
            match = _TOKEN.match(self.text, position)
            if match is None:
                column = position + len(self.text[position:]) - len(self.text[position:].lstrip()) + 1
                raise self.error(f"unexpected character {quoted(self.text[column - 1])}", column)
            kind = match.lastgroup or ""
            yield Token(kind, match[kind], match.start(kind) + 1)
            position = match.end()

    def error(self, message: str, column: int | None = None, hint: str = "") -> ParseError:
        if column is None:
            column = self.tokens[self.at].column if self.at < len(self.tokens) else len(self.text) + 1
        return ParseError(Place(self.file, self.number, column, self.text), message, hint=hint)

    @property
    def done(self) -> bool:
        return self.at >= len(self.tokens)

    def peek(self) -> str:
        return "" if self.done else self.tokens[self.at].text

    def take(self, text: str) -> bool:
        """Step over `text` if it comes next."""
        if self.peek() != text:
            return False
        self.at += 1
        return True

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self._expected(f"`{text}`")

    def word(self, what: str) -> str:
        if self.done or self.tokens[self.at].kind != "word":
            raise self._expected(what)
        self.at += 1
        return self.tokens[self.at - 1].text

    def integer(self, what: str) -> int:
        if self.done or not self.peek().isdigit():
            raise self._expected(what)
        return int(self._number())

    def digits(self, count: int) -> str:
        """So many hexadecimal digits, which may read as a number or a word."""
        if not re.fullmatch(f"[0-9a-f]{{{count}}}", self.peek()):
            raise self._expected(f"{count} hexadecimal digits")
        self.at += 1
        return self.tokens[self.at - 1].text

    def end(self) -> None:
        if not self.done:
            raise self.error(f"unexpected {quoted(self.peek())}")

    def _expected(self, what: str) -> ParseError:
        return self.error(f"expected {what}, got {quoted(self.peek() or 'end of line')}")

    def value(self, annotation: Any = None) -> Any:
        """An attribute's value; `annotation` tells which record braces stand for."""
        if self.peek() in ("{", "("):
            if self.depth == _MAX_DEPTH:
                raise self.error(f"nested too deeply: at most {_MAX_DEPTH} levels")
            self.depth += 1
            found = self._record(annotation) if self.peek() == "{" else self._tuple()
            self.depth -= 1
            return found
        if self.done or self.tokens[self.at].kind in ("mark", "digits"):
            raise self._expected("a value")
        token = self.tokens[self.at]
        if token.kind == "number":
            text = self._number()
            return int(text) if text.lstrip("-").isdigit() else float(text)
        self.at += 1
        return token.text[1:-1].replace('\\"', '"') if token.kind == "string" else _WORDS.get(token.text, token.text)

    def _number(self) -> str:
        if len(self.peek()) > _MAX_DIGITS:
            raise self._expected(f"a number of at most {_MAX_DIGITS} digits")
        self.at += 1
        return self.tokens[self.at - 1].text

    def _tuple(self) -> tuple[Any, ...]:
        self.expect("(")
        items = []
        while not self.take(")"):
            items.append(self.value())
            if self.peek() != ")":
                self.expect(",")
        return tuple(items)

    def _record(self, annotation: Any) -> Any:
        made = record_type(annotation)
        if made is None:
            raise self.error("unexpected `{`: this attribute is not a record")
        return self.make(made, dict(self.pairs(field_types(made))))

    def make(self, made: type[Any], given: dict[str, Any]) -> Any:
        try:
            return made(**given)
        except TypeError as error:
            raise self.error(str(error)) from error

    def pairs(self, types: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """`{name=value, ...}` with names known and none twice."""
        self.expect("{")
        seen: set[str] = set()
        while not self.take("}"):
            column = self.tokens[self.at].column if not self.done else None
            name = self.word("a field name")
            if name not in types:
                raise self.error(f"unknown field {quoted(name)}{suggestion(name, types)}", column)
            if name in seen:
                raise self.error(f"field `{name}` given twice", column)
            seen.add(name)
            self.expect("=")
            yield name, self.value(types[name])
            if self.peek() != "}":
                self.expect(",")


def print_value(value: Any) -> str:
    """An attribute's value: number, word, string, true / false / none, (tuple) or {record}."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value not in _WORDS else '"' + value.replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "(" + ", ".join(map(print_value, value)) + ")"
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, f.default, getattr(value, f.name)) for f in dataclasses.fields(value))
        return "{" + ", ".join(f"{n}={print_value(v)}" for n, default, v in pairs if v != default) + "}"
    return repr(value)


def value_words(value: Any) -> str:
    """An attribute's value for a person: as it is printed, but floats short and records with their defaults.

    >>> value_words((0.001, float("inf")))
    '(0.001, inf)'
    """
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(value_words, value)) + ")"
    if dataclasses.is_dataclass(value):
        given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return "{" + ", ".join(f"{name}={value_words(v)}" for name, v in given.items() if v is not None) + "}"
    return print_value(value)
