"""`sampler: mip` as a user runs it: what is measured is what `archc compress` makes, nothing twice, errors placed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from archc.cli import app
from archc.compress.run import compress
from archc.hub.checkpoint_dir import load_checkpoint, write_checkpoint_dir
from archc.importance.calibration import Sampling
from archc.importance.measuring import Measuring
from archc.ir.cost import cost_sheet
from archc.ir.execute import execute
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, SearchError, SpecErrors
from archc.passes import Pipeline
from archc.search.study import open_storage
from archc.searching import replacing
from archc.searching.mip_file import load_mip
from archc.searching.mip_run import run_mip
from archc.searching.mip_table import ranges
from archc.searching.pick import picked, recipe_text
from archc.spec.load import load_spec
from archc.viz.search_scene import search_scene
from tests.hub.oracles import ORACLES, save

SPEC = """
archc: 1
name: small
d_model: 16
vocab: 300
blocks:
  M: {mamba2: {n_heads: 4, head_dim: 8, d_state: 4, n_groups: 2, chunk: 16}}
  "*": {attention: {n_heads: 4, n_kv_heads: 2, head_dim: 4}}
  "-": {mlp: {d_ff: 32, activation: relu2}}
layers: "M-*-M-"
"""
ALONE = 17  # replacements that are measured
CALIBRATION = {"tokenizer": "bytes", "tokens": 512, "sequence": 64, "batch_tokens": 256}
FILE = """\
archc_search: 1
name: puzzle
base: ckpt
library:
  mlp: [keep, drop, linear, {prune: {dim: d_ff, keep: [0.75, 0.5]}}]
  mamba2: [keep, drop, {prune: {dim: n_heads, keep: 0.5}}]
  attention: [keep, attention-to-mamba]
budgets:
  - "params.total <= 16000"
  - "memory.resident <= 110kB at {context: 1k, format: fp32}"
sampler: {mip: {solutions: 3, distance: 2, evaluations: 2}}
calibration: {data: [text.txt], tokenizer: bytes, tokens: 512, sequence: 64, batch_tokens: 256}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model."""
    made = tmp_path_factory.mktemp("mip")
    (made / "text.txt").write_text("\n".join(f"line {n} is {n * n} and then {n**3 % 101}" for n in range(60)))
    graph = load_spec(SPEC).graph()
    write_checkpoint_dir(made / "ckpt", graph, init_weights(graph, seed=1), {"step": "test"})
    return made


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of these tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("cache")
        patch.setenv("ARCHC_CACHE", str(place))
        yield place


def written(folder: Path, text: str, name: str = "search.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def archc(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def run(folder: Path, cache: Path) -> Path:
    told = archc("search", written(folder, FILE), "-o", folder / "run")
    assert told.exit_code == 0, told.output
    assert f"{ALONE} replacements in 6 layers measured alone" in told.stdout
    assert "kl predicted  measured  params.total" in " ".join(told.stdout.split(" ")).replace("   ", "  ")
    return folder / "run"


@pytest.fixture(scope="module")
def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    return found


def sampling(folder: Path) -> dict[str, Any]:
    return {**CALIBRATION, "data": (str(folder / "text.txt"),)}


def kl_of(parent: Path, child: Path) -> float:
    """A token's divergence of the child's next-token distribution from the parent's: computed plainly."""
    one, other = load_checkpoint(parent), load_checkpoint(child)
    text = Sampling(**sampling(parent.parent)).text(parent, one.graph)
    total, count = 0.0, 0
    for batch in text:
        p, q = (
            execute(m.graph, m.weights(), batch.inputs, outputs=("logits",))["logits"].double().log_softmax(-1)
            for m in (one, other)
        )
        total, count = total + float((p.exp() * (p - q)).sum()), count + batch.tokens.numel()
    return total / count


