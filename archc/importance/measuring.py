"""Importance of a model on disk: what `archc importance` and a compression recipe measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typing_extensions import Doc

from archc.importance.calibration import Sampling
from archc.passes.importance import Estimator, measure, parse_estimators

if TYPE_CHECKING:
    from torch import Tensor

    from archc.emitted import Dtype
    from archc.hub.weights import Weights
    from archc.passes.scores import Scores


@dataclass(frozen=True, kw_only=True)
class Measuring(Sampling):
    """By what units and blocks are scored, and on which text."""

    estimators: Annotated[str, Doc("such as `activation, influence` or `activation{batch=mean}`")] = "activation"

    @property
    def chosen(self) -> tuple[Estimator, ...]:
        """The estimators. Raises ParseError."""
        return parse_estimators(self.estimators)


def measured(model: Path | str, how: Measuring) -> Scores:
    """Scores of the model in a folder (archc checkpoint, Hugging Face, package), which is held in memory for it.

    A bar on the terminal counts batches. Raises ArchcError where text, tokenizer and model do not go together."""
    from archc.hub.weights import weights_of

    found, chosen = weights_of(model), how.chosen
    if not any(one.needs_data for one in chosen):
        return measure(found.graph, in_memory(found, how.dtype), (), chosen, about={"dtype": how.dtype})
    text = how.text(model, found.graph)
    weights, about = in_memory(found, how.dtype), {**text.about, "dtype": how.dtype}
    with text.told("measuring") as batches:
        return measure(found.graph, weights, batches, chosen, about=about)


def in_memory(found: Weights, dtype: Dtype) -> dict[str, Tensor]:
    """Every weight, in the arithmetic that the model is to run in."""
    import torch

    return {key: found.read(key).to(getattr(torch, dtype)) for key in found.made.params}
