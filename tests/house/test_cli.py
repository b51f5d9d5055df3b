"""The command line: every command loads, errors are messages, and near misses are suggested."""

from __future__ import annotations

import json
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


def test_an_error_of_the_file_system_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = archc("schema", "-o", str(tmp_path / "file" / "schema.json"))
    assert run.returncode == 2
    assert run.stderr == f"error: {tmp_path}/file/schema.json: Not a directory\n"


def test_a_reader_who_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "archc", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == ""


def test_a_model_too_large_to_train_here_is_refused_before_it_is_built(tmp_path: Path) -> None:
    run = archc("train", "nemotron-3-ultra-550b-a55b", "-o", str(tmp_path / "out"))
    assert run.returncode == 2
    assert "takes 8.16 TiB for weights, gradients and AdamW: this machine has" in run.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "nan"], "`temperature` must be 0 (greedy) or more: got nan"),
        (["--seed", "-1"], "`seed` must be from 0 to"),
        (["--device", "nowhere"], "device `nowhere` cannot be used: "),
        (["--max-tokens", "100000000000000"], "out of memory: "),
    ],
)
def test_generate_refuses_in_one_line(package: Path, options: list[str], message: str) -> None:
    run = archc("generate", str(package), "x", "--tokenizer", "bytes", *options)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith(f"error: {message}"), run.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with fresh weights."""
    folder = tmp_path_factory.mktemp("package") / "tiny"
    run = archc("compile", "tiny-dense", "-o", str(folder), "--init", "0")
    assert run.returncode == 0, run.stderr
    return folder


def test_a_warning_is_one_line_on_stderr(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    more = {"num_attention_heads": 4, "vocab_size": 128, "glitter": True}
    (tmp_path / "config.json").write_text(json.dumps(config | more))
    run = archc("show", str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert run.stderr.startswith("warning: ") and "glitter" in run.stderr and run.stderr.count("\n") == 1
