"""`archc compress` from disk to disk: what transformers runs, what the history says, what a replay finds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from typer.testing import CliRunner

from archc.cli import app
from archc.compress.recipe import load_recipe
from archc.compress.run import SCORES, compress
from archc.hub.checkpoint import Checkpoint
from archc.hub.checkpoint_dir import load_checkpoint, write_checkpoint_dir
from archc.hub.export import export_checkpoint
from archc.hub.import_ import import_checkpoint
from archc.importance.files import save_scores
from archc.ir.execute import execute
from archc.ir.init import init_weights
from archc.kernels.errors import ArchcError, SpecError, SpecErrors
from archc.passes import Pipeline
from archc.passes.importance import measure
from archc.resolve import load
from tests.hub.oracles import ORACLES, save

PASSES = {
    "llama": "prune{dim=d_ff, to=56, by=random}; prune{dim=n_kv_heads, to=1, by=first};"
    " prune{dim=d_model, to=36, by=random}; drop-layers{layers=(2, 3)}",
    "nemotron_h-dense": "prune{dim=d_model, keep=0.5, by=random}; prune{dim=n_heads, keep=0.5, kind=mamba2, by=random};"
    " prune{dim=d_ff, keep=0.5, by=random}",
}
TOKENS = torch.arange(34).reshape(2, 17) * 5 % 97


def archc(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module", params=PASSES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    save(ORACLES[request.param], folder / "hf")
    return PASSES[request.param], folder


def test_transformers_runs_what_is_exported(family: tuple[str, Path]) -> None:
    """From a Hugging Face folder to a Hugging Face folder: its logits are those of archc's own compressed model."""
    passes, folder = family
    made = compress(folder / "hf", Pipeline.parse(passes), folder / "small")
    assert made.tensors.shapes == made.graph.weight_shapes()
    assert sum(map(math.prod, made.tensors.shapes.values())) == made.graph.cost().params.total
    export_checkpoint(folder / "small", folder / "back", "hf")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "back", dtype=torch.float32).eval()
    with torch.no_grad():
        found = model(TOKENS).logits
    expected = execute(made.graph, made.weights(), {"tokens": TOKENS})["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_importing_first_makes_no_difference(family: tuple[str, Path]) -> None:
    passes, folder = family
    import_checkpoint(folder / "hf", folder / "ckpt")
    one = compress(folder / "hf", Pipeline.parse(passes), folder / "one")
    other = compress(folder / "ckpt", Pipeline.parse(passes), folder / "other")
    assert one.graph.nodes == other.graph.nodes
    for key in one.tensors.names:
        assert one.tensors.read(key).equal(other.tensors.read(key))


def test_tensors_that_are_no_weights_are_left(tmp_path: Path) -> None:
    """Frequencies that older llamas have in their files."""
    save(ORACLES["llama"], tmp_path / "hf")
    file = tmp_path / "hf" / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    safetensors.torch.save_file(weights | more, file, {"format": "pt"})
    made = compress(tmp_path / "hf", Pipeline.parse("prune{dim=d_ff, keep=0.5, by=first}"), tmp_path / "out")
    assert made.tensors.shapes == made.graph.weight_shapes()


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    save(ORACLES["nemotron_h-dense"], folder / "hf")
    import_checkpoint(folder / "hf", folder / "ckpt")
    return folder / "ckpt"


@pytest.fixture(scope="module")
def scores(parent: Path) -> Path:
    checkpoint = load_checkpoint(parent)
    found = measure(checkpoint.graph, checkpoint.weights(), [TOKENS], "activation, influence")
    file = parent.parent / "scores.safetensors"
    save_scores(file, found)
    return file


RECIPE = """\
archc_compress: 1
name: smaller
importance: scores.safetensors
passes:
  - drop-blocks: {count: 1, kind: mlp}
  - targets: {d_model: 0.5, mamba2.n_heads: 0.5}
  - prune{dim=d_ff, keep=0.5}
"""


def test_a_recipe_and_its_replay(parent: Path, scores: Path, tmp_path: Path) -> None:
    recipe = scores.parent / "recipe.yaml"
    recipe.write_text(RECIPE)
    out = tmp_path / "small"
    done = archc("compress", parent, "--recipe", recipe, "-o", out)
    assert done.exit_code == 0, done.output
    made, was = load_checkpoint(out), load_checkpoint(parent)
    assert made.graph.name == "smaller"
    assert made.graph.dims["d_model"].size * 2 == was.graph.dims["d_model"].size
    assert (out / SCORES).read_bytes() == scores.read_bytes()
    step = made.history[-1]
    assert step["pipeline"] == [
        "drop-blocks{count=1, kind=mlp}",
        "prune{dim=d_model, keep=0.5}",
        "prune{dim=n_heads, keep=0.5, kind=mamba2}",
        "prune{dim=d_ff, keep=0.5}",
    ]
    assert step["parent"]["graph"] == was.graph.hash
    shown = archc("show", out, "--history")
    assert "pipeline  drop-blocks{count=1, kind=mlp}" in shown.output
    assert json.loads(archc("show", out, "--history", "--json").output) == json.loads(json.dumps(made.history))
    verified = archc("verify", out, "--parent", parent)
    assert verified.exit_code == 0, verified.output
    assert f"{len(made.tensors.names)} weights are what the pipeline makes" in verified.output
    again = archc("compress", parent, "--recipe", recipe, "-o", out)
    assert again.exit_code != 0 and "exists" in str(again.exception or again.output)


MEASURED = """\
archc_compress: 1
importance:
  estimators: "activation, influence"
  data: [text.txt]
  tokens: 256
  sequence: 32
  batch_tokens: 64
  seed: 3
  tokenizer: bytes
passes:
  - drop-blocks: {count: 1, kind: mlp}
  - prune: {dim: d_model, keep: 0.5}
"""
MEASURING = ("--tokens", "256", "--sequence", "32", "--batch-tokens", "64", "--seed", "3", "--tokenizer", "bytes")


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with as many ids as bytes need, and text beside it."""
    folder = tmp_path_factory.mktemp("readable")
    graph = load("tiny-dense")
    write_checkpoint_dir(folder / "ckpt", graph, init_weights(graph, seed=0), {"step": "made"})
    (folder / "text.txt").write_text("\n".join(f"line {n} is {n * n}" for n in range(60)))
    return folder / "ckpt"


def test_measured_in_the_recipe_as_by_the_command(readable: Path, tmp_path: Path) -> None:
    recipe = readable.parent / "measured.yaml"
    recipe.write_text(MEASURED)
    done = archc("compress", readable, "--recipe", recipe, "-o", tmp_path / "one")
    assert done.exit_code == 0, done.output
    scores, text = tmp_path / "scores.safetensors", recipe.parent / "text.txt"
    done = archc("importance", readable, "--data", text, *MEASURING, "-e", "activation, influence", "-o", scores)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "one" / SCORES).read_bytes() == scores.read_bytes()
    other = compress(readable, load_recipe(recipe).passes, tmp_path / "other", scores=scores)
    one = load_checkpoint(tmp_path / "one")
    assert one.history[-1] == other.history[-1] and one.graph.nodes == other.graph.nodes
    assert all(one.tensors.read(key).equal(other.tensors.read(key)) for key in one.tensors.names)
    # The replay reads what is kept, and measures nothing: it could not without the text.
    text.rename(tmp_path / "text.txt")
    try:
        assert archc("verify", tmp_path / "one", "--parent", readable).exit_code == 0
    finally:
        (tmp_path / "text.txt").rename(text)


def test_what_is_wrong_with_measuring_is_said_at_its_place(readable: Path, tmp_path: Path) -> None:
    recipe = readable.parent / "wrong.yaml"

    def errors(*lines: str) -> list[tuple[int, int, str]]:
        recipe.write_text("\n".join(["archc_compress: 1", *lines, "passes: [fold-norms]"]))
        with pytest.raises(SpecErrors) as raised:
            load_recipe(recipe)
        return [(e.at.line, e.at.column, e.message) for e in raised.value.errors]

    found = errors(
        "importance:", "  estimators: activation, influense", "  data: [stdlib, no.txt]", "  tokenizer: nowhere"
    )
    assert [place[:2] for place in found] == [(3, 27), (4, 18), (5, 14)]
    assert "did you mean `influence`?" in found[0][2]
    assert "no.txt: no such file or folder" in found[1][2] and "no such file or folder" in found[2][2]
    found = errors("importance: {tokens: 100, sequence: 200, dtype: float23}")
    assert found == [(2, 49, "`dtype`: expected `float32`, `bfloat16`, `float16` or `float64`, got `float23`")]
    assert errors("importance: {tokens: 100, sequence: 200}")[0][:2] == (2, 22)
    assert errors("importance: {token: 100}")[0] == (2, 14, "unknown field `token`: did you mean `tokens`?")
    # What only the model shows is said at the section.
    recipe.write_text(MEASURED.replace("  tokenizer: bytes\n", ""))
    with pytest.raises(SpecError, match="has no tokenizer") as raised:
        raise archc("compress", readable, "--recipe", recipe, "-o", tmp_path / "out").exception
    assert (raised.value.at.line, raised.value.at.column) == (2, 1)
    recipe.write_text("archc_compress: 1\nimportance: none.safetensors\npasses: [fold-norms]")
    with pytest.raises(SpecError, match=r"wrong.yaml:2:1: .*none.safetensors: no such file of scores"):
        raise archc("compress", readable, "--recipe", recipe, "-o", tmp_path / "out").exception
    assert list(tmp_path.iterdir()) == []


def test_a_changed_weight_or_another_parent_is_found(parent: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    compress(parent, Pipeline.parse("prune{dim=d_ff, keep=0.5, by=first}"), out)
    file = out / "model.safetensors"
    bytes_ = bytearray(file.read_bytes())
    bytes_[-3] ^= 1
    file.write_bytes(bytes_)
    found = archc("verify", out, "--parent", parent)
    assert found.exit_code == 1
    assert "is not what the pipeline makes of the parent's weights" in found.output
    other = archc("verify", out, "--parent", out)
    assert other.exit_code == 1 and "the history says" in other.output


def test_scores_of_another_model_are_refused(scores: Path, parent: Path, tmp_path: Path) -> None:
    save(ORACLES["llama"], tmp_path / "hf")
    with pytest.raises(ArchcError, match="made for another graph"):
        compress(tmp_path / "hf", Pipeline.parse("prune{dim=d_ff, keep=0.5}"), tmp_path / "out", scores=scores)
    assert not (tmp_path / "out").exists()


def test_everything_wrong_with_a_recipe_is_said_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        "archc_compress: 1\n"
        "nme: x\n"
        "passes:\n"
        "  - prune: {dim: d_ff, too: 4}\n"
        "  - prnue{dim=d_ff}\n"
        "  - targets: {d_model: 1.5}\n"
        "  - fold: {}\n"
    )
    with pytest.raises(SpecErrors) as raised:
        load_recipe(file)
    places = [(e.at.line, e.at.column) for e in raised.value.errors]
    assert places == [(2, 1), (4, 24), (5, 5), (6, 24), (7, 5)]
    text = str(raised.value)
    for said in ("did you mean `name`?", "did you mean `to`?", "did you mean `prune`?", "expected a size or a share"):
        assert said in text


@pytest.mark.parametrize(
    ("entries", "place", "said"),
    [
        ("  - fold-norms\n  - prune: {dim: d_fff, keep: 0.5}", "4:5", "did you mean `d_ff`?"),
        ("  - fold-norms; prune{dim=d_model, to=1000, by=first}", "3:17", "got 1000"),
        ("  - |\n    # first\n    fold-norms\n    drop-layers{layers=(99)}", "6:5", "has layers 0 to 4: got 99"),
        ("  - targets: {mlp.d_ff: 8,\n      d_model: 8}", "3:15", "needs scores, and there are none"),
        ("  - {prune: {dim: d_state, to: 999, by: first}}", "3:5", "got 999"),
        ("  - replace-linear: {layers: [1], path: x, sha256: y}", "3:5", "x: no such file below"),
    ],
)
def test_errors_that_need_the_model_name_the_pass(
    parent: Path, tmp_path: Path, entries: str, place: str, said: str
) -> None:
    """Its place in the recipe, the line and a caret under it."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"archc_compress: 1\npasses:\n{entries}\n")
    with pytest.raises(SpecError) as raised:
        raise archc("compress", parent, "--recipe", recipe, "-o", tmp_path / "out").exception
    head, line, caret = str(raised.value).splitlines()
    assert head.startswith(f"{recipe}:{place}: ") and said in head
    number, column = map(int, place.split(":"))
    source = recipe.read_text().splitlines()[number - 1]
    assert line.strip() == source.strip()
    assert line[len(caret) - 1 :] == source[column - 1 :]
    assert list(tmp_path.iterdir()) == [recipe]


def test_a_spec_has_no_weights_to_compress(tmp_path: Path) -> None:
    done = archc("compress", tmp_path, "--passes", "prune{dim=d_ff, keep=0.5, by=first}", "-o", tmp_path / "out")
    assert done.exit_code != 0
    assert "holds no weights" in str(done.exception)


def test_the_checkpoint_says_what_the_spec_says(parent: Path, tmp_path: Path) -> None:
    made = compress(parent, Pipeline.parse("prune{dim=d_model, keep=0.5, by=first}"), tmp_path / "out")
    assert load(str(tmp_path / "out" / "spec.yaml")).weight_shapes() == Checkpoint(made.directory).shapes


def test_a_budget_of_parameters_is_decimal(tmp_path: Path) -> None:
    """As parameters are everywhere: 4.0B is four thousand million, and 2M no binary number."""
    from archc.compress.recipe import load_recipe

    file = tmp_path / "r.yaml"
    for text, wanted in (("4.0B", 4 * 10**9), ("2M", 2_000_000), ("1500000", 1_500_000)):
        file.write_text(f"archc_compress: 1\npasses: [{{fit: {{params: {text}, dims: [d_ff], by: first}}}}]\n")
        (one,) = load_recipe(file).passes.passes
        assert getattr(one, "params") == wanted  # noqa: B009


@pytest.mark.parametrize("name", ["my model", "../x", "a/b", "a\nb"])
def test_a_name_that_is_none_is_told_before_anything_is_written(parent: Path, tmp_path: Path, name: str) -> None:
    done = archc("compress", parent, "--passes", "drop-layers{layers=()}", "--name", name, "-o", tmp_path / "out")
    assert done.exit_code != 0 and "cannot name a model" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
