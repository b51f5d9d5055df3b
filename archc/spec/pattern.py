"""Layer patterns: the one place that reads them.

A pattern names the blocks of a model in order. In text, a letter (or a longer name between spaces) is a block and
`N x` repeats the group in brackets, or the word, after it:

    M-M-M*-            seven blocks
    4 x [M -] *        M - M - M - M - *
    2 x [local 3 x M]  local M M M local M M M

In YAML, `layers` is such a text or a list of texts, nested lists and mappings: `{use: "-", d_ff: 12000}` is one
block with fields changed, and `times: 3` beside `use` repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archc.kernels.errors import Place, SpecError, clipped, listed, quoted, suggestion
from archc.yamlfile import Node, shown

MAX_LAYERS, MAX_DEPTH = 10_000, 64
NAME = re.compile(r"[^\W\d]\w*|[^\w\s\[\],\"'#:{}]")

_TOKEN = re.compile(r"(?P<times>[0-9]+)\s*[x×]\s*|(?P<mark>[\[\]])|(?P<word>[^\s,\[\]]+)|(?P<space>[\s,]+)")


@dataclass(frozen=True)
class Use:
    """One layer of a pattern: the block it uses, the fields it changes, and where the pattern says so."""

    name: str
    at: Place
    changes: Mapping[str, Node] = field(default_factory=dict)


class _Fault(Exception):
    """A pattern text is wrong at a character."""

    def __init__(self, offset: int, message: str, hint: str = "") -> None:
        self.offset, self.message, self.hint = offset, message, hint


def read_layers(node: Node, names: Iterable[str]) -> tuple[tuple[Use, ...], list[SpecError]]:
    """The layers that a `layers` field lists, with every error in it; `names` are the declared blocks."""
    reader = _Reader(tuple(names))
    uses = reader.read(node)
    if not uses and not reader.errors:
        reader.errors.append(node.error("expected at least one layer, got none"))
    return tuple(uses), reader.errors


@dataclass
class _Reader:
    names: Sequence[str]
    errors: list[SpecError] = field(default_factory=list)

    def read(self, node: Node) -> list[Use]:
        uses = self._read(node)
        if len(uses) > MAX_LAYERS:
            self.errors.append(node.error(f"expected at most {MAX_LAYERS} layers, got {len(uses)}"))
            return []
        return uses

    def _read(self, node: Node) -> list[Use]:
        if isinstance(node.value, str):
            return self._text(node, node.value)
        if isinstance(node.value, tuple):
            return self._list(node.value)
        if isinstance(node.value, dict):
            return self._changed(node)
        message = f"expected a pattern such as `M-M*-` or a list of patterns, got {shown(node.data)}"
        self.errors.append(node.error(message))
        return []

    def _list(self, items: Sequence[Node]) -> list[Use]:
        uses: list[Use] = []
        for item in items:
            uses += self._read(item)
            if len(uses) > MAX_LAYERS:
                break
        return uses

    def _text(self, node: Node, text: str) -> list[Use]:
        try:
            return [Use(name, node.inside(offset)) for name, offset in expand(text, self.names)]
        except _Fault as fault:
            self.errors.append(SpecError(node.inside(fault.offset), fault.message, hint=fault.hint))
            return []

    def _changed(self, node: Node) -> list[Use]:
        changes = dict(node.value)
        use, times = changes.pop("use", None), changes.pop("times", None)
        if use is None:
            hint = 'as in {use: "-", d_ff: 12000}'
            self.errors.append(SpecError(node.at, "missing field `use`: which block this layer uses", hint=hint))
            return []
        if use.value not in self.names:
            known = suggestion(str(use.value), self.names)
            self.errors.append(use.error(f"`use`: no block is called {shown(use.data)}{known}"))
            return []
        count = 1 if times is None else times.value
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_LAYERS:
            wanted = f"expected a number from 1 to {MAX_LAYERS}"
            self.errors.append((times or node).error(f"`times`: {wanted}, got {shown(count)}"))
            return []
        return [Use(use.value, node.at, changes)] * count


def expand(text: str, names: Sequence[str]) -> list[tuple[str, int]]:
    """The blocks that a pattern text names, each with the offset at which it stands."""
    return _Parser([m for m in _TOKEN.finditer(text) if m.lastgroup != "space"], names).items()


@dataclass
class _Parser:
    """Reads tokens one after the other; an item is a word, a bracket or a repeated item."""

    tokens: Sequence[re.Match[str]]
    names: Sequence[str]
    at: int = 0
    depth: int = 0

    def items(self, opened: re.Match[str] | None = None) -> list[tuple[str, int]]:
        """The blocks of the items up to the bracket that closes `opened`, or to the end."""
        found: list[tuple[str, int]] = []
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token["mark"] == "]":
                if opened is None:
                    raise _Fault(token.start(), "`]` closes no `[`")
                self.at += 1
                return found
            found += self.item()
            if len(found) > MAX_LAYERS:
                raise _Fault(0, f"expected at most {MAX_LAYERS} layers, got more")
        if opened is not None:
            raise _Fault(opened.start(), "`[` is never closed")
        return found

    def item(self) -> list[tuple[str, int]]:
        token = self.tokens[self.at]
        self.at += 1
        if token["word"] is not None:
            return list(_blocks(token, self.names))
        if self.depth == MAX_DEPTH:
            raise _Fault(token.start(), f"nested too deeply: at most {MAX_DEPTH} levels of brackets and repeats")
        self.depth += 1
        found = self.items(token) if token["mark"] else self.repeated(token)
        self.depth -= 1
        return found

    def repeated(self, token: re.Match[str]) -> list[tuple[str, int]]:
        digits = token["times"]
        times = int(digits[:9])
        if len(digits) > 9 or not 1 <= times <= MAX_LAYERS:
            raise _Fault(token.start(), f"expected a repeat from 1 to {MAX_LAYERS}, got {clipped(digits)}")
        if self.at == len(self.tokens) or self.tokens[self.at]["mark"] == "]":
            raise _Fault(token.start(), f"`{digits} x` repeats nothing", "as in 4 x [M -]")
        found = self.item()
        if len(found) * times > MAX_LAYERS:
            raise _Fault(token.start(), f"expected at most {MAX_LAYERS} layers, got {len(found) * times}")
        return found * times


def _blocks(token: re.Match[str], names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The blocks of a word: the block of that name, or one a letter."""
    word = token["word"]
    if word in names:
        yield word, token.start()
        return
    for offset, letter in enumerate(word, token.start()):
        if letter not in names:
            raise _unknown(word, letter, offset, token.start(), names)
        yield letter, offset


def _unknown(word: str, letter: str, offset: int, start: int, names: Sequence[str]) -> _Fault:
    if len(word) > 1 and not any(char in names for char in word):
        return _Fault(start, f"no block is called {quoted(word)}{suggestion(word, names)}")
    other = [name for name in names if name.lower() == letter.lower() or name in _LOOKALIKES.get(letter, "")]
    hint = f"did you mean `{other[0]}`?" if other else f"blocks are {listed(names)}"
    return _Fault(offset, f"no block is called {quoted(letter)}", hint)


_LOOKALIKES = {"_": "-", "–": "-", "—": "-", "−": "-", "A": "*", "×": "*", "F": "-"}


# -- the inverse -------------------------------------------------------------------------------------------------------


def write_pattern(names: Sequence[str]) -> str:
    """The shortest readable text that expands to `names`: a whole-pattern repeat, or the letters."""
    apart = " " if any(len(name) > 1 for name in names) else ""
    for size in range(1, len(names) // 2 + 1):
        times, rest = divmod(len(names), size)
        if rest == 0 and list(names[:size]) * times == list(names):
            return f"{times} x {names[0]}" if size == 1 else f"{times} x [{', '.join(names[:size])}]"
    return apart.join(names)
