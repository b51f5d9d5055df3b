"""What a recipe names is found and held against one another first: every misfit at its place, before data is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from archc.cli import app
from archc.compilation import compile_model
from archc.hub.checkpoint_dir import write_checkpoint_dir
from archc.ir.init import init_weights
from archc.kernels.errors import DataError, SpecError, SpecErrors
from archc.train.parts import parts_of
from archc.train.recipe import Recipe
from archc.train.recipe_load import load_recipe
from archc.train.run import train
from tests.train.losses_kit import graph_of

VOCAB = 264
RECIPE = """\
archc_recipe: 1
model: {student}
tokenizer: bytes
data:
  train: [{{text: text.txt}}]
sequence: 16
batch_tokens: 64
budget: {{steps: 2}}
losses: [next_token, {{logit_kd: {{teacher: big}}}}]
teachers:
  - {{name: big, model: {teacher}}}
device: cpu
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a student without weights and two teachers, one of them of another vocabulary."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "text.txt").write_text("one text\n")
    (folder / "student.yaml").write_text(graph_spec("student"))
    compile_model(graph_of("*-*-", vocab=VOCAB, name="teacher"), folder / "teacher", seed=0)
    compile_model(graph_of("*-", vocab=300, name="other"), folder / "other", seed=0)
    return folder


def graph_spec(name: str, vocab: int = VOCAB) -> str:
    from archc.spec import spec_from_graph

    return spec_from_graph(graph_of("*-", vocab=vocab, name=name)).to_yaml()


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder as the current one, with a cache of its own, into which nothing may be written."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("ARCHC_CACHE", str(place / "cache"))
    yield place
    assert not (place / "cache").exists()
    assert not (place / "run").exists()


def errors_of(*overrides: str, **parts: str) -> list[str]:
    """The first line of each error of a run that does not begin."""
    text = RECIPE.format(**{"student": "student.yaml", "teacher": "teacher", **parts})
    with pytest.raises((SpecError, SpecErrors)) as caught:
        train(load_recipe(text, overrides, file="r.yaml"), Path("run"), console=Console(quiet=True))
    return [str(e).splitlines()[0] for e in getattr(caught.value, "errors", [caught.value])]


def test_parts_that_fit(here: Path) -> None:
    parts = parts_of(load_recipe(RECIPE.format(student="student.yaml", teacher="teacher"), ["seed=3"]))
    assert parts.graph.name == "student" and parts.tokenizer.vocab_size == 259
    assert parts.needs.teachers["big"].temperatures == {1.0}
    assert parts.weights == 0, "the seed of fresh ones"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"student": "tiny-hybird"}, "2:8: `model`: unknown model `tiny-hybird`: did you mean `tiny-hybrid`?"),
        ({"student": "nowhere/a.yaml"}, "2:8: `model`: no such file or folder: nowhere/a.yaml"),
        (
            {"teacher": "nowhere"},
            "11:24: `model`: nowhere holds no weights, there is no such folder: expected an",
        ),
        ({"teacher": "tiny-dense"}, "11:24: `model`: tiny-dense holds no weights"),
        ({"teacher": "other"}, "9:23: `logit_kd` compares distributions over one vocabulary: the student student has"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value.values()),
)
def test_what_the_file_names_is_told_where_the_file_says_it(here: Path, parts: dict[str, str], message: str) -> None:
    (found,) = errors_of(**parts)
    assert found.startswith(f"r.yaml:{message}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("losses=[{logit_kd: {teacher: bog}}]", "1:30: `teacher`: unknown teacher `bog`: did you mean `big`?"),
        ("losses.0=mtp", "1:10: `mtp` trains multi-token prediction, which student does not have"),
        (
            "losses.0={hidden_kd: {teacher: big}}",
            "1:11: nothing tells which layers of student and teacher stand for",
        ),
        ("losses.0={hidden_kd: {taps: {a: b}}}", "1:11: `hidden_kd`: student has no module `a`: there are embedding"),
        ("losses.0=load_balance", "1:10: `load_balance` "),
        ("tokenizer=words", "1:11: `tokenizer`: words: no such file or folder; the tokenizer `bytes` needs no file"),
        ("data.train.0.text=[text.txt, gone.txt]", "1:19: `files`: gone.txt: no such file or folder"),
        ("data.train=[{jsonl: {files: text.txt, template: plane}}]", "1:49: `template`: unknown chat template `plane`"),
        ("data.held_out=[{datasets: gone}]", "1:27: `folder`: gone: no such folder"),
        ("teachers.0.cache.top_k=264", "1:24: `top_k`: must be below the teacher's vocabulary of 264: got 264"),
        ("teachers.0.passes=drop-layer", "1:19: `passes`: unknown pass `drop-layer`: did you mean `drop-layers`?"),
        ("teachers.0.passes='drop-layers{layers=(0)}'", "1:19: `passes`: they do not make student of teacher"),
        ("parallel.tp=3", "1:1: `parallel` asks for dp 1 x tp 3 x ep 1 = 3 processes, and there are 1"),
        ("model=small.yaml", "1:7: `model`: the tokenizer bytes needs a vocabulary of at least 259: small has 100"),
    ],
)
def test_what_an_argument_says_is_told_in_the_argument(here: Path, override: str, message: str) -> None:
    (here / "small.yaml").write_text(graph_spec("small", vocab=100))
    losses = ["losses=[next_token]"] if override.startswith("model") else []
    (found,) = errors_of(*losses, override)
    assert found.replace("argument:2:", "argument:1:").startswith(f"argument:{message}")


