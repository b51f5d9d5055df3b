"""YAML files with places: all errors of a file at once, each with file, line, column and what was expected.

`load_model` reads a file into a pydantic model. `load_yaml` gives the tree of `Node`s below it, for code that
checks more than a model can say: a node knows its plain data, where it stands, and how to make an error there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner

from archc.kernels.errors import Place, SourceError, SpecError, SpecErrors, clipped, quoted
from archc.modelerrors import model_errors

T = TypeVar("T")
Loc: TypeAlias = tuple[str | int, ...]

_MAX_NODES, _MAX_DEPTH, _MAX_BITS = 50_000, 64, 1024
_NESTED = f"nested too deeply: at most {_MAX_DEPTH} levels"
_TAG = "tag:yaml.org,2002:"
_CONVERTED = {_TAG + kind for kind in ("int", "float", "bool", "null")}
_MERGE = _TAG + "merge"
_TEXT = {_MERGE} | {_TAG + kind for kind in ("str", "timestamp", "value", "binary")}


@dataclass(frozen=True)
class Text:
    """The lines of a file, for places and carets."""

    file: str
    lines: tuple[str, ...]

    def place(self, line: int, column: int) -> Place:
        """The place at a line and column counted from 1, with its source line."""
        known = 1 <= line <= len(self.lines)
        return Place(self.file, line, column, self.lines[line - 1] if known else "")


@dataclass(frozen=True)
class Span:
    """Where a scalar stands: line and column of both ends, counted from 1, and its quoting style."""

    start: tuple[int, int]
    end: tuple[int, int]
    style: str | None


@dataclass(frozen=True)
class Node:
    """A value of a YAML file and where it stands.

    `value` is a scalar, a tuple of nodes, or a dict of nodes by key; `key_at` is the place of the key under
    which the node stands, or its own place when there is none.
    """

    value: Any
    at: Place
    key_at: Place
    text: Text
    span: Span | None = None

    @cached_property
    def data(self) -> Any:
        """The value as plain dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.data for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.data for child in self.value]
        return self.value

    def child(self, key: str | int) -> Node | None:
        """The node under a key or an index, or None."""
        if isinstance(self.value, dict):
            return self.value.get(key)
        if isinstance(self.value, tuple) and isinstance(key, int) and -len(self.value) <= key < len(self.value):
            return self.value[key]  # type: ignore[no-any-return]
        return None

    def find(self, loc: Sequence[str | int]) -> Node:
        """The deepest node that exists on the way to `loc`."""
        node = self
        for key in loc:
            below = node.child(key)
            if below is None:
                return node
            node = below
        return node

    def place(self, loc: Sequence[str | int] = ()) -> Place:
        """Where the value at `loc` stands; of a field that is not there, where the mapping that lacks it stands."""
        return self.find(loc).at

    def error(self, message: str, *, loc: Sequence[str | int] = (), hint: str = "") -> SpecError:
        """An error at the value at `loc`."""
        return SpecError(self.place(loc), message, hint=hint)

    def inside(self, offset: int) -> Place:
        """The place of character `offset` of a string, wherever the file breaks its lines."""
        if self.span is None or not isinstance(self.value, str):
            return self.at
        before = self._visible[min(offset, len(self.value))]
        return self.text.place(*self._characters[before]) if before < len(self._characters) else self.at

    @cached_property
    def _visible(self) -> list[int]:
        """How many characters of a string that are not space stand before each offset."""
        return list(accumulate((not char.isspace() for char in self.value), initial=0))

    @cached_property
    def _characters(self) -> list[tuple[int, int]]:
        """Positions of the characters of a scalar that are not space."""
        return list(self._scan(self.span)) if self.span else []

    def _scan(self, span: Span) -> Iterator[tuple[int, int]]:
        line, column = span.start
        if span.style in ("|", ">"):
            line, column = line + 1, 1
        elif span.style in ("'", '"'):
            column += 1
        for number in range(line, min(span.end[0], len(self.text.lines)) + 1):
            first = column if number == line else 1
            for index, char in enumerate(self.text.lines[number - 1][first - 1 :], first):
                if not char.isspace():
                    yield number, index


