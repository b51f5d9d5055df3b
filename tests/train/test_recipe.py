"""Recipes: what is written reads back, every mistake is told at its place, and arguments are checked like the file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.kernels.errors import ArchcError, SpecErrors
from archc.train.defaults import default_recipe
from archc.train.losses import registered_losses
from archc.train.optim import AdamW
from archc.train.recipe import CHANGEABLE, Budget, Recipe, differences, recipe_data, recipe_text
from archc.train.recipe_load import is_recipe, load_recipe
from archc.train.registry import Registry
from archc.train.schedule import WSD, Cosine

TEXT = """\
archc_recipe: 1
model: tiny-hybrid
data:
  train:
    - {stdlib: train, weight: 3}
    - {jsonl: {files: more.jsonl, field: body}, on_bad: skip}
  held_out: [{stdlib: {part: held_out}}]
sequence: 128
batch_tokens: 8k
budget: {tokens: 10M}
losses: [next_token, {mtp: {weight: 0.1}}]
"""


def errors_of(text: str, *overrides: str) -> list[str]:
    """The first line of each error."""
    with pytest.raises(SpecErrors) as caught:
        load_recipe(text, overrides, file="r.yaml")
    return [str(e).splitlines()[0] for e in caught.value.errors]


def test_a_recipe_is_read_with_its_defaults() -> None:
    recipe = load_recipe(TEXT)
    assert [(e.source.name, e.weight, e.on_bad) for e in recipe.data.train] == [
        ("stdlib", 3.0, "stop"),
        ("jsonl", 1.0, "skip"),
    ]
    assert (recipe.sequence, recipe.batch_tokens, recipe.sequences) == (128, 8192, 64)
    assert recipe.budget.tokens == 10_000_000
    assert [(loss.name, loss.weight) for loss in recipe.losses] == [("next_token", 1.0), ("mtp", 0.1)]
    assert (recipe.optimizer, recipe.schedule) == (AdamW(), Cosine())


def test_a_recipe_reads_back_equal() -> None:
    recipe = load_recipe(
        TEXT, ["guard.spike.factor=4", "schedule.wsd.decay=0.5", "micro_batch=2", 'tokenizer="a b/c: d"']
    )
    assert recipe.schedule == WSD(decay=0.5)
    assert load_recipe(recipe_text(recipe)) == recipe
    teachers = "teachers=[{name: big, model: t, cache: {top_k: 8}}, {name: small, model: u, precision: bf16}]"
    taught = load_recipe(
        TEXT, [teachers, "losses=[{logit_kd: {teacher: big}}, {logit_kd: {teacher: small, weight: 0.5}}]"]
    )
    assert load_recipe(recipe_text(taught)) == taught


@pytest.mark.parametrize("loss", registered_losses(), ids=lambda loss: loss.name)
def test_every_loss_can_stand_in_a_recipe(loss: type) -> None:
    recipe = load_recipe(TEXT, [f"losses=[{{{loss.name}: {{weight: 0.25}}}}]"])  # type: ignore[attr-defined]
    assert recipe.losses[0].weight == 0.25
    assert load_recipe(recipe_text(recipe)) == recipe


@settings(deadline=None)
@given(
    lr=st.floats(1e-8, 10),
    clip=st.none() | st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**39),
    minutes=st.floats(1e-3, 1e6),
    model=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda t: t.strip() == t),
)
def test_any_values_survive_the_text(lr: float, clip: float | None, seed: int, minutes: float, model: str) -> None:
    base = load_recipe(TEXT)
    recipe = replace(base, optimizer=AdamW(lr=lr, clip=clip), seed=seed, budget=Budget(minutes=minutes), model=model)
    assert load_recipe(recipe_text(recipe)) == recipe


def test_every_mistake_is_told_at_its_place() -> None:
    wrong = """\