# -- what is measured --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "variant"), [(0, "prune{dim=n_heads, keep=0.5}"), (1, "linear"), (2, "attention-to-mamba"), (5, "drop")]
)
def test_a_replacement_loses_what_the_compressed_model_loses(
    results: dict[str, Any], folder: Path, tmp_path: Path, layer: int, variant: str
) -> None:
    """Of one layer alone, from disk to disk: its own fits, units kept by its own scores."""
    row = next(r for r in results["library"][layer] if r["variant"] == variant)
    how = Sampling(**sampling(folder))
    compress(
        folder / "ckpt",
        Pipeline.parse("\n".join(row["passes"])),
        tmp_path / "out",
        scores=Measuring(estimators="activation", **sampling(folder)),
        calibration=how if variant == "linear" else None,
    )
    assert row["loss"] > 0
    assert row["loss"] == pytest.approx(kl_of(folder / "ckpt", tmp_path / "out"), rel=1e-4)


def test_results_as_json(run: Path, results: dict[str, Any], folder: Path) -> None:
    told = archc("search", written(folder, FILE), "-o", run, "--json")
    assert json.loads(told.stdout)["candidates"] == results["candidates"]


def test_what_stays_loses_nothing(results: dict[str, Any]) -> None:
    kept = [r for options in results["library"] for r in options if r["variant"] == "keep"]
    assert len(kept) == 6 and all(r["loss"] == 0 and r["passes"] == [] for r in kept)


def test_predictions_are_sums(results: dict[str, Any]) -> None:
    for one in results["candidates"]:
        rows = [
            next(r for r in options if r["variant"] == variant)
            for options, variant in zip(results["library"], one["variants"], strict=True)
        ]
        assert one["values"][0] == pytest.approx(sum(r["loss"] for r in rows))
        assert sum(one["point"].values()) == sum(v != "keep" for v in one["variants"])
    predicted = [one["values"][0] for one in results["candidates"][:3]]
    assert predicted == sorted(predicted) and len(results["candidates"]) >= 3
    assert results["best"] == min(results["candidates"], key=lambda c: c["values"][1])["name"]
    assert results["proposed"] <= 3 + 2


def test_the_best_is_what_its_recipe_makes(results: dict[str, Any], run: Path, tmp_path: Path) -> None:
    """From `archc best` through `archc compress`: its measured loss, its figures, its graph."""
    told = archc("best", run, "--pick", "best", "--recipe", tmp_path / "r.yaml", "-o", tmp_path / "best.yaml")
    assert told.exit_code == 0 and "keep" in told.stdout, told.output
    made = archc("compress", run.parent / "ckpt", "--recipe", tmp_path / "r.yaml", "-o", tmp_path / "out")
    assert made.exit_code == 0, made.output
    best = next(c for c in results["candidates"] if c["name"] == results["best"])
    assert kl_of(run.parent / "ckpt", tmp_path / "out") == pytest.approx(best["values"][1], rel=1e-4)
    graph = load_checkpoint(tmp_path / "out").graph
    assert graph.name == results["best"]
    assert [n.op for n in graph.nodes] == [n.op for n in picked(run, "best").graph.nodes]
    sheet = cost_sheet(graph, context=1024, format="fp32")
    assert best["figures"] == [sheet.params.total, sheet.memory.resident_bytes]
    assert sheet.params.total <= 16000 and sheet.memory.resident_bytes <= 110_000
    assert best["violations"] == [sheet.params.total - 16000, sheet.memory.resident_bytes - 110_000]


@pytest.mark.parametrize("which", ["first", "knee", "puzzle-2"])
def test_any_candidate_can_be_picked(run: Path, results: dict[str, Any], which: str) -> None:
    chosen = picked(run, which)
    recipe = recipe_text(chosen, "activation")
    assert recipe.startswith(f"# {chosen.graph.name}: ") and "archc_compress: 1" in recipe
    assert chosen.graph.cost().params.total <= 16000


