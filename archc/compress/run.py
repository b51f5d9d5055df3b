"""Passes applied to a checkpoint: one streaming run from the old folder to the new, and what it records of itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archc.compress.fitting import Fitter
from archc.compress.packing import stored
from archc.compress.tokens import carry, kept_origin
from archc.fitted import keep_fitted
from archc.hub.bare_config import check_name
from archc.hub.checkpoint import Checkpoint, staged
from archc.hub.checkpoint_dir import CheckpointDir, describe, is_checkpoint_dir, load_checkpoint
from archc.hub.outputs import check_apart
from archc.hub.stream import file_sha256, run_into
from archc.hub.weights import Weights, weights_of
from archc.importance.calibration import Sampling
from archc.importance.files import load_scores, save_scores
from archc.importance.measuring import Measuring, measured
from archc.ir.graph import Graph
from archc.ir.weightmap import WeightMap
from archc.kernels.errors import ArchcError, Place, placed
from archc.passes import Context, Pass, Pipeline
from archc.passes.fitted import FittedPass
from archc.passes.scores import Scores

SCORES = "importance.safetensors"  # the scores that units were chosen by, kept beside the weights
STEP = "compress"
REQUANTISE = "requantise"


@dataclass(frozen=True)
class Compressed:
    """A graph made by a pipeline, the map of its weights over those of the parent, both as they are stored, and the
    pipeline as it was applied, with the files that its passes were fitted into."""

    graph: Graph
    weights: WeightMap
    pipeline: Pipeline


def compress(
    source: Path,
    pipeline: Pipeline,
    out: Path,
    *,
    scores: Path | Measuring | None = None,
    calibration: Sampling | None = None,
    name: str = "",
    at: Mapping[str, Place] | None = None,
    accept: Callable[[Graph, Graph], None] | None = None,
    requantise: bool = False,
    overwrite: bool = False,
) -> CheckpointDir:
    """Apply a pipeline to the model in a folder (archc checkpoint, Hugging Face, package): a new archc checkpoint.

    `scores` are those of a file, or how they are measured first; `calibration` is the text that passes are fitted on
    which have something to fit. Only rows that are kept are read, nothing is held but the tensor that is being written;
    measuring and fitting hold the model. `at` says where a recipe has these two. `accept` raises, of the graph before
    and the one that is made, where that is not wanted. `requantise` allows to quantise packed weights anew, of which
    other values than whole blocks are kept. Raises ArchcError, and writes nothing, where the pipeline does not fit the
    model or the scores are another model's."""
    if name:
        check_name(name)
    parent, places = weights_of(source), at or {}
    check_apart(source, out)
    before = load_checkpoint(source) if is_checkpoint_dir(source) else None
    with staged(out, overwrite=overwrite) as folder:
        # first, since a tokenizer that cannot lose tokens should not be found out after an hour of measuring
        with placed(next((at for one, at in pipeline.placed if one.tokens is not None), None)):
            origin = kept_origin(before.origin, parent.graph, pipeline.tokens) if before else None
            carry(source, folder, parent.graph, pipeline.tokens)
        with placed(places.get("importance")):
            known = _scores(source, parent, scores, folder)
        with placed(places.get("calibration")):
            fitter = None if calibration is None else Fitter.on(calibration, source, parent, folder)
        _keep_files(pipeline, source, folder)
        made = compressed(parent, pipeline, known, fitter, requantise=requantise)
        if accept is not None:
            accept(parent.graph, made.graph)
        step: dict[str, Any] = {
            "step": STEP,
            "pipeline": str(made.pipeline).splitlines(),
            "parent": identity(parent),
            **({"importance": {"file": SCORES, "sha256": file_sha256(folder / SCORES)}} if scores else {}),
            **({"calibration": fitter.about} if fitter else {}),
            **({REQUANTISE: True} if requantise else {}),
        }
        graph = replace(made.graph, name=name) if name else made.graph
        describe(folder, graph, step, parent=before, origin=origin)
        run_into(folder, made.weights, parent.tensors, files=folder)
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


def _keep_files(pipeline: Pipeline, source: Path, folder: Path) -> None:
    """Copy what passes of the pipeline were fitted into before, named relative to the source."""
    for one, at in pipeline.placed:
        if isinstance(one, FittedPass) and one.path:
            with placed(at):
                keep_fitted(one.path, source, folder)


def compressed(
    parent: Weights,
    pipeline: Pipeline,
    scores: Scores | None = None,
    fitter: Fitter | None = None,
    *,
    requantise: bool = False,
) -> Compressed:
    """What a pipeline makes of a model. Raises ArchcError where it does not apply."""
    shapes = parent.tensors.shapes
    graph, weights = parent.graph, parent.made.normalised(shapes)
    done: list[Pass] = []

    def prepare(one: Pass, before: Graph) -> Pass:
        return one if fitter is None else fitter.fitted(one, before, weights, done)

    for step in pipeline.steps(graph, Context(scores=scores, dtypes=parent.dtypes), prepare):
        graph, weights = step.graph, WeightMap.compose(weights, step.weights, shapes)
        done.append(step.applied)
    return Compressed(graph, stored(graph, weights, shapes, requantise=requantise), Pipeline(tuple(done)))


def identity(parent: Weights) -> Mapping[str, str]:
    """What a child names its parent by: the graph, and the names, types and shapes of the stored tensors."""
    return {"name": parent.graph.name, "graph": parent.graph.hash, "tensors": layout_hash(parent.tensors)}


def layout_hash(tensors: Checkpoint) -> str:
    """sha256 of the names, types and shapes of stored tensors; their values are compared by `archc verify`."""
    told = [[name, tensors.dtypes[name], list(tensors.shapes[name])] for name in sorted(tensors.names)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
