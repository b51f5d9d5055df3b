"""The schemas of compression recipes and searches: what is in the repository is valid, what is wrong is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from archc.compress.schema import compress_schema
from archc.searching.schema import search_schema
from archc.yamlfile import load_yaml

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, head: str) -> list[str]:
    """The YAML of a page of docs that begins with a head."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if f"{head}: 1" in block]


SEARCHES = [
    *(file.read_text(encoding="utf-8") for file in sorted((ROOT / "examples/search").glob("*.yaml"))),
    *blocks("search.md", "archc_search"),
]
RECIPES = [
    *(
        file.read_text(encoding="utf-8")
        for file in sorted((ROOT / "examples/papers").glob("**/*.yaml"))
        if "archc_compress" in file.read_text(encoding="utf-8")
    ),
    *blocks("compression.md", "archc_compress"),
]
SPACE = "archc_search: 1\nname: s\nbase: tiny-moe\nspace: {d_model: [64]}\n"
LIBRARY = "archc_search: 1\nname: s\nbase: x\nlibrary: {mlp: [keep]}\nbudgets: [params.total <= 1M]\n"


@pytest.fixture(scope="module")
def search() -> jsonschema.Draft202012Validator:
    return validator(search_schema())


@pytest.fixture(scope="module")
def recipe() -> jsonschema.Draft202012Validator:
    return validator(compress_schema())


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_there_are_files() -> None:
    assert len(SEARCHES) >= 6 and len(RECIPES) >= 8


@pytest.mark.parametrize("text", SEARCHES, ids=lambda text: re.findall(r"^name: (.*)", text, re.MULTILINE)[0])
def test_searches_are_valid(search: jsonschema.Draft202012Validator, text: str) -> None:
    assert list(search.iter_errors(load_yaml(text, file="x").data)) == []


@pytest.mark.parametrize("text", RECIPES, ids=range(len(RECIPES)))
def test_recipes_are_valid(recipe: jsonschema.Draft202012Validator, text: str) -> None:
    assert list(recipe.iter_errors(load_yaml(text, file="x").data)) == []


@pytest.mark.parametrize(
    "text",
    [
        SPACE + "objectives: [minimize params.totl]",
        SPACE + "objectives: []",
        SPACE + "objectives: [minimize params.total]\nsampler: tpee",
        SPACE + "objectives: [minimize params.total]\ntrials: many",
        SPACE + "objectives: [minimize params.total]\nbudget: []",
        SPACE + "objectives: [minimize params.total]\nbudgets: [memory <= 3]",
        SPACE + "objectives: [minimize params.total]\nrungs: [{zero_shot: {token: 3}}]",
        SPACE + "objectives: [minimize params.total]\npasses: [{prune: {dims: d_ff}}]",
        SPACE.replace("{d_model: [64]}", "{}") + "objectives: [minimize params.total]",
        LIBRARY + "sampler: {mip: {solution: 3}}",
        LIBRARY.replace("library", "libraries"),
    ],
)
def test_wrong_searches_are_not(search: jsonschema.Draft202012Validator, text: str) -> None:
    assert not search.is_valid(load_yaml(text, file="x").data)


@pytest.mark.parametrize(
    "text",
    [
        "archc_compress: 1",
        "archc_compress: 1\npasses: []",
        "archc_compress: 1\npasses: [{prune: {dim: d_ff, kep: 0.5}}]",
        "archc_compress: 1\npasses: [{prunes: {dim: d_ff}}]",
        "archc_compress: 1\nimportance: {tokens: 0}\npasses: [{prune: {dim: d_ff, keep: 0.5}}]",
        "archc_compress: 2\npasses: [{prune: {dim: d_ff, keep: 0.5}}]",
    ],
)
def test_wrong_recipes_are_not(recipe: jsonschema.Draft202012Validator, text: str) -> None:
    assert not recipe.is_valid(load_yaml(text, file="x").data)


def test_right_ones_beside_the_wrong(
    search: jsonschema.Draft202012Validator, recipe: jsonschema.Draft202012Validator
) -> None:
    assert search.is_valid(load_yaml(SPACE + "objectives: [minimize params.total]", file="x").data)
    assert search.is_valid(load_yaml(LIBRARY + "sampler: {mip: {solutions: 3}}", file="x").data)
    assert recipe.is_valid(load_yaml("archc_compress: 1\npasses: [{prune: {dim: d_ff, keep: 0.5}}]", file="x").data)
