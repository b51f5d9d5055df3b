"""The searches of the reference experiment: equal budgets, the same sizes to choose from, all of it at toy scale."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import archc
from archc.hub.checkpoint_dir import write_checkpoint_dir
from archc.ir.graph import LAYERS, Graph
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError
from archc.passes import Pipeline, apply
from archc.searching.file import load_search
from archc.searching.mip_file import load_mip
from archc.spec.load import load_spec

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "reference"
SAMPLERS, MIPS = ("random", "tpe", "nsga2"), ("mip", "mip-drop")
TOY = """
archc: 1
name: toy
d_model: 16
vocab: 320
blocks:
  M: {mamba2: {n_heads: 6, head_dim: 8, d_state: 8, n_groups: 2, chunk: 16}}
  "*": {attention: {n_heads: 6, n_kv_heads: 2, head_dim: 8}}
  "-": {mlp: {d_ff: 256, activation: relu2}}
layers: "M-*-M-*"
mtp: {layers: "*", steps: 2}
"""


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, imported as the script does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("arms", "results", "searched"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("searched")


@pytest.fixture
def teacher() -> Graph:
    return archc.load(FOLDER / "hybrid.yaml")


def asked(searched: Any, search: str, graph: Graph, **more: Any) -> dict[str, Any]:
    made = searched.search_of(search, 3, graph, base=FOLDER / "hybrid.yaml", scores=Path("scores.safetensors"), **more)
    assert isinstance(made, dict)
    return made


def test_every_search_takes_as_many_evaluations(searched: Any, teacher: Graph) -> None:
    for search in SAMPLERS:
        assert asked(searched, search, teacher)["trials"] == searched.EVALUATIONS
    for search in MIPS:
        file = asked(searched, search, teacher)
        alone = sum(len(one["prune"]["to"]) + (len(rest) > 0) for _, one, *rest in file["library"].values())
        options = file["sampler"]["mip"]
        assert alone + options["solutions"] + options["evaluations"] == searched.EVALUATIONS
        with pytest.raises(ArchcError, match=f"the library alone takes {alone} of {alone}"):
            asked(searched, search, teacher, evaluations=alone)


def test_all_choose_from_the_same_sizes_on_the_same_text(searched: Any, teacher: Graph) -> None:
    library, text = (asked(searched, "mip", teacher)[key] for key in ("library", "calibration"))
    for search in SAMPLERS:
        file = asked(searched, search, teacher)
        assert file["rungs"] == [{"zero_shot": {**text, "keep": 1}}] and text["seed"] == file["seed"] == 3
        for path, values in file["space"].items():
            _, position, _, role = path.split(".")
            keep, smaller = library[f"{LAYERS}.{position}"]
            assert (keep, smaller["prune"]["dim"], smaller["prune"]["to"]) == ("keep", role, values[:-1])
        assert len(file["space"]) == len(library) == 12


def test_the_uniform_width_is_one_of_the_candidates_and_has_what_is_allowed(searched: Any, teacher: Graph) -> None:
    passes = "prune{dim=d_ff, to=384, by=first}\nprune{dim=n_heads, to=2, by=first}"
    made = apply(teacher, Pipeline.parse(passes))[0]
    assert searched.budget(teacher) == made.cost().params.total == 1_508_824
    space = asked(searched, "tpe", teacher)["space"]
    assert all((384 if path.endswith("d_ff") else 2) in values for path, values in space.items())


def test_the_files_are_searches(searched: Any, tmp_path: Path) -> None:
    graph, file = load_spec(TOY).graph(), tmp_path / "search.yaml"
    write_checkpoint_dir(tmp_path / "ckpt", graph, init_weights(graph, seed=1), {"step": "test"})
    for search in (*SAMPLERS, *MIPS):
        made = searched.search_of(search, 3, graph, base=tmp_path / "ckpt", scores=tmp_path)
        made.pop("importance")
        file.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in made.items()))
        if search in SAMPLERS:
            assert load_search(file).trials == searched.EVALUATIONS
        else:
            assert load_mip(file).sampler.metric == "loss"


def test_what_was_found_is_told_above_the_teacher(searched: Any) -> None:
    comparison = importlib.import_module("arms").COMPARISONS["searched"]
    runs = [
        searched.Found("TPE", seed, "", 1_500_000, loss, 1.5, evaluations=60, distinct=58, seconds=9.0)
        for seed, loss in enumerate((1.75, 1.85))
    ]
    uniform = searched.Found("heads and d_ff alike", 0, "", 1_508_824, 4.5, 1.5)
    lines = list(searched.told(comparison, [*runs, uniform]))
    assert lines[-2] == "| heads and d_ff alike | 1.509M | - | - | - | +3.0000 | - | +3.0000 | - |"
    assert lines[-1] == "| TPE | 1.500M | 60 | 0 | 58 | +0.3000 | 0.0707 | +0.2500 | 9 |"


def test_a_search_is_held_against_both_widths(searched: Any) -> None:
    results = importlib.import_module("results")

    def result(arm: str, bits: float, parameters: int) -> Any:
        facts = {"setting": arm, "tokens": 10, "seconds": 1.0, "weights_sha256": "w", "corpus_sha256": "c"}
        return results.Result("searched", arm, 0, bits_per_byte=bits, parameters=parameters, **facts)

    widths = [result(name, 2.0, 1000) for name in ("heads and d_ff alike", "d_ff alike, heads whole")]
    text = results.section("searched", [*widths, result("MIP", 1.9, 980)], baseline=2.0, command="run it", before=["x"])
    assert "- MIP less heads and d_ff alike: -0.1000" in text and "- MIP less d_ff alike, heads whole: -0.1000" in text
    assert "\n\nx\n\n| |" in text
    text = results.section("searched", [*widths, result("MIP", 1.9, 850)], baseline=2.0, command="run it")
    assert "MIP less" not in text  # a seventh smaller


@pytest.mark.nightly
def test_the_searches_at_toy_scale(tmp_path: Path, searched: Any) -> None:
    spec, found = tmp_path / "toy.yaml", tmp_path / "runs" / "searched"
    spec.write_text(TOY)
    small = ["sequence=32", "batch_tokens=64", "evaluation.windows=2", "checkpoint.write=sync"]
    places = ["--folder", str(tmp_path / "runs"), "--page", str(tmp_path / "results.md")]
    for what, more in (("teachers", [f"model={spec}"]), ("searched", ["--seeds", "0", "--evaluations", "30"])):
        command = [sys.executable, str(FOLDER / "run.py"), "--what", what, "--tokens", "192", *places, *small, *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    page = (tmp_path / "results.md").read_text()
    models = {one["arm"]: one for one in (json.loads(file.read_text()) for file in found.glob("found-*.json"))}
    for name in ("random", "TPE", "NSGA-II", "MIP", "MIP, layers may go"):
        assert page.count(f"| {name} |") == 2
        assert models[name]["evaluations"] <= 30
        assert models[name]["parameters"] <= models["heads and d_ff alike"]["parameters"]
    (run,) = (file.parent for file in found.glob("search-MIP-0-*/results.json"))
    best = min(c["values"][1] for c in json.loads((run / "results.json").read_text())["candidates"])
    apart = models["MIP"]["loss"] - models["MIP"]["teacher"]  # measured apart from the search, which has it in nats
    assert apart == pytest.approx(best / math.log(2), abs=1e-5)
