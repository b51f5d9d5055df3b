"""The README is true: its console blocks run and print what it shows, its Python runs, its spec is the example's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


@dataclass(frozen=True)
class Shown:
    """A command of a page, training cut to seconds, and the lines that the page shows of what it prints."""

    command: str
    lines: tuple[str, ...]

    def missing(self, printed: str) -> list[str]:
        """The shown lines that were not printed, in order; columns may be wider or narrower."""
        have = iter([squeezed(line) for line in printed.splitlines()])
        return [line for line in self.lines if squeezed(line) not in have]


def squeezed(line: str) -> str:
    """A line with one blank between words."""
    return " ".join(line.split())


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[Shown]:
    """The archc commands of a page's console blocks; a line of `...` stands for lines left out."""
    found = []
    for part in re.split(r"^\$ ", "".join(blocks(text, "console")), flags=re.MULTILINE)[1:]:
        first, *lines = part.splitlines()
        command = re.sub(r"--minutes \S+", "--minutes 0.05", re.sub(r"\s+# .*$", "", first))
        found.append(Shown(command, tuple(line for line in lines if line != "...")))
    return [shown for shown in found if shown.command.startswith("archc ")]


def test_commands_are_found_and_shortened() -> None:
    page = (
        "a\n```console\n$ make demo\n$ archc train m -o c --minutes 2  # learn\n  out\n...\n```\n```\n$ archc no\n```\n"
    )
    (shown,) = commands(page)
    assert shown == Shown("archc train m -o c --minutes 0.05", ("  out",))
    assert shown.missing("more\n out\n") == [] and shown.missing("more\n") == ["  out"]


def test_the_spec_is_the_example() -> None:
    (spec,) = (b for b in blocks(README.read_text(encoding="utf-8"), "yaml") if "examples/hybrid.yaml" in b)
    assert spec.partition("\n")[2] == (ROOT / "examples/hybrid.yaml").read_text(encoding="utf-8").partition("\n")[2]


def test_the_error_shown_is_the_one_given(tmp_path: Path) -> None:
    """The example with two mistakes: five KV heads, and a misspelt field."""
    (shown,) = blocks(README.read_text(encoding="utf-8"), "text")
    spec = (ROOT / "examples/hybrid.yaml").read_text(encoding="utf-8")
    wrong = spec.replace("n_kv_heads: 4", "n_kv_heads: 5").replace("d_ff: 4096", "d_f: 4096")
    (tmp_path / "bad.yaml").write_text(wrong, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "archc", "show", "bad.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (2, shown)


@pytest.mark.slow
def test_readme_runs(tmp_path: Path) -> None:
    page = README.read_text(encoding="utf-8")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    found = commands(page)
    assert len(found) > 8, "the README shows too few commands"
    for shown in found:
        status = 1 if shown.command.startswith("archc diff ") else 0  # as diff's: the two differ
        printed = python(tmp_path, "-m", "archc", *shlex.split(shown.command)[1:], status=status)
        assert not shown.missing(printed), f"{shown.command}\n{printed}"
    for code in blocks(page, "python"):
        told = re.findall(r"^print\(.*\)  # (.*)$", code, flags=re.MULTILINE)
        assert python(tmp_path, "-c", code).splitlines() == told


def python(folder: Path, *arguments: str, status: int = 0) -> str:
    """What Python prints when run in a folder; its exit status must be the one expected."""
    env = {**os.environ, "COLUMNS": "200"}  # what the page shows is not folded to a terminal
    run = subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == status, f"{arguments}\n{run.stdout[-2000:]}{run.stderr}"
    return run.stdout
