"""Teachers: what a student is held against. A live one is a graph with weights, a cached one the logits of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from archc.ir.graph import Graph
    from archc.ir.weightmap import WeightMap
    from archc.train.batch import Batch
    from archc.train.losses.base import TeacherNeeds


class Targets(Protocol):
    """A teacher's distribution over buckets for some rows: a token each, or the likeliest tokens and the rest."""

    def log_probs(self, temperature: float) -> Tensor:
        """Log-probabilities of the buckets, `[rows, buckets]`."""

    def bucketed(self, logits: Tensor, temperature: float) -> Tensor:
        """Log-probabilities of the same buckets under other logits `[rows, V]`: `[rows, buckets]`."""


@dataclass(frozen=True)
class TeacherOutputs:
    """What a teacher says of one batch.

    `rows` are the tensors of its logits, `[B, L, ...]` each, and `targets` makes the distribution of some positions
    of them: what is vocabulary-sized exists for a few positions at a time.
    """

    hidden: Tensor | None = None
    taps: Mapping[str, Tensor] = field(default_factory=dict)
    rows: tuple[Tensor, ...] = ()
    targets: Callable[..., Targets] | None = None


class Teacher(Protocol):
    """What losses are told by. `graph` is None where only its logits are kept; `vocab` is the size of those.

    `weight_map` says how the student's weights came from this teacher's, where they did.
    """

    @property
    def vocab(self) -> int: ...

    @property
    def graph(self) -> Graph | None: ...

    @property
    def weight_map(self) -> WeightMap | None: ...

    def outputs(self, batch: Batch, needs: TeacherNeeds) -> TeacherOutputs:
        """What it says of a batch, without gradients. Raises ArchcError for what it cannot say."""
        ...
