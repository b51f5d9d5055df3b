"""`archc import` and `archc export` in a user's hands: what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from archc.cli import app
from tests.hub.oracles import ORACLES, save


def archc(*arguments: object) -> str:
    """What a command prints; errors are raised."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(("sharded", "files"), [(False, "1 weight file"), (True, "7 weight files")])
def test_files_are_counted_in_the_right_number(sharded: bool, files: str, tmp_path: Path) -> None:
    save(ORACLES["nemotron_h-mtp"], tmp_path / "hf", sharded=sharded)
    said = archc("import", tmp_path / "hf", "-o", tmp_path / "ckpt")
    assert said.startswith(f"{tmp_path / 'ckpt'}: `hf`, ")
    said = archc("export", tmp_path / "ckpt", "-o", tmp_path / "out")
    assert said == f"{tmp_path / 'out'}: nemotron_h, {files}\n"
