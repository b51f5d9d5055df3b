"""`archc show`, `schema`, `import` and `export` as a user runs them, good and bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from archc.cli import app, main
from archc.hub.checkpoint_dir import load_checkpoint, write_checkpoint_dir
from archc.ir.init import init_weights
from archc.ir.text import parse_graph
from archc.kernels.errors import ArchcError
from archc.resolve import load


def archc(*arguments: object) -> str:
    """What a command prints; errors are raised."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_prints_pattern_kinds_and_totals() -> None:
    shown = archc("show", "nemotron-nano-9b-v2")
    assert "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-" in shown
    assert "parameters 8,888,227,328" in shown
    assert "state of a sequence at 8k: 16.00 KiB a token" in shown


def test_show_json_adds_up() -> None:
    shown = json.loads(archc("show", "nemotron-3-super-120b-a12b", "--json"))
    counted = sum(kind["params"] * kind["count"] for kind in shown["kinds"])
    assert counted == shown["params"]["total"] + shown["params"]["mtp"]
    assert (shown["layers"], shown["mtp_pattern"]) == (88, "*E")
    # keys and values of 8 attention layers, two heads of 128 channels, in bf16
    assert sum(k["state_bytes_per_token"] * k["count"] for k in shown["kinds"]) == 8 * 2 * 2 * 128 * 2


def test_show_gives_the_text_and_json_forms(tmp_path: Path) -> None:
    assert parse_graph(archc("show", "tiny-hybrid", "--ir")) == load("tiny-hybrid")
    (tmp_path / "m.json").write_text(archc("show", "tiny-hybrid", "--ir-json"))
    assert load(tmp_path / "m.json") == load("tiny-hybrid")


def test_schema_is_written(tmp_path: Path) -> None:
    archc("schema", "-o", tmp_path / "spec.schema.json")
    written = json.loads((tmp_path / "spec.schema.json").read_text())
    assert written == json.loads(archc("schema"))
    assert "mamba2" in written["$defs"]["Block"]["properties"]


def test_export_and_import_give_the_same_weights_back(tmp_path: Path) -> None:
    graph = load("tiny-dense")
    weights = init_weights(graph, seed=1)
    write_checkpoint_dir(tmp_path / "ckpt", graph, weights, {"step": "test"})
    assert "nemotron_h" in archc("export", tmp_path / "ckpt", "-o", tmp_path / "hf")
    archc("import", tmp_path / "hf", "-o", tmp_path / "again", "--name", "tiny-dense")
    again = load_checkpoint(tmp_path / "again")
    assert again.graph.weight_shapes() == graph.weight_shapes()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in again.weights().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nemotron-nano-9b"], "error: unknown model `nemotron-nano-9b`: did you mean `nemotron-nano-9b-v2`"),
        (["import", "nowhere", "-o", "out"], "nowhere"),
        (["export", "nowhere", "-o", "out"], "nowhere: not an archc checkpoint"),
    ],
)
def test_errors_are_one_clear_line_and_leave_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["archc", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_forms_exclude_one_another() -> None:
    result = CliRunner().invoke(app, ["show", "tiny-hybrid", "--json", "--ir"])
    assert result.exit_code == 2 and "exclude one another" in result.output
    assert not isinstance(result.exception, ArchcError)
