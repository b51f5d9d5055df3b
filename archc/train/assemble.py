"""From a recipe to what the engine trains: the model compiled, data packed, losses and teachers set up."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from archc.hub.checkpoint_dir import CheckpointDir, is_checkpoint_dir, load_checkpoint
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.train.balance import Balance
from archc.train.datasets import held_out_of, stream_of
from archc.train.engine import Task
from archc.train.losses import Losses, Setting
from archc.train.moe import routers
from archc.train.parts import Parts
from archc.train.placement import ManyProcesses, OneProcess, Placement
from archc.train.precision import DTYPES, MASTER
from archc.train.recipe import Recipe
from archc.train.teaching import teachers_of
from archc.train.tokenizers import Tokenizer
from archc.train.world import first_before_others


@dataclass(frozen=True)
class Job:
    """A task, and what it was made of: the graph, the checkpoint it began from, the tokenizer, and hashes of it all."""

    task: Task
    graph: Graph
    parent: CheckpointDir | None
    tokenizer: Tokenizer
    text_tokens: int
    facts: Mapping[str, str]


def assemble(recipe: Recipe, parts: Parts) -> Job:
    """Everything of a recipe set up to train, of the parts that it names.

    Raises ArchcError for data that cannot be used."""
    graph, tokenizer, device = parts.graph, parts.tokenizer, device_of(recipe)
    with first_before_others():
        stream = stream_of(recipe, tokenizer)
        held_out = held_out_of(recipe, tokenizer, vocab=graph.dims["vocab"].size)
        teachers = teachers_of(recipe, parts.teachers, parts.needs, stream, tokenizer=tokenizer.hash, device=device)
    losses = Losses(recipe.losses, Setting(graph, teachers))
    parent = load_checkpoint(recipe.model) if is_checkpoint_dir(Path(recipe.model)) else None
    place = _placed(recipe, parts, device)
    hooks = [Balance(place, graph, rate=recipe.moe.bias_update)] if routers(graph) else []
    facts = {"model": graph.hash, "data": stream.hash, "tokenizer": tokenizer.hash}
    facts |= {f"teacher `{name}`": hash for name, one in teachers.items() if (hash := getattr(one, "hash", ""))}
    task = Task(place, stream, losses, held_out, hooks)
    return Job(task, graph, parent, tokenizer, sum(map(len, stream.datasets)), facts)


def _placed(recipe: Recipe, parts: Parts, device: str) -> Placement:
    """The model with its first weights, in this process or cut over all."""
    dtype, cut, weights = MASTER[recipe.precision], parts.cut, parts.weights
    if dist.is_initialized():
        from archc.train.parallel.model import ParallelModel

        compute = DTYPES[recipe.precision]
        return ManyProcesses(ParallelModel(cut, weights, device=device, dtype=dtype, compute=compute))
    if isinstance(weights, int):
        tensors = init_weights(cut.graph, seed=weights)
    else:
        tensors = {key: weights.read(key) for key in weights.shapes}
    return OneProcess(
        emitted_model(cut.graph, tensors, dtype=str(dtype).removeprefix("torch."), device=device), cut.graph
    )


def device_of(recipe: Recipe) -> str:
    """The device that a recipe means. Raises SpecError where it is not there."""
    there = torch.cuda.is_available()
    if recipe.device == "cuda" and not there:
        raise recipe.error(("device",), "`device`: torch sees no GPU on this machine: got `cuda`")
    return "cuda" if there and recipe.device != "cpu" else "cpu"


def emitted_model(graph: Graph, weights: Mapping[str, Tensor], *, dtype: str, device: str) -> nn.Module:
    """The emitted model of a graph, with its weights."""
    from archc.compilation import compile_model
    from archc.emitted import load_emitted

    with tempfile.TemporaryDirectory(prefix="archc-train-") as scratch:
        package = compile_model(graph, Path(scratch) / "model", weights=weights)
        model: nn.Module = load_emitted(package, device=device, dtype=dtype)
        return model
