"""Every error archc raises on purpose.

    ArchcError
    |-- SourceError          something wrong at a place in a file: carries file, line, column
    |   |-- SpecError        a YAML spec, hardware profile, recipe, claim or overlay
    |   |-- ParseError       IR text
    |   `-- DataError        a line of training data
    |-- SpecErrors           several SpecErrors of one file, reported together
    |-- GraphError           a graph that does not hold together (verification)
    |-- PassError            a pass or pipeline that cannot apply
    |-- WeightError          a WeightMap or checkpoint that does not fit
    |-- UnknownName          a name no registry has; suggests near misses
    |-- UnitError            a size or count that does not read as one
    |-- UnsupportedError     a valid request that a format, state or machine cannot serve; says why
    `-- MissingPackage       an optional package is not installed; names the pip extra

All are public as ``archc.errors``.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_EXCERPT = 76  # characters of a source line that fit a terminal of 80 beside its indentation
_QUOTED = 60  # characters of a name or value that a message shows
_LISTED = 12  # names that a message lists


class ArchcError(Exception):
    """Base of every error archc raises on purpose; the message is meant for a person."""


@dataclass(frozen=True)
class Place:
    """Where in a file something stands. Lines and columns count from 1; 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0
    source: str = ""

    def __str__(self) -> str:
        return ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])


class SourceError(ArchcError):
    """An error at a place in a file, printed with the line and a caret under the column."""

    def __init__(self, at: Place, message: str, *, hint: str = "") -> None:
        self.at, self.message, self.hint = at, message, hint
        super().__init__(self.render())

    def render(self) -> str:
        """The message, the source line and the hint, as printed."""
        head = f"{self.at}: {self.message}"
        if not self.at.source:
            return f"{head} ({self.hint})" if self.hint else head
        excerpt, before = _excerpt(self.at.source, max(self.at.column - 1, 0))
        return "\n".join([head, f"    {excerpt}", f"    {' ' * before}^ {self.hint}".rstrip()])


def _excerpt(source: str, before: int) -> tuple[str, int]:
    """The part of a source line around the character that `before` others precede, and how many precede it there."""
    start = max(min(before - _EXCERPT // 2, len(source) - _EXCERPT), 0)
    end = start + _EXCERPT
    left, right = "..." if start else "", "..." if end < len(source) else ""
    shown = "".join(char if char.isprintable() else " " for char in source[start + len(left) : end - len(right)])
    return left + shown + right, before - start


class SpecError(SourceError):
    """A YAML spec, hardware profile, recipe, claim or overlay is wrong at a place."""


class ParseError(SourceError):
    """IR text does not parse."""


class DataError(SourceError):
    """A line or document of training data cannot be used."""


class SpecErrors(ArchcError):
    """All errors of one file at once."""

    def __init__(self, errors: Sequence[SourceError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(e) for e in self.errors))


class GraphError(ArchcError):
    """A graph does not hold together: names the op, its scope and the dims that disagree."""


class PassError(ArchcError):
    """A pass or pipeline cannot apply to this graph."""


class SearchError(ArchcError):
    """A search cannot be run as it is asked for: its space, its budgets, its storage."""


class WeightError(ArchcError):
    """A WeightMap or checkpoint does not fit; lists every tensor concerned."""


class UnsupportedError(ArchcError):
    """A valid request that a format, state or machine cannot serve; says why."""


class MissingPackage(ArchcError):
    """An optional package is not installed."""


class UnitError(ArchcError, ValueError):
    """A size or count that does not read as one. Also a ValueError, so that validators collect it with its place."""


class UnknownName(ArchcError):
    """A name that no registry has."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        super().__init__(f"unknown {kind} {quoted(name)}{suggestion(name, self.known)}")


@contextlib.contextmanager
def placed(at: Place | None) -> Iterator[None]:
    """Errors of the block as SpecErrors at a place of a file, if there is one; those that have a place keep theirs."""
    try:
        yield
    except (SourceError, SpecErrors):
        raise
    except ArchcError as error:
        if at is None:
            raise
        raise SpecError(at, str(error)) from error


# -- how messages show what a person wrote -----------------------------------------------------------------------------


def suggestion(name: str, known: Iterable[str]) -> str:
    """`: did you mean `x`?` for a near miss, else the list of what is known (at most twelve)."""
    names = sorted(known)
    near = nearest(name, names)
    if near is not None:
        return f": did you mean {quoted(near)}?"
    return f": known are {listed(names)}" if names else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is a near miss of, if any."""
    return next(iter(difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)), None)


def listed(names: Sequence[str]) -> str:
    """`a, b, c`, at most twelve names."""
    return ", ".join(map(clipped, names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")


def quoted(text: str) -> str:
    """A name or value in backticks, clipped."""
    return f"`{clipped(text)}`"


def clipped(text: str, limit: int = _QUOTED) -> str:
    """Text on one line: what does not print is escaped, what is longer than `limit` is cut."""
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[:limit]}..."