def load_model(source: Path | str, model: type[T], *, file: str | None = None) -> T:
    """Read YAML into `model` (a pydantic model or any type pydantic validates).

    `source` is a `Path` to read or YAML text, called `file` in errors. Raises SpecErrors with every error.
    """
    node, errors = read_yaml(source, file=file)
    value, found = validate(node, model)
    if errors or found:
        raise in_order([*errors, *found])
    return value  # type: ignore[return-value]


def load_yaml(source: Path | str, *, file: str | None = None) -> Node:
    """The tree of a YAML file (a `Path`) or text; raises SpecErrors on syntax errors and duplicate keys."""
    node, errors = read_yaml(source, file=file)
    if errors:
        raise in_order(errors)
    return node


def in_order(errors: Sequence[SourceError]) -> SpecErrors:
    """One error of many: by file and place, each once."""
    once = {str(e): e for e in errors}
    return SpecErrors(sorted(once.values(), key=lambda e: (e.at.file, e.at.line, e.at.column)))


def read_yaml(
    source: Path | str, *, file: str | None = None, unreadable: Callable[[str], SpecError] | None = None
) -> tuple[Node, list[SpecError]]:
    """As `load_yaml`, but hands back duplicate keys and the like so that later errors can join them.

    `unreadable` makes the error of a file that cannot be read, of the reason: at the place that names the file.
    """
    name = file or (str(source) if isinstance(source, Path) else "<text>")
    content = _read(source, name, unreadable) if isinstance(source, Path) else source
    return _parse(content, Text(name, tuple(line.rstrip() for line in content.splitlines())))


def _read(path: Path, name: str, unreadable: Callable[[str], SpecError] | None) -> str:
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # a ValueError is a NUL in the path
        reason = str(getattr(error, "strerror", error))
        at_file = SpecError(Place(name), f"cannot read the file: {reason}")
        raise SpecErrors([unreadable(reason) if unreadable else at_file]) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        at = Place(name, before.count(b"\n") + 1, len(before.rsplit(b"\n", 1)[-1]) + 1)
        message = f"expected UTF-8 text, got byte 0x{raw[error.start]:02x}"
        raise SpecErrors([SpecError(at, message, hint="save the file as UTF-8")]) from error


def _parse(content: str, text: Text) -> tuple[Node, list[SpecError]]:
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _Scanner
    try:
        root = yaml.compose(content)
        if root is None:
            raise SpecErrors([SpecError(Place(text.file, 1, 1), "the file is empty: expected `field: value` lines")])
        builder = _Builder(text, yaml)
        return builder.build(root, None, 0), builder.errors
    except MarkedYAMLError as error:
        raise SpecErrors([_syntax_error(error, text)]) from error
    except ReaderError as error:
        before = content[: error.position]
        at = text.place(before.count("\n") + 1, len(before.rsplit("\n", 1)[-1]) + 1)
        message = f"character U+{ord(content[error.position]):04X} is not allowed in YAML"
        raise SpecErrors([SpecError(replace(at, source=""), message)]) from error
    except YAMLError as error:
        raise SpecErrors([SpecError(Place(text.file), str(error))]) from error


def _syntax_error(error: MarkedYAMLError, text: Text) -> SpecError:
    mark = error.problem_mark or error.context_mark
    at = text.place(mark.line + 1, mark.column + 1) if mark else Place(text.file)
    problem, hint = str(error.problem or error.context or error), ""
    if isinstance(error, _TooDeep):
        return SpecError(at, _NESTED)
    if "'\\t'" in problem:
        return SpecError(at, "a tab cannot indent YAML", hint="indent with spaces")
    if "another document" in problem:
        return SpecError(at, "a second document begins here: expected one", hint="remove it")
    if error.context_mark and error.context and error.context_mark.line != (mark.line if mark else -1):
        hint = f"{error.context} that began on line {error.context_mark.line + 1}"
    elif "alias" in str(error.context) or "undefined alias" in problem:
        hint = 'a `*` that means itself needs quotes: "*"'
    return SpecError(at, f"not valid YAML: {clipped(problem, 120)}", hint=hint)


class _TooDeep(MarkedYAMLError):
    """The file nests more than it may."""


