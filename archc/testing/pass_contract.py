"""The pass contract: what must hold of every registered pass, over every op that it can touch.

@pytest.mark.parametrize("case", cases(), ids=str)
class TestPasses(PassContract): ...

Its cases are each pass's own `Examples` on the zoo's `tiny-hybrid`, and what `Pass.everywhere` gives on every small
model here, which have all blocks between them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from archc.ir.execute import execute
from archc.ir.graph import Graph
from archc.ir.init import init_weights
from archc.ir.text import parse_graph, print_graph
from archc.ir.verify import verify
from archc.passes import Pass, Pipeline, apply, registered_passes
from archc.passes.prune import Prune
from archc.resolve import load
from archc.spec import load_spec

MODEL = "tiny-hybrid"
MODELS = (MODEL, "tiny-latent", "tiny-dense", "tiny-mamba", "tiny-attention", "other ops")
# The ops that the small models of the zoo lack.
OTHERS = """
archc: 1
name: others
d_model: 32
vocab: 320
norm: {kind: layer}
blocks:
  "*": {attention: {n_heads: 4, n_kv_heads: 2, head_dim: 16, rope: {}}}
  "/": {linear: {bias: true}}
  "-": {mlp: {d_ff: 64, activation: silu, gated: true, bias: true}}
layers: "*/-"
"""
AFTER = Prune(dim="d_model", keep=0.75, by="random", seed=1)  # what a pass is composed with


@dataclass(frozen=True)
class Case:
    """A pass with options, and the model that it is run on."""

    model: str
    one: Pass

    @property
    def graph(self) -> Graph:
        return model(self.model)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        return initial(self.model)

    def __str__(self) -> str:
        return f"{self.model}: {self.one}"


@functools.cache
def model(name: str) -> Graph:
    """A graph of MODELS."""
    return load(name) if name.startswith("tiny-") else load_spec(OTHERS).graph()


@functools.cache
def initial(name: str) -> Mapping[str, Tensor]:
    """Weights of a graph of MODELS."""
    return init_weights(model(name), seed=0)


def cases() -> list[Case]:
    """Every pass on every model that it can touch."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    for cls in registered_passes():
        yield from (Case(MODEL, cls(**options)) for options in cls.Examples)
        for name in MODELS:
            yield from (Case(name, cls(**options)) for options in cls.everywhere(model(name)))


def idle_cases() -> list[Case]:
    """Passes with options that keep everything."""
    every = ((cls, name) for cls in registered_passes() for name in MODELS)
    return [Case(name, cls(**options)) for cls, name in every for options in cls.idle(model(name))]


class PassContract:
    """Mix in, parametrised over cases."""

    def test_text_round_trip(self, case: Case) -> None:
        assert Pipeline.parse(str(case.one)).passes == (case.one,)

    def test_graph_holds_together_and_survives_its_text(self, case: Case) -> None:
        before = print_graph(case.graph)
        made, _ = apply(case.graph, case.one)
        assert parse_graph(print_graph(verify(made))) == made
        assert apply(case.graph, case.one)[0] == made  # the same twice
        assert print_graph(case.graph) == before

    def test_weights_follow_and_run(self, case: Case) -> None:
        made, weight_map = apply(case.graph, case.one)
        weights = weight_map.apply(case.weights)
        assert {key: tuple(w.shape) for key, w in weights.items()} == made.weight_shapes()
        vocab = made.dims["vocab"].size
        logits = execute(made, weights, {"tokens": torch.arange(10).reshape(2, 5) % vocab})["logits"]
        assert logits.shape == (2, 5, vocab) and bool(logits.isfinite().all())

    def test_composed_with_another_as_one_after_the_other(self, case: Case) -> None:
        made, first = apply(case.graph, case.one)
        last, second = apply(made, AFTER)
        both, whole = apply(case.graph, Pipeline((case.one, AFTER)))
        assert both == last
        assert_equal(whole.apply(case.weights), second.apply(first.apply(case.weights)))


class IdleContract:
    """Mix in, parametrised over idle cases."""

    def test_keeping_everything_is_the_identity(self, case: Case) -> None:
        made, weight_map = apply(case.graph, case.one)
        assert made == case.graph
        assert_equal(weight_map.apply(case.weights), case.weights)


def assert_equal(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """The same weights to the last bit."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key
