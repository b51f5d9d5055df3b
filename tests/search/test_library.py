"""The block library: costs add up to the cost sheet's, a combination is what its passes make, layers are apart."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.hardware import load_hardware
from archc.ir.cost import cost_sheet
from archc.ir.graph import Graph
from archc.ir.workload import FormatChoice, Workload
from archc.kernels.errors import ArchcError, SearchError
from archc.passes import Pipeline
from archc.passes.attention_to_mamba import AttentionToMamba
from archc.passes.base import Pass
from archc.passes.drop_experts import DropExperts
from archc.passes.fold_norms import FoldNorms
from archc.passes.prune import Prune
from archc.passes.replace_linear import ReplaceLinear
from archc.search.budgets import Budget
from archc.search.figures import Figure, Setting
from archc.search.library import DROP, KEEP, Library, Replacement, Variant, library
from archc.search.mip import solve
from archc.search.node_sums import RATE, linear, node_sum
from tests.search.test_sweep import sheet_value

SETTINGS = (
    Setting(Workload.of(context=4096, batch=2), FormatChoice("bf16"), load_hardware("a10g")),
    Setting(Workload.of(input=512, output=256, batch=3), FormatChoice("int4", kv="fp8"), load_hardware("a10g")),
)
EXACT = (
    "params.total", "params.active", "memory.weights", "memory.kv", "memory.ssm", "memory.conv", "memory.resident",
    "flops.decode",
)  # fmt: skip
TIMED = ("latency.prefill", "latency.decode", RATE)


def variant(name: str, *passes: Pass) -> Variant:
    return Variant(name, passes)


LINEAR = variant("linear", ReplaceLinear(layers=()))
KINDS = {
    "mamba2": (
        KEEP, DROP, LINEAR, variant("half", Prune(dim="n_heads", keep=0.5)),
        variant("smaller", Prune(dim="n_heads", keep=0.5), Prune(dim="d_state", keep=0.5)),
    ),
    "attention": (KEEP, variant("mamba", AttentionToMamba(layers=()))),
    "moe": (KEEP, DROP, variant("half", Prune(dim="d_ff", keep=0.5)), variant("six", DropExperts(count=2))),
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Library:
    return library(archc.load("tiny-hybrid"), KINDS)


def some(made: Library, count: int, seed: int = 0) -> list[tuple[int, ...]]:
    import random

    rng = random.Random(seed)
    return [tuple(rng.randrange(len(options)) for options in made.layers) for _ in range(count)]


def budget(name: str, limit: float, setting: Setting = SETTINGS[0], sense: Any = "<=") -> Budget:
    return Budget(Figure(name, setting), sense, limit)


# -- costs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_what_blocks_cost_adds_up_to_the_cost_sheet(made: Library, setting: Setting) -> None:
    """Exactly, for what is counted; the sheet is that of the combined graph, made by the combined passes."""
    for chosen in some(made, 4):
        graph = made.build(chosen)
        for name in (*EXACT, *TIMED):
            figure = Figure(name, setting)
            parts = [made.part(options[i], figure) for options, i in zip(made.layers, chosen, strict=True)]
            found, wanted = made.shared(figure) + sum(parts), sheet_value(graph, figure)
            if name == RATE:
                assert setting.workload.sequences * (setting.workload.output or 1) / found == pytest.approx(wanted)
            elif name in TIMED:
                assert found == pytest.approx(wanted, rel=1e-12)
            else:
                assert found == wanted, name


def test_a_budget_on_a_rate_is_one_on_seconds(made: Library) -> None:
    """What is within it are the graphs whose rate is at least so high."""
    setting = SETTINGS[1]
    rates = {chosen: sheet_value(made.build(chosen), Figure(RATE, setting)) for chosen in some(made, 5)}
    for limit in rates.values():
        problem = made.problem([budget(RATE, limit * (1 - 1e-9), setting, ">=")], lambda r: 0.0)
        assert all(problem.fits(chosen) == (rate >= limit) for chosen, rate in rates.items())
    assert linear(budget(RATE, 0, setting, ">="), 0).limit == float("inf")


@pytest.mark.parametrize("name", ["memory.peak", "memory.activation", "throughput.max_batch"])
def test_a_figure_that_is_no_sum_is_refused(made: Library, name: str) -> None:
    with pytest.raises(SearchError, match=rf"`{name}` is no sum over layers: mip takes params.total"):
        made.problem([budget(name, 1e9)], lambda r: 0.0)


def test_a_rate_needs_a_batch() -> None:
    setting = dataclasses.replace(SETTINGS[0], workload=Workload.of(context=128))
    with pytest.raises(SearchError, match="only at a batch that is given"):
        node_sum(Figure(RATE, setting), archc.load("tiny-hybrid"))


def test_layers_of_one_make_are_costed_as_one_and_others_apart() -> None:
    """Layers of one kind may differ in size: each has its own cost."""
    graph = archc.apply(archc.load("tiny-hybrid"), "prune{dim=d_ff, to=64, by=first, layers=(4)}")[0]
    made = library(graph, KINDS)
    figure = Figure("params.total", SETTINGS[0])
    costs = {i: made.part(Replacement(graph, i, KINDS["moe"][2]), figure) for i in (1, 4, 6)}
    assert costs[1] == costs[6] > costs[4]


# -- passes ------------------------------------------------------------------------------------------------------------


def test_a_combination_is_one_pass_for_all_layers_alike(made: Library) -> None:
    chosen = (4, 0, 1, 1, 2, 2, 1, 2, 0, 0)  # M E M * E M E M * E
    assert str(made.pipeline(chosen)).splitlines() == [
        "replace-linear{layers=(5, 7)}",
        "prune{dim=n_heads, keep=0.5, layers=(0)}",
        "prune{dim=d_state, keep=0.5, layers=(0)}",
        "attention-to-mamba{layers=(3)}",
        "prune{dim=d_ff, keep=0.5, layers=(4)}",
        "drop-layers{layers=(2, 6)}",
    ]
    assert Pipeline.parse(str(made.pipeline(chosen))) == made.pipeline(chosen)
    assert made.pipeline((0,) * 10) == Pipeline(()) and made.build((0,) * 10).nodes == made.graph.nodes


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_every_block_of_a_combination_is_its_replacement(data: st.DataObject) -> None:
    made = library(archc.load("tiny-hybrid"), KINDS)
    chosen = tuple(data.draw(st.integers(0, len(options) - 1)) for options in made.layers)
    graph = made.build(chosen)
    for options, i in zip(made.layers, chosen, strict=True):
        nodes = graph.block_nodes("layers", options[i].block)
        assert [n.op for n in nodes] == [n.op for n in options[i].nodes]


def test_variants_of_a_position_go_before_those_of_its_kind() -> None:
    made = library(archc.load("tiny-hybrid"), {"moe": (KEEP, DROP)}, {1: (KEEP,), 0: (DROP,)})
    assert [[r.variant.name for r in options] for options in made.layers][:5] == [
        ["drop"], ["keep"], ["keep"], ["keep"], ["keep", "drop"],
    ]  # fmt: skip


def test_the_best_of_a_library_under_budgets() -> None:
    """By enumeration, over the cost sheets of a small library's combinations."""
    small = library(tiny(), {}, {0: KINDS["mamba2"][:3], 1: KINDS["moe"], 4: KINDS["moe"]})
    sheets = {
        chosen: cost_sheet(small.build(chosen), load_hardware("a10g"), context=4096, batch=2, format="bf16")
        for chosen in itertools.product(*(range(len(options)) for options in small.layers))
    }
    budgets = [budget("params.total", 1_900_000), budget("latency.decode", 17.2e-6), budget("memory.kv", 1, sense=">=")]
    scores = {KEEP: 0.0, DROP: 3.0, LINEAR: 1.2}
    problem = small.problem(budgets, lambda r: scores.get(r.variant, 0.7) * (1 + r.layer / 10))
    found = solve(problem, gap=0)
    fits = {
        chosen: problem.score(chosen)
        for chosen, sheet in sheets.items()
        if sheet.params.total <= 1_900_000 and sheet.latency and sheet.latency.decode_s_per_token <= 17.2e-6
    }
    assert found is not None and 0 < found.score == pytest.approx(min(fits.values())) and len(fits) < len(sheets)


