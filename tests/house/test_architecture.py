"""ARCHITECTURE.md's worked examples are executed: its files in a copy of the tree, and nothing else, make a block and a
pass that keep their contracts, cost, compile and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("archc", "kernels", "ir", "passes", "codegen", "search")
ADDED = ", added"

CONTRACTS = """
import pytest
import archc.ir.op, archc.passes
from archc.testing import OpContract, example_ops
from archc.testing.contracts import op_id
from archc.testing.pass_contract import PassContract, cases

OPS = [op for op in example_ops() if op.kind == "short_conv"]
PASSES = [case for case in cases() if case.one.name == "narrow-mlp"]
assert len(OPS) == 2 and len(PASSES) == 1


@pytest.mark.parametrize("op", OPS, ids=op_id)
class TestOp(OpContract): ...


@pytest.mark.parametrize("case", PASSES, ids=str)
class TestPass(PassContract): ...
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with ARCHITECTURE.md's files written into it."""
    copy = tmp_path_factory.mktemp("tree")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for name, text in re.findall(r"^```(?:python|yaml)\n# (\S+\.\w+(?:, added)?)\n(.*?)^```", page, re.M | re.S):
        file = copy / name.removesuffix(ADDED)
        assert file.exists() == name.endswith(ADDED)
        with file.open("a", encoding="utf-8") as out:
            out.write(text)
    return copy


def python(tree: Path, *arguments: str) -> str:
    """Run Python on the copy; what it prints."""
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, *arguments], cwd=tree, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


def test_the_copy_is_what_runs(tree: Path) -> None:
    assert Path(python(tree, "-c", "import archc; print(archc.__file__)").strip()) == tree / "archc" / "__init__.py"


def test_block_and_pass_keep_their_contracts(tree: Path) -> None:
    (tree / "test_added.py").write_text(CONTRACTS, encoding="utf-8")
    assert " passed" in python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_added.py")


def test_the_block_shows_costs_and_compiles(tree: Path) -> None:
    assert "2 x [C C *]" in python(tree, "-m", "archc", "show", "short.yaml")
    assert '"conv_bytes": 1536' in python(tree, "-m", "archc", "estimate", "short.yaml", "--context", "8k", "--json")
    python(tree, "-m", "archc", "compile", "short.yaml", "-o", "build/short", "--init", "0")
    assert "class ShortConv(nn.Module):" in (tree / "build/short/modeling.py").read_text(encoding="utf-8")
    same = """
import torch, archc
from build.short import load
from archc.ir.execute import execute
from archc.ir.init import init_weights
graph = archc.load("short.yaml")
tokens = torch.arange(24).reshape(2, 12)
torch.testing.assert_close(load()(tokens), execute(graph, init_weights(graph, seed=0), {"tokens": tokens})["logits"])
"""
    python(tree, "-c", same)


def test_the_pass_narrows(tree: Path) -> None:
    code = """
import archc
made, weights = archc.apply(archc.load("tiny-dense"), "drop-layers{layers=(0)}; narrow-mlp{d_ff=8}")
print({d.size for name, d in made.dims.items() if name.endswith("d_ff")}, len(weights.params))
"""
    assert python(tree, "-c", code).startswith("{8} ")
