"""Replaying what a checkpoint says was done to its parent, and comparing every weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archc.compress.run import REQUANTISE, SCORES, STEP, compressed, identity
from archc.hub.checkpoint_dir import CheckpointDir, load_checkpoint
from archc.hub.stream import FittedFiles, file_sha256
from archc.hub.weights import Weights, weights_of
from archc.importance.files import load_scores
from archc.ir.weight_eval import evaluate
from archc.kernels.errors import WeightError
from archc.passes import Pipeline
from archc.progress import bar


@dataclass(frozen=True)
class Verified:
    """What a replay found: how many weights are equal, and what is not as the checkpoint says."""

    equal: int
    problems: tuple[str, ...]


def verify(child: Path, parent: Path) -> Verified:
    """Apply the last `compress` step of `child`'s history to `parent` again, and compare graphs and weights bit by bit.

    Raises WeightError where the history has no such step."""
    made, old = load_checkpoint(child), weights_of(parent)
    step = _step(made)
    problems = list(_other_parent(step, old))
    scores = child / SCORES
    if "importance" in step and (not scores.is_file() or file_sha256(scores) != step["importance"]["sha256"]):
        raise WeightError(f"{scores}: is not the file of scores that the units were chosen by")
    known = load_scores(scores, old.graph) if "importance" in step else None
    pipeline = Pipeline.parse("\n".join(step["pipeline"]), file=str(child / "history.json"))
    replayed = compressed(old, pipeline, known, requantise=bool(step.get(REQUANTISE)))
    if replayed.graph.hash != made.graph.hash:
        problems.append("the pipeline makes another graph of this parent")
        return Verified(0, tuple(problems))
    equal, read_file = 0, FittedFiles(child).read
    with bar("weights", len(replayed.weights.params), unit="items") as advance:
        for key, expr in replayed.weights.params.items():
            same = made.tensors.read(key).equal(evaluate(expr, old.tensors.read, read_file))
            equal += same
            problems += [] if same else [f"`{key}` is not what the pipeline makes of the parent's weights"]
            advance(1)
    return Verified(equal, tuple(problems))


def _step(child: CheckpointDir) -> dict[str, Any]:
    steps = [step for step in child.history if step.get("step") == STEP]
    if not steps:
        done = ", ".join(str(step.get("step")) for step in child.history) or "nothing"
        raise WeightError(f"{child.directory}: its history ({done}) has no `{STEP}` step to replay")
    return steps[-1]


def _other_parent(step: dict[str, Any], old: Weights) -> Iterator[str]:
    told, found = step["parent"], identity(old)
    if told["graph"] != found["graph"]:
        was, is_ = (f"`{who['name']}` {who['graph'][:16]}" for who in (told, found))
        yield f"the parent is {is_}, the history says {was}"
    elif told["tensors"] != found["tensors"]:
        yield "the parent's tensors have other names, types or shapes than the history says"