def test_a_cache_needs_a_budget_of_a_known_length(here: Path) -> None:
    (found,) = errors_of("teachers.0.cache.top_k=8", "budget={minutes: 1}")
    assert found == "argument:1:12: `cache`: it needs a budget of steps or of tokens, not of minutes"


def test_logits_that_are_kept_have_no_hidden_states(here: Path) -> None:
    (found,) = errors_of("teachers.0.cache.top_k=8", "losses.0={hidden_kd: {taps: {norm: norm}}}")
    assert found.startswith("argument:2:11: `hidden_kd`: a teacher of which only logits are kept")


def test_without_a_tokenizer_it_is_the_models_own_or_bytes(here: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from archc.train.tokenizers.bpe import train_bpe

    text = RECIPE.format(student=tmp_path, teacher="teacher").replace("tokenizer: bytes\n", "")
    write_checkpoint_dir(tmp_path, graph := graph_of("*-", vocab=VOCAB), init_weights(graph, seed=0), {"step": "made"})
    (here / "none.yaml").write_text(text)
    assert parts_of(load_recipe(here / "none.yaml")).tokenizer.vocab_size == 259
    train_bpe(["one text of few words"], tmp_path, vocab=262)
    assert parts_of(load_recipe(here / "none.yaml")).tokenizer.vocab_size == 262
    (here / "none.yaml").write_text(text + "tokenizer: bytes\n")
    assert parts_of(load_recipe(here / "none.yaml")).tokenizer.vocab_size == 259


def test_a_tokenizer_that_is_too_large_for_the_model(here: Path) -> None:
    pytest.importorskip("tokenizers")
    from archc.train.tokenizers.bpe import train_bpe

    text = " ".join(json.dumps({"word": i, "more": str(i) * 3}) for i in range(400))
    train_bpe([text], here / "words", vocab=280)
    (found,) = errors_of("tokenizer=words")
    assert found.endswith("`tokenizer`: the tokenizer words needs a vocabulary of at least 280: student has 264")


def test_all_are_told_at_once_and_a_fault_is_not_told_twice(here: Path) -> None:
    found = errors_of("tokenizer=gone", "data.train.0.text=gone.txt", teacher="gone")
    assert [line.split("`")[1] for line in found] == ["tokenizer", "files", "model"]


def test_a_spec_that_is_wrong_is_told_at_its_own_place(here: Path) -> None:
    (here / "wrong.yaml").write_text(graph_spec("wrong").replace("d_ff: 16", "d_ff: wide"))
    (found,) = errors_of("losses=[next_token]", "model=wrong.yaml")
    assert found.startswith("wrong.yaml:") and "`d_ff`" in found


def test_data_that_cannot_be_learnt_from_is_told_at_its_source(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(here / "packed"))
    (found,) = errors_of("data.train.0={text: {files: text.txt, part: held_out}}")
    assert re.match(r"argument:1:12: the source Text\(.*: no document to learn from in its part `held_out`", found)


def test_bad_lines_are_told_with_what_a_recipe_can_do(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHC_CACHE", str(here / "packed"))
    (here / "rows.jsonl").write_text('{"text": "good"}\n{\n[]\n')
    with pytest.raises(DataError) as caught:
        errors_of("data.train=[{jsonl: rows.jsonl}]")
    first, second = str(caught.value).splitlines()
    assert first.startswith("rows.jsonl:2: broken JSON")
    assert second == "rows.jsonl:3: not an object: got `[]` (`on_bad: skip` leaves such lines out and counts them)"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("teachers=[]", "argument:1:10: `archc distill` needs `teachers`: `archc train` trains without"),
        ("losses=[next_token]", "argument:1:8: no loss asks the teacher: add one such as `logit_kd`"),
    ],
)
def test_distilling_insists_on_a_teacher(here: Path, changed: str, message: str) -> None:
    (here / "r.yaml").write_text(RECIPE.format(student="student.yaml", teacher="teacher"))
    with pytest.raises(SpecError) as caught:
        CliRunner().invoke(app, ["distill", "r.yaml", "-o", "run", changed], catch_exceptions=False)
    assert str(caught.value).splitlines()[0] == message


def test_a_recipe_that_a_program_made_names_the_field() -> None:
    read = load_recipe(RECIPE.format(student="gone/x.yaml", teacher="gone"), ["data.train=[stdlib]", "teachers=[]"])
    made = Recipe(**{name: value for name, value in vars(read).items() if name != "written"})
    with pytest.raises(SpecErrors, match=r"^recipe\.model: `model`: no such file or folder: gone/x\.yaml"):
        parts_of(made)
