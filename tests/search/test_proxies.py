"""Rung 1: what is lost by importance and by capacity, for many at once and one by one, without a model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import archc
from archc.importance.files import save_scores
from archc.ir.workload import Workload
from archc.kernels.errors import ArchcError
from archc.passes.scores import Scores
from archc.search.choices import count, size
from archc.search.figures import Figure, Meter, Setting
from archc.search.proxies import Capacity, Retained
from archc.search.space import Space
from archc.searching.file import load_search
from archc.searching.run import run_search


@pytest.fixture
def space() -> Space:
    graph = archc.load("tiny-hybrid")
    return Space(
        graph,
        (
            size(graph, "layers.1.moe.shared_d_ff", (48, 96, 192)),
            count(graph, "layers.mamba2", (2, 3, 4), (2, 5)),
        ),
    )


def scores(space: Space) -> Scores:
    dim = "L1.mixer.shared_d_ff"
    units = {"activation": {dim: np.arange(192.0)[None] + 1}}
    return Scores(space.graph.short_hash, units, {"logit_mse": {"L0": 4.0, "L2": 1.0, "L5": 2.0, "L7": 3.0}})


def test_what_is_lost_is_the_share_of_scores_in_the_share_of_parameters(space: Space) -> None:
    points = {"layers.1.moe.shared_d_ff": np.array([192, 48, 192]), "layers.mamba2": np.array([4, 4, 2])}
    whole = sum(math.prod(p.shape) for _, p in space.graph.params())
    lost = Retained(space, scores(space), "activation", "logit_mse").values(points)
    # An independent count: the MLP's up and down projections, and the Mamba layers' parameters.
    along = 2 * 192 * 128 / whole
    assert lost[0] == 0 and lost[1] == pytest.approx(along * sum(range(1, 145)) / sum(range(1, 193)))
    mamba = [
        sum(math.prod(p.shape) for n, p in space.graph.params() if n.block == b) / whole
        for b in ("L0", "L2", "L5", "L7")
    ]
    assert lost[2] == pytest.approx(sum(mamba) * (1 + 2) / 10)
    by_size = Retained(space, scores(space), "activation").values(points)
    assert by_size[2] == pytest.approx(mamba[1] + mamba[2])


def test_less_is_kept_the_more_is_lost(space: Space) -> None:
    ranks = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), -1).reshape(-1, 2)
    lost = Retained(space, scores(space), "activation", "logit_mse").values(space.at(ranks)).reshape(3, 3)
    assert (np.diff(lost, axis=0) < 0).all() and (np.diff(lost, axis=1) < 0).all() and lost[-1, -1] == 0


def test_scores_that_there_are_not_are_told(space: Space) -> None:
    points = {"layers.1.moe.shared_d_ff": np.array([48]), "layers.mamba2": np.array([4])}
    with pytest.raises(ArchcError, match="influence"):
        Retained(space, scores(space), "activation", "influence").values({**points, "layers.mamba2": np.array([2])})
    with pytest.raises(ArchcError, match="taylor"):
        Retained(space, scores(space), "taylor").values(points)


def test_capacity_is_what_figures_say(space: Space) -> None:
    figure = Figure("params.total", Setting(Workload.of(context=64)))
    points = {"layers.1.moe.shared_d_ff": np.array([192, 48]), "layers.mamba2": np.array([4, 2])}
    made = Capacity(Meter(space), {figure: 2.0}).values(points)
    small = space.build({"layers.1.moe.shared_d_ff": 48, "layers.mamba2": 2}).cost(context=64).params.total
    assert made[0] == 0 and made[1] == pytest.approx(2 * math.log(space.graph.cost(context=64).params.total / small))


SEARCH = """\
archc_search: 1
name: p
base: tiny-hybrid
space:
  d_model: {from: 64, to: 128, step: 16}
  moe.d_ff: {from: 64, to: 192, step: 32}
budgets: ["params.total <= 1.6M"]
importance: s.safetensors
objectives: [%s, "minimize params.total"]
rungs: [%s]
"""


def searched(folder: Path, objective: str, rung: str) -> Path:
    graph = archc.load("tiny-hybrid")
    rng = np.random.default_rng(0)
    units = {
        name: rng.random((max(dim.rows, 1), dim.size))
        for name, dim in graph.dims.items()
        if name == "d_model" or name.endswith("mixer.d_ff")
    }
    save_scores(folder / "s.safetensors", Scores(graph.short_hash, {"activation": units}))
    (folder / "s.yaml").write_text(SEARCH % (objective, rung))
    return folder / "s.yaml"


@pytest.mark.parametrize("rung", ["retained", "{capacity: {of: {params.active: 1.0, memory.ssm: 0.5}}}"])
def test_a_sweep_has_a_proxy_as_an_objective(tmp_path: Path, rung: str) -> None:
    name = rung.strip("{").partition(":")[0]
    found = run_search(load_search(searched(tmp_path, f"minimize {name}", rung)), tmp_path / "run")
    assert found.swept.whole and all(np.isfinite(c.values).all() for c in found.candidates)
    losses, sizes = np.array([c.values for c in found.candidates if c.on_front]).T
    assert (np.diff(losses[np.argsort(sizes)]) < 0).all() and len(sizes) > 3
    first = min(found.candidates, key=lambda c: c.values[0])
    assert first.scores[name] == pytest.approx(first.values[0])


def test_a_rung_that_runs_a_model_is_no_objective_of_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(ArchcError, match="the score of a rung that runs a model is an objective of trials"):
        load_search(searched(tmp_path, "minimize zero_shot", "zero_shot"))


def test_retained_importance_needs_scores(tmp_path: Path) -> None:
    file = searched(tmp_path, "minimize retained", "retained")
    file.write_text(file.read_text().replace("importance: s.safetensors\n", ""))
    with pytest.raises(ArchcError, match=r":\d+:\d+: `retained` needs scores of the base: give the search file `imp"):
        load_search(file)
