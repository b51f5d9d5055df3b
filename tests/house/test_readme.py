"""The README's commands run: every `$ archc ...` line of its ```console blocks, in order, in one new folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


def commands(text: str) -> list[str]:
    """The archc commands of a page, comments after two spaces and a # taken off, training cut to seconds."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ archc ")]
    return [re.sub(r"--minutes \S+", "--minutes 0.05", re.sub(r"\s+# .*$", "", line)) for line in lines]


def test_commands_are_found_and_shortened() -> None:
    page = "a\n```console\n$ make demo\n$ archc train m -o c --minutes 2  # learn\n  out\n```\n```\n$ archc no\n```\n"
    assert commands(page) == ["archc train m -o c --minutes 0.05"]


@pytest.mark.slow
def test_readme_commands_run(tmp_path: Path) -> None:
    found = commands(README.read_text(encoding="utf-8"))
    assert found, "the README shows no command"
    for command in found:
        arguments = shlex.split(command)[1:]
        run = subprocess.run(
            [sys.executable, "-m", "archc", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{command}\n{run.stdout[-2000:]}{run.stderr}"
