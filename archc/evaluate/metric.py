"""What a metric is: a small frozen class whose fields are its options, and what it is handed.

    @metric("perplexity")
    class Perplexity(Metric):
        length: int = 512

        def measure(self, on): ...    # -> Figures

`str(Perplexity(length=64))` is `perplexity{length=64}`, and `parse_metric` reads it back. A metric is deterministic:
the same model on the same text gives the same figures.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from archc.ir.op import field_types
from archc.ir.text_line import Line, print_value
from archc.kernels.errors import ArchcError, UnknownName
from archc.progress import bar
from archc.train.registry import Registry

if TYPE_CHECKING:
    from archc.evaluate.subject import Subject
    from archc.evaluate.texts import Encoded
    from archc.train.corpus import Document

T = TypeVar("T", bound="Metric")

BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Figure:
    """One number that was measured: `key` names it for programs (a dot nests), `words` and `shown` for people."""

    key: str
    value: float | int | str
    words: str
    shown: str


@dataclass(frozen=True)
class Setting:
    """What metrics measure: a model, the texts it is measured on, what a baseline may learn from, and a teacher."""

    subject: Subject | None = None
    texts: tuple[Document, ...] = ()
    learnt: tuple[Document, ...] = ()
    teacher: Subject | None = None
    batch_tokens: int = BATCH_TOKENS
    progress: Callable[[str, int], AbstractContextManager[Callable[[int], None]]] = bar

    @property
    def model(self) -> Subject:
        """The model that is measured. Raises ArchcError where there is none."""
        if self.subject is None:
            raise ArchcError("this metric measures a model: say which")
        return self.subject

    @functools.cached_property
    def encoded(self) -> tuple[Encoded, ...]:
        """The texts as tokens of the model. Raises ArchcError where there is nothing to score."""
        from archc.evaluate.texts import encode_all

        return encode_all(self.texts, self.model.tokenizer, vocab=self.model.vocab)


class Metric:
    """Base of every metric; `wants_model` says that it measures one."""

    name: ClassVar[str]
    wants_model: ClassVar[bool] = True

    def measure(self, on: Setting) -> tuple[Figure, ...]:
        """The figures. Raises ArchcError where the setting lacks what the metric needs."""
        raise NotImplementedError

    def __str__(self) -> str:
        options = ", ".join(f"{name}={print_value(value)}" for name, value in self._options())
        return f"{self.name}{{{options}}}" if options else self.name

    def _options(self) -> Iterator[tuple[str, Any]]:
        """The options that differ from their defaults."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        given = ((f.name, f.default, getattr(self, f.name)) for f in fields)
        return ((name, value) for name, default, value in given if value != default)


_METRICS: Registry[Metric] = Registry("metric")


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def metric(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: makes the class a frozen dataclass and registers it under `name`."""
    return _METRICS(name)


def metrics() -> dict[str, type[Metric]]:
    """Every metric by name."""
    import archc.evaluate.metrics  # noqa: F401  (registers the built-in ones)

    return dict(_METRICS.classes)


def parse_metric(text: str) -> Metric:
    """The metric of a text such as `recall{distances=(64, 256)}`.

    Raises ParseError with a caret; ArchcError for a value that the metric refuses."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    line = Line("<metric>", 1, text)
    start = line.tokens[0].column if line.tokens else None
    name, known = line.word("a metric"), metrics()
    if name not in known:
        raise line.error(str(UnknownName("metric", name, known)), start)
    types = field_types(known[name])
    given = dict(line.pairs(types)) if line.peek() == "{" else {}
    line.end()
    for field, value in given.items():
        try:
            TypeAdapter(types[field], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            column = next(t.column for t in line.tokens if t.text == field)
            first = error.errors()[0]
            raise line.error(f"`{field}`: {first['msg'].lower()}, got {first['input']!r}", column) from None
    return made(known[name], given, line)


def made(cls: type[Metric], given: dict[str, Any], line: Line) -> Metric:
    """The metric of a class with checked options; a field that is missing is an error."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    missing = [f"`{f.name}`" for f in fields if f.default is dataclasses.MISSING and f.name not in given]
    if missing:
        raise line.error(f"`{cls.name}` needs {', '.join(missing)}", 1)
    return cls(**given)


def needs_positive(owner: Metric, *names: str) -> None:
    """Raise ArchcError for the first of a metric's options that is not above zero."""
    for name in names:
        if not getattr(owner, name) > 0:
            raise ArchcError(f"{owner.name}: `{name}` must be positive: got {getattr(owner, name)}")


@dataclass(frozen=True)
class Measured:
    """What a metric found."""

    metric: Metric
    figures: tuple[Figure, ...]


def evaluate(metrics: Sequence[Metric], on: Setting) -> tuple[Measured, ...]:
    """Measure each of the metrics, in order; what each needs is checked before any of them runs.

    Raises ArchcError for a metric that measures a model where there is none."""
    lacking = [str(m) for m in metrics if m.wants_model and on.subject is None]
    if lacking:
        raise ArchcError(f"{', '.join(lacking)}: measures a model: say which")
    return tuple(Measured(m, m.measure(on)) for m in metrics)
