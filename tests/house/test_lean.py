"""What must feel instant imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "networkx", "pydantic", "optuna", "scipy", "transformers", "numpy")


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after `code`."""
    shown = f"print('\\nloaded:', *(m for m in {HEAVY} if m in sys.modules))"
    probe = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\n{shown}"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(run.stdout.rpartition("loaded:")[2].split())


def test_import_archc_loads_nothing_heavy() -> None:
    assert loaded_by("import archc") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(f"sys.argv = ['archc', *{arguments}]; from archc.cli import main; main()") == set()
