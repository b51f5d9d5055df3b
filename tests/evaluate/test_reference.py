"""The reference experiment's statistics and pages, and the whole of it at toy scale."""

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

SHIFTS = (0.01, -0.01, 0.0)
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "reference"
TOY = """
archc: 1
name: toy
d_model: 16
vocab: 320
blocks:
  M: {mamba2: {n_heads: 2, head_dim: 8, d_state: 8, chunk: 16}}
  "*": {attention: {n_heads: 2, n_kv_heads: 1, head_dim: 8}}
layers: "M*"
mtp: {layers: "*", steps: 2}
"""


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, imported as the script does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("arms", "results"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("results")


def result(results: Any, arm: str, seed: int, bits: float) -> Any:
    facts = {"setting": f"{arm}{seed}", "tokens": 10, "seconds": 1.0, "parameters": 5}
    return results.Result("students", arm, seed, bits_per_byte=bits, weights_sha256="w", corpus_sha256="c", **facts)


@pytest.mark.parametrize(("model", "least", "most"), [("hybrid", 3e6, 5e6), ("moe", 3e6, 5e6)])
def test_students_are_a_third_of_their_teachers(model: str, least: float, most: float) -> None:
    sizes = [
        sum(map(math.prod, archc.load(FOLDER / f"{name}.yaml").weight_shapes().values()))
        for name in (model, f"{model}-student")
    ]
    assert least <= sizes[0] <= most
    assert sizes[1] / sizes[0] == pytest.approx(1 / 3, abs=0.02)


def test_paired_differences_are_beyond_noise_or_within(results: Any) -> None:
    scratch = [result(results, "from scratch", s, b) for s, b in enumerate((2.50, 2.60, 2.55))]
    better = [
        result(results, "distilled", r.seed, r.bits_per_byte - 0.11 + d) for r, d in zip(scratch, SHIFTS, strict=True)
    ]
    found = results.difference(scratch, better)
    assert found.mean == pytest.approx(-0.11) and found.half == pytest.approx(4.303 * 0.01 / math.sqrt(3))
    assert str(found).endswith("(beyond noise)")
    mixed = [result(results, "distilled", r.seed, r.bits_per_byte + d) for r, d in zip(scratch, SHIFTS, strict=True)]
    assert str(results.difference(scratch, mixed)).endswith("(within noise)")
    assert "one seed" in str(results.difference(scratch[:1], better[:1]))
    assert results.difference(scratch[:1], better[1:]) is None


def test_a_section_says_mean_spread_and_seeds(results: Any) -> None:
    runs = [result(results, arm, s, b) for arm, b in (("from scratch", 2.5), ("distilled", 2.4)) for s in (0, 1)]
    text = results.section("students", runs, baseline=2.0672, command="run it")
    assert "| from scratch | 0.00M | 10 | 0, 1 | 2.5000 | 0.0000 | 1 |" in text
    assert "| 5-gram, Kneser-Ney | | | | 2.0672 | | |" in text
    assert "distilled less from scratch: -0.1000 ± 0.0000 (beyond noise) bits a byte" in text
    page = results.placed("# Results\n", "students", text)
    page = results.placed(results.placed(page, "mtp", "other\n"), "students", "new\n")
    assert "new" in page and "other" in page and text not in page and page.startswith("# Results\n\n<!--")


def test_results_survive_a_line_that_was_cut_off(results: Any, tmp_path: Path) -> None:
    file = tmp_path / "in" / "results.jsonl"
    results.append(file, result(results, "a", 0, 2.0))
    file.write_text(file.read_text() + '{"what": "stu')
    results.append(file, result(results, "b", 0, 2.0))
    assert [r.arm for r in results.read(file)] == ["a", "b"]


def run(tmp_path: Path, what: str, *options: str) -> str:
    """The experiment on toy models; what it prints."""
    spec = tmp_path / "toy.yaml"
    spec.write_text(TOY)
    toy = [f"model={spec}", "sequence=32", "batch_tokens=64", "evaluation.windows=2", "checkpoint.write=sync"]
    places = ["--folder", str(tmp_path / "runs"), "--page", str(tmp_path / "results.md")]
    command = [sys.executable, FOLDER / "run.py", "--what", what, "--tokens", "192", *options, *places, *toy]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "runs/results.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_comparison_at_toy_scale(tmp_path: Path) -> None:
    run(tmp_path, "teachers")
    run(tmp_path, "students", "--seeds", "0")
    found = lines(tmp_path)
    assert [(r["what"], r["arm"]) for r in found] == [
        ("teachers", "hybrid"), ("teachers", "moe"), ("students", "from scratch"), ("students", "distilled")
    ]  # fmt: skip
    assert {r["tokens"] for r in found} == {192}
    assert found[3]["teacher_sha256"] == found[0]["weights_sha256"]
    assert set(found[1]["drafts"]["acceptance"]) == {"1", "2"}
    assert "distilled less from scratch" in (tmp_path / "results.md").read_text()

    assert "seed 0" not in run(tmp_path, "students", "--seeds", "0").partition("##")[0]  # nothing is done again
    assert lines(tmp_path) == found


@pytest.mark.nightly
def test_every_comparison_at_toy_scale(tmp_path: Path) -> None:
    for what in ("teachers", "students", "cached", "mtp"):
        run(tmp_path, what, *([] if what == "teachers" else ["--seeds", "0", "1"]))
    assert len(lines(tmp_path)) == 2 + 4 + 4 + 4
    page = (tmp_path / "results.md").read_text()
    assert page.count("<!-- reference ") == 4
