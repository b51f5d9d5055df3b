"""Compiling is quick, and what is compiled is no slower than what it was imported from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "emitted.py"
EMIT = """
import time
import torch.fx

start = time.process_time()
from archc.codegen import emit_sources
from archc.resolve import load

emit_sources(load("nemotron-3-super-120b-a12b"))
print(time.process_time() - start)
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def test_a_big_spec_becomes_source_within_a_second() -> None:
    spent = (float(run("-c", EMIT).stdout) for _ in range(3))
    assert any(seconds < 1 for seconds in spent)


@pytest.mark.slow
def test_no_slower_than_transformers() -> None:
    measured = run(str(BENCHMARK))
    assert measured.returncode == 0, measured.stdout + measured.stderr
