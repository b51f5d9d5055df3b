"""From a recipe to what the engine trains: the model compiled, data packed, losses and teachers set up."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from archc.hub.checkpoint_dir import CheckpointDir, is_checkpoint_dir, load_checkpoint
from archc.hub.weights import Weights, weights_of
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.kernels.errors import UnsupportedError
from archc.train.balance import Balance
from archc.train.datasets import held_out_of, stream_of
from archc.train.engine import Task
from archc.train.losses import Losses, Setting
from archc.train.moe import routers
from archc.train.parallel import Plan, plan
from archc.train.placement import ManyProcesses, OneProcess, Placement
from archc.train.precision import DTYPES, MASTER
from archc.train.recipe import Recipe
from archc.train.teaching import teachers_of
from archc.train.tokenizers import Tokenizer, find_tokenizer
from archc.train.world import first_before_others
from archc.units import format_size

_OPTIMISED_BYTES = {"fp32": 16, "bf16": 18, "fp64": 32}  # of a parameter: itself, its gradient, two moments, a copy


@dataclass(frozen=True)
class Job:
    """A task, and what it was made of: the graph, the checkpoint it began from, the tokenizer, and hashes of it all."""

    task: Task
    graph: Graph
    parent: CheckpointDir | None
    tokenizer: Tokenizer
    text_tokens: int
    facts: Mapping[str, str]


def assemble(recipe: Recipe, graph: Graph) -> Job:
    """Everything of a recipe set up to train `graph`, which is that of its model.

    Raises ArchcError where the parts do not fit, before anything long begins."""
    check_memory(graph, recipe.precision)
    cut = plan(graph, tp=recipe.parallel.tp, ep=recipe.parallel.ep)
    tokenizer = find_tokenizer(recipe.tokenizer)
    _check_vocabulary(graph, recipe, tokenizer)
    device = device_of(recipe)
    with first_before_others():
        stream = stream_of(recipe, tokenizer)
        held_out = held_out_of(recipe, tokenizer, vocab=graph.dims["vocab"].size)
        teachers = teachers_of(recipe, graph, stream, tokenizer=tokenizer.hash, device=device)
    losses = Losses(recipe.losses, Setting(graph, teachers))
    parent = load_checkpoint(recipe.model) if is_checkpoint_dir(Path(recipe.model)) else None
    place = _placed(recipe, cut, device)
    hooks = [Balance(place, graph, rate=recipe.moe.bias_update)] if routers(graph) else []
    facts = {"model": graph.hash, "data": stream.hash, "tokenizer": tokenizer.hash}
    facts |= {f"teacher `{name}`": hash for name, one in teachers.items() if (hash := getattr(one, "hash", ""))}
    task = Task(place, stream, losses, held_out, hooks)
    return Job(task, graph, parent, tokenizer, sum(map(len, stream.datasets)), facts)


def _placed(recipe: Recipe, cut: Plan, device: str) -> Placement:
    """The model with its first weights, in this process or cut over all."""
    dtype, weights = MASTER[recipe.precision], _first_weights(recipe)
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


def _first_weights(recipe: Recipe) -> Weights | int:
    """Those that the recipe's model has, or else the seed of fresh ones."""
    place = Path(recipe.model)
    return weights_of(place) if place.is_dir() and any(place.glob("*.safetensors")) else recipe.init_seed


def device_of(recipe: Recipe) -> str:
    """The device that a recipe means. Raises UnsupportedError where it is not there."""
    there = torch.cuda.is_available()
    if recipe.device == "cuda" and not there:
        raise UnsupportedError("`device: cuda`: torch sees no GPU on this machine")
    return "cuda" if there and recipe.device != "cpu" else "cpu"


def check_memory(graph: Graph, precision: str = "fp32") -> None:
    """Weights, gradients and AdamW's two moments must fit, or the machine would kill the run. Of many machines each
    holds its processes' share."""
    mine = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) / int(os.environ.get("WORLD_SIZE", "1"))
    needed = int(_OPTIMISED_BYTES[precision] * mine * sum(map(math.prod, graph.weight_shapes().values())))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UnsupportedError(
            f"training {graph.name} takes {format_size(needed)} for weights, gradients and AdamW:"
            f" this machine has {format_size(there)}"
        )


def _check_vocabulary(graph: Graph, recipe: Recipe, tokenizer: Tokenizer) -> None:
    size, needed = graph.dims["vocab"].size, tokenizer.vocab_size
    if size < needed:
        what = "training on bytes" if recipe.tokenizer == "bytes" else f"the tokenizer {recipe.tokenizer}"
        raise UnsupportedError(f"{what} needs a vocabulary of at least {needed}: {graph.name} has {size}")


def emitted_model(graph: Graph, weights: Mapping[str, Tensor], *, dtype: str, device: str) -> nn.Module:
    """The emitted model of a graph, with its weights."""
    from archc.compilation import compile_model
    from archc.emitted import load_emitted

    with tempfile.TemporaryDirectory(prefix="archc-train-") as scratch:
        package = compile_model(graph, Path(scratch) / "model", weights=weights)
        model: nn.Module = load_emitted(package, device=device, dtype=dtype)
        return model
