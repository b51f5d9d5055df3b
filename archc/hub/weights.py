"""The weights of a model, from whatever holds them: an archc checkpoint, a compiled package, a Hugging Face folder."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archc.graphfile import read_graph
from archc.hub.checkpoint import Checkpoint
from archc.hub.checkpoint_dir import is_checkpoint_dir, load_checkpoint, logical_weights
from archc.hub.import_ import read_foreign
from archc.ir.graph import Graph
from archc.ir.text import PACKAGE_GRAPH
from archc.ir.weight_formats import DTYPE_BYTES, Shape
from archc.ir.weight_index import Index
from archc.ir.weight_normal import Normaliser
from archc.ir.weightmap import WeightMap, substitute
from archc.kernels.errors import WeightError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """A graph and its weights by key `<scope>.<param>`, each read when asked for: `made` has them over `tensors`."""

    graph: Graph
    made: WeightMap
    tensors: Checkpoint

    @functools.cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape by key."""
        return self.made.shapes(self.tensors.shapes)

    @functools.cached_property
    def dtypes(self) -> Mapping[str, str]:
        """Storage type by key; of packed weights the one that they are dequantised to."""
        return self.made.dtypes(self.tensors.dtypes)

    def nbytes(self, key: str) -> int:
        """Bytes of a weight in memory."""
        return math.prod(self.shapes[key]) * DTYPE_BYTES[self.dtypes[key]]

    def read(self, key: str) -> Tensor:
        """A weight, whole."""
        from archc.ir.weight_eval import evaluate

        return evaluate(self.made.params[key], self.tensors.read)

    def first(self, key: str, rows: int) -> Tensor:
        """The first rows of a weight; reads little else."""
        from archc.ir.weight_eval import evaluate

        normaliser = Normaliser(self.tensors.shapes)
        kept = Index.all(min(rows, self.shapes[key][0]))
        return evaluate(normaliser.take(normaliser.run(self.made.params[key]), 0, kept), self.tensors.read)


def weights_of(model: Path | str) -> Weights:
    """The weights in a folder. Raises WeightError where there are none, or where they are not those of its model."""
    folder = Path(model)
    if is_checkpoint_dir(folder):
        checkpoint = load_checkpoint(folder)
        return Weights(checkpoint.graph, checkpoint.logical, checkpoint.tensors)
    if (folder / PACKAGE_GRAPH).is_file():
        return _of_package(folder)
    if (folder / "config.json").is_file():
        return _of_foreign(folder)
    hint = "expected an archc checkpoint, a compiled package with weights, or a Hugging Face folder"
    missing = "" if folder.exists() else ", there is no such folder"
    raise WeightError(f"{folder} holds no weights{missing}: {hint}")


def _of_package(folder: Path) -> Weights:
    graph, tensors = read_graph(folder / PACKAGE_GRAPH), Checkpoint(folder)
    if graph.weight_shapes() != tensors.shapes:
        raise WeightError(f"{folder}: the weights are not those of {PACKAGE_GRAPH}: compile it again")
    return Weights(graph, WeightMap.identity(tensors.names), tensors)


def _of_foreign(folder: Path) -> Weights:
    found = read_foreign(folder)
    graph = found.spec.graph()
    made = {key: substitute(expr, found.weights.params) for key, expr in logical_weights(graph).params.items()}
    there = found.weights.used | found.weights.dropped
    return Weights(graph, WeightMap(made, there - WeightMap(made).used), found.tensors)
