"""The command line: every command loads, errors are messages, and near misses are suggested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archc.cli import COMMANDS

NAMES = [name for panel in COMMANDS.values() for name in panel]


def archc(*arguments: str, debug: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "archc", *(["--debug"] if debug else []), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(name: str) -> None:
    run = archc(name, "--help")
    assert run.returncode == 0, run.stderr
    assert f"archc {name}" in run.stdout


def test_help_lists_every_command() -> None:
    shown = archc("--help").stdout
    assert all(name in shown for name in NAMES)


def test_unknown_command_suggests_a_near_miss() -> None:
    run = archc("generat")
    assert run.returncode == 2
    assert "generate" in run.stderr


def test_an_error_is_its_message_and_status_2(tmp_path: Path) -> None:
    run = archc("generate", str(tmp_path / "nowhere"), "text")
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("error: ")
    assert "Traceback" not in run.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    run = archc("generate", str(tmp_path / "nowhere"), "text", debug=True)
    assert run.returncode != 0
    assert "Traceback" in run.stderr
