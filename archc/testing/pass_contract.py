"""The pass contract: what must hold of every registered pass, checked on its own `Examples` over the zoo's tiny-hybrid.

@pytest.mark.parametrize("one", example_passes(), ids=str)
class TestPasses(PassContract): ...
"""

from __future__ import annotations

import torch

from archc.ir.execute import execute
from archc.ir.init import init_weights
from archc.ir.text import parse_graph, print_graph
from archc.ir.verify import verify
from archc.passes import Pass, Pipeline, apply, registered_passes
from archc.resolve import load

MODEL = "tiny-hybrid"


def example_passes() -> list[Pass]:
    """Every example of every registered pass."""
    return [cls(**options) for cls in registered_passes() for options in cls.Examples]


class PassContract:
    """Mix in, parametrised over passes."""

    def test_text_round_trip(self, one: Pass) -> None:
        assert Pipeline.parse(str(one)).passes == (one,)

    def test_graph_holds_together_and_survives_its_text(self, one: Pass) -> None:
        made, _ = apply(load(MODEL), one)
        assert parse_graph(print_graph(verify(made))) == made

    def test_the_same_twice_and_the_old_graph_untouched(self, one: Pass) -> None:
        graph = load(MODEL)
        before = print_graph(graph)
        assert apply(graph, one)[0] == apply(graph, one)[0]
        assert print_graph(graph) == before

    def test_weights_fit_and_run(self, one: Pass) -> None:
        graph = load(MODEL)
        made, weight_map = apply(graph, one)
        weights = weight_map.apply(init_weights(graph, seed=0))
        assert {key: tuple(w.shape) for key, w in weights.items()} == made.weight_shapes()
        vocab = made.dims["vocab"].size
        logits = execute(made, weights, {"tokens": torch.arange(10).reshape(2, 5) % vocab})["logits"]
        assert logits.shape == (2, 5, vocab) and bool(logits.isfinite().all())
