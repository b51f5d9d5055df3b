"""Passes applied to a checkpoint: one streaming run from the old folder to the new, and what it records of itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archc.compress.tokens import carry, kept_origin
from archc.hub.checkpoint import Checkpoint, staged
from archc.hub.checkpoint_dir import (
    CheckpointDir,
    describe,
    is_checkpoint_dir,
    load_checkpoint,
    packed_weights,
)
from archc.hub.stream import file_sha256, run_into
from archc.hub.weights import Weights, weights_of
from archc.importance.files import load_scores, save_scores
from archc.importance.measuring import Measuring, measured
from archc.ir.graph import Graph
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, Place, UnsupportedError, placed
from archc.passes import Context, Pipeline, apply
from archc.passes.scores import Scores

SCORES = "importance.safetensors"  # the scores that units were chosen by, kept beside the weights
STEP = "compress"


@dataclass(frozen=True)
class Compressed:
    """A graph made by a pipeline, and the map of its weights over those of the parent, as the parent stores them."""

    graph: Graph
    weights: WeightMap


def compress(
    source: Path,
    pipeline: Pipeline,
    out: Path,
    *,
    scores: Path | Measuring | None = None,
    name: str = "",
    at: Mapping[str, Place] | None = None,
    overwrite: bool = False,
) -> CheckpointDir:
    """Apply a pipeline to the model in a folder (archc checkpoint, Hugging Face, package): a new archc checkpoint.

    `scores` are those of a file, or how they are measured first. Only rows that are kept are read, nothing is held but
    the tensor that is being written; measuring holds the model. `at` says where a recipe has its `importance`. Raises
    ArchcError, and writes nothing, where the pipeline does not fit the model or the scores are another model's."""
    parent = weights_of(source)
    with staged(out, overwrite=overwrite) as folder:
        with placed((at or {}).get("importance")):
            known = _scores(source, parent, scores, folder)
        made = compressed(parent, pipeline, known)
        graph = replace(made.graph, name=name) if name else made.graph
        step: dict[str, Any] = {"step": STEP, "pipeline": str(pipeline).splitlines(), "parent": identity(parent)}
        if known is not None:
            step["importance"] = {"file": SCORES, "sha256": file_sha256(folder / SCORES)}
        before = load_checkpoint(source) if is_checkpoint_dir(source) else None
        origin = kept_origin(before.origin, parent.graph, pipeline.tokens) if before else None
        describe(folder, graph, step, parent=before, origin=origin)
        carry(source, folder, parent.graph, pipeline.tokens)
        run_into(folder, made.weights, parent.tensors, files=source)
    return load_checkpoint(out)


def _scores(source: Path, parent: Weights, scores: Path | Measuring | None, folder: Path) -> Scores | None:
    """The scores, kept in the new folder: those of a file as it is."""
    if isinstance(scores, Measuring):
        save_scores(folder / SCORES, measured(source, scores))
    elif scores is not None:
        if not scores.is_file():
            raise ArchcError(f"{scores}: no such file of scores")
        load_scores(scores, parent.graph)
        shutil.copyfile(scores, folder / SCORES)
    return None if scores is None else load_scores(folder / SCORES, parent.graph)


def compressed(parent: Weights, pipeline: Pipeline, scores: Scores | None = None) -> Compressed:
    """What a pipeline makes of a model. Raises ArchcError where it does not apply."""
    packed = packed_weights(parent.graph)
    if packed:
        key, how = next(iter(packed.items()))
        raise UnsupportedError(
            f"`{key}` and {len(packed) - 1} more weights of `{parent.graph.name}` are stored as {how.format}, in blocks"
            " of which units cannot be taken out"
        )
    graph, weights = apply(parent.graph, pipeline, Context(scores=scores))
    return Compressed(graph, WeightMap.compose(parent.made, weights, parent.tensors.shapes))


def identity(parent: Weights) -> Mapping[str, str]:
    """What a child names its parent by: the graph, and the names, types and shapes of the stored tensors."""
    return {"name": parent.graph.name, "graph": parent.graph.hash, "tensors": layout_hash(parent.tensors)}


def layout_hash(tensors: Checkpoint) -> str:
    """sha256 of the names, types and shapes of stored tensors; their values are compared by `archc verify`."""
    told = [[name, tensors.dtypes[name], list(tensors.shapes[name])] for name in sorted(tensors.names)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
