"""docs/search.md is true: its search files read, and what runs without weights runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc.search.figures import FIGURES
from archc.search.samplers import PRUNERS, SAMPLERS
from archc.searching.file import load_search
from archc.searching.run import run_search
from archc.searching.rungs import RUNGS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
FILES = [
    text
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    if "archc_search: 1" in text and "CKPT" not in text
]


@pytest.mark.parametrize("text", FILES, ids=lambda text: re.findall(r"^name: (.*)", text, re.MULTILINE)[0])
def test_search_files_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "search.yaml").write_text(re.sub(r"candidates: \d+", "", text) + "candidates: 200\nkeep: 5\n")
    found = run_search(load_search(tmp_path / "search.yaml"), tmp_path / "run")
    assert found.candidates and (tmp_path / "run/report.html").is_file()


def test_names_are_all_there() -> None:
    assert len(FILES) == 2
    for name in (*SAMPLERS, *PRUNERS, *RUNGS):
        assert re.search(rf"`([a-z]+: )?{re.escape(name)}`", PAGE), name
    for name in FIGURES:
        group, _, figure = name.partition(".")
        assert f"`{name}`" in PAGE or (f"`{group}." in PAGE and f"`.{figure}`" in PAGE), name


def test_examples_read() -> None:
    files = sorted((ROOT / "examples" / "search").glob("*.yaml"))
    assert [file.stem for file in files] == ["minipuzzle", "minitron-ssm", "nano-2"]
    for file in files:
        assert load_search(file).space.size > 1000
