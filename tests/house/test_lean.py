"""What must feel instant imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_a_search_by_arithmetic_loads_no_torch(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(
        "{archc_search: 1, name: s, base: tiny-moe, space: {d_model: [64, 96]}, objectives: [minimize params.total]}"
    )
    call = f"sys.argv = ['archc', 'search', {str(file)!r}, '-o', {str(tmp_path / 'run')!r}]"
    assert "torch" not in loaded_by(f"{call}; from archc.cli import main; main()")
    assert (tmp_path / "run/report.html").is_file()
