"""What tests of the engine share: a tiny emitted model, samples that are functions of their numbers, and recipes."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archc.train.balance import Balance
from archc.train.batch import Batch
from archc.train.engine import Task, Trainer
from archc.train.evaluation import HeldOut
from archc.train.losses import Losses, Setting
from archc.train.placement import OneProcess
from archc.train.recipe import Recipe
from archc.train.recipe_load import load_recipe
from tests.train.losses_kit import graph_of, model_of

torch.set_num_threads(1)  # tiny matrices: threads only wait for each other

VOCAB, LENGTH, LAYERS = 24, 12, "*E"

RECIPE = f"""\
archc_recipe: 1
model: tiny
data: {{train: [stdlib]}}
sequence: {LENGTH}
batch_tokens: {4 * LENGTH}
budget: {{steps: 8}}
optimizer: {{adamw: {{lr: 0.02}}}}
losses: [next_token, mtp]
precision: fp64
evaluation: {{every: 5}}
checkpoint: {{every: 3}}
device: cpu
"""


class Samples:
    """Sample n: tokens that each tell the next, and uneven weights; those `bad` have a weight that is not a number."""

    hash = "samples"

    def __init__(self, bad: Iterable[int] = ()) -> None:
        self.bad = set(bad)
        self.asked: list[int] = []

    def batch(self, numbers: Iterable[int]) -> Batch:
        index = torch.tensor(list(numbers))
        self.asked += index.tolist()
        steps = torch.arange(LENGTH)
        tokens = (index[:, None] * 5 + steps * 7) % VOCAB
        weights = ((index[:, None] + steps) % 3 + 1).float() / 2  # sums are exact in fp32
        for row, number in enumerate(index.tolist()):
            if number in self.bad:
                weights[row, 3] = float("nan")
        segments = (steps >= 7).int().expand_as(tokens)
        return Batch(tokens, segments, weights, index)


@functools.cache
def _model() -> Any:
    return model_of(graph_of(LAYERS, vocab=VOCAB, mtp=1))


class Noise:
    """Moves the weights a little after every step, by the random numbers of Python, numpy and torch."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    @torch.no_grad()
    def after_step(self) -> dict[str, float]:
        """Draws one number of each kind."""
        drawn = random.random() + float(np.random.rand()) + float(torch.rand(()))
        for parameter in self.model.parameters():
            parameter.add_(1e-3 * (drawn - 1.5))
        return {"noise": drawn}

    def discard(self) -> None:
        """Nothing is kept."""


def recipe_of(*overrides: str) -> Recipe:
    """The recipe above with changes."""
    return load_recipe(RECIPE, overrides, file="recipe")


def trainer_of(
    recipe: Recipe, folder: Path | None = None, *, bad: Iterable[int] = (), noise: bool = False, **more: Any
) -> Trainer:
    """A trainer of a fresh tiny model: the same one each time."""
    graph = graph_of(LAYERS, vocab=VOCAB, mtp=1)
    model = copy.deepcopy(_model()).float() if recipe.precision != "fp64" else copy.deepcopy(_model())
    held_out = HeldOut([Samples().batch(range(100, 104))], VOCAB, 44)
    place = OneProcess(model, graph)
    balance = Balance(place, graph, rate=recipe.moe.bias_update)
    hooks = [balance, Noise(model)] if noise else [balance]
    task = Task(place, Samples(bad), Losses(recipe.losses, Setting(graph)), held_out, hooks)
    return Trainer(task, recipe, folder, **more)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every tensor of the model now."""
    return {name: value.clone() for name, value in trainer.task.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two models are equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