archc_recipe: 2
modle: tiny-hybrid
data: {train: [{stdlib: train, on_bad: skp}, {stdlibb: train}, {text: {file: x}}]}
sequence: 1
batch_tokens: 8k
budget: {tokens: 10M, steps: 3}
schedule: {wsdd: {decay: 0.1}}
optimizer: {adamw: {lr: fast, beta: 1}}
losses: [nexttoken, {mtp: {wieght: 0.3}}, {logit_kd: {temperature: 0}}]
guard: {nan: rollbck}
evaluation: {every: 0}
"""
    assert errors_of(wrong) == [
        "r.yaml:1:15: `archc_recipe`: expected 1, got `2`",
        "r.yaml:2:1: unknown field `modle`: did you mean `model`?",
        "r.yaml:3:40: `on_bad`: expected `stop` or `skip`, got `skp`",
        "r.yaml:3:47: unknown source `stdlibb`: did you mean `stdlib`?",
        "r.yaml:3:72: unknown field `file`: did you mean `files`?",
        "r.yaml:4:11: `sequence`: expected a number greater than or equal to 2, got `1`",
        "r.yaml:6:1: a budget is one of steps, tokens, minutes: got steps and tokens",
        "r.yaml:7:12: unknown schedule `wsdd`: did you mean `wsd`?",
        "r.yaml:8:25: `lr`: expected a number, got `fast`",
        "r.yaml:8:31: unknown field `beta`: did you mean `betas`?",
        "r.yaml:9:10: unknown loss `nexttoken`: did you mean `next_token`?",
        "r.yaml:9:28: unknown field `wieght`: did you mean `weight`?",
        "r.yaml:9:68: `temperature` must be above 0: got 0.0",
        "r.yaml:10:14: `nan`: expected `stop` or `rollback`, got `rollbck`",
        "r.yaml:11:21: `every`: expected a number greater than 0, got `0`",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sequence=100", "r.yaml:9:15: `batch_tokens` must be a multiple of `sequence`: got 8192 and 100"),
        ("parallel.dp=3", "argument:1:13: `parallel.dp` must divide the 64 sequences of a step: got 3"),
        ("data.train.0.weight=-1", "argument:1:21: `weight` must be above 0: got -1"),
        ("budget.steps=5", "r.yaml:10:1: a budget is one of steps, tokens, minutes: got steps and tokens"),
        ("losses=[]", "argument:1:8: `losses`: expected a list of losses, got a list"),
        ("losses={}", "argument:1:8: `losses`: expected a list of losses, got a mapping"),
        ("data.train=[]", "argument:1:12: `train`: expected a list of sources, got a list"),
        ("teachers=[{model: a}, {model: b}]", "argument:1:23: two teachers are called `teacher`"),
        ("optimizer.adamw.lr=quick", "argument:1:20: `lr`: expected a number, got `quick`"),
        ("optimizr.adamw.lr=1", "argument:1:1: unknown field `optimizr`: did you mean `optimizer`?"),
        ("losses.7=x", "argument:1:8: expected the number of an item, 0 to 1, or what one item is: got `7`"),
        ("model.x=3", "argument:1:7: cannot set `x` inside `tiny-hybrid`"),
        ("seed=[1,", "argument:1:9: not valid YAML: expected the node content, but found '<stream end>'"),
        ("seed", "argument:1:1: expected key.path=value, got `seed`"),
        ("seed=", "argument:1:1: expected key.path=value, got `seed=`"),
    ],
)
def test_arguments_are_checked_like_the_file(override: str, message: str) -> None:
    assert errors_of(TEXT, override) == [message]


def test_places_of_several_arguments_tell_them_apart() -> None:
    assert [e.split(":")[1] for e in errors_of(TEXT, "seed=x", "init_seed=1", "sequence=y")] == ["1", "3"]


def test_arguments_reach_into_lists_by_number_and_by_name() -> None:
    recipe = load_recipe(TEXT, ["losses.next_token.weight=2", "losses.1.mtp.weight=3", "data.train.jsonl.field=t"])
    assert [loss.weight for loss in recipe.losses] == [2.0, 3.0]
    assert recipe.data.train[1].source.field == "t"


def test_differences_are_by_path() -> None:
    old, new = (
        load_recipe(TEXT),
        load_recipe(TEXT, ["optimizer.adamw.lr=1", "budget={steps: 5}", "losses=[next_token]"]),
    )
    assert differences(old, old) == {}
    found = differences(old, new)
    assert found["optimizer.adamw.lr"] == ("0.0003", "1")
    assert found["budget.steps"] == ("none", "5")
    assert found["losses.1.mtp.weight"] == ("0.1", "-")


def test_what_may_change_are_fields() -> None:
    assert set(recipe_data(load_recipe(TEXT))) >= CHANGEABLE


def test_a_model_alone_means_a_default_recipe() -> None:
    recipe = default_recipe("tiny-hybrid", mtp=True)
    assert isinstance(recipe, Recipe)
    assert [loss.name for loss in recipe.losses] == ["next_token", "mtp"]
    assert [loss.name for loss in default_recipe("tiny-dense", ["seed=3"], mtp=False).losses] == ["next_token"]
    assert default_recipe("a: b", mtp=False).model == "a: b"


def test_recipes_are_told_from_specs(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"# a comment\n{TEXT}")
    (tmp_path / "s.yaml").write_text("archc: 1\nname: x\n")
    assert is_recipe(tmp_path / "r.yaml")
    assert not is_recipe(tmp_path / "s.yaml")
    assert not is_recipe(Path("tiny-hybrid"))


def test_a_name_is_registered_once() -> None:
    kind: Registry[object] = Registry("thing")

    @kind("a")
    class A:
        x: int = 1

    assert kind.get("a")(x=2) == A(x=2)  # type: ignore[call-arg]
    with pytest.raises(ArchcError, match="thing `a` is registered twice"):
        kind("a")(type("B", (), {}))
    with pytest.raises(ArchcError, match="unknown thing `aa`: did you mean `a`"):
        kind.get("aa")


def test_the_schema_knows_what_recipes_say_and_refuses_what_they_may_not() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from archc.train.recipe_schema import recipe_schema
    from archc.yamlfile import load_yaml

    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    recipes = Path(__file__).resolve().parents[2] / "examples" / "recipes"
    good = [load_yaml(TEXT).data, *(load_yaml(p).data for p in recipes.glob("*.yaml") if is_recipe(p))]
    assert [str(e.message)[:200] for data in good for e in validator.iter_errors(data)] == []
    for field, value in (("losses", ["nothing"]), ("sequence", 1), ("schedule", {"wsd": {"decoy": 1}}), ("extra", 1)):
        assert list(validator.iter_errors({**good[0], field: value})), field


def test_the_recipe_of_the_docs_reads_with_its_arguments() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    whole, *_ = re.findall(r"```yaml\n(archc_recipe.*?)```", page, re.DOTALL)
    (arguments,) = re.findall(r"-o runs/second (.*)", page)
    assert load_recipe(whole, arguments.split()).optimizer == AdamW(lr=1e-3)
    assert all(f"`{name}`" in page for name in CHANGEABLE)
