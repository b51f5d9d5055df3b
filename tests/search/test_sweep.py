"""Rung 0: figures are those of the cost sheet, budgets hold, the front is the front, known answers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import archc
from archc.hardware import load_hardware
from archc.ir.cost import cost_sheet
from archc.ir.graph import Graph
from archc.ir.workload import FormatChoice, Workload
from archc.kernels.errors import ArchcError, SearchError
from archc.search.budgets import Budget, Objective, named
from archc.search.choices import count, size
from archc.search.figures import FIGURES, Figure, Meter, Setting
from archc.search.front import front, knee
from archc.search.space import Space
from archc.search.sweep import sweep
from archc.searching.file import load_search
from archc.searching.run import run_search
from archc.viz.search_scene import told

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "search"
SETTINGS = (
    Setting(Workload.of(context=4096, batch=2), FormatChoice("bf16"), load_hardware("a10g")),
    Setting(Workload.of(input=512, output=256), FormatChoice(kv="fp8"), load_hardware("a10g")),
)


@pytest.fixture(scope="module")
def space() -> Space:
    graph = archc.load("tiny-hybrid")
    return Space(
        graph,
        (
            size(graph, "d_model", (64, 96, 128)),
            size(graph, "layers.*.moe.d_ff", tuple(range(64, 193, 32))),
            size(graph, "layers.0.mamba2.n_heads", (2, 4)),
            size(graph, "attention.n_heads", (2, 4)),
            count(graph, "layers.mamba2", (2, 3, 4), (2, 5)),
            count(graph, "layers.attention", (0, 1, 2), (3, 8)),
        ),
    )


def sheet_value(graph: Graph, figure: Figure) -> float:
    """The cost sheet's own figure."""
    w, f = figure.setting.workload, figure.setting.formats
    given = {"input": w.input, "output": w.output} if w.output else {"context": w.context}
    made = cost_sheet(graph, figure.setting.hardware, batch=w.batch, format=f.weights, kv_format=f.kv, **given)
    group, _, name = figure.name.partition(".")
    found = {
        "memory": lambda: getattr(made.memory, f"{name}_bytes"),
        "params": lambda: getattr(made.params, name),
        "flops": lambda: getattr(made.flops, {"prefill": "prefill", "decode": "decode_per_token"}[name]),
        "latency": lambda: getattr(made.latency, {"prefill": "prefill_s", "decode": "decode_s_per_token"}[name]),
        "throughput": lambda: getattr(
            made.throughput, {"max_batch": "max_batch", "output_tokens": "output_tokens_per_s"}[name]
        ),
    }[group]()
    return float(found)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_many_are_those_of_the_cost_sheet_of_each(space: Space, name: str, setting: Setting) -> None:
    rng = np.random.default_rng(0)
    points = space.at(np.stack([rng.integers(0, len(c.values), 6) for c in space.choices], axis=1))
    figure = Figure(name, setting)
    found = Meter(space).take(figure, points)
    wanted = [sheet_value(space.build(named(points, i)), figure) for i in range(6)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_what_is_built_is_what_passes_make(space: Space) -> None:
    point = {name: values[0] for name, values in ((c.name, c.values) for c in space.choices)}
    made, _ = archc.apply(space.graph, space.passes(point, "first"))
    assert made.nodes == space.build(point).nodes
    assert space.passes(space.base, "first") == ""


def test_the_base_is_a_point_of_its_own_figures(space: Space) -> None:
    assert space.build(space.base).nodes == space.graph.nodes


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        ("mlp.d_ff", (8,), "unknown kind"),
        ("layers.x.moe.d_ff", (8,), "expected `layers.*`, or positions such as"),
        ("moe.d_fff", (8,), "unknown dim"),
        ("mamba2.n_heads", (3,), "goes in steps of 2: got 3"),
        ("d_model", (64, 64), "none twice"),
    ],
)
def test_paths_and_values_that_there_are_not(path: str, values: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArchcError, match=message):
        size(archc.load("tiny-hybrid"), path, values)


def test_a_ranking_must_say_which_layers_go() -> None:
    with pytest.raises(SearchError, match=r"up to 4 go, and the ranking names 1 of them"):
        count(archc.load("tiny-hybrid"), "layers.mamba2", (0, 4), (2,))


def test_one_dim_has_one_choice() -> None:
    graph = archc.load("tiny-hybrid")
    with pytest.raises(SearchError, match=r"`moe.d_ff` and `layers.1.moe.d_ff` both say what"):
        Space(graph, (size(graph, "moe.d_ff", (64,)), size(graph, "layers.1.moe.d_ff", (64,))))


def test_a_whole_space_is_swept_and_budgets_hold(space: Space) -> None:
    at = SETTINGS[0]
    budgets = [Budget(Figure("params.total", at), "<=", 900_000.0), Budget(Figure("latency.decode", at), "<=", 1.0)]
    objectives = [Objective(Figure("params.total", at), "maximize")]
    swept = sweep(space, budgets, objectives, candidates=10_000, seed=0)
    every = [dict(zip(space.names, p, strict=True)) for p in itertools.product(*(c.values for c in space.choices))]
    wanted = sum(cost_sheet(space.build(p)).params.total <= 900_000 for p in every)
    assert swept.whole and swept.proposed == len(every) == space.size
    assert swept.feasible == int(swept.found.feasible.sum()) == wanted


