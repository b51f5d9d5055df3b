"""Where the activations of each dim are: the taps, probes and outputs that an op's maths has, by `Op.scored`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from archc.ir.dims import Axis, Dim
from archc.ir.execute import Reading, execute
from archc.ir.graph import Node
from archc.passes.importance.base import Batch, Subject


@dataclass(frozen=True)
class Place:
    """A value of a node by its name (empty: its output) and its trailing axes."""

    node: Node
    name: str
    axes: tuple[Axis, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What a Reading of it has: the node's id and the name."""
        return (self.node.id, self.name)

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The dims that its axes are laid out of, in order."""
        return tuple(d for axis in self.axes for d in axis.dims())


def places(subject: Subject, preferred: Collection[str] = ()) -> Mapping[str, tuple[Place, ...]]:
    """The places at which each dim's activations are read, one a node: by the dim's name.

    In a node it is the first of the `preferred` taps that has the dim, else the one that the op declares (`scored`).
    A dim that no node says anything of is read at the first tap that has it."""
    found: dict[str, tuple[Place, ...]] = {}
    there = list(_activations(subject))
    for dim in subject.graph.dims.values():
        having = [place for place in there if dim in place.dims]
        said = [p for p in having if p.name in preferred] + [p for p in having if _declares(p, dim)]
        chosen = said or [p for p in having if p.name]
        if chosen:
            found[dim.name] = tuple({p.node.id: p for p in reversed(chosen)}.values())[::-1]
    return found


def _declares(place: Place, dim: Dim) -> bool:
    op = place.node.op
    return any(d == dim and op.scored.get(role) == place.name for role, d in op.dims.items())


def _activations(subject: Subject) -> Iterator[Place]:
    """Every value that has a row for each token, as a run over two tokens shows: not a parameter that is tapped."""
    import torch

    found: list[Place] = []
    batch = Batch(torch.zeros(1, 2, dtype=torch.long))

    def watch(reading: Reading) -> None:
        value = reading.read()
        # Rows of tokens lie before the axes: [B, L], or [B L]. With `at` the first of the axes has the K chosen units.
        leading = tuple(value.shape[: value.ndim - len(reading.axes)])
        if reading.axes and leading in ((1, 2), (2,)):
            found.append(Place(reading.node, reading.name, reading.axes))

    with torch.no_grad():
        execute(subject.graph, subject.weights, batch.inputs, watch=watch)
    yield from found
