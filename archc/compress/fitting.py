"""Fitting, between the passes of a pipeline, what a pass has to be fitted on text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from archc.emitted import Dtype
from archc.fitted import write_fitted
from archc.importance.calibration import Calibration, Sampling
from archc.ir.graph import Graph
from archc.ir.weightmap import WeightMap
from archc.passes import Pass, Pipeline
from archc.passes.fitted import FittedPass

if TYPE_CHECKING:
    from torch import Tensor

    from archc.hub.checkpoint import Checkpoint
    from archc.hub.weights import Weights


def unfitted(one: Pass) -> TypeGuard[FittedPass]:
    """Whether a pass has something to fit."""
    return isinstance(one, FittedPass) and not one.path


@dataclass(frozen=True, eq=False)
class Fitter:
    """Fits passes of a pipeline on a text, over the weights of a checkpoint; the files go into a folder.

    The model as it stands before the pass is held in memory, in the arithmetic `dtype`."""

    text: Calibration
    dtype: Dtype
    tensors: Checkpoint
    folder: Path

    @classmethod
    def on(cls, how: Sampling, source: Path, parent: Weights, folder: Path) -> Fitter:
        """On a text in the tokens of the model in the folder `source`, whose weights are `parent`."""
        return cls(how.text(source, parent.graph), how.dtype, parent.tensors, folder)

    @property
    def about(self) -> dict[str, Any]:
        """On what it fits, for a history."""
        return {**self.text.about, "tokens": self.text.tokens, "dtype": self.dtype}

    def fitted(self, one: Pass, graph: Graph, weights: WeightMap, before: Sequence[Pass]) -> Pass:
        """The pass with what is fitted for it; any other as it is. `weights` are those of `graph`.

        Raises PassError after passes that change what a token's id is: the text is in those of the checkpoint."""
        if not unfitted(one):
            return one
        if Pipeline(tuple(before)).tokens is not None:
            raise one.error("is fitted on text, in the ids of the old tokens: it stands before what removes some")
        held = self._held(weights)
        with self.text.told("fitting") as batches:
            made = one.fit(graph, held, (batch.inputs for batch in batches))
        path = f"fitted-{len(before) + 1}.safetensors"
        named: Any = {"path": path, "sha256": write_fitted(self.folder / path, made)}
        return replace(one, **named)

    def _held(self, weights: WeightMap) -> dict[str, Tensor]:
        import torch

        from archc.hub.stream import FittedFiles
        from archc.ir.weight_eval import evaluate

        read_file = FittedFiles(self.folder).read
        values = ((key, evaluate(expr, self.tensors.read, read_file)) for key, expr in weights.params.items())
        return {key: value.to(getattr(torch, self.dtype)) for key, value in values}