def test_proposals_are_moved_into_the_budgets_as_little_as_need_be(space: Space) -> None:
    at = SETTINGS[0]
    budgets = [Budget(Figure("params.total", at), "<=", 600_000.0)]
    objectives = [Objective(Figure("params.total", at), "maximize")]
    swept = sweep(space, budgets, objectives, candidates=128, seed=1)
    assert not swept.whole and swept.feasible_at_once < swept.feasible == 128
    assert swept.found.feasible.all()
    again = sweep(space, budgets, objectives, candidates=128, seed=1)
    assert all((again.found.points[n] == swept.found.points[n]).all() for n in space.names)


@given(arrays(np.float64, (2, 30), elements=st.integers(0, 8).map(float)))
@settings(max_examples=50, deadline=None)
def test_the_front_is_what_nothing_dominates(losses: np.ndarray) -> None:  # type: ignore[type-arg]
    kept = {tuple(losses[:, i]) for i in front(losses)}
    columns = [tuple(c) for c in losses.T]
    wanted = {a for a in columns if not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in columns)}
    assert kept == wanted and len(kept) == len(front(losses))
    assert knee(losses) in range(30)


# -- known answers -----------------------------------------------------------------------------------------------------


def test_nano_2(tmp_path: Path) -> None:
    """The published 9B-v2 is within the budget; the 12B is not; most proposals are."""
    search = load_search(EXAMPLES / "nano-2.yaml")
    point = {
        "d_model": 4480, "mlp.d_ff": 15680, "mamba2.n_heads": 128, "mamba2.head_dim": 80,
        "layers.mamba2": 27, "layers.mlp": 25, "layers.attention": 4,
    }  # fmt: skip
    published, made = archc.load("nemotron-nano-9b-v2"), search.space.build(point)
    assert [n.op.sizes for n in made.nodes] == [n.op.sizes for n in published.nodes]
    columns = {k: np.array([v, search.space.base[k]]) for k, v in point.items()}
    over = search.budgets[0].violation(Meter(search.space).take(search.budgets[0].figure, columns))
    assert over[0] < 0 < over[1]
    found = run_search(search, tmp_path / "run")
    assert found.swept.feasible_at_once >= 0.3 * found.swept.proposed
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["proposed"] == 10_000
    (released,) = stored["compared"]
    assert released["name"] == "nemotron-nano-9b-v2" and released["violations"] == [over[0]]
    assert released["values"] == pytest.approx([published.cost(context=8192).params.total, rate(published)])
    better = [c for c in found.candidates if c.name in released["beaten_by"]]
    assert better and all(c.values[0] >= released["values"][0] and c.values[1] >= released["values"][1] for c in better)
    line = next(text for text in told(stored) if text.startswith("nemotron-nano-9b-v2: within the budgets; "))
    assert f"{len(better)} candidates are as good in every objective and better in one, such as nano-2-" in line


def rate(graph: Graph) -> float:
    """Output tokens a second of the largest batch at 8k in and 16k out on an A10G."""
    sheet = cost_sheet(graph, load_hardware("a10g"), input=8192, output=16384, format="bf16")
    return sheet.throughput.output_tokens_per_s


@pytest.mark.slow
def test_minipuzzle(tmp_path: Path) -> None:
    """As many points fit as independent arithmetic says; the released 47B does with 0.02 GiB to spare, 56B does not."""
    found = run_search(load_search(EXAMPLES / "minipuzzle.yaml"), tmp_path / "run")
    assert found.swept.whole and found.swept.feasible == sum(
        minipuzzle_bytes(*point) <= 31.7 * 2**30
        for point in itertools.product(range(11), range(55), range(55), range(24576, 32769, 1024))
    )
    assert 0 < 31.7 * 2**30 - minipuzzle_bytes(5, 48, 45, 30720) < 0.03 * 2**30
    assert minipuzzle_bytes(10, 54, 54, 32768) > 31.7 * 2**30
    assert dict(found.candidates[0].point)["layers.attention"] < 5  # the budget alone prefers fewer
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [line for line in told(stored) if line.startswith("the budgets alone prefer fewer layers.attention (4.")]


def minipuzzle_bytes(attention: int, mlps: int, mambas: int, d_ff: int) -> float:
    """Weights at half a byte, KV at one byte a value, Mamba's states at two: facts/pruning.md, 10b."""
    d, vocab, tokens = 8192, 131072, 1_000_000
    inner, bc, heads = 256 * 64, 8 * 256, 256
    one_attention = d * (64 + 2 * 8) * 128 + 64 * 128 * d
    one_mamba = d * (2 * inner + 2 * bc + heads) + (inner + 2 * bc) * 5 + 3 * heads + inner + inner * d
    layers = attention + mlps + mambas
    weights = attention * one_attention + mlps * 2 * d * d_ff + mambas * one_mamba + layers * d + d + 2 * vocab * d
    state = attention * 2 * 8 * 128 * tokens + mambas * 2 * (heads * 64 * 256 + 3 * (inner + 2 * bc))
    return weights / 2 + state
