"""Published figures and ratios against what archc computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import archc.claims
from archc.claims import TOLERANCE, Claim, compute, load_claims
from archc.kernels.errors import SpecErrors
from archc.yamlfile import load_model

CLAIMS = load_claims()


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.reachable])
def test_reachable_claims_are_reached(name: str) -> None:
    outcome = compute(CLAIMS[name])
    assert outcome.factor is not None
    assert outcome.factor <= TOLERANCE and outcome.holds


def test_the_claims_that_arithmetic_reaches_are_there() -> None:
    pairs = {(c.model, c.baseline) for c in CLAIMS.values() if c.reachable}
    assert pairs == {
        ("nemotron-h-8b", "llama-3.1-8b"),
        ("nemotron-h-8b", "qwen2.5-7b"),
        ("nemotron-h-47b", "llama-3.1-70b"),
        ("nemotron-h-47b", "qwen2.5-72b"),
        ("nemotron-h-56b", "llama-3.1-70b"),
        ("nemotron-h-56b", "qwen2.5-72b"),
        ("nemotron-nano-9b-v2", "qwen3-8b"),
        ("nemotron-3-nano-30b-a3b", "gpt-oss-20b"),
    }


def test_qwen3_has_room_for_one_sequence_on_an_a10g_and_the_claim_caps_the_other_side() -> None:
    outcome = compute(CLAIMS["nemotron-nano-9b-v2-over-qwen3-8b"])
    assert outcome.model and outcome.baseline
    assert (outcome.model.batch, outcome.baseline.batch) == (8, 1)


def test_a_side_that_does_not_fit_gives_no_ratio() -> None:
    claim = CLAIMS["nemotron-h-56b-over-llama-3.1-70b"].model_copy(update={"hardware": "a10g"})
    outcome = compute(claim)
    assert outcome.ratio is None and not outcome.holds


def test_every_claim_is_named_after_its_models() -> None:
    assert all(name == f"{claim.model}-over-{claim.baseline}" for name, claim in CLAIMS.items())


def test_a_wrong_claim_is_told_with_its_place(tmp_path: Path) -> None:
    source = Path(archc.claims.__file__).parent / "nemotron-h-8b-over-qwen2.5-7b.yaml"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(source.read_text().replace("batch: max", "batch: {at_mst: 3}").replace("kv: bf16", "kv: bf17"))
    with pytest.raises(SpecErrors) as raised:
        load_model(wrong, Claim)
    assert "at_mst" in str(raised.value) and "bf17" in str(raised.value) and "wrong.yaml:6" in str(raised.value)


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "archc", "zoo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_zoo_prints_every_claim_the_unreachable_ones_too() -> None:
    found = {row["name"]: row for row in json.loads(run("--claims", "--json"))}
    assert found.keys() == CLAIMS.keys()
    assert all(row["computed_ratio"] > 0 for row in found.values())
    assert not found["nemotron-3-nano-30b-a3b-over-qwen3-30b-a3b"]["reachable"]
    shown = run("--claims")
    assert "8 of 8 reachable claims within 1.35x" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_zoo_prints_published_figures_and_their_gaps() -> None:
    shown = run()
    assert "nemotron-3-super-120b-a12b" in shown and "without router, mtp" in shown
    found = {row["name"]: row["published"] for row in json.loads(run("--json"))}
    open_gaps = [(name, f["published"]) for name, figures in found.items() for f in figures if not f["holds"]]
    assert open_gaps == [("qwen2.5-72b", "70.0B")]
    assert [f["why"] for f in found["qwen2.5-72b"] if not f["holds"]] != [""]