class _Scanner(Scanner):
    """ruamel's scanner, stopped where the file nests too deeply: what follows it calls itself once a level."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:
        self._check_depth()
        super().fetch_flow_collection_start(TokenClass, to_push)

    def add_indent(self, column: int) -> bool:
        self._check_depth(column > self.indent)
        return bool(super().add_indent(column))

    def _check_depth(self, opens: bool = True) -> None:
        if opens and len(self.flow_context) + len(self.indents) >= _MAX_DEPTH:
            raise _TooDeep(problem_mark=self.reader.get_mark())


class _Builder:
    """Turns ruamel's composed nodes into `Node`s, collecting duplicate keys and tags that are refused."""

    def __init__(self, text: Text, yaml: YAML) -> None:
        self.text, self.yaml, self.errors, self.count = text, yaml, list[SpecError](), 0

    def build(self, raw: Any, key: Any, depth: int) -> Node:
        at = self.place(key if key is not None and _is_empty(raw) else raw)
        self.count += 1
        if depth > _MAX_DEPTH or self.count > _MAX_NODES:
            what = _NESTED if depth > _MAX_DEPTH else f"too many values: at most {_MAX_NODES}"
            raise SpecErrors([SpecError(at, what)])
        key_at = self.place(key) if key is not None else at
        if isinstance(raw, MappingNode):
            return Node(self.fields(raw, depth), at, key_at, self.text)
        if isinstance(raw, SequenceNode):
            return Node(tuple(self.build(item, None, depth + 1) for item in raw.value), at, key_at, self.text)
        return Node(self.scalar(raw), at, key_at, self.text, self.span(raw))

    def fields(self, raw: MappingNode, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key, value in raw.value:
            if not isinstance(key, ScalarNode):
                self.errors.append(SpecError(self.place(key), "a key must be a word, got a list or mapping"))
                continue
            if key.tag == _MERGE:
                message = "a merge key `<<` is not supported: write the fields out"
                raise SpecErrors([SpecError(self.place(key), message)])
            child = self.build(value, key, depth + 1)
            first = found.setdefault(str(key.value), child)
            if first is not child:
                message = f"duplicate key {quoted(str(key.value))}"
                self.errors.append(SpecError(child.key_at, message, hint=f"first given on line {first.key_at.line}"))
        return found

    def scalar(self, raw: ScalarNode) -> Any:
        if raw.tag in _TEXT:
            return raw.value
        if raw.tag not in _CONVERTED:
            message = f"tag {quoted(str(raw.tag))} is not allowed: expected a plain value"
            self.errors.append(SpecError(self.place(raw), message))
            return None
        try:
            value = self.yaml.constructor.construct_object(raw)
            if isinstance(value, int) and value.bit_length() > _MAX_BITS:
                raise ValueError
            return value
        except (ValueError, LookupError):
            kind = raw.tag.removeprefix(_TAG)
            self.errors.append(SpecError(self.place(raw), f"expected a value of type {kind}, got {shown(raw.value)}"))
            return None

    def place(self, raw: Any) -> Place:
        return self.text.place(raw.start_mark.line + 1, raw.start_mark.column + 1)

    def span(self, raw: ScalarNode) -> Span:
        start, end = raw.start_mark, raw.end_mark
        return Span((start.line + 1, start.column + 1), (end.line + 1, end.column + 1), raw.style)


def _is_empty(raw: Any) -> bool:
    """Whether nothing is written where the value would stand: ruamel places it at whatever comes next."""
    return isinstance(raw, ScalarNode) and raw.style is None and not raw.value


def validate(node: Node, model: type[T]) -> tuple[T | None, list[SpecError]]:
    """The node's data as `model`, or None and every error, placed."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(model).validate_python(node.data), []
    except ValidationError as error:
        return None, list(_placed(node, model, error.errors(include_url=False)))


def _placed(node: Node, model: Any, raw: Sequence[Mapping[str, Any]]) -> Iterator[SpecError]:
    for found in model_errors(raw, model, lambda path, key: node.find(path).child(key) is not None):
        target = node.find(found.path)
        at = target.key_at if found.on_key else target.at
        yield SpecError(at, found.message(shown(target.data)), hint=found.hint)


def shown(value: Any) -> str:
    """A value as an error shows it: short, in backticks; lists and mappings by their kind."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, float) and not math.isfinite(value):
        return "`.nan`" if math.isnan(value) else "`.inf`" if value > 0 else "`-.inf`"
    return quoted(value if isinstance(value, str) else json.dumps(value))
