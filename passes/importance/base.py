"""What an estimator of importance is: a small frozen class whose fields are its options, and what it has seen so far.

    @estimator("influence")
    class Influence(Estimator):
        def start(self, subject): ...     # -> Measurement

`str(Activation(batch="mean"))` is `activation{batch=mean}`, and `parse_estimators` reads it back. One run of the model
serves all estimators (`archc.passes.importance.measuring`); a Measurement keeps running sums, never values of a batch.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from archc.ir.graph import LAYERS, Graph
from archc.ir.slicing import carried
from archc.ir.text_line import Line, print_value
from archc.ir.weight_expr import Old
from archc.kernels.errors import PassError, UnknownName
from archc.passes.scores import Values
from archc.passes.text import options

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.execute import Reading

T = TypeVar("T", bound="Estimator")


@dataclass(frozen=True, eq=False)
class Batch:
    """Tokens [B, L] and, where documents are packed, the segments [B, L] that they are of."""

    tokens: Tensor
    segments: Tensor | None = None

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What `execute` takes."""
        return {"tokens": self.tokens} | ({} if self.segments is None else {"segments": self.segments})

    @property
    def shape(self) -> tuple[int, int]:
        """(B, L)."""
        return (int(self.tokens.shape[0]), int(self.tokens.shape[1]))


@dataclass(frozen=True, eq=False)
class Subject:
    """The model that is measured."""

    graph: Graph
    weights: Mapping[str, Tensor]

    @functools.cached_property
    def blocks(self) -> tuple[str, ...]:
        """Ids of the layers' blocks, in order."""
        return self.graph.blocks.get(LAYERS, ())

    @functools.cached_property
    def head(self) -> tuple[str, str]:
        """The nodes that give the logits and the hidden state before them. Raises PassError without logits."""
        found = dict(self.graph.outputs).get("logits")
        if found is None:
            raise PassError(f"`{self.graph.name}` has no output `logits`, which this estimator compares")
        return found, self.graph.node(found).inputs[0]

    def span(self, block: str) -> tuple[str, str]:
        """The nodes whose outputs are the residual stream before a block and after it."""
        nodes = self.graph.block_nodes(LAYERS, block)
        inside = {n.id: n.inputs[0] for n in nodes}
        before = nodes[-1].id
        while before in inside:
            before = inside[before]
        return before, nodes[-1].id

    def without(self, block: str) -> Subject:
        """The model without a block; raises GraphError where another node uses its parameters."""
        made = self.graph.without_blocks([(LAYERS, block)])
        names = {key: e.name for key, e in carried(self.graph, made).params.items() if isinstance(e, Old)}
        return Subject(made, {key: self.weights[name] for key, name in names.items()})


@dataclass(frozen=True, eq=False)
class Results:
    """What a run ends in: logits [B, L, V], and the hidden state [B, L, D] before them."""

    logits: Tensor
    hidden: Tensor


class Measurement:
    """What an estimator has seen so far. `watches` asks for readings, `removes` for runs without each block."""

    watches: ClassVar[bool] = False
    removes: ClassVar[bool] = False

    def read(self, reading: Reading, batch: Batch) -> None:
        """A value of the run over `batch`."""

    def without(self, block: str, full: Results, found: Results, batch: Batch) -> None:
        """What the model gives, and what it gives without a block."""

    def batch(self, batch: Batch) -> None:
        """A batch, for a run of one's own."""

    def units(self) -> Mapping[str, Values]:
        """Scores of units by dim, `[rows, size]`."""
        return {}

    def blocks(self) -> Mapping[str, float]:
        """Scores of blocks by id."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """Base of every estimator: more is more important. `needs_data` is False where the weights alone say it."""

    name: ClassVar[str]
    needs_data: ClassVar[bool] = True

    def start(self, subject: Subject) -> Measurement:
        """A measurement that has seen nothing. Raises PassError where the model lacks what it needs."""
        raise NotImplementedError

    def __str__(self) -> str:
        given = ((f.name, f.default, getattr(self, f.name)) for f in dataclasses.fields(self))
        told = ", ".join(f"{name}={print_value(value)}" for name, default, value in given if value != default)
        return f"{self.name}{{{told}}}" if told else self.name


# -- registry ----------------------------------------------------------------------------------------------------------

_ESTIMATORS: dict[str, type[Estimator]] = {}


@typing.dataclass_transform(kw_only_default=True, frozen_default=True)
def estimator(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: makes the class a frozen dataclass and registers it under `name`."""

    def register(cls: type[T]) -> type[T]:
        if name in _ESTIMATORS:
            raise PassError(f"estimator `{name}` is registered twice: {_ESTIMATORS[name].__module__}, {cls.__module__}")
        cls.name = name
        made = dataclass(frozen=True, kw_only=True)(cls)
        _ESTIMATORS[name] = made
        return made

    return register


def registered_estimators() -> tuple[type[Estimator], ...]:
    """Every registered estimator, in order of registration."""
    import archc.passes.importance  # noqa: F401  (registers the built-in ones)

    return tuple(_ESTIMATORS.values())


def parse_estimators(text: str) -> tuple[Estimator, ...]:
    """The estimators of a text such as `activation{batch=mean}, influence`. Raises ParseError with a caret."""
    return tuple(_parsed(Line("<estimators>", 1, text)))


def _parsed(line: Line) -> Iterator[Estimator]:
    known = {cls.name: cls for cls in registered_estimators()}
    while True:
        start = line.tokens[line.at].column if not line.done else None
        name = line.word("an estimator")
        if name not in known:
            raise line.error(str(UnknownName("estimator", name, known)), start)
        yield known[name](**options(line, known[name], start or 1))
        if line.done:
            return
        line.expect(",")
