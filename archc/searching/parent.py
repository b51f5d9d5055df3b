"""A parent model in memory, and what passes make of it: as `archc compress` would, what a pass fits fitted here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.compress.fitting import unfitted
from archc.fitted import write_fitted
from archc.hub.stream import FittedFiles, file_sha256
from archc.hub.weights import Weights
from archc.importance.calibration import Calibration
from archc.importance.measuring import in_memory
from archc.ir.graph import Graph
from archc.ir.weight_eval import evaluate, take
from archc.ir.weight_expr import File, Old, WeightExpr
from archc.ir.weight_index import Index
from archc.ir.weightmap import WeightMap
from archc.outfile import whole
from archc.passes import Context, Pass, Pipeline
from archc.passes.fitted import FittedPass
from archc.passes.importance.base import Subject
from archc.passes.scores import Scores
from archc.search.library import LAYERS_FIELD, text_of

if TYPE_CHECKING:
    from torch import Tensor

    from archc.emitted import Dtype


@dataclass(frozen=True, eq=False)
class Parent:
    """A model with its weights, the text that it is measured on, and scores that units are kept by.

    What passes fit lies in files of `folder`, each fitted once."""

    path: Path
    weights: Weights
    text: Calibration
    dtype: Dtype
    folder: Path
    scores: Scores | None = None
    identity: str = ""
    _fits: dict[str, Pass] = field(default_factory=dict, repr=False)

    @cached_property
    def held(self) -> Mapping[str, Tensor]:
        """Every weight, in the arithmetic that the model runs in."""
        return in_memory(self.weights, self.dtype)

    @property
    def subject(self) -> Subject:
        """The parent as it is measured."""
        return Subject(self.weights.graph, self.held)

    def made(self, pipeline: Pipeline) -> Subject:
        """What passes make of it. Weights that they leave as they are are the parent's own tensors."""
        graph, shapes = self.weights.graph, self.weights.shapes
        weights, done = WeightMap.identity(shapes), list[Pass]()

        def prepare(one: Pass, before: Graph) -> Pass:
            return self._fitted(one, before, weights, done) if unfitted(one) else one

        for step in pipeline.steps(graph, Context(scores=self.scores, dtypes=self.weights.dtypes), prepare):
            graph, weights = step.graph, WeightMap.compose(weights, step.weights, shapes)
            done.append(step.applied)
        return Subject(graph, self._values(weights))

    def fit(self, passes: Iterable[Pass]) -> None:
        """Fit passes on the parent itself, those that differ in `layers` alone in one run over the text."""
        groups: dict[str, list[FittedPass]] = {}
        for one in passes:
            if isinstance(one, FittedPass) and unfitted(one):
                groups.setdefault(text_of(one), []).append(one)
        for text, several in groups.items():
            layers = sorted({i for one in several for i in getattr(one, LAYERS_FIELD)})
            options: Any = {LAYERS_FIELD: tuple(layers)}
            together = replace(several[0], **options)
            self._fits[text] = self._filed(together, self.weights.graph, lambda: self.held, ())

    # -- weights and fits ----------------------------------------------------------------------------------------------

    def _values(self, weights: WeightMap) -> dict[str, Tensor]:
        import torch

        dtype, ours, theirs = getattr(torch, self.dtype), FittedFiles(self.folder), FittedFiles(self.path)

        def read_file(leaf: File) -> Tensor:
            """From the run's folder; a file that the search names itself lies in the model's."""
            return (ours if (self.folder / leaf.path).is_file() else theirs).read(leaf)

        def value(expr: WeightExpr) -> Tensor:
            return self.held[expr.name] if isinstance(expr, Old) else evaluate(expr, self._read, read_file).to(dtype)

        return {key: value(expr) for key, expr in weights.params.items()}

    def _read(self, name: str, rows: Index | None = None) -> Tensor:
        """A weight as it is stored, so that what is made of it is rounded as in a checkpoint."""
        whole = self.weights.read(name)
        return whole if rows is None else take(whole, 0, rows)

    def _fitted(self, one: Pass, graph: Graph, weights: WeightMap, done: Sequence[Pass]) -> Pass:
        """The pass with the file of what is fitted for it, on the model as it stands before it."""
        known = self._fits.get(text_of(one)) if not done else None
        if known is not None and set(getattr(one, LAYERS_FIELD)) <= set(getattr(known, LAYERS_FIELD)):
            there: Any = {LAYERS_FIELD: getattr(one, LAYERS_FIELD)}
            return replace(known, **there)
        return self._filed(one, graph, lambda: self._values(weights), done)

    def _filed(self, one: Pass, graph: Graph, weights: Any, done: Sequence[Pass]) -> Pass:
        """The pass as it is fitted on a model, into a file of its own unless that is there."""
        assert isinstance(one, FittedPass)
        told = [self.identity, self.text.about, self.text.tokens, self.dtype, str(Pipeline(tuple(done))), str(one)]
        file = self.folder / f"fitted-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}.safetensors"
        if not file.is_file():
            held = weights()
            with self.text.told("fitting") as batches:
                made = one.fit(graph, held, (batch.inputs for batch in batches))
            with whole(file) as partial:
                write_fitted(partial, made)
        named: Any = {"path": file.name, "sha256": file_sha256(file)}
        return replace(one, **named)


def identity_of(model: Path, graph: Graph, scores: Path | None) -> str:
    """What results of a model depend on: its graph, its weights, and what units are kept by."""
    files = [*sorted(model.glob("*.safetensors")), *([scores] if scores else [])]
    return " ".join([graph.hash, *map(file_sha256, files)])
