"""A recipe: everything that decides what a training run does, as frozen records.

`archc.train.recipe_load` reads one from YAML; `recipe_text` writes one that reads back equal. What is chosen by name
(data sources, losses, the optimiser, the schedule) is a record of the class that is registered under the name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from pydantic import BeforeValidator, Field
from typing_extensions import Doc

from archc.kernels.errors import Place, SpecError
from archc.spec.yamltext import flow
from archc.train.losses.base import Loss
from archc.train.optim import AdamW, OptimizerChoice
from archc.train.schedule import Cosine, Schedule
from archc.units import parse_tokens

_ADAMW, _COSINE = AdamW(), Cosine()

Positive = Annotated[int, Gt(0)]
Natural = Annotated[int, Ge(0)]
Tokens = Annotated[int, Gt(0), BeforeValidator(lambda v: parse_tokens(v) if isinstance(v, str) else v)]
PRECISIONS = ("fp32", "bf16", "fp64")
Precision = Literal["fp32", "bf16", "fp64"]


@dataclass(frozen=True, kw_only=True)
class DataEntry:
    """A source of documents in the mixture."""

    source: Any
    weight: float = 1.0
    on_bad: Literal["stop", "skip"] = "stop"


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on, and what is measured on."""

    train: tuple[DataEntry, ...]
    held_out: tuple[DataEntry, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a run is: one of steps, tokens and minutes. By minutes its length depends on the machine."""

    steps: Annotated[Positive | None, Doc("optimiser steps")] = None
    tokens: Annotated[Tokens | None, Doc("tokens trained on, such as 10M (decimal)")] = None
    minutes: Annotated[Annotated[float, Gt(0)] | None, Doc("minutes of training")] = None


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A teacher's logits computed once and kept: the likeliest tokens, and the mass of the rest."""

    top_k: Annotated[Positive, Doc("tokens kept of every position")]


@dataclass(frozen=True, kw_only=True)
class TeacherEntry:
    """A model that losses hold the student against; of several, losses name the one they mean."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$"), Doc("what losses call it")] = "teacher"
    model: Annotated[str, Doc("anything that archc reads, with weights")]
    precision: Annotated[Precision, Doc("format that it runs in")] = "fp32"
    cache: Annotated[Cache | None, Doc("keep its likeliest tokens on disk instead of running it again")] = None
    passes: Annotated[str | None, Doc("the passes that made the student of it: units are then matched directly")] = None


@dataclass(frozen=True, kw_only=True)
class MoE:
    """How mixtures of experts are kept in balance without a loss (Wang et al. 2024)."""

    bias_update: Annotated[float, Ge(0), Doc("step of the router's correction bias; 0: leave it")] = 0.001


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """When and on how much of the held-out text the loss is measured; at both ends of a run it always is."""

    every: Annotated[Positive | None, Doc("steps between measurements")] = 100
    windows: Annotated[Positive, Doc("sequences of held-out text")] = 64


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """When the whole state is saved; at the end of a run it always is."""

    every: Annotated[Positive | None, Doc("steps between checkpoints")] = 1000
    keep: Annotated[Positive, Doc("how many of the latest are kept")] = 2
    write: Annotated[
        Literal["async", "sync"], Doc("async: training goes on, on a copy of the state, while it is written")
    ] = "async"


@dataclass(frozen=True, kw_only=True)
class Export:
    """When the model is written as an archc checkpoint, beside the one at the end."""

    every: Annotated[Positive | None, Doc("steps between exports, to exports/step-N")] = None


@dataclass(frozen=True, kw_only=True)
class Spike:
    """What a loss spike is, and what is done about it."""

    factor: Annotated[float, Gt(1), Doc("a spike is a loss above this times the median of the window")] = 3.0
    window: Annotated[Positive, Doc("steps of the window, which must be full")] = 50
    action: Annotated[Literal["stop", "rollback"], Doc("stop, or go on from the last checkpoint without the batch")] = (
        "rollback"
    )


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is done about a step that goes wrong; its batch is saved either way."""

    nan: Annotated[
        Literal["stop", "rollback"], Doc("for a loss or gradient that is not finite: stop, or roll back and go round")
    ] = "stop"
    spike: Annotated[Spike | None, Doc("watch for loss spikes")] = None
    rollbacks: Annotated[Positive, Doc("how many times a run rolls back before it stops")] = 10


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How many processes share the work, and how; torchrun starts them."""

    dp: Annotated[Positive, Doc("data parallel, by FSDP2: each has its own samples, and a shard of the state")] = 1
    tp: Annotated[Positive, Doc("tensor parallel: processes that share each layer")] = 1
    ep: Annotated[Positive, Doc("expert parallel: processes that share the experts")] = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run. `optimizer`, `schedule`, `losses` and the sources of `data` are records of registered classes."""

    archc_recipe: Annotated[Literal[1], Doc("version of the recipe format: 1")] = 1
    model: Annotated[str, Doc("a spec, zoo name, checkpoint, IR text or Hugging Face config.json")]
    init_seed: Annotated[Natural, Doc("seed of the first weights, of a model that has none")] = 0
    tokenizer: Annotated[
        str | None, Doc("bytes, or a tokenizer's file or folder; none: the model's own, or bytes where it has none")
    ] = None
    data: Data
    sequence: Annotated[Annotated[int, Ge(2)], Doc("tokens of a sequence")] = 1024
    batch_tokens: Annotated[Positive, Doc("tokens of an optimiser step, a multiple of the sequence")] = 65536
    micro_batch: Annotated[
        Positive | None, Doc("sequences of one forward pass, to save memory; none: all that a process has")
    ] = None
    budget: Budget
    optimizer: OptimizerChoice = _ADAMW
    schedule: Schedule = _COSINE
    precision: Annotated[Precision, Doc("bf16 keeps fp32 weights, moments and gradients")] = "fp32"
    losses: tuple[Loss, ...]
    teachers: tuple[TeacherEntry, ...] = ()
    moe: MoE = MoE()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoints = Checkpoints()
    export: Export = Export()
    guard: Guard = Guard()
    parallel: Parallel = Parallel()
    tensorboard: Annotated[
        Literal["auto", "on", "off"], Doc("write TensorBoard events; auto: where the package is installed")
    ] = "auto"
    device: Annotated[Literal["auto", "cpu", "cuda"], Doc("auto: a GPU where there is one")] = "auto"
    seed: Annotated[Natural, Doc("of the order of samples, and of everything random while training")] = 0
    deterministic: Annotated[bool, Doc("only algorithms that give the same bits again")] = True

    @property
    def sequences(self) -> int:
        """Sequences of an optimiser step."""
        return self.batch_tokens // self.sequence

    def error(self, loc: Sequence[str | int], message: str, *, hint: str = "") -> SpecError:
        """An error at a field, such as `("teachers", 0, "model")`; of a recipe that was read, where that is written."""
        return SpecError(Place(".".join(["recipe", *map(str, loc)])), message, hint=hint)


# What may change when a run is resumed: none of it changes what the steps so far have done.
CHANGEABLE = frozenset({"budget", "schedule", "evaluation", "checkpoint", "export", "guard", "tensorboard", "parallel"})


def recipe_data(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data, defaults written out."""
    found = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(Recipe)}
    for name in ("optimizer", "schedule"):
        found[name] = _chosen(found[name])
    found["losses"] = [_chosen(loss) for loss in recipe.losses]
    found["data"] = {part: [_entry(e) for e in getattr(recipe.data, part)] for part in ("train", "held_out")}
    return {name: _plain(value) for name, value in found.items()}


def _entry(entry: DataEntry) -> dict[str, Any]:
    return {**_chosen(entry.source), "weight": entry.weight, "on_bad": entry.on_bad}


def _chosen(record: Any) -> dict[str, Any]:
    return {record.name: {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return "none" if value is None else value


def recipe_text(recipe: Recipe) -> str:
    """The YAML of a recipe, defaults written out; reading it gives an equal recipe."""
    return "".join(f"{line}\n" for line in _lines(recipe_data(recipe)))


def _lines(fields: Mapping[str, Any]) -> list[str]:
    """A line for each field, and for each part of a field that has several."""
    lines = []
    for name, value in fields.items():
        if name == "data":
            lines += [f"{name}:", *(f"  {line}" for line in _lines(value))]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [f"{name}:", *(f"  - {flow(item)}" for item in value)]
        else:
            lines.append(f"{name}: {flow(value)}")
    return lines


def differences(old: Recipe, new: Recipe) -> dict[str, tuple[str, str]]:
    """What differs between two recipes, by path, as YAML: before and after."""
    before, after = dict(_leaves(recipe_data(old))), dict(_leaves(recipe_data(new)))
    paths = [*before, *(path for path in after if path not in before)]
    return {p: (before.get(p, "-"), after.get(p, "-")) for p in paths if before.get(p) != after.get(p)}


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None or not value:
        return [(path, flow(value))]
    return [leaf for name, item in items for leaf in _leaves(item, f"{path}.{name}" if path else str(name))]
