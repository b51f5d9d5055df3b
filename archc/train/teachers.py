"""Teachers: what a student is held against. A live one is a graph with weights; `topk_cache` has the cached ones."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from archc.hub.weights import Weights
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


def _none(*rows: Tensor) -> Targets:
    raise ValueError("the teacher was not asked for logits")


@dataclass(frozen=True)
class TeacherOutputs:
    """What a teacher says of one batch.

    `rows` are tensors `[B, L, ...]` from which `targets` makes the distribution of some positions: what is
    vocabulary-sized exists for a few positions at a time.
    """

    hidden: Tensor | None = None
    taps: Mapping[str, Tensor] = field(default_factory=dict)
    rows: tuple[Tensor, ...] = ()
    targets: Callable[..., Targets] = _none


class Teacher(Protocol):
    """What losses are told by.

    `vocab` is the size of its logits, `graph` is None where nothing else is kept of it, `weight_map` says how the
    student's weights were made of this teacher's, where they were.
    """

    @property
    def vocab(self) -> int: ...

    @property
    def graph(self) -> Graph | None: ...

    @property
    def weight_map(self) -> WeightMap | None: ...

    def check(self, needs: TeacherNeeds) -> None:
        """Raise ArchcError for what it cannot say."""

    def outputs(self, batch: Batch, needs: TeacherNeeds) -> TeacherOutputs:
        """What it says of a batch, without gradients."""
        ...


class LiveTeacher:
    """A model that runs beside the student: frozen, in eval mode, in a precision of its own.

    `model` has the emitted interface; `hash` names its weights (empty where nobody asked).
    """

    def __init__(self, graph: Graph, model: Any, *, weight_map: WeightMap | None = None, hash: str = "") -> None:
        self.graph, self.model, self.weight_map, self.hash = graph, model.eval().requires_grad_(False), weight_map, hash

    @classmethod
    def open(
        cls, folder: Path | str, *, dtype: str = "float32", device: str = "cpu", weight_map: WeightMap | None = None
    ) -> LiveTeacher:
        """The model in a folder: an archc checkpoint, a compiled package, a Hugging Face folder.

        Raises WeightError where the folder holds no weights, or those of another model.
        """
        from archc.hub.weights import weights_of

        weights = weights_of(folder)
        return cls(weights.graph, emitted_of(weights, dtype, device), weight_map=weight_map, hash=weights_hash(weights))

    @property
    def vocab(self) -> int:
        """The size of its vocabulary."""
        return self.graph.dims["vocab"].size

    def check(self, needs: TeacherNeeds) -> None:
        """It says everything."""

    def outputs(self, batch: Batch, needs: TeacherNeeds) -> TeacherOutputs:
        """One forward pass, on the device that the model is on."""
        import torch

        taps = sorted(needs.taps)
        there = batch.to(next(iter(self.model.parameters())).device)
        with torch.no_grad():
            found = self.model.hidden(there.tokens, there.segments, taps)
        hidden, tapped = found if taps else (found, {})
        return TeacherOutputs(hidden, tapped, rows=(hidden,), targets=self._targets)

    def _targets(self, hidden: Tensor) -> Targets:
        import torch

        from archc.train.targets import Whole

        with torch.no_grad():
            return Whole(self.model.logits(hidden))


def emitted_of(weights: Weights, dtype: str, device: str) -> Any:
    """The emitted model of weights, which are streamed through a package that is gone afterwards."""
    from archc.codegen import emit_package
    from archc.emitted import load_emitted
    from archc.hub.stream import run_into
    from archc.ir.weightmap import WeightMap

    made = WeightMap(weights.made.params, frozenset(weights.tensors.names) - weights.made.used)
    with tempfile.TemporaryDirectory(prefix="archc-teacher-") as scratch:
        package = emit_package(
            weights.graph, Path(scratch) / "teacher", fill=lambda f: run_into(f, made, weights.tensors)
        )
        return load_emitted(package, device=device, dtype=dtype)


def weights_hash(weights: Weights) -> str:
    """sha256 of a model and the values of its weights, however they are stored in files."""
    import torch

    digest = hashlib.sha256(weights.graph.hash.encode())
    for key in sorted(weights.shapes):
        tensor = weights.read(key).contiguous()
        digest.update(f"\n{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        if math.prod(tensor.shape):
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
