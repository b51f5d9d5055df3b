"""The base model of a search with its weights, and candidates made of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from archc.importance.files import load_scores, save_scores
from archc.importance.measuring import Measuring, in_memory, measured
from archc.kernels.errors import ArchcError
from archc.passes import Context, Pipeline, apply
from archc.resolve import load
from archc.search.choices import Point
from archc.search.ladder import Candidate
from archc.search.space import Space

if TYPE_CHECKING:
    from torch import Tensor

    from archc.emitted import Dtype
    from archc.hub.weights import Weights
    from archc.ir.graph import Graph
    from archc.passes.scores import Scores

SCORES = "importance.safetensors"
FIRST = "first"


@dataclass(frozen=True)
class Base:
    """A model in a folder whose weights candidates inherit, chosen `by` an estimator of `scores`."""

    path: Path
    space: Space
    by: str = FIRST
    scores_file: Path | None = None
    _memory: dict[str, dict[str, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @functools.cached_property
    def weights(self) -> Weights:
        """Its weights. Raises ArchcError where it has none."""
        from archc.hub.weights import weights_of

        if not self.path.is_dir():
            raise ArchcError(f"`base: {self.path}` has no weights: rungs that run a model need a checkpoint's folder")
        return weights_of(self.path)

    @functools.cached_property
    def scores(self) -> Scores | None:
        """What units are chosen by."""
        if self.scores_file is None:
            return None
        return load_scores(self.scores_file, self.weights.graph if self.path.is_dir() else load(str(self.path)))

    @functools.cached_property
    def identity(self) -> str:
        """What scores of candidates depend on: the weights, and what units are chosen by."""
        from archc.hub.stream import file_sha256

        files = sorted(self.path.glob("*.safetensors"))
        parts = [file_sha256(file) for file in files]
        return " ".join([*parts, file_sha256(self.scores_file) if self.scores_file else self.by])

    def candidate(self, name: str, point: Point) -> Candidate:
        """A candidate to be scored: of a base without weights no passes are asked for.

        Raises SearchError where a base has weights and no passes make the candidate of it."""
        passes = self.space.passes(point, self.by) if self.path.is_dir() else ""
        return Candidate(name, point, self.space.build(point).hash, passes)

    def made(self, candidate: Candidate, dtype: Dtype) -> tuple[Graph, dict[str, Tensor]]:
        """A candidate's graph and weights, in memory."""
        if dtype not in self._memory:
            self._memory[dtype] = in_memory(self.weights, dtype)
        weights = self._memory[dtype]
        if not candidate.passes:
            return self.weights.graph, weights
        graph, taken = apply(self.weights.graph, self.pipeline(candidate), Context(scores=self.scores))
        return graph, taken.apply(weights)

    def pipeline(self, candidate: Candidate) -> Pipeline:
        """The candidate's passes."""
        return Pipeline.parse(candidate.passes) if candidate.passes else Pipeline(())


def scores_for(source: Path | Measuring | None, base: Path, folder: Path) -> Path | None:
    """The file of scores that a search chooses units by: the one given, or measured once into the run's folder.

    Raises ArchcError where they are to be measured on a base without weights."""
    if source is None or isinstance(source, Path):
        return source
    if not base.is_dir():
        raise ArchcError(
            f"`importance` is measured on a base with weights, which `{base}` has not: give a file of scores"
        )
    file = folder / SCORES
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_scores(file, measured(base, source))
    return file