def test_the_page_has_predictions_beside_what_was_measured(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "kl.predicted" in page and "kl.measured" in page and "17 replacements in 6 layers measured alone" in page


def test_what_the_page_draws_of_a_library_sums_to_the_predictions(run: Path, results: dict[str, Any]) -> None:
    drawn = search_scene(results, str(run))["library"]
    losses = {(layer, variant): loss for layer, variant, loss, _ in drawn["cells"]}
    assert len(losses) == sum(map(len, results["library"])) and set(drawn["base"]) == {drawn["variants"].index("keep")}
    for picks, candidate in zip(drawn["picks"], results["candidates"], strict=True):
        assert sum(losses[place] for place in enumerate(picks)) == pytest.approx(candidate["values"][0])
    assert "What each variant loses" in (run / "report.html").read_text()


def test_a_candidate_that_there_is_not(run: Path) -> None:
    assert "unknown candidate" in str(archc("best", run, "--pick", "puzzle-99").exception)


def test_the_study_opens_in_optuna(run: Path, results: dict[str, Any]) -> None:
    import optuna

    study = optuna.load_study(study_name="puzzle", storage=open_storage(run / "study.log"))
    assert [t.values for t in study.trials] == [c["values"] for c in results["candidates"]]
    assert study.trials[0].user_attrs["variants"] == results["candidates"][0]["variants"]
    assert all(v <= 0 for t in study.trials for v in t.constraints.values())


@pytest.mark.slow
def test_the_text_of_every_machine(folder: Path, tmp_path: Path) -> None:
    """From `stdlib`, as an example has it, to a compressed checkpoint that loses what was measured."""
    text = FILE.replace("data: [text.txt]", "data: [stdlib]").replace("name: puzzle", "name: docs")
    assert archc("search", written(folder, text, "docs.yaml"), "-o", tmp_path / "run").exit_code == 0
    best = json.loads((tmp_path / "run" / "results.json").read_text())["candidates"][0]
    assert archc("best", tmp_path / "run", "--pick", "docs-1", "--recipe", tmp_path / "r.yaml").exit_code == 0
    made = archc("compress", folder / "ckpt", "--recipe", tmp_path / "r.yaml", "-o", tmp_path / "out")
    assert made.exit_code == 0, made.output
    graph = load_checkpoint(tmp_path / "out").graph
    assert best["figures"][0] == graph.cost().params.total <= 16000


@pytest.mark.parametrize("metric", ["loss", "hidden_mse", "logit_mse"])
def test_other_metrics(folder: Path, tmp_path: Path, metric: str) -> None:
    """The loss of a combination is that of the model alone less the parent's."""
    text = FILE.replace("solutions: 3, distance: 2, evaluations: 2", f"solutions: 1, metric: {metric}")
    found = run_mip(load_mip(written(folder, text, f"{metric}.yaml")), tmp_path / "run")
    assert len(found.combinations) == 1 and found.combinations[0].measured.loss != 0
    assert found.combinations[0].predicted == pytest.approx(found.combinations[0].measured.loss, rel=0.5)


# -- nothing twice -----------------------------------------------------------------------------------------------------


class Counted:
    """Counts the models that are measured; `fail` says of which pipelines one raises."""

    def __init__(self, patch: pytest.MonkeyPatch, fail: Any = None) -> None:
        self.count, self.fail, before = 0, fail, replacing.Ruler._loss

        def loss(ruler: replacing.Ruler, pipeline: Pipeline, streams: Any) -> float:
            self.count += 1
            outcome = self.fail(str(pipeline), self.count) if self.fail else None
            if isinstance(outcome, BaseException):
                raise outcome
            return before(ruler, pipeline, streams) if outcome is None else float(outcome)

        patch.setattr(replacing.Ruler, "_loss", loss)


def test_what_is_known_is_not_measured_again(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same folder, in another one, and of a larger library only what is new."""
    counted = Counted(monkeypatch)
    before = json.loads((run / "results.json").read_text())
    run_mip(load_mip(written(folder, FILE)), run)
    again = json.loads((run / "results.json").read_text())
    assert again["candidates"] == before["candidates"] and again["library"] == before["library"]
    run_mip(load_mip(written(folder, FILE)), tmp_path / "other")
    assert counted.count == 0
    larger = FILE.replace("keep: [0.75, 0.5]", "keep: [0.75, 0.5, 0.25]").replace("evaluations: 2", "evaluations: 0")
    run_mip(load_mip(written(folder, larger, "larger.yaml")), tmp_path / "larger")
    assert 3 <= counted.count <= 3 + 3  # of three MLPs, and combinations that are new


def test_a_run_that_was_killed_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / "cache"))
    search = load_mip(written(folder, FILE))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Counted(patch, lambda text, count: KeyboardInterrupt() if count == 8 else None)
        run_mip(search, tmp_path / "run")
    counted = Counted(monkeypatch)
    run_mip(search, tmp_path / "run")
    assert ALONE - 7 < counted.count <= ALONE - 7 + 3 + 2


def test_one_seed_one_result(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("a", "b"):
        monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / name))
        found.append(run_mip(load_mip(written(folder, FILE)), tmp_path / f"run-{name}").to_json())
    assert found[0]["candidates"] == found[1]["candidates"]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [ArchcError("out of luck"), float("nan"), float("inf")])
def test_a_replacement_that_cannot_be_measured_is_left_out_and_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Any
) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / "cache"))
    counted = Counted(monkeypatch, lambda text, _: outcome if text == "drop-layers{layers=(1)}" else None)
    search = load_mip(written(folder, FILE))
    found = run_mip(search, tmp_path / "run")
    row = next(r for r in found.to_json()["library"][1] if r["variant"] == "drop")
    assert row["failed"] == (
        "out of luck" if isinstance(outcome, ArchcError) else f"the kl is no finite number: {outcome}"
    )
    assert all(c.variants[1] != "drop" for c in found.combinations)
    assert any("not measured: 1, such as layer 1, drop: " in note for note in found.notes())
    counted.fail = None
    assert not any("not measured" in note for note in run_mip(search, tmp_path / "run").notes())


def test_combinations_that_all_fail(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / "cache"))
    Counted(monkeypatch, lambda text, count: ArchcError("no") if count > ALONE else None)
    with pytest.raises(SearchError, match="none of the best combinations could be measured; the first: no"):
        run_mip(load_mip(written(folder, FILE)), tmp_path / "run")


def test_without_what_failed_nothing_fits(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(tmp_path / "cache"))
    Counted(monkeypatch, lambda text, count: ArchcError("no") if count <= ALONE else None)
    with pytest.raises(SearchError, match=r"(?s)params.total <= 16000: the least.*17 variants could not be measured"):
        run_mip(load_mip(written(folder, FILE)), tmp_path / "run")


def test_budgets_that_nothing_satisfies_are_told_before_anything_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing.Ruler, "replacements", lambda *_: pytest.fail("was measured"))
    told = archc("search", written(folder, FILE.replace("16000", "5k"), "tight.yaml"), "-o", tmp_path / "run")
    assert told.exit_code != 0 and not (tmp_path / "run").exists()
    assert "params.total <= 5k: the least reachable is 10,400 parameters, missed by 5,400" in str(told.exception)


def test_a_folder_of_another_search_is_not_written_over(run: Path, folder: Path) -> None:
    other = FILE.replace("distance: 2", "distance: 1")
    with pytest.raises(SearchError, match="holds another study"):
        run_mip(load_mip(written(folder, other, "other.yaml")), run)


def test_a_target_leaves_out_what_its_runtime_does_not_load(folder: Path, tmp_path: Path) -> None:
    """`vllm-puzzle` has layers of many widths, and no linear ones; `vllm` has one width for all."""
    text = FILE.replace("solutions: 3, distance: 2, evaluations: 2", "solutions: 2") + "target: vllm-puzzle\n"
    found = run_mip(load_mip(written(folder, text, "target.yaml")), tmp_path / "run")
    assert {what for what, _ in found.excluded} >= {"layer 1, linear", "layer 3, linear", "layer 5, linear"}
    assert all("linear" not in c.variants for c in found.combinations)
    assert any("`vllm-puzzle` loads them; left out: " in note for note in found.notes())


BAD = {
    "base: ckpt": [
        ("base: nano", "search.yaml:3:7:"),
        ("base: .", r"search.yaml:3:7: .* holds no weights"),
        ("base: tiny-hybrid", r"search.yaml:3:7: `mip` measures replacements .*: expected the folder"),
    ],
    "mlp: [keep, drop, linear": [
        ("mpl: [keep, drop, linear", r"search.yaml:5:3: unknown kind of layer of `small` `mpl`: did you mean `mlp`"),
        ("mlp: [keep, drpo, linear", r"search.yaml:5:15: unknown variant `drpo`: did you mean `drop`"),
        ("mlp: [keep, fold-norms, linear", r"search.yaml:5:15: unknown variant `fold-norms`"),
        ("mlp: [keep, keep, linear", r"search.yaml:5:15: variant `keep` is there twice"),
        ("layers.9: [keep]\n  mlp: [keep, linear", r"search.yaml:5:3: `small` has layers 0 to 5: got 9"),
    ],
    "{prune: {dim: d_ff, keep: [0.75, 0.5]}}": [
        ("{prune: {dim: d_ff, kep: 0.5}}", r"search.yaml:5:49: unknown field `kep`: did you mean `keep`"),
        ("{prune: {dim: d_ff, to: 64}}", r"search.yaml:5:29: layer 1, .*`to` is 1 to 32, got 64"),
        ("{prune: {dim: d_model, to: 8}}", r"search.yaml:5:29: layer 1, .*: changes `embedding` too"),
        ("'prune{dim=d_ff, to=}'", r"search.yaml:5:4\d: "),
        ("{linear: {layers: [1]}}", r"search.yaml:5:39: unknown field `layers`"),
        ("[]", r"search.yaml:5:29: expected passes that make one variant together, got none"),
    ],
    '"params.total <= 16000"': [
        ('"params.totl <= 16000"', r"search.yaml:9:5: unknown figure `params.totl`: did you mean `params.total`"),
        ('"memory.peak <= 1GiB"', r"search.yaml:9:5: `memory.peak` is no sum over layers: mip takes params.total"),
        ('"params.total == 3"', r"search.yaml:9:5: a budget: expected"),
        ('"throughput.output_tokens >= 9 at {hardware: a10g}"', r"search.yaml:9:5: .*only at a batch that is given"),
    ],
    "solutions: 3": [
        ("solutions: 0", r"search.yaml:11:\d+: .*greater than 0"),
        ("solution: 3", r"search.yaml:11:\d+: unknown field `solution`: did you mean `solutions`"),
        ("metric: perplexity", r"search.yaml:11:\d+: .*perplexity"),
    ],
    "tokenizer: bytes": [("tokenizer: nowhere.json", r"search.yaml:12:\d+: ")],
    "archc_search: 1": [("archc_search: 1\nspace: {}", r"search.yaml:2:1: unknown field `space`")],
    "name: puzzle": [("name: puzzle\ntarget: vlm", r"search.yaml:3:9: unknown target `vlm`: did you mean `vllm`")],
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), [(old, *one) for old, several in BAD.items() for one in several])
def test_errors_stand_where_they_are(folder: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in FILE
    for name in ("ckpt", "text.txt"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(SpecErrors, match=message):
        load_mip(written(tmp_path, FILE.replace(old, new, 1)))


def test_packed_weights_are_refused(tmp_path: Path) -> None:
    save(ORACLES["gpt_oss-mxfp4"], tmp_path / "hf")
    text = FILE.replace("base: ckpt", "base: hf")
    with pytest.raises(SpecErrors, match=r"search.yaml:3:7: .* weights that are stored in blocks"):
        load_mip(written(tmp_path, text))


@pytest.mark.parametrize("part", ["library", "budgets"])
def test_parts_that_lack(folder: Path, part: str) -> None:
    lines = FILE.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith(part))
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith(" "))
    with pytest.raises(SpecErrors, match=f"lacks|`{part}`|{part}"):
        load_mip(written(folder, "".join(lines[:start] + lines[end:]), "lacks.yaml"))


def test_ranges() -> None:
    assert ranges([3]) == "3" and ranges([]) == ""


def test_the_seed_of_torch_plays_no_part(folder: Path, run: Path, results: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(5)
    assert run_mip(load_mip(written(folder, FILE)), tmp_path / "run").to_json()["candidates"] == results["candidates"]
