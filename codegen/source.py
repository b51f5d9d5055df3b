"""Where a value was made: the statement of the op author's source, its targets and its comments."""

from __future__ import annotations

import ast
import functools
import io
import linecache
import tokenize
from dataclasses import dataclass
from types import CodeType

_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)
_IGNORED = ("type:", "noqa", "fmt:", "mypy:", "pragma:")


@dataclass(frozen=True)
class Statement:
    """One simple statement of a file.

    `targets` are the assigned names (several for an unpacking), empty for a return or a bare expression.
    `above` are the full-line comments over it, `beside` the comment at its end, both without `#`.
    """

    file: str
    line: int
    targets: tuple[str, ...] = ()
    unpacks: bool = False
    returns: bool = False
    above: tuple[str, ...] = ()
    beside: str = ""


class _File:
    """The statements and comments of one source file."""

    def __init__(self, name: str) -> None:
        self.name = name
        lines = linecache.getlines(name)
        self.tree = ast.parse("".join(lines))
        self.comments: dict[int, tuple[str, bool]] = {}  # line -> (text, whether alone on the line)
        for token in tokenize.generate_tokens(io.StringIO("".join(lines)).readline):
            if token.type == tokenize.COMMENT:
                text = token.string.lstrip("#").strip()
                self.comments[token.start[0]] = (text, not token.line[: token.start[1]].strip())
        self.spans = sorted(
            ((n.lineno, n.end_lineno or n.lineno, n) for n in ast.walk(self.tree) if isinstance(n, _SIMPLE)),
            key=lambda s: s[0],
        )

    def statement(self, line: int) -> Statement:
        """The simple statement that covers `line`."""
        for first, last, node in self.spans:
            if first <= line <= last:
                return Statement(
                    self.name,
                    first,
                    targets=_targets(node),
                    unpacks=isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple),
                    returns=isinstance(node, ast.Return),
                    above=self._above(first),
                    beside=self._beside(last),
                )
        return Statement(self.name, line)

    def _above(self, line: int) -> tuple[str, ...]:
        found: list[str] = []
        while self.comments.get(line - 1, ("", False))[1]:
            line -= 1
            found.insert(0, self.comments[line][0])
        return tuple(c for c in found if not c.startswith(_IGNORED))

    def _beside(self, line: int) -> str:
        text = self.comments.get(line, ("", False))[0].partition("  # ")[0].strip()
        return "" if text.startswith(_IGNORED) else text


def _targets(node: ast.stmt) -> tuple[str, ...]:
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        names = target.elts if isinstance(target, ast.Tuple) else [target]
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        names = [node.target]
    else:
        return ()
    return tuple(n.id if isinstance(n, ast.Name) else "_" for n in names)


@functools.cache
def _file(name: str) -> _File:
    return _File(name)


@functools.cache
def statement_at(code: CodeType, line: int) -> Statement:
    """The simple statement at a line of a code object's file."""
    return _file(code.co_filename).statement(line)


@functools.cache
def input_names(code: CodeType) -> tuple[str, ...]:
    """What `forward(self, m, *inputs)` calls its inputs: the names it unpacks them into, or its own parameters."""
    plain = code.co_varnames[2 : code.co_argcount]
    variadic = code.co_varnames[code.co_argcount + code.co_kwonlyargcount] if code.co_flags & 0x04 else None
    if variadic is None:
        return plain
    for first, _, node in _file(code.co_filename).spans:
        unpacked = isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id == variadic
        if unpacked and first > code.co_firstlineno:
            return plain + _targets(node)
    return plain
