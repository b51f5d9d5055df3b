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
FOUR = {"dp2-ep2": (1, 2), "tp2-ep2": (2, 2), "dp4": (1, 1)}
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
def alone(ranks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Told]]:
    """What one process tells, by dtype."""
    found: dict[str, Told] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would only wait for each other

    def told_by(dtype: str) -> Told:
        if dtype not in found:
            run = ranks.alone(getattr(torch, dtype), tmp_path_factory.mktemp("alone"))
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


def job(tp: int, ep: int, dtype: str = "float64", **more: Any) -> dict[str, Any]:
    return {"tp": tp, "ep": ep, "dtype": dtype, "steps": [0, STEPS], **more}


def assert_same(told: Told, wanted: Told, rtol: float, *, first: int = 0) -> None:
    steps = slice(first, first + len(told["loss"]))
    assert told["loss"] == pytest.approx(wanted["loss"][steps], rel=rtol)
    assert told["norm"] == pytest.approx(wanted["norm"][steps], rel=100 * rtol)
    if steps.stop == STEPS:
        assert told["sums"] == {
            key: pytest.approx(value, rel=100 * rtol, abs=100 * rtol) for key, value in wanted["sums"].items()
        }


def test_four_processes_equal_one(alone: Any, tmp_path: Path) -> None:
    jobs = {name: job(tp, ep) for name, (tp, ep) in FOUR.items()}
    jobs["dp4"]["steps"] = [0, 5]
    told = launched(4, jobs, tmp_path)
    for name, (tp, ep) in FOUR.items():
        assert_same(told[name], alone("float64"), 1e-9)
        held = plan(archc.load(str(HERE / "tiny.yaml")), tp=tp, ep=ep).share * tp * ep / 4
        assert told[name]["held"] / alone("float64")["held"] == pytest.approx(held, rel=0.05)
    assert told["dp4"]["agreed"] == [3.0, 7.0]


def test_two_processes_equal_one(alone: Any, tmp_path: Path) -> None:
    jobs = {f"{name}-{dtype}": job(*of, dtype) for name, of in TWO.items() for dtype in ("float64", "float32")}
    jobs["narrow"] = job(1, 1, "float32", compute="bfloat16", steps=[0, 3])
    told = launched(2, jobs, tmp_path)
    for name in TWO:
        assert_same(told[f"{name}-float64"], alone("float64"), 1e-9)
        assert told[f"{name}-float32"]["loss"] == pytest.approx(alone("float32")["loss"], rel=1e-4)
    assert told["narrow"]["loss"] == pytest.approx(alone("float32")["loss"][:3], rel=0.02)


def test_a_checkpoint_of_four_resumes_on_two_and_on_one(alone: Any, ranks: ModuleType, tmp_path: Path) -> None:
    told = launched(4, {"dp2-tp2": job(2, 1, save_at=HALF)}, tmp_path)
    assert_same(told["dp2-tp2"], alone("float64"), 1e-9)
    resumed = launched(2, {"ep2": job(1, 2, steps=[HALF, STEPS])}, tmp_path)
    assert_same(resumed["ep2"], alone("float64"), 1e-9, first=HALF)
    run = ranks.alone(torch.float64, tmp_path)
    with torch.no_grad():
        for param in run.place.model.parameters():
            param.fill_(torch.nan)
    run.restore(tmp_path / "checkpoints", HALF)
    assert run.train(range(HALF, STEPS))["loss"] == pytest.approx(alone("float64")["loss"][HALF:], rel=1e-9)
