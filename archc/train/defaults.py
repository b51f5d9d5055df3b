"""The recipe that `archc train MODEL` means: text that every machine has, a byte a token."""

from __future__ import annotations

from collections.abc import Sequence

from archc.spec.yamltext import flow
from archc.train.recipe import Recipe
from archc.train.recipe_load import load_recipe

MINUTES = 2.0

_TEXT = """\
archc_recipe: 1
model: {model}
tokenizer: bytes
data:
  train: [{{stdlib: {{part: train}}}}]
  held_out: [{{stdlib: {{part: held_out}}}}]
sequence: 128
batch_tokens: 512
budget: {{minutes: {minutes:g}}}
optimizer: {{adamw: {{lr: 3e-3}}}}
losses: [{losses}]
evaluation: {{every: 200}}
"""


def default_recipe(model: str, overrides: Sequence[str] = (), *, mtp: bool) -> Recipe:
    """Train `model` for two minutes on the docstrings of Python's standard library, with `overrides` on top.

    `mtp` says that the model has multi-token prediction, which is then trained too."""
    losses = "next_token, mtp" if mtp else "next_token"
    text = _TEXT.format(model=flow(model), minutes=MINUTES, losses=losses)
    return load_recipe(text, overrides, file="the default recipe")
