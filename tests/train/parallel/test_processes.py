"""Training on 2 and 4 processes against one: losses, norms, weights, checkpoints across layouts. Slow tier."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import archc
from archc.train.parallel import plan

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
STEPS, HALF = 20, 10
FOUR = {"dp2-tp2": (2, 1), "dp2-ep2": (1, 2), "tp2-ep2": (2, 2), "dp4": (1, 1)}
SAVED = "dp2-tp2"
TWO = {"dp2": (1, 1), "tp2": (2, 1), "ep2": (1, 2)}

Told = Mapping[str, Any]


@pytest.fixture(scope="module")
def ranks() -> ModuleType:
    """The module that the processes run, for what one process does alone."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("archc_test_ranks", HERE / "ranks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def alone(ranks: ModuleType, folder: Path) -> Iterator[Callable[[str], Told]]:
    """What one process tells, by dtype."""
    found: dict[str, Told] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would only wait for each other

    def told_by(dtype: str) -> Told:
        if dtype not in found:
            run = ranks.alone(getattr(torch, dtype), folder)
            told, model = run.train(range(STEPS)), run.place.model
            sums = {key: value.double().sum().item() for key, value in run.place.weights()}
            found[dtype] = {**told, "sums": sums, "held": sum(p.numel() for p in model.parameters())}
        return found[dtype]

    yield told_by
    torch.set_num_threads(threads)


def launched(processes: int, jobs: Mapping[str, Any], folder: Path) -> dict[str, Told]:
    """Run layouts one after the other in one torchrun; what each told."""
    file = folder / f"jobs-{processes}.json"
    file.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, str(HERE / "ranks.py"), str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in jobs}


@pytest.fixture(scope="module")
def by_four(folder: Path) -> dict[str, Told]:
    jobs: dict[str, dict[str, Any]] = {
        k: {"tp": tp, "ep": ep, "dtype": "float64", "steps": [0, STEPS]} for k, (tp, ep) in FOUR.items()
    }
    jobs[SAVED]["save_at"] = HALF
    jobs["dp4"]["steps"] = [0, 5]
    return launched(4, jobs, folder)


@pytest.fixture(scope="module")
def by_two(folder: Path, by_four: Any) -> dict[str, Told]:
    jobs: dict[str, Any] = {}
    for name, (tp, ep) in TWO.items():
        for dtype in ("float64", "float32"):
            jobs[f"{name}-{dtype}"] = {"tp": tp, "ep": ep, "dtype": dtype, "steps": [0, STEPS]}
    jobs["resumed"] = {"tp": 1, "ep": 2, "dtype": "float64", "steps": [HALF, STEPS]}
    jobs["narrow"] = {"tp": 1, "ep": 1, "dtype": "float32", "compute": "bfloat16", "steps": [0, 3]}
    return launched(2, jobs, folder)


def assert_same(told: Told, wanted: Told, rtol: float, *, first: int = 0) -> None:
    steps = slice(first, first + len(told["loss"]))
    assert told["loss"] == pytest.approx(wanted["loss"][steps], rel=rtol)
    assert told["norm"] == pytest.approx(wanted["norm"][steps], rel=100 * rtol)
    if steps.stop == STEPS:
        assert told["sums"] == {
            key: pytest.approx(value, rel=100 * rtol, abs=100 * rtol) for key, value in wanted["sums"].items()
        }


@pytest.mark.parametrize("layout", FOUR)
def test_four_processes_equal_one(layout: str, by_four: Any, alone: Any) -> None:
    assert_same(by_four[layout], alone("float64"), 1e-9)
    tp, ep = FOUR[layout]
    held = plan(archc.load(str(HERE / "tiny.yaml")), tp=tp, ep=ep).share * tp * ep / 4
    assert by_four[layout]["held"] / alone("float64")["held"] == pytest.approx(held, rel=0.05)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("layout", TWO)
def test_two_processes_equal_one(layout: str, dtype: str, rtol: float, by_two: Any, alone: Any) -> None:
    told = by_two[f"{layout}-{dtype}"]
    assert told["loss"] == pytest.approx(alone(dtype)["loss"], rel=rtol)
    if dtype == "float64":
        assert_same(told, alone(dtype), rtol)


def test_a_checkpoint_of_four_resumes_on_two(by_two: Any, alone: Any) -> None:
    assert_same(by_two["resumed"], alone("float64"), 1e-9, first=HALF)


def test_a_checkpoint_of_four_resumes_on_one(by_four: Any, alone: Any, ranks: ModuleType, folder: Path) -> None:
    run = ranks.alone(torch.float64, folder)
    with torch.no_grad():
        for param in run.place.model.parameters():
            param.fill_(torch.nan)
    run.restore(folder / "checkpoints", HALF)
    assert run.train(range(HALF, STEPS))["loss"] == pytest.approx(alone("float64")["loss"][HALF:], rel=1e-9)


def test_processes_agree(by_four: Any) -> None:
    assert by_four["dp4"]["agreed"] == [3.0, 7.0]


def test_bf16_between_fp32_weights(by_two: Any, alone: Any) -> None:
    assert by_two["narrow"]["loss"] == pytest.approx(alone("float32")["loss"][:3], rel=0.02)