# -- what cannot be ----------------------------------------------------------------------------------------------------


def tiny() -> Graph:
    return archc.load("tiny-hybrid")


@pytest.mark.parametrize(
    ("kinds", "layers", "message"),
    [
        ({"mlp": (KEEP,)}, {}, "unknown kind of layer of `tiny-hybrid` `mlp`"),
        ({"moe": (KEEP, KEEP)}, {}, "layer 1: variant `keep` is there twice"),
        ({}, {10: (KEEP,)}, "`tiny-hybrid` has layers 0 to 9: got 10"),
        ({"moe": (variant("w", Prune(dim="d_model", to=64)),)}, {}, r"layer 1, `w`: changes `.*` too"),
        ({"moe": (variant("w", Prune(dim="d_ff", to=640)),)}, {}, r"layer 1, `w`: prune\{.*`to` is 1 to 192, got 640"),
        ({"moe": (variant("w", AttentionToMamba(layers=())),)}, {}, "layer 1, `w`: .*no attention in layers 1"),
    ],
)
def test_libraries_that_cannot_be(kinds: Any, layers: Any, message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        library(tiny(), kinds, layers)


def test_a_variant_is_of_one_layer() -> None:
    with pytest.raises(SearchError, match="`fold-norms` changes the whole model, it has no `layers`"):
        variant("folded", FoldNorms())


def test_parameters_that_layers_share_are_no_one_layer_s() -> None:
    """Two layers with one d_ff: neither is narrower alone."""
    graph = archc.load("tiny-dense")
    dims = {"L3.mixer.d_ff": "L1.mixer.d_ff"}
    linked = graph.with_dims(lambda d: dataclasses.replace(d, name=dims.get(d.name, d.name)))
    with pytest.raises(SearchError, match=r"layer 1, `half`: changes `L3.mixer` too, with which the layer shares"):
        library(linked, {"mlp": (KEEP, KINDS["moe"][2])})
    library(linked, {"mlp": (KEEP, DROP, LINEAR)})
