"""What must feel instant imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAKE = """
import sys, archc
from archc.hub.checkpoint_dir import write_checkpoint_dir
from archc.ir.init import init_weights
graph = archc.load("tiny-hybrid")
write_checkpoint_dir(sys.argv[1], graph, init_weights(graph, seed=0), {"step": "made"})
"""
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


def test_weights_are_moved_without_torch(tmp_path: Path) -> None:
    """Passes that take rows and columns apart, from checkpoint to checkpoint."""
    make = [sys.executable, "-c", MAKE, str(tmp_path / "ckpt")]
    subprocess.run(make, check=True)
    passes = "prune{dim=d_model, to=96, by=first}; drop-layers{layers=(3, 4)}"
    call = f"['archc', 'compress', {str(tmp_path / 'ckpt')!r}, '--passes', '{passes}', '-o', {str(tmp_path / 'out')!r}]"
    assert "torch" not in loaded_by(f"sys.argv = {call}; from archc.cli import main; main()")
    assert (tmp_path / "out/model.safetensors").is_file()


def test_a_search_by_arithmetic_loads_no_torch(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(
        "{archc_search: 1, name: s, base: tiny-moe, space: {d_model: [64, 96]}, objectives: [minimize params.total]}"
    )
    call = f"sys.argv = ['archc', 'search', {str(file)!r}, '-o', {str(tmp_path / 'run')!r}]"
    assert "torch" not in loaded_by(f"{call}; from archc.cli import main; main()")
    assert (tmp_path / "run/report.html").is_file()
