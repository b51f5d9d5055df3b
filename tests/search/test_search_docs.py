"""docs/search.md, against what there is: every field with its default, the recipe of `distil` as it stands there."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

from archc.searching.file import UNSAID, SearchFile, load_search

TEXT = (Path(__file__).resolve().parents[2] / "docs/search.md").read_text(encoding="utf-8")


def test_every_field_stands_in_the_table_with_its_default() -> None:
    table = TEXT.partition("## Fields")[2].partition("\n## ")[0]
    told = {row[0]: row[1].strip(" `") for row in re.findall(r"^\| `(\w+)` \|.*\| (.*)\|$", table, re.MULTILINE)}
    said = {f.name: f.default for f in fields(SearchFile) if f.name not in UNSAID}
    assert told.keys() == said.keys()
    for name, default in said.items():
        if default is MISSING or name in ("storage", "objectives"):
            assert name == "storage" or told[name] == ""
        elif default in (None, (), ""):
            assert told[name] == "none"
        else:
            assert told[name].replace(",", "") == str(default)


def test_the_recipe_of_distil_loads_as_it_stands(tmp_path: Path) -> None:
    recipe = next(
        text for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if text.startswith("# distil.yaml")
    )
    (tmp_path / "distil.yaml").write_text(recipe)
    (tmp_path / "search.yaml").write_text(
        "archc_search: 1\nname: d\nbase: tiny-hybrid\nspace: {d_model: [64, 128]}\nobjectives: [minimize distil]\n"
        "sampler: tpe\nrungs:\n"
        "  - distil: {recipe: distil.yaml, overrides: [\"teachers=[{model: '{base}'}]\"], keep: 2}\n"
    )
    (rung,) = load_search(tmp_path / "search.yaml").rungs
    assert rung.name == "distil"
